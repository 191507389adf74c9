"""The methods. A new one is its file, its line in this union, and one YAML."""

from typing import Annotated

from pydantic import Field

from copdvae.objectives.ada_gvae import AdaGVAEConfig
from copdvae.objectives.ada_ml_vae import AdaMLVAEConfig
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective, Pairs, Stream
from copdvae.objectives.beta_tcvae import BetaTCVAEConfig
from copdvae.objectives.beta_vae import BetaVAEConfig
from copdvae.objectives.dsd import DSDConfig
from copdvae.objectives.factor_vae import FactorVAEConfig
from copdvae.objectives.group_tcvae import GroupTCVAEConfig
from copdvae.objectives.gvae import GVAEConfig
from copdvae.objectives.larvae import LaRVAEConfig
from copdvae.objectives.ml_vae import MLVAEConfig
from copdvae.objectives.pairwise import PairwiseConfig
from copdvae.objectives.parted_vae import PartedVAEConfig
from copdvae.objectives.ss_beta_tcvae import SSBetaTCVAEConfig
from copdvae.objectives.ss_beta_vae import SSBetaVAEConfig
from copdvae.objectives.ss_factor_vae import SSFactorVAEConfig
from copdvae.objectives.supervised import SupervisedConfig
from copdvae.objectives.vae import VAEConfig
from copdvae.objectives.wela_vae import WeLaVAEConfig

Method = Annotated[
    VAEConfig
    | BetaVAEConfig
    | PairwiseConfig
    | SupervisedConfig
    | DSDConfig
    | WeLaVAEConfig
    | PartedVAEConfig
    | GVAEConfig
    | MLVAEConfig
    | GroupTCVAEConfig
    | AdaGVAEConfig
    | AdaMLVAEConfig
    | FactorVAEConfig
    | BetaTCVAEConfig
    | SSBetaVAEConfig
    | SSFactorVAEConfig
    | SSBetaTCVAEConfig
    | LaRVAEConfig,
    Field(discriminator="method"),
]

__all__ = ["Batch", "Losses", "Method", "MethodConfig", "Objective", "Pairs", "Stream"]
