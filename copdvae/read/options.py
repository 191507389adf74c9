"""How to read a DICOM folder where there is a choice. What changes voxels is off unless asked for, and said in the scan's warnings."""

from typing import Literal

from pydantic import Field

from copdvae.config import Config

Step = Literal["axial", "original", "coverage", "thin", "soft"]


class ReadConfig(Config):
    """`prefer_series`: the steps of the rule that chooses among several series of a folder, see `copdvae.read.dicom_choice`."""

    allow_gaps: bool = False  # make up missing or uneven slices by linear interpolation along the normal
    resample_tilt: bool = False  # shear a tilted stack back to an upright grid, air around it
    prefer_series: tuple[Step, ...] = Field(default=("axial", "original", "coverage", "thin", "soft"))


PLAIN = ReadConfig()
