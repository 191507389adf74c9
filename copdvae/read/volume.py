"""A CT volume in memory, whatever file it came from."""

from dataclasses import dataclass, field

import numpy as np

AIR_HU = -1024.0  # nothing in a body is thinner than air: all below is padding


@dataclass(frozen=True)
class Volume:
    """Arrays are (z, y, x); the frame is LPS: z grows towards the head, y towards the back, x towards the patient's left."""

    hu: np.ndarray  # (z, y, x) HU, never below AIR_HU; float32, or int16 where a DICOM series holds whole numbers
    spacing: tuple[float, float, float]  # (z, y, x), mm
    affine: np.ndarray  # (4, 4): (x, y, z, 1) voxel index to LPS mm, in that order
    reader: str = ""  # "dicom", "nifti", "nrrd" or "metaimage"
    header: dict[str, str | float] = field(default_factory=dict)  # kernel, kvp, slice_thickness_mm ...: nothing that names a person
    warnings: tuple[str, ...] = ()
    patient: str = ""  # equal for equal patients within this process, "" where unknown: for comparison, never to be written
    study: str = ""  # the same of the study that a DICOM series is of

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing)) / 1000
