"""WeLa-VAE.  Margonis et al. 2020; paper B, Eq. 4.

    L = -E_q[log p(x|z)] - gamma sum_j E_q[log p(y_j|z)] + KL(q(z|x, y) || N(0, I)) + beta TC(q(z)),   z ~ q(z|x, y)

Image and labels y_1 .. y_T, each a class, share all latents. TC is added to a whole KL, so B's TCVAE at 40 is `beta_tcvae` at 41.
B's rule for gamma: classes of a label times gamma is about the number of pixels, because both reconstructions are sums.

Paper: q(z) is the mean of q(z|x, y) over p(x) p(y); here: over p(x, y), because x and y come together, and B's estimator does so too.
Paper: one decoder makes image and labels; here: the labels have two layers of their own, because methods share their image decoder.
strict: the encoder sees the labels. Whoever scores its latents by those labels scores a copy: it leaks, and takes part in no comparison.
fixed: each label is hidden by chance, a bit beside it says so, and all are hidden where the latents are validated, scored or used.
An unknown label is hidden, and costs nothing: the mean is over all images, as in the bound on what is known of them, so that the whole term
falls with the fraction told while gamma's rule holds for each label. Paper: all are known. B: batch, D: latents, T: labels. Losses are in
nats per image.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.objectives.total_correlation import Sampling, sampled_total_correlation
from copdvae.supervision.labels import LabelsConfig

GAMMA = {2: 2000.0, 3: 1500.0, 4: 1000.0, 5: 800.0, 6: 750.0, 7: 600.0, 8: 500.0}  # B, Table 1: by classes a label, for 64 x 64 images


class WeLaVAEConfig(MethodConfig):
    method: Literal["wela_vae"] = "wela_vae"
    paper: ClassVar = "Margonis et al. 2020; paper B, Eq. 4"
    told: ClassVar = "classes of the training subjects' measures"
    quirks: ClassVar = {"sees_labels": "the encoder is given the labels, also those of the images that are scored: it leaks"}
    needs: ClassVar = "label"
    readout: ClassVar = "all"
    variant: Literal["fixed", "strict"] = "fixed"
    labels: LabelsConfig = LabelsConfig(kind="class", bins=5)
    gamma: float | None = Field(default=None, ge=0)  # on the labels; none: B's Table 1, for labels of 2 to 8 classes
    beta: float = Field(default=40.0, ge=0)  # on the total correlation
    sampling: Sampling = "weighted"  # its estimator
    hide: float = Field(default=0.5, gt=0, le=1)  # fixed: the chance that a label is hidden from the encoder

    @model_validator(mode="after")
    def _fits(self) -> "WeLaVAEConfig":
        sizes = self.labels.sizes
        if self.labels.kind != "class":
            raise ValueError(f"labels.kind: a cross-entropy needs class, found {self.labels.kind}")
        if self.gamma is None and (len(set(sizes)) > 1 or sizes[0] not in GAMMA):
            raise ValueError(f"gamma: B's table is for labels of one size, 2 to 8 classes; name a gamma for labels of {sizes} classes")
        if self.variant == "strict" and self.labels.fraction < 1:
            raise ValueError("labels.fraction: strict gives the encoder every label, so it must be 1")
        return self

    @property
    def inputs(self) -> int:
        """One a class, and in `fixed` one a label that says whether it is given."""
        return sum(self.labels.sizes) + (len(self.labels.sizes) if self.variant == "fixed" else 0)

    @property
    def leaks(self) -> str:
        return "its encoder is given the labels that its latents are scored by" if self.variant == "strict" else ""

    def build(self, net: VAE, targets: int) -> "WeLaVAE":
        return WeLaVAE(self, net)


class WeLaVAE(Objective):
    def __init__(self, config: WeLaVAEConfig, net: VAE):
        super().__init__()
        self.config, self.sizes, self.fixed = config, config.labels.sizes, config.variant == "fixed"
        self.gamma = GAMMA[self.sizes[0]] if config.gamma is None else config.gamma
        self.labels = nn.Sequential(nn.Linear(net.latents, net.hidden), nn.LeakyReLU(0.1), nn.Linear(net.hidden, sum(self.sizes)))

    def players(self, net):
        return {"model": [*net.parameters(), *self.labels.parameters()]}

    def forward(self, net, batch: Batch, step: int) -> Losses:
        q = net.encode(batch.image, batch.present, self.seen(label_of(batch), net.training))  # Normal, (B, D)
        z = q.rsample()  # (B, D)
        rec, rec_lung = reconstruction(net, z, batch)  # (B,), (B,)
        kl = gaussian_kl(q).sum(dim=1)  # (B,)
        tc = sampled_total_correlation(z, q, batch.drawn_from or len(z), self.config.sampling)  # (B,)
        label = self.label_errors(z, label_of(batch)).sum(dim=1)  # (B,)

        terms = {"rec": rec.mean(), "label": self.gamma * label.mean(), "kl": kl.mean(), "tc": self.config.beta * tc.mean()}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "label_loss": label.mean(), "kl": kl.mean(), "tc": tc.mean()}
        return Losses({"model": sum(terms.values(), rec.new_zeros(()))}, logs, terms)

    def posterior(self, net, batch: Batch) -> Normal:
        """q(z|x) with every label hidden; in `strict` q(z|x, y), where the batch has labels."""
        known = None if self.fixed or batch.label is None else self.seen(batch.label, False)
        return net.encode(batch.image, batch.present, known)

    def seen(self, label: Tensor, training: bool) -> Tensor:
        """What the encoder gets of labels (B, T): one-hot, zeros where hidden, and in `fixed` which are not: (B, inputs)."""
        given = ~label.isnan()
        if self.fixed:
            given = given & (torch.rand_like(label) >= self.config.hide) & training
        numbers = label.nan_to_num().long()
        one_hot = [F.one_hot(numbers[:, j], size) * given[:, j, None] for j, size in enumerate(self.sizes)]
        return torch.cat([*one_hot, given] if self.fixed else one_hot, dim=1).float()

    def label_errors(self, z: Tensor, label: Tensor) -> Tensor:
        """-log p(y_j|z), 0 where unknown: z (B, D), label (B, T) to (B, T)."""
        with torch.autocast(z.device.type, enabled=False):
            logits = self.labels(z).split(self.sizes, dim=1)
        wanted = torch.where(label.isnan(), -100, label.nan_to_num()).long()
        errors = [F.cross_entropy(own, wanted[:, j], ignore_index=-100, reduction="none") for j, own in enumerate(logits)]
        return torch.stack(errors, dim=1)


def label_of(batch: Batch) -> Tensor:
    if batch.label is None:
        raise ValueError("WeLa-VAE is told a label for each image, and this batch has none")
    return batch.label
