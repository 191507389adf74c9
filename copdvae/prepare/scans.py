"""One CT prepared: read, lungs found, densities measured, cut to the grid; and what speaks against two scans being one subject's pair."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError, coded, printable
from copdvae.files import digest_of
from copdvae.prepare.acquisition import doubts, recorded
from copdvae.prepare.denoise import denoised, told
from copdvae.prepare.densitometry import densitometry
from copdvae.prepare.grid import GridScan, to_grid
from copdvae.prepare.lungs import LungError, Lungs, find_lungs, given_lungs
from copdvae.prepare.settings import USUAL, IngestConfig
from copdvae.prepare.task import Rejection, Task
from copdvae.read import read_ct, read_labels
from copdvae.read.volume import Volume

PLAUSIBLE_VOLUME_RATIO = (0.2, 0.98)  # expiratory over inspiratory lung volume: outside, the pair is kept with a warning


@dataclass(frozen=True)
class PreparedScan:
    """One CT on the grid, with what was measured before it was cut and resampled."""

    scan: GridScan
    densities: dict[str, float | None]  # keys of `densitometry`; None where there was nothing to measure
    mask: str  # who made the lung mask: "threshold", "lungmask" or "given"
    reader: str
    header: dict[str, str | float]
    pixels: str  # digest of the CT's voxels, whatever file they came from
    warnings: tuple[str, ...]
    patient: str = ""  # for comparison with the subject's other scan, never to be written
    study: str = ""


def prepare_scan(
    path: Path, mask_path: Path | None = None, series: str | None = None, config: IngestConfig = USUAL, breath: str = ""
) -> PreparedScan:
    """Read one CT (as `read_ct` does) and prepare it. Raises `ReadError` or `LungError`; the full volume is gone on return."""
    volume = read_ct(path, series, config, breath)
    lungs = lungs_of(volume, mask_path, config)
    quiet = denoised(volume.hu, lungs.labels, config.denoise)
    densities = densitometry(quiet, lungs, volume.spacing, config.reference_volume_l)
    header = recorded(volume.header)
    return PreparedScan(
        scan=to_grid(volume.hu, lungs.labels, volume.spacing, config.grid),
        densities={key: None if value is None or not math.isfinite(value) else float(value) for key, value in densities.items()},
        mask=lungs.maker,
        reader=volume.reader,
        header=header,
        pixels=pixel_digest(volume.hu),
        warnings=(*volume.warnings, *lungs.warnings, *doubts(header, volume.spacing, lungs.trachea_hu), *told(config.denoise)),
        patient=volume.patient,
        study=volume.study,
    )


def lungs_of(volume: Volume, mask_path: Path | None, config: IngestConfig) -> Lungs:
    """By the map at `mask_path` where there is one, else as the settings say."""
    if mask_path is not None:
        return given_lungs(read_labels(mask_path, like=volume), volume)
    if config.lungmask_weights is None:
        return find_lungs(volume)
    from copdvae.prepare.network_mask import lungmask_lungs  # torch: seconds that nothing else here needs

    return lungmask_lungs(volume, config.lungmask_weights)


def pixel_digest(hu: np.ndarray) -> str:
    """Equal for equal CTs: a digest of the shape and of every voxel up to a million, evenly spread, since all of them would take long."""
    flat = hu.reshape(-1)
    return digest_of(str(hu.shape), np.ascontiguousarray(flat[:: max(1, flat.size // 1_000_003)], np.float32).tobytes())


def prepare_named(name: str, task: Task, scan_column: str, mask_column: str) -> PreparedScan:
    """`prepare_scan`, its errors saying which of the subject's scans they are about."""
    path, mask = task.paths[scan_column], task.paths.get(mask_column)
    try:
        return prepare_scan(path, mask, task.series(scan_column), task.config, name)
    except (ReadError, LungError) as error:
        raise Rejection(f"{name}: {str(error).removeprefix(f'{printable(str(path))}: ')}", error.reason) from None


def check_owners(patients: tuple[str, str], studies: tuple[str, str], allow_other_study: bool) -> tuple[str, str] | None:
    """Why two scans, by what their headers say, are not one subject's of one day: text and code; None where nothing speaks against it."""
    if all(patients) and patients[0] != patients[1]:
        return "the two scans are of different patients (PatientID); expected one subject's", "other_patient"
    if all(studies) and studies[0] != studies[1] and not allow_other_study:
        found = "the two scans are of different studies (StudyInstanceUID); expected a breath in and a breath out in one"
        return f"{found}; if they belong together, set allow_other_study", "other_study"
    return None


def check_pair(insp: PreparedScan, exp: PreparedScan, allow_other_study: bool = False) -> tuple[float | None, list[str]]:
    """Expiratory over inspiratory lung volume, and doubts; raises where the two cannot be one subject's breath in and out."""
    if insp.pixels == exp.pixels:
        raise Rejection("the inspiratory and the expiratory scan are the same images", "identical_scans")
    patients, studies = (insp.patient, exp.patient), (insp.study, exp.study)
    if found := check_owners(patients, studies, allow_other_study):
        raise Rejection(*found)
    apart = check_owners(patients, studies, allow_other_study=False)
    doubts = [coded("the two scans are of different studies: asked for", "other_study")] if apart else []
    big, small = insp.densities.get("lung_volume_l"), exp.densities.get("lung_volume_l")
    if not big or not small:
        return None, doubts
    if small >= big:
        found = f"the expiratory lungs hold {small:.2f} l, the inspiratory {big:.2f} l"
        raise Rejection(f"{found}; expected less on expiration: are the two scans swapped?", "exp_not_smaller")
    low, high = PLAUSIBLE_VOLUME_RATIO
    if not low <= small / big <= high:
        doubt = f"expiratory over inspiratory lung volume is {small / big:.2f}, usually {low} to {high}"
        doubts.append(coded(doubt, "volume_ratio"))
    return small / big, doubts
