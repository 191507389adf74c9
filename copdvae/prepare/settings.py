"""How scans are prepared. Every setting here decides what is cached and is part of a cached file's identity."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from copdvae.prepare.densitometry import REFERENCE_L
from copdvae.read.options import ReadConfig


class IngestConfig(ReadConfig):
    grid: int = Field(default=64, ge=32, le=128)  # voxels a side of the cube around the lungs
    mask: Literal["threshold", "lungmask"] = "threshold"  # where the manifest gives none
    lungmask_weights: Path | None = None  # a file; relative to the manifest's folder, as scans are
    denoise: Literal["none", "median", "gaussian"] = "none"  # before densities are measured, and for nothing else
    reference_volume_l: float = Field(default=REFERENCE_L, ge=1, le=12)  # of lung, that Perc15 is adjusted to
    allow_other_study: bool = False  # pair scans of one patient although they were not taken in one study

    @model_validator(mode="after")
    def weights_are_named(self) -> Self:
        if (self.mask == "lungmask") != (self.lungmask_weights is not None):
            raise ValueError("mask: lungmask needs lungmask_weights, a file that you have; nothing is downloaded; no other mask needs one")
        return self


USUAL = IngestConfig()
