"""The methods. A new one is its file, its line in this union, and one YAML."""

from typing import Annotated

from pydantic import Field

from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective, Pairs, Stream
from copdvae.objectives.beta_vae import BetaVAEConfig
from copdvae.objectives.pairwise import PairwiseConfig
from copdvae.objectives.supervised import SupervisedConfig
from copdvae.objectives.vae import VAEConfig

Method = Annotated[
    VAEConfig | BetaVAEConfig | PairwiseConfig | SupervisedConfig,
    Field(discriminator="method"),
]

__all__ = ["Batch", "Losses", "Method", "MethodConfig", "Objective", "Pairs", "Stream"]
