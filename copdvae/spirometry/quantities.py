"""What a table's numbers are: decimal commas, missing codes, units judged a column, and limits.

A unit is judged once for a whole column, from its median, and said; a value that fits another of the quantity's units instead is a
finding, and a column where more than a tenth do is refused. Nothing is repaired value by value.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false, reportOperatorIssue=false
# pandas comes without types: a column is inferred as Series | DataFrame.

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from copdvae.errors import ReadError

MISSING_NUMBERS = (-9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0)  # missing wherever the quantity cannot have that value
MIXED_SHARE = 0.1  # of a column's values in another unit: more (and more than one) refuses the table, fewer are findings

DECIMAL_COMMA = r"[-+]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+"
THOUSANDS = r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"


class Unit(NamedTuple):
    factor: float  # a value times this is in our unit
    medians: tuple[float, float] | None  # a column's median between these (in this unit) means this unit; None: only where the user says so


class Quantity(NamedTuple):
    """`units`: ours first. Limits are in our unit: outside `possible` is an error, outside `usual` only worth a look."""

    units: dict[str, Unit]
    possible: tuple[float, float]
    usual: tuple[float, float] | None = None
    core: bool = True  # an impossible value of a quantity that is not core is dropped; of one that is, the row is bad


VOLUMES = {"L": Unit(1, (0.1, 12)), "mL": Unit(1e-3, (100, 12_000))}
PERCENT_PREDICTED = {"percent": Unit(1, (5, 250)), "fraction": Unit(100, (0.05, 2.5))}
PERCENT_OF_LUNG = {"percent": Unit(1, (0, 100)), "fraction": Unit(100, None)}  # .8 may well be .8 %

QUANTITIES = {
    "age": Quantity({"years": Unit(1, (1, 110)), "months": Unit(1 / 12, None)}, (0, 110), (18, 100)),
    "height_cm": Quantity({"cm": Unit(1, (85, 250)), "m": Unit(100, (0.5, 2.5)), "inch": Unit(2.54, (40, 85))}, (50, 250), (120, 220)),
    "weight_kg": Quantity({"kg": Unit(1, (1, 400)), "lb": Unit(0.45359237, None)}, (5, 400), core=False),
    "bmi": Quantity({"kg/m2": Unit(1, (5, 100))}, (8, 100), core=False),
    "pack_years": Quantity({"pack-years": Unit(1, (0, 300))}, (0, 300), core=False),
    "fev1_l": Quantity(VOLUMES, (0.2, 8)),
    "fvc_l": Quantity(VOLUMES, (0.4, 10)),
    "fev1_pp": Quantity(PERCENT_PREDICTED, (5, 200)),
    "fvc_pp": Quantity(PERCENT_PREDICTED, (5, 200)),
    "fev1_fvc": Quantity({"ratio": Unit(1, (0.1, 1.2)), "percent": Unit(0.01, (10, 120))}, (0.15, 1.0)),
    "emphysema_pct": Quantity(PERCENT_OF_LUNG, (0, 100)),
    "gas_trapping_pct": Quantity(PERCENT_OF_LUNG, (0, 100)),
    "perc15_hu": Quantity({"HU": Unit(1, (-1024, 0))}, (-1024, 0), core=False),
}


@dataclass(frozen=True)
class Finding:
    """One thing wrong with one row's value."""

    row: int  # in the spreadsheet: 1 is the header
    reason: str  # stable code
    detail: str
    bad: bool = True  # the row cannot be used; otherwise worth a look
    name: str = ""  # of the quantity or words that it is about
    written: str = ""  # the detail for a file, without the cell's own words


class Column(NamedTuple):
    """A column read: values in our unit (float, NaN missing), with what was found and what is to be announced."""

    values: pd.Series
    findings: list[Finding]
    note: str


def stem(name: str) -> str:
    """Of a reason: `fev1` for `fev1_l`."""
    for suffix in ("_l", "_cm", "_kg", "_pct", "_hu"):
        name = name.removesuffix(suffix)
    return name


