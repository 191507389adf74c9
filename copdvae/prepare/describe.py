"""What is in one CT scan: geometry, densities, lungs, and a picture of the mask."""

import math
from pathlib import Path

import numpy as np

from copdvae.errors import coded
from copdvae.files import write_with
from copdvae.prepare.acquisition import doubts, recorded
from copdvae.prepare.denoise import denoised, told
from copdvae.prepare.densitometry import densitometry
from copdvae.prepare.lungs import AIRWAYS, LEFT, RIGHT, LungError, Lungs
from copdvae.prepare.scans import lungs_of
from copdvae.prepare.settings import USUAL, IngestConfig
from copdvae.read import read_ct
from copdvae.read.volume import Volume

WINDOW_HU = (-1024, 200)
PLACES = (0.25, 0.5, 0.75)  # of the lungs' extent: where the picture's slices lie
OUTLINES = {RIGHT: ("right lung", "#ff8c1a"), LEFT: ("left lung", "#35b6ff"), AIRWAYS: ("airways", "#f4f436")}
PLANES = {"axial": (1, 2), "coronal": (0, 2), "sagittal": (0, 1)}  # the array axes that run down and across
INCHES = 3.2  # a panel's side

# Label, unit, decimals of the readable table; `{}` marks figures that are also given with airways.
ROWS = {
    "lung_volume_l{}": ("Lung volume", "L", 3),
    "laa950_pct{}": ("LAA-950", "%", 2),
    "laa910_pct{}": ("LAA-910", "%", 2),
    "laa856_pct{}": ("LAA-856", "%", 2),
    "perc15_hu{}": ("Perc15", "HU", 1),
    "perc15_adjusted_g_l{}": ("Perc15, adjusted", "g/L", 1),
    "mean_lung_hu{}": ("Mean density", "HU", 1),
    "right_volume_l": ("Right lung", "L", 3),
    "left_volume_l": ("Left lung", "L", 3),
    "upper_third_laa950_pct": ("LAA-950, upper third", "%", 2),
    "lower_third_laa950_pct": ("LAA-950, lower third", "%", 2),
    "trachea_hu": ("Air in the trachea", "HU", 1),
}


def describe_ct(
    path: Path, mask: Path | None = None, png: Path | None = None, series: str | None = None, config: IngestConfig = USUAL
) -> dict:
    """Everything measured in the CT at `path` as plain data, with the label map at `mask` or else a threshold mask; draws it into `png`.

    Shape and spacing are (z, y, x) in LPS, HU are of the whole volume after everything below -1024 was set to it. Without credible lungs
    their figures are None and a warning says why.
    """
    volume = read_ct(path, series, config)
    lungs, warnings = None, list(volume.warnings)
    try:
        lungs = lungs_of(volume, mask, config)
        warnings += lungs.warnings
    except LungError as error:
        warnings.append(coded(str(error), error.reason))
    figures: dict[str, float | None] = dict.fromkeys(figure_keys())
    if lungs:
        figures = densitometry(denoised(volume.hu, lungs.labels, config.denoise), lungs, volume.spacing, config.reference_volume_l)
        warnings += told(config.denoise)
    warnings += doubts(volume.header, volume.spacing, lungs.trachea_hu if lungs else None)
    if png is not None:
        draw_ct(volume, lungs, png)
    return {
        "reader": volume.reader,
        "shape": [int(size) for size in volume.hu.shape],
        "spacing_mm": [round(float(gap), 6) for gap in volume.spacing],
        "hu_min": float(volume.hu.min()),
        "hu_max": float(volume.hu.max()),
        "hu_mean": float(volume.hu.mean(dtype=float)),
        **{key: None if value is None or not math.isfinite(value) else float(value) for key, value in figures.items()},
        "mask": lungs.maker if lungs else None,
        "denoise": config.denoise,
        "reference_volume_l": config.reference_volume_l,
        "scanner": recorded(volume.header),
        "warnings": warnings,
    }


def figure_keys() -> list[str]:
    one = np.zeros((1, 1, 1), dtype=np.uint8)
    return list(densitometry(one, Lungs(one, ""), (1, 1, 1)))


