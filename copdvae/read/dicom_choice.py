"""Which of several CT series in a folder is meant.

A series that holds several images of each place (two kernels, two time points) or two stacks counts as several. Then, a step at a time,
only the best are kept, until one is left; what is still level after the last step is an error that lists them and how to name one.

    breath    the scan asked for, where descriptions tell inspiration from expiration (a manifest's column asks for one)
    axial     slices that lie across the body before reformatted ones
    original  images as scanned before those derived from them
    coverage  at least 200 mm along the body; where no series has that, the longest (to a tenth)
    thin      the thinnest slices
    soft      the softest kernel, where all that are left have kernels of one maker whose order is known

The steps after the first are `ReadConfig.prefer_series`: leave some out, or change their order. None left: every choice is by name.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.tag import Tag

from copdvae.errors import ReadError, coded
from copdvae.read.dicom_header import PARSE_ERRORS, HeaderStream, Slice, plain, quiet
from copdvae.read.dicom_protocol import Protocol, breath_of, read_protocol
from copdvae.read.dicom_stack import ORIENTATION_TOLERANCE, doubled
from copdvae.read.options import Step

CHEST_MM = 200.0  # adult lungs are taller
LEVEL = 0.1  # of coverage: less is level
SMALLEST_STACK = 3  # slices that point another way than the rest: fewer are strays
TRAIT_KEYWORDS = (
    ("acquisition", "AcquisitionNumber"), ("kernel", "ConvolutionKernel"), ("temporal position", "TemporalPositionIdentifier"),
    ("phase", "NominalPercentageOfCardiacPhase"), ("phase", "NominalPercentageOfRespiratoryPhase"), ("kVp", "KVP"),
    ("thickness", "SliceThickness"), ("filter", "FilterType"), ("contrast", "ContrastBolusAgent"), ("breath", "SeriesDescription"),
    ("image type", "ImageType"),
)  # fmt: skip
SHOWN_TRAITS = ("acquisition", "kernel", "kVp", "thickness", "breath")  # numbers and kernels; the others might hold anything
BREATH_WORDS = {"insp": "inspiration", "exp": "expiration"}


@dataclass(frozen=True)
class Candidate:
    """One series, or one part of a series, that could be read."""

    name: str  # of the series, and ".2" for its second part
    uid: str  # of the series: for comparison only
    protocol: Protocol
    axial: bool
    derived: bool
    coverage_mm: float  # from the first slice to the last
    count: int  # of slices
    size: str = ""  # "512x512"
    part: str = ""  # what tells this part of a series from the others: "kernel B31f"
    slices: tuple[Slice, ...] = ()

    @property
    def thickness_mm(self) -> float:
        return float(self.protocol.header.get("slice_thickness_mm") or np.inf)

    def __str__(self) -> str:
        header = self.protocol.header
        facts = (
            "CT", "derived" if self.derived else "original", "axial" if self.axial else "not axial",
            f"{self.count} slices {self.size}{' ' * bool(self.size)}over {self.coverage_mm:.0f} mm",
            f"{header.get('slice_thickness_mm', '?')} mm thick", f"kernel {header.get('kernel', '?')}",
            "contrast" if header["contrast"] else "no contrast", BREATH_WORDS.get(self.protocol.breath, "breath unknown"), self.part,
        )  # fmt: skip
        return f"{self.name} ({', '.join(fact for fact in facts if fact)})"


def choose_series(
    slices: list[Slice], folder: Path, wanted: str | None, steps: tuple[Step, ...], breath: str = ""
) -> tuple[Candidate, list[str]]:
    """The one series that can be meant, and warnings of what was left out; `ReadError` that lists the candidates otherwise."""
    groups: dict[str, list[Slice]] = defaultdict(list)
    for slice_ in slices:
        groups[slice_.series_uid].append(slice_)
    if wanted is not None:
        candidates, left_out, doubt = named(groups, folder, wanted), Counter(), []
    else:
        check_folder(groups, folder)
        several = {name: group for name, group in groups.items() if len(group) > 1} or groups
        candidates, left_out, doubt = by_breath(candidates_of(several), breath)
        left_out["single slices"] = len(groups) - len(several)
    candidates, dropped = by_rule(candidates, steps)
    left_out += dropped
    if len(candidates) > 1:
        one = len({candidate.uid for candidate in candidates}) == 1
        found = f"{len(candidates)} images of each place in one series" if one else f"{len(candidates)} CT series"
        raise ReadError(
            f"{folder}: {found} and no rule prefers one ({', '.join(steps) or 'no step'}); name one with --series or in the manifest's "
            f"column series (exp_series): {'; '.join(map(str, candidates))}",
            "duplicate_position" if one else "several_series",
        )
    warnings = [coded(f"{count} other CT series ({why}): left out", "other_series") for why, count in left_out.items() if count]
    return candidates[0], warnings + doubt


def check_folder(groups: dict[str, list[Slice]], folder: Path) -> None:
    """Refuse several people's images, and a series for each slice."""
    patients = {slice_.patient for group in groups.values() for slice_ in group} - {""}
    if len(patients) > 1:
        raise ReadError(f"{folder}: CT of {len(patients)} patients; take them apart, or name one series", "mixed_patients")
    if len(groups) > 1 and all(len(group) == 1 and group[0].frame is None for group in groups.values()):
        raise ReadError(f"{folder}: {len(groups)} slices, each in a series of its own; export them as one series", "series_per_slice")