def read_quantity(name: str, text: pd.Series, unit: str | None = None, missing: Iterable[str] = ()) -> Column:
    """Numbers of the quantity `name` from a column of text; `unit` is the user's word for it, `missing` the user's own codes."""
    quantity, findings, remarks = QUANTITIES[name], [], []
    text = text.where(~text.isin(list(missing)), "")
    numbers, remark = read_numbers(text)
    remarks += [remark] if remark else []
    wrong = (text != "").to_numpy() & np.isnan(numbers)
    for row, found in text[wrong].items():
        said = f"{text.name}: not a number"
        findings.append(Finding(row, "not_a_number", f"{text.name}: {found!r} is not a number", quantity.core, name, said))

    coded = np.isin(numbers, MISSING_NUMBERS)
    unit = unit or judge_unit(name, str(text.name), numbers[~np.isnan(numbers) & ~coded])
    if unit not in quantity.units:
        raise ReadError(f"{name}: no unit {unit!r}; it comes in {', '.join(quantity.units)}", "unknown_unit")
    values = numbers * quantity.units[unit].factor
    impossible = ~np.isnan(values) & ~within(values, quantity.possible)
    if (coded & impossible).any():
        codes = sorted(set(numbers[coded & impossible].astype(int).tolist()))
        remarks.append(f"{', '.join(map(str, codes))} read as missing in {(coded & impossible).sum()} rows")
    values[coded & impossible] = np.nan
    impossible &= ~coded

    elsewhere = impossible & np.any(
        [within(numbers, other.medians) for key, other in quantity.units.items() if key != unit and other.medians] or [np.zeros(1, bool)],
        axis=0,
    )
    known = int((~np.isnan(values)).sum())
    if elsewhere.sum() > max(1, MIXED_SHARE * known):
        rows = ", ".join(map(str, text.index[elsewhere][:5]))
        raise ReadError(
            f"column {text.name!r}: {elsewhere.sum()} of {known} values are not in {unit} like the others (rows {rows} ...); "
            f"bring {name} to one unit",
            "mixed_units",
        )
    for (row, found), other in zip(text[impossible].items(), elsewhere[impossible], strict=True):
        reason = "mixed_units" if other else f"{stem(name)}_out_of_range"
        wanted = f"the column is in {unit}" if other else f"possible is {span(quantity, unit)}"
        findings.append(Finding(row, reason, f"{text.name}: {found} found, {wanted}", quantity.core, name, f"{text.name}: {wanted}"))
    values[impossible] = np.nan
    if quantity.usual:
        odd = ~np.isnan(values) & ~within(values, quantity.usual)
        usual = "usual is {:g} to {:g} {}".format(*quantity.usual, first(quantity))
        for row, found in text[odd].items():
            said = f"{text.name}: {usual}"
            findings.append(Finding(row, f"{stem(name)}_unusual", f"{text.name}: {found} found, {usual}", False, name, said))
    if quantity.units is PERCENT_OF_LUNG and unit == "percent" and known >= 10 and np.nanmax(values) <= 1:
        remarks.append(f"no value above 1: if these are fractions, say `units: {{{name}: fraction}}`")
    return Column(pd.Series(values, index=text.index), findings, "; ".join([f"{name} from column {text.name!r} in {unit}", *remarks]))


def read_numbers(text: pd.Series) -> tuple[np.ndarray, str]:
    """Floats (NaN where empty or no number) and what to announce. A column may use decimal commas, or commas between thousands."""
    numbers = np.array(pd.to_numeric(text, errors="coerce"), dtype=float)
    numbers[np.isinf(numbers)] = np.nan
    commas = np.isnan(numbers) & text.str.contains(",", regex=False).to_numpy()
    if not commas.any():
        return numbers, ""
    odd, plain = text[commas], numbers[~np.isnan(numbers)]
    whole = plain.size > 0 and bool((plain == plain.round()).all()) and bool((plain >= 100).all())
    split = odd.str.contains(".", regex=False) | (odd.str.count(",") > 1)
    if odd.str.fullmatch(THOUSANDS).all() and (whole or split.any()):
        numbers[commas] = pd.to_numeric(odd.str.replace(",", ""), errors="coerce")
        return numbers, "commas read as thousands separators"
    decimal = odd.where(odd.str.fullmatch(DECIMAL_COMMA), "")
    numbers[commas] = pd.to_numeric(decimal.str.replace(".", "", regex=False).str.replace(",", "."), errors="coerce")
    return numbers, "commas read as decimal commas"


def judge_unit(name: str, column: str, numbers: np.ndarray) -> str:
    """The unit whose interval the column's median falls into."""
    units = QUANTITIES[name].units
    if numbers.size == 0:
        return next(iter(units))
    median = float(np.median(numbers))
    for unit, (_, medians) in units.items():
        if medians and medians[0] <= median <= medians[1]:
            return unit
    raise ReadError(
        f"column {column!r}: its median {median:g} fits no unit of {name} ({', '.join(units)}); "
        f"is it the right column? If so, give its unit (`units: {{{name}: UNIT}}`)",
        "unknown_unit",
    )


def within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (values >= limits[0]) & (values <= limits[1])


def first(quantity: Quantity) -> str:
    return next(iter(quantity.units))


def span(quantity: Quantity, unit: str) -> str:
    """The possible values, in the column's own unit."""
    low, high = (limit / quantity.units[unit].factor for limit in quantity.possible)
    return f"{low:g} to {high:g} {unit}"