def as_table(description: dict) -> str:
    """The same for a reader: aligned, with units, figures with airways beside those without."""
    shape, spacing = (" x ".join(f"{number:g}" for number in description[key]) for key in ("shape", "spacing_mm"))
    scanner = ", ".join(f"{key} {value}" for key, value in description["scanner"].items())
    low, high, mean = (description[f"hu_{name}"] for name in ("min", "max", "mean"))
    lines = [
        f"{'Voxels (z, y, x)':<22}{shape}  ({spacing} mm, {description['reader']})",
        f"{'HU':<22}{low:.0f} to {high:.0f}, mean {mean:.1f}",
        *([f"{'Scanner':<22}{scanner}"] if scanner else []),
        f"{'Lung mask':<22}{description['mask'] or 'none'}",
        "",
        f"{'':<22}{'without airways':>16}    {'with airways':>16}",
    ]
    for name, (label, unit, decimals) in ROWS.items():
        keys = [name.format("")] + ([name.format("_with_airways")] if "{}" in name else [])
        lines.append(f"{label:<22}" + "    ".join(cell(description[key], unit, decimals) for key in keys))
    lines.append(f"Adjusted: (Perc15 + 1000) x lung volume / {description['reference_volume_l']:g} L, the sponge model")
    return "\n".join(line.rstrip() for line in [*lines, *(f"warning: {warning}" for warning in description["warnings"])])


def cell(value: float | None, unit: str, decimals: int) -> str:
    return f"{'-' if value is None else f'{value:.{decimals}f}':>13} {unit:<3}"


def draw_ct(volume: Volume, lungs: Lungs | None, png: Path) -> None:
    """Axial, coronal and sagittal slices at true proportions with the mask's outline; the patient's right is on the viewer's left."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    labels = lungs.labels if lungs else np.zeros(volume.hu.shape, dtype=np.uint8)
    bounds = extent(labels)
    size_mm = np.array(volume.hu.shape) * volume.spacing
    heights = [size_mm[plane[0]] for plane in PLANES.values()]
    figure = Figure(figsize=(len(PLACES) * INCHES * 1.15, INCHES * sum(heights) / max(size_mm[1:]) + 0.9), layout="constrained")
    panels = figure.subplots(len(PLANES), len(PLACES), squeeze=False, height_ratios=heights)
    for row, (name, (down, across)) in zip(panels, PLANES.items(), strict=True):
        axis = 3 - down - across
        for panel, place in zip(row, PLACES, strict=True):
            first, last = bounds[axis]
            draw_slice(panel, volume, labels, axis, int(first + place * (last - first)))
        row[0].set_ylabel(name, fontsize=9)
    found = [Line2D([], [], color=colour, label=label) for number, (label, colour) in OUTLINES.items() if (labels == number).any()]
    if found:
        figure.legend(handles=found, loc="outside upper center", ncols=len(found), frameon=False, fontsize=9)
    mask = f"{lungs.maker} mask" if lungs else "no lungs found"
    figure.supxlabel(
        f"R: patient's right.  Window {WINDOW_HU[0]} to {WINDOW_HU[1]} HU.  {mask}.  Research use only.", fontsize=8, color="#444444"
    )
    write_with(png, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def draw_slice(panel, volume: Volume, labels: np.ndarray, axis: int, index: int) -> None:
    plane, outline = np.take(volume.hu, index, axis=axis), np.take(labels, index, axis=axis)
    spacing = np.delete(np.array(volume.spacing), axis)
    upright = axis != 0  # z grows to the head, and the head belongs at the top
    if upright:
        plane, outline = plane[::-1], outline[::-1]
    panel.imshow(plane, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=spacing[0] / spacing[1])
    for number, (_, colour) in OUTLINES.items():
        if (outline == number).any():
            panel.contour(outline == number, levels=[0.5], colors=[colour], linewidths=0.9)
    panel.set(xticks=[], yticks=[])
    panel.set_title(f"{'xyz'[2 - axis]} {index + 1} of {volume.hu.shape[axis]}", fontsize=7, pad=2)
    left, right = ("front", "back") if axis == 2 else ("R", "L")
    for place, text, side in ((0.02, left, "left"), (0.98, right, "right")):
        panel.text(place, 0.98, text, transform=panel.transAxes, color="white", fontsize=8, va="top", ha=side)


def extent(labels: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of the lungs along each axis, or of the volume where there are none."""
    deep, flat = np.zeros(len(labels), dtype=bool), np.zeros(labels.shape[1:], dtype=bool)
    for z, plane in enumerate(labels):
        lung = (plane == RIGHT) | (plane == LEFT)
        deep[z] = lung.any()
        flat |= lung
    lines = [deep, flat.any(axis=1), flat.any(axis=0)]
    return [(int(np.argmax(line)), len(line) - 1 - int(np.argmax(line[::-1]))) if line.any() else (0, len(line) - 1) for line in lines]