def named(groups: dict[str, list[Slice]], folder: Path, wanted: str) -> list[Candidate]:
    """The series of that name or UID with its parts, or the one part of that name, as "1f2e3d4c.2"."""
    found = {uid: group for uid, group in groups.items() if wanted == uid or wanted.partition(".")[0] == group[0].series}
    candidates = candidates_of(found)
    exactly = [candidate for candidate in candidates if candidate.name == wanted]
    whole = [candidate for candidate in candidates if wanted in (candidate.name.partition(".")[0], candidate.uid)]
    if not (exactly or whole):
        there = "; ".join(map(str, candidates_of(groups)))
        raise ReadError(f"{folder}: no CT series of that name; there are: {there}", "no_such_series")
    return exactly or whole


def candidates_of(groups: dict[str, list[Slice]]) -> list[Candidate]:
    """Every series, taken apart where it holds several stacks, with its middle slice's protocol; in order of their names."""
    found = []
    for group in sorted(groups.values(), key=lambda group: (group[0].series, group[0].series_uid)):
        parts = parts_of(group)
        for n, (part, slices) in enumerate(parts.items(), start=1):
            first = slices[0]
            found.append(
                Candidate(
                    name=first.series if len(parts) == 1 else f"{first.series}.{n}",
                    uid=first.series_uid,
                    protocol=read_protocol(slices[len(slices) // 2]),
                    axial=is_axial([slice_.orientation for slice_ in slices if slice_.orientation is not None]),
                    derived=sum(slice_.derived for slice_ in slices) > len(slices) / 2,
                    coverage_mm=coverage_of([slice_.position for slice_ in slices if slice_.position is not None]),
                    count=len(slices),
                    size=f"{first.rows}x{first.columns}",
                    part=part,
                    slices=tuple(slices),
                )
            )
    return found


def parts_of(group: list[Slice]) -> dict[str, list[Slice]]:
    """A series' stacks: by the way they point, or by the one trait that leaves no two slices at one place; itself if there is none."""
    whole = {"": group}
    if any(slice_.position is None or slice_.orientation is None for slice_ in group) or len(group) < 2:
        return whole
    orientations = np.array([slice_.orientation for slice_ in group])
    if np.ptp(orientations, axis=0).max() > ORIENTATION_TOLERANCE:
        ways: dict[tuple, list[Slice]] = defaultdict(list)
        for slice_, way in zip(group, orientations.round(2) + 0.0, strict=True):
            ways[tuple(way)].append(slice_)
        stacked = all(len(part) >= SMALLEST_STACK for part in ways.values())
        return {f"direction {n}": part for n, (_, part) in enumerate(sorted(ways.items()), start=1)} if stacked else whole
    if not is_doubled(group):
        return whole
    group = [slice_ if slice_.traits is not None else replace(slice_, traits=read_traits(slice_)) for slice_ in group]
    for position, (trait, _) in enumerate(group[0].traits or ()):
        parts: dict[str, list[Slice]] = defaultdict(list)
        for slice_ in group:
            parts[(slice_.traits or ())[position][1]].append(slice_)
        if len(parts) > 1 and not any(len(part) < 2 or is_doubled(part) for part in parts.values()):
            shown = trait in SHOWN_TRAITS
            return {f"{trait} {value if shown else n}": parts[value] for n, value in enumerate(sorted(parts, key=by_number), start=1)}
    return whole


def by_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return np.inf, text


def is_doubled(group: list[Slice]) -> bool:
    row, column = np.array([slice_.orientation for slice_ in group])[0].reshape(2, 3)
    return len(doubled(np.sort(np.array([slice_.position for slice_ in group]) @ np.cross(row, column)))) > 0


def read_traits(slice_: Slice) -> tuple[tuple[str, str], ...]:
    """What may tell this slice from another at its place; of its description only the breath."""
    try:
        with quiet, HeaderStream(slice_.path) as stream:
            tags = [Tag(keyword) for _, keyword in TRAIT_KEYWORDS]
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=tags, force=True)
            values = [(name, plain(dataset.get(keyword))) for name, keyword in TRAIT_KEYWORDS]
    except PARSE_ERRORS:
        return tuple((name, "") for name, _ in TRAIT_KEYWORDS)
    return tuple((name, breath_of(value) if name == "breath" else value) for name, value in values)


def is_axial(orientations: list[np.ndarray]) -> bool:
    """Whether most slices lie across the body; unknown counts as yes, so that the lack is named and not passed over."""
    if not orientations:
        return True
    both = np.array(orientations)  # (N, 6)
    normals = np.cross(both[:, :3], both[:, 3:])
    return bool(np.median(np.abs(normals).argmax(axis=1) == 2))


def coverage_of(positions: list[np.ndarray]) -> float:
    """From the first slice to the last, in mm."""
    return float(np.linalg.norm(np.ptp(positions, axis=0))) if positions else 0.0


def by_rule(candidates: list[Candidate], steps: tuple[Step, ...]) -> tuple[list[Candidate], Counter]:
    """What the steps leave, and how many each of them dropped."""
    dropped = Counter()
    for step in steps:
        kept = STEPS[step](candidates)
        dropped[WHY[step]] += len(candidates) - len(kept)
        candidates = kept
    return candidates, dropped


def by_breath(candidates: list[Candidate], wanted: str) -> tuple[list[Candidate], Counter, list[str]]:
    """Those said to be of the breath that is wanted, else those that say nothing, else all, with a doubt."""
    if not wanted:
        return candidates, Counter(), []
    for said in (wanted, ""):
        kept = [candidate for candidate in candidates if candidate.protocol.breath == said]
        if kept:
            return kept, Counter({f"not said to be of {BREATH_WORDS[wanted]}": len(candidates) - len(kept)}), []
    other = BREATH_WORDS["exp" if wanted == "insp" else "insp"]
    doubt = coded(f"its description says {other}, but it is used as the scan of {BREATH_WORDS[wanted]}", "breath_words")
    return candidates, Counter(), [doubt]


def axial(candidates: list[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.axial] or candidates


def original(candidates: list[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if not candidate.derived] or candidates


def coverage(candidates: list[Candidate]) -> list[Candidate]:
    enough = [candidate for candidate in candidates if candidate.coverage_mm >= CHEST_MM]
    longest = max(candidate.coverage_mm for candidate in candidates)
    return enough or [candidate for candidate in candidates if candidate.coverage_mm >= (1 - LEVEL) * longest]


def thin(candidates: list[Candidate]) -> list[Candidate]:
    thinnest = min(candidate.thickness_mm for candidate in candidates)
    unknown = any(candidate.thickness_mm == np.inf for candidate in candidates)
    return [candidate for candidate in candidates if unknown or candidate.thickness_mm <= thinnest]


def soft(candidates: list[Candidate]) -> list[Candidate]:
    known = [candidate.protocol.sharpness for candidate in candidates]
    makers = {None if each is None else each[0] for each in known}
    if len(makers) > 1 or None in makers:
        return candidates
    softest = min(each[1] for each in known if each is not None)
    return [candidate for candidate, each in zip(candidates, known, strict=True) if each is not None and each[1] <= softest]


STEPS = {"axial": axial, "original": original, "coverage": coverage, "thin": thin, "soft": soft}
WHY = {"axial": "not axial", "original": "derived", "coverage": "shorter", "thin": "thicker", "soft": "sharper kernel"}
