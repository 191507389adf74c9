"""Dual swap disentangling.  Feng et al. 2018, arXiv:1805.10583; from what papers A and E say of it, the paper itself was not at hand.

    L = R(x) + dual R(x; u swapped among unlabelled images, decoded, encoded, swapped back, decoded)
        + R(a, b) + swap R(a, b; u swapped between similar images)                            R = -log p(x | code), mean over images

The code is [u, v]; similar images a, b share what `u`, the first d(u) latents, stands for, so that swapping it must not show. Of unlabelled
images nothing is known: each takes the u of the image half a batch further on, and must get its own back from the image that this makes.

strict: a deterministic autoencoder. fixed: a VAE, whose KL on both batches is added.
With spare dimensions in v the decoder can do without u, and swapping it costs nothing: d(v) is a setting to report.
B: batch, D: latents. Losses are in nats per image (summed over voxels and latents, mean over B).
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.objectives.group_posterior import group_of, members_of_pairs, only_pairs
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.supervision.groups import GroupsConfig


class DSDConfig(MethodConfig):
    method: Literal["dsd"] = "dsd"
    paper: ClassVar = "Feng et al. 2018, arXiv:1805.10583, from memory; papers A and E on it"
    told: ClassVar = "pairs of training subjects of one class"
    quirks: ClassVar = {"deterministic": "an autoencoder: no KL, the code is the encoder's mean, its standard deviation is 0"}
    selects_by: ClassVar = "reconstruction"
    readout: ClassVar = "u"
    variant: Literal["fixed", "strict"] = "fixed"
    groups: GroupsConfig = GroupsConfig()
    swap: float = Field(default=5.0, ge=0)  # weight of similar images rebuilt with each other's u
    dual: float = Field(default=0.1, ge=0)  # weight of unlabelled images rebuilt after two swaps
    beta: float = Field(default=1.0, ge=0)  # on the KL; none in `strict`

    _pairs = field_validator("groups")(only_pairs)

    @property
    def also(self):
        return ("group",)

    def misfit(self, u: int, v: int) -> str:
        return "d(v) must be at least 1: something must stay when u is swapped" if v < 1 else ""

    def build(self, net: VAE, targets: int) -> "DSD":
        return DSD(self)


class DSD(Objective):
    def __init__(self, config: DSDConfig):
        super().__init__()
        self.config, self.deterministic = config, config.variant == "strict"

    def posterior(self, net, batch: Batch) -> Normal:
        return self.code(net, batch.image, batch.present)

    def code(self, net, image: Tensor, present: Tensor) -> Normal:
        """q(z|x), a point in `strict`, which leaves the encoder's log-variances unread: Normal, (B, D)."""
        q = net.encode(image, present)
        return Normal(q.loc, torch.zeros_like(q.scale), validate_args=False) if self.deterministic else q

    def forward(self, net, batch: Batch, step: int) -> Losses:
        config, similar = self.config, batch.also["group"]
        q, q_similar = self.posterior(net, batch), self.posterior(net, similar)  # Normal, (B, D)
        z, z_similar = q.rsample(), q_similar.rsample()  # (B, D)

        rec, rec_lung = reconstruction(net, z, batch)  # (B,), (B,)
        labelled, _ = reconstruction(net, z_similar, similar)
        swapped, _ = reconstruction(net, with_u_of(partner(group_of(similar)), z_similar, net.u), similar)
        dual, _ = reconstruction(net, self.there_and_back(net, z, batch), batch)

        terms = {"rec": rec.mean(), "labelled": labelled.mean(), "swap": config.swap * swapped.mean(), "dual": config.dual * dual.mean()}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "swapped": swapped.mean(), "rebuilt": dual.mean()}
        logs["reconstruction"] = terms["rec"] + terms["labelled"] + terms["swap"] + terms["dual"]
        if not self.deterministic:
            logs["kl"] = gaussian_kl(q).sum(dim=1).mean() + gaussian_kl(q_similar).sum(dim=1).mean()
            terms["kl"] = config.beta * logs["kl"]
        return Losses({"model": sum(terms.values(), rec.new_zeros(()))}, logs, terms)

    def there_and_back(self, net, z: Tensor, batch: Batch) -> Tensor:
        """The codes (B, D) after the dual swap: u from the image that was made with it, v from the image that was made with that."""
        order = torch.arange(len(z), device=z.device)
        taken = order.roll(len(z) // 2)  # halves of an even batch change places
        back = taken.argsort()  # where each u went
        scanned = batch.present.view(*batch.present.shape, *[1] * (batch.image.dim() - 2))
        mixed = net.images(with_u_of(taken, z, net.u)) * scanned
        return with_u_of(back, self.code(net, mixed, batch.present).rsample(), net.u)


def with_u_of(rows: Tensor, z: Tensor, u: int) -> Tensor:
    """Each code's v beside the u of another row: rows (B,), z (B, D) to (B, D)."""
    return torch.cat([z[rows, :u], z[:, u:]], dim=1)


def partner(group: Tensor) -> Tensor:
    """The row of each image's other half, from the numbers of pairs: (B,) to (B,)."""
    first, second = members_of_pairs(group)
    other = torch.empty_like(group)
    other[first], other[second] = second, first
    return other
