"""PartedVAE.  Hajimiri et al. 2021; paper D, Eq. 6, 7 and A.5.

    L = -E[log p(x|u, z)] + gamma_u |mean_x sum_k E_q(c_k|x) KL(q(u_k|c_k, x) || p(u_k|c_k)) - C_u| + gamma_h mean_x sum_k H(q(c_k|x))
        + gamma_c sum_k KL(q(c_k) || p(c_k)) + gamma_z |mean_x KL(q(z|x) || N(0, I)) - C_z|
        + gamma_bc sum_k sum_i<j max(BC(p(u_k|c_k=i), p(u_k|c_k=j)) - overlap, 0)
    and in a step before it  - mean_x sum_k log q(c_k = y_k|x) on labelled images

u_k of each discrete variable c_k is read from hidden units h under an attention map, z from h; the decoder sees [u_1 .. u_K, z], never c.
Not one value an image, but functions of the batch's mean: q(c_k), and the two |mean KL - C|. Scored is q(u, z|x) of the likeliest classes.

Paper: pairs begin at i = j; here: i < j (mixture_prior.py). The expectation over c of the KL is a sum over all classes, not one draw.
Schedules are functions of the step, short by default (the paper's: parted_presets.py); validation looks at their end.
Weights are picked by L + max(gamma_c, 1) times the labelled step's loss, on validation subjects: a nat of c weighs what it does in L.
K variables of L_k classes; B: batch, H: hidden units. Losses in nats per image.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.objectives.mixture_prior import gumbel_softmax, most_likely
from copdvae.objectives.parted_heads import STEEPEST, PartedHeads
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.supervision.labels import GOLD_CLASSES, LabelsConfig


class PartedVAEConfig(MethodConfig):
    method: Literal["parted_vae"] = "parted_vae"
    paper: ClassVar = "Hajimiri et al. 2021; paper D, Eq. 6, 7 and A.5"
    told: ClassVar = "classes of a fraction of the training subjects, or nothing"
    readout: ClassVar = "u"
    selects_by: ClassVar = "selection"
    labels: LabelsConfig | None = LabelsConfig(columns=("gold",), kind="class", categories=(GOLD_CLASSES,), fraction=0.5)
    values: tuple[Annotated[int, Field(ge=2)], ...] = ()  # classes of each discrete variable where no labels are told
    gamma_c: NonNegativeFloat = 15.0
    gamma_h: NonNegativeFloat = 30.0
    gamma_z: NonNegativeFloat = 15.0
    gamma_u: NonNegativeFloat = 15.0
    gamma_bc: NonNegativeFloat = 30.0
    capacity_z: NonNegativeFloat = 7.0  # C at the end, nats
    capacity_u: NonNegativeFloat = 7.0
    capacity_steps: int = Field(default=500, ge=1)  # until C is reached, from 0
    overlap: float = Field(default=0.15, ge=0, lt=1)  # delta: how far two classes' priors may overlap
    temperature: float = Field(default=0.67, gt=0)  # of the Gumbel-softmax
    steepness_steps: int = Field(default=500, ge=1)  # of the attention, from 1 to 8

    @model_validator(mode="after")
    def _fits(self) -> "PartedVAEConfig":
        if (self.labels is None) == (not self.values):
            raise ValueError("either labels, whose classes are the variables, or labels: null and values, how many classes each has")
        if self.labels is not None and self.labels.kind != "class":
            raise ValueError(f"labels.kind: a discrete variable needs class, found {self.labels.kind}")
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """L_k of each discrete variable."""
        return self.values if self.labels is None else self.labels.sizes

    @property
    def also(self):
        return () if self.labels is None else ("label",)

    def misfit(self, u: int, v: int) -> str:
        return f"d(u) must be a multiple of {len(self.sizes)}, as much for each discrete variable" if u % len(self.sizes) else ""

    def build(self, net: VAE, targets: int) -> "PartedVAE":
        return PartedVAE(self, net)


class PartedVAE(Objective):
    def __init__(self, config: PartedVAEConfig, net: VAE):
        super().__init__()
        self.config, self.heads = config, PartedHeads(config.sizes, net.hidden, net.u // len(config.sizes))

    def players(self, net):
        """The labelled step trains the encoder up to h and the class heads, all of which are the model's as well."""
        body = [weight for name, weight in net.encoder.named_parameters() if not name.startswith("out.")]
        labelled = {"labelled": [*body, *self.heads.classes.parameters()]} if self.config.labels is not None else {}
        return {"model": [*net.parameters(), *self.parameters()]} | labelled

    def before(self, net, batch: Batch, step: int) -> Losses | None:
        """Eq. 7, a step of its own; the mean is over labelled images, their batch has no others. An unknown label costs nothing."""
        if self.config.labels is None:
            return None
        told = batch.also["label"]
        loss = self.heads.class_errors(net.features(told.image, told.present), told.label).sum(dim=1).mean()
        return Losses({"labelled": loss}, {"class_loss": loss})

    def forward(self, net, batch: Batch, step: int) -> Losses:
        config, (steepness, reached) = self.config, self.schedule(step, net.training)
        h = net.features(batch.image, batch.present)  # (B, H)
        logits = self.heads.logits(h)  # (B, L_k) each
        c = [gumbel_softmax(own, config.temperature) if net.training else most_likely(own) for own in logits]
        q = self.heads.joined(net, h, c, steepness)  # Normal, (B, D)
        rec, rec_lung = reconstruction(net, q.rsample(), batch)  # (B,), (B,)
        kl_u = self.heads.kl_u(net, h, logits, steepness).mean()
        kl_z = gaussian_kl(q)[:, net.u :].sum(dim=1).mean()

        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl_u": kl_u, "kl_z": kl_z}
        logs |= self.heads.class_terms(logits, config.overlap)
        terms = {
            "rec": logs["rec"],
            "kl_u": config.gamma_u * (kl_u - reached * config.capacity_u).abs(),
            "kl_z": config.gamma_z * (kl_z - reached * config.capacity_z).abs(),
        }
        weights = {"entropy": config.gamma_h, "kl_c": config.gamma_c, "overlap": config.gamma_bc}
        terms |= {name: weight * logs[name] for name, weight in weights.items()}
        loss = sum(terms.values(), rec.new_zeros(()))
        if not net.training:  # in training, the step before has the labels
            told = self.before(net, batch, step) if "label" in batch.also else None
            logs |= told.logs if told else {}
            logs["selection"] = loss + max(1.0, config.gamma_c) * logs.get("class_loss", 0.0)
        return Losses({"model": loss}, logs, terms)

    def schedule(self, step: int, training: bool) -> tuple[float, float]:
        """The attention's steepness, and the share of the capacities that is reached."""
        if not training:
            return STEEPEST, 1.0
        return min(STEEPEST, 1 + (STEEPEST - 1) * step / self.config.steepness_steps), min(1.0, step / self.config.capacity_steps)

    def posterior(self, net, batch: Batch) -> Normal:
        """q(u, z|x, c) with c the most likely class of each variable: Normal, (B, D)."""
        h = net.features(batch.image, batch.present)
        return self.heads.joined(net, h, [most_likely(own) for own in self.heads.logits(h)], STEEPEST)

    def class_probabilities(self, net, batch: Batch) -> list[Tensor]:
        """q(c_k|x) of each discrete variable: (B, L_k)."""
        return [own.softmax(dim=1) for own in self.heads.logits(net.features(batch.image, batch.present))]

    def class_prior(self, net, classes: Tensor) -> Normal:
        """p(u|c) and p(z): classes (B, K) int64 to a Normal (B, D); a draw from it, decoded, is an image of that class."""
        return self.heads.prior(classes, net.latents - net.u)
