"""How a scan was made, and what of it makes densitometry doubtful.  Told, never corrected: docs/DENSITOMETRY.md says why each matters."""

from collections.abc import Mapping

from copdvae.errors import coded
from copdvae.read.dicom_protocol import is_sharp

HEADER_KEYS = ("manufacturer", "model", "kernel", "kvp", "slice_thickness_mm", "contrast")  # what may be written: how, never who
SLICE_MM = 1.5
USUAL_KVP = 120.0
TRACHEA_HU = (-1020.0, -930.0)  # air reads near -1000; a narrow trachea in thick slices reads more


def recorded(header: Mapping[str, str | float]) -> dict[str, str | float]:
    """What of a header is kept."""
    return {key: header[key] for key in HEADER_KEYS if header.get(key) not in (None, "")}


def doubts(header: Mapping[str, str | float], spacing: tuple[float, float, float], trachea_hu: float | None = None) -> list[str]:
    """Warnings with codes; `spacing` is (z, y, x) in mm. A header that says nothing raises no doubt, its slices' distance does."""
    found, kvp = kernel_doubts(str(header.get("kernel", ""))), header.get("kvp")
    if isinstance(kvp, float | int) and kvp != USUAL_KVP:
        found.append(coded(f"{kvp:g} kV, usually {USUAL_KVP:g}: HU of tissue differ", "kvp"))
    thickness = header.get("slice_thickness_mm")
    thickness = max(spacing[0], thickness if isinstance(thickness, float | int) else 0.0)
    if thickness > SLICE_MM * 1.001:
        text = f"slices are {thickness:.3g} mm thick or apart, at most {SLICE_MM} are usual: low densities are averaged out"
        found.append(coded(text, "thick_slices"))
    if header.get("contrast"):
        found.append(coded("a contrast agent was given: the lungs read denser", "contrast"))
    if trachea_hu is not None and not TRACHEA_HU[0] <= trachea_hu <= TRACHEA_HU[1]:
        text = f"air in the trachea reads {trachea_hu:.0f} HU, expected about -1000 (thick slices? calibration?); nothing is corrected"
        found.append(coded(text, "trachea_hu"))
    return found


def kernel_doubts(kernel: str) -> list[str]:
    return [coded(f"kernel {kernel} is sharp: noise and edges raise LAA and lower Perc15", "sharp_kernel")] if is_sharp(kernel) else []
