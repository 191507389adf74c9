"""Sex, race or ethnicity, smoking, GOLD and bronchodilator as tables write them, to our words.

A user's `codes` replace ours for that column. A number whose meaning differs between tables (sex 0/1, race without a known
dictionary) is never guessed.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false, reportOperatorIssue=false
# pandas comes without types: a column is inferred as Series | DataFrame.

from collections.abc import Mapping

import pandas as pd

from copdvae.errors import ReadError
from copdvae.spirometry.quantities import Finding

RACES = ("white", "black", "hispanic", "north east asian", "south east asian", "asian", "other")
SMOKING = ("never", "former", "current")

WORDS: dict[str, dict[str, str]] = {
    "sex": {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F"},
    "race": {
        **{race: race for race in RACES},
        **dict.fromkeys(("caucasian", "non hispanic white", "nhw", "white non hispanic", "european"), "white"),
        **dict.fromkeys(
            ("african american", "non hispanic black", "nhb", "aa", "black or african american", "black non hispanic"), "black"
        ),
        **dict.fromkeys(("mexican", "mexican american", "other hispanic", "hispanic or latino", "latino", "latina"), "hispanic"),
        **dict.fromkeys(("northeast asian", "ne asian", "korean", "japanese"), "north east asian"),
        **dict.fromkeys(("southeast asian", "se asian"), "south east asian"),
        **dict.fromkeys(("mixed", "other mixed", "multiracial", "multi racial", "other race including multi racial"), "other"),
    },
    "smoking_status": {
        **dict.fromkeys(("never", "never smoker", "never smoked", "non smoker", "nonsmoker"), "never"),
        **dict.fromkeys(("former", "former smoker", "ex", "ex smoker", "quit"), "former"),
        **dict.fromkeys(("current", "current smoker", "smoker"), "current"),
    },
    "smokes_now": {"0": "no", "no": "no", "n": "no", "false": "no", "1": "yes", "yes": "yes", "y": "yes", "true": "yes"},
    "gold": {
        **{str(stage): str(stage) for stage in range(-2, 5)},
        **{f"gold {stage}": str(stage) for stage in range(5)},
        **{f"gold{stage}": str(stage) for stage in range(5)},
        **dict.fromkeys(("prism", "gold u"), "-1"),
        **dict.fromkeys(("never smoked normal", "never smoker normal"), "-2"),
    },
    "bronchodilator": {
        **dict.fromkeys(("pre", "pre bd", "pre bronchodilator", "before"), "pre"),
        **dict.fromkeys(("post", "post bd", "post bronchodilator", "after"), "post"),
    },
}

# Numbers that the dictionary of the table with this column gives a meaning.
COPDGENE_CODES = {
    "sex": {"1": "M", "2": "F"},
    "race": {"1": "white", "2": "black"},
    "smoking_status": {"0": "never", "1": "former", "2": "current"},
}
NHANES_RACE = {"1": "hispanic", "2": "hispanic", "3": "white", "4": "black"}
COLUMN_CODES: dict[str, dict[str, str]] = {
    "male": {"1": "M", "0": "F"},
    "female": {"1": "F", "0": "M"},
    "ridreth1": {**NHANES_RACE, "5": "other"},
    "ridreth3": {**NHANES_RACE, "6": "asian", "7": "other"},
}
ONE_TWO = {"1": "M", "2": "F"}  # ISO 5218, NHANES, plink and COPDGene agree
MISSING_CODES = ("", "-9", "-99", "-999", "999", "9999", "unknown", "not reported")


def read_codes(name: str, text: pd.Series, codes: Mapping[str, str] | None, copdgene: bool) -> tuple[pd.Series, list[Finding], str]:
    """Our words for the column `text` of codes, "" where missing or not understood (a finding), and what to announce.

    `name` is a key of `WORDS`; `codes` is the user's own mapping; `copdgene`: COPDGene's numbers hold.
    """
    plain = text.map({raw: tidy(raw) for raw in text.unique()})
    if codes is not None:
        known = {tidy(raw): ours for raw, ours in codes.items()}
    else:
        known = {**WORDS[name], **default_numbers(name, str(text.name), set(plain), copdgene)}
    ours = plain.map(known)
    unknown = ours.isna() & ~plain.isin([code for code in MISSING_CODES if code not in known])
    bad = name in ("sex", "gold")
    reason = f"unknown_{name.removesuffix('_status')}"
    help_ = f"is not understood; give its meaning in `codes: {{{name}: ...}}`"
    said = f"{text.name}: a code that {help_}"
    findings = [Finding(row, reason, f"{text.name}: {raw!r} {help_}", bad, name, said) for row, raw in text[unknown].items()]
    used = {raw: known[raw] for raw in sorted(set(plain)) if raw in known and raw != known[raw].lower()}
    said = ", ".join(f"{raw} is {word}" for raw, word in used.items())
    note = f"{name} from column {text.name!r}" + (f": {said}" if said else "")
    return ours.fillna(""), findings, note + (f"; not understood in {len(findings)} rows" if findings else "")


def default_numbers(name: str, column: str, found: set[str], copdgene: bool) -> dict[str, str]:
    """What the numbers of a column mean where its user has not said."""
    if column.casefold() in COLUMN_CODES:
        return COLUMN_CODES[column.casefold()]
    if name == "sex" and "0" in found:
        raise ReadError(
            f"column {column!r}: sex is coded with a 0, which is male in some tables and female in others; say which: "
            "`codes: {sex: {0: F, 1: M}}` or the other way round",
            "ambiguous_sex",
        )
    if copdgene and name in COPDGENE_CODES:
        return COPDGENE_CODES[name]
    return ONE_TWO if name == "sex" else {}


def tidy(raw: str) -> str:
    """Lower case, one space between words, no hyphens; whole numbers without their `.0`. `-2` stays `-2`."""
    raw = raw.casefold().strip()
    try:
        return f"{float(raw):.0f}" if float(raw).is_integer() else raw
    except (ValueError, OverflowError):
        return " ".join(raw.replace("-", " ").replace("_", " ").replace("/", " ").replace(",", " ").split())
