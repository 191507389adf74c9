"""What PartedVAE adds to a network: class heads, attention and priors, and u read from attended hidden units.  Paper D, Fig. 2.

K variables of L_k classes, d = d(u) / K latents each; B: batch, D: latents, H: hidden units. Everything is float32, also under autocast.
The linear layer from h to the latents is the network's own: z is read from h, u_k from h times the attention map of c_k.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.mixture_prior import MixturePrior, entropy, kl_to_uniform

STEEPEST = 8.0  # of the attention's sigmoid, at the end and at test


class PartedHeads(nn.Module):
    def __init__(self, sizes: tuple[int, ...], hidden: int, each: int):
        super().__init__()
        self.sizes, self.each = sizes, each  # L_k, d
        self.classes = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        self.attention = nn.ModuleList(nn.Linear(size, hidden) for size in sizes)
        self.priors = nn.ModuleList(MixturePrior(size, each) for size in sizes)

    def mixtures(self) -> Iterator[MixturePrior]:
        return (prior for prior in self.priors if isinstance(prior, MixturePrior))

    def logits(self, h: Tensor) -> list[Tensor]:
        """Of q(c_k|x), for each variable: (B, H) to (B, L_k)."""
        with torch.autocast(h.device.type, enabled=False):
            return [head(h if h.dtype == torch.double else h.float()) for head in self.classes]

    def class_errors(self, h: Tensor, label: Tensor | None) -> Tensor:
        """-log q(c_k = y_k|x), 0 where y_k is NaN, unknown: h (B, H), label (B, K) to (B, K)."""
        if label is None:
            raise ValueError("PartedVAE's labelled step needs a label for each image, and this batch has none")
        wanted = torch.where(label.isnan(), -100, label.nan_to_num()).long()
        errors = [F.cross_entropy(own, wanted[:, k], ignore_index=-100, reduction="none") for k, own in enumerate(self.logits(h))]
        return torch.stack(errors, dim=1)

    def attended(self, h: Tensor, c: Tensor, k: int, steepness: float) -> Tensor:
        """h a(c): h (B, H), classes or mixtures of them (..., L_k) to (..., H), where the leading places go together with h's."""
        with torch.autocast(h.device.type, enabled=False):
            return h.to(c.dtype) * (steepness * self.attention[k](c)).sigmoid()

    def u_of(self, q: Normal, k: int) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of u_k among all latents' (..., D): (..., d)."""
        place = slice(k * self.each, (k + 1) * self.each)
        return q.loc[..., place], q.scale[..., place]

    def joined(self, net: VAE, h: Tensor, c: list[Tensor], steepness: float) -> Normal:
        """q(u, z|x, c), all u_k side by side, then z: h (B, H), c_k (B, L_k) to a Normal (B, D)."""
        of_u = [self.u_of(net.latent(self.attended(h, own, k, steepness)), k) for k, own in enumerate(c)]
        plain = net.latent(h)
        mean = torch.cat([*[mean for mean, _ in of_u], plain.loc[:, net.u :]], dim=1)
        return Normal(mean, torch.cat([*[std for _, std in of_u], plain.scale[:, net.u :]], dim=1), validate_args=False)

    def kl_u(self, net: VAE, h: Tensor, logits: list[Tensor], steepness: float) -> Tensor:
        """sum over k of E_q(c_k|x) KL(q(u_k|c_k, x) || p(u_k|c_k)), all classes in turn: (B,)."""
        total = h.new_zeros(len(h), dtype=logits[0].dtype)
        for k, (prior, own) in enumerate(zip(self.mixtures(), logits, strict=True)):
            classes = torch.eye(self.sizes[k], dtype=own.dtype, device=own.device)  # (L, L): every class
            q = net.latent(self.attended(h[:, None], classes, k, steepness).flatten(0, 1))  # Normal, (B L, D)
            mean, std = (value.unflatten(0, (len(h), self.sizes[k])) for value in self.u_of(q, k))  # (B, L, d)
            total = total + (own.softmax(dim=1) * prior.kl(Normal(mean, std, validate_args=False))).sum(dim=1)
        return total

    def class_terms(self, logits: list[Tensor], tolerance: float) -> dict[str, Tensor]:
        """Terms of q(c|x), q(c) and the priors, summed over variables: from logits (B, L_k) to three scalars."""
        return {
            "entropy": torch.stack([entropy(own) for own in logits]).sum(dim=0).mean(),
            "kl_c": torch.stack([kl_to_uniform(own) for own in logits]).sum(),
            "overlap": torch.stack([prior.overlap(tolerance) for prior in self.mixtures()]).sum(),
        }

    def prior(self, classes: Tensor, rest: int) -> Normal:
        """p(u_1 .. u_K | c), and N(0, I) for `rest` latents of z: classes (B, K) int64 to a Normal (B, D)."""
        of_each = [prior.of_each() for prior in self.mixtures()]
        mean, std = ([getattr(p, name)[classes[:, k]] for k, p in enumerate(of_each)] for name in ("loc", "scale"))
        z = mean[0].new_zeros(len(classes), rest)
        return Normal(torch.cat([*mean, z], dim=1), torch.cat([*std, z + 1], dim=1), validate_args=False)
