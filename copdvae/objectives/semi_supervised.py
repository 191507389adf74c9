"""Labels on top of an unsupervised objective.  Paper C, Eq. 4; Locatello et al. 2020, arXiv:1905.01258.

    L = L_base(x) + gamma_lb E_(x, y) R_s(mu_u(x), y),    R_s:  l2             |mu_u - y|^2
                                                              cross_entropy  -y log sigmoid(mu_u) - (1 - y) log sigmoid(-mu_u)

The base goes down on every image, the second term on a further batch of labelled ones. `u` has one latent a label; mu_u are its
posterior means. At gamma_lb = 0 it is the base, exactly. Losses in nats per image, but for l2's unit.
"""

from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, Objective
from copdvae.objectives.label_loss import ToldLabels, label_loss, labelled, with_terms
from copdvae.objectives.terms import gaussian_kl


class SemiSupervised(Objective):
    def __init__(self, config: ToldLabels, base: Objective):
        super().__init__()
        self.config, self.base = config, base

    def players(self, net):
        return self.base.players(net)

    def adam(self):
        return self.base.adam()

    def forward(self, net, batch: Batch, step: int) -> Losses:
        losses = self.base(net, batch, step)
        told, label = labelled(batch)
        q = net.encode(told.image, told.present)  # Normal, (B', D)
        return with_terms(losses, *self.added(net, q, told, label))

    def added(self, net: VAE, q: Normal, told: Batch, label: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted terms and logs of the labelled images, from their posterior."""
        supervised = label_loss(q.loc[:, : net.u], label, self.config.label_loss).mean()
        kl_u = {f"kl_u_{k}": nats for k, nats in enumerate(gaussian_kl(q)[:, : net.u].mean(dim=0))}
        return {"label": self.config.gamma_lb * supervised}, {"label_loss": supervised} | kl_u
