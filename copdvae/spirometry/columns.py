"""Which of a table's columns is what: COPDGene's names, plain names, or the user's own mapping.

Names are compared without case, spaces and punctuation; the first name in a list that the table has wins. A wide table carries a
visit in its names (`FEV1_utah_P2`), a long one in a column.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Literal

import pandas as pd
from pydantic import BeforeValidator, Field, field_validator

from copdvae.config import Config
from copdvae.errors import ConfigError, ReadError
from copdvae.spirometry.codes import RACES, WORDS
from copdvae.spirometry.quantities import QUANTITIES

COPDGENE: dict[str, tuple[str, ...]] = {
    "subject_id": ("sid", "CID", "rand_id"),
    "visit": ("visitnum",),
    "age": ("age_visit", "Age_Enroll", "Age"),
    "sex": ("gender",),
    "race": ("race",),
    "height_cm": ("Height_CM",),
    "weight_kg": ("Weight_KG",),
    "bmi": ("BMI",),
    "pack_years": ("ATS_PackYears",),
    "smokes_now": ("SmokCigNow",),
    "smoking_status": ("smoking_status",),
    "fev1_l": ("FEV1_utah", "FEV1_post"),
    "fvc_l": ("FVC_utah", "FVC_post"),
    "fev1_pp": ("FEV1pp_utah", "FEV1pp_post"),
    "fvc_pp": ("FVCpp_utah", "FVCpp_post"),
    "fev1_fvc": ("FEV1_FVC_utah", "FEV1_FVC_post"),
    "gold": ("finalGold", "finalgold_visit"),
    "emphysema_pct": ("pctEmph_Thirona", "Insp_LAA950_total_Thirona", "pctEmph_Slicer"),
    "gas_trapping_pct": ("pctGasTrap_Thirona", "Exp_LAA856_total_Thirona", "pctGasTrap_Slicer"),
    "perc15_hu": ("Perc15_Insp_Thirona", "Slicer_15pctIn_Total"),
}
PLAIN: dict[str, tuple[str, ...]] = {
    "subject_id": ("subject_id", "subject", "id", "patient_id", "participant_id", "record_id", "seqn"),
    "visit": ("visit", "visit_number", "redcap_event_name"),
    "age": ("age", "age_years", "age_yr", "ridageyr"),
    "sex": ("sex", "gender", "male", "female", "riagendr"),
    "race": ("race", "ethnicity", "race_ethnicity", "ethnic_group", "ridreth3", "ridreth1"),
    "height_cm": ("height_cm", "height", "height_m", "height_in", "ht", "ht_cm", "stature", "bmxht"),
    "weight_kg": ("weight_kg", "weight", "wt", "wt_kg", "bmxwt"),
    "bmi": ("bmi", "bmxbmi"),
    "pack_years": ("pack_years", "packyears", "packyrs"),
    "smokes_now": ("smokes_now", "current_smoker"),
    "smoking_status": ("smoking_status", "smoking", "smoker"),
    "fev1_l": ("fev1_l", "fev1", "fev1_ml", "fev1_litres", "fev1_liters", "fev1_post", "fev1_pre", "spxnfev1"),
    "fvc_l": ("fvc_l", "fvc", "fvc_ml", "fvc_litres", "fvc_liters", "fvc_post", "fvc_pre", "spxnfvc"),
    "fev1_pp": ("fev1_pp", "fev1pp", "fev1_pct_pred", "fev1_percent_predicted", "fev1_pred_pct", "ppfev1", "fev1_%pred"),
    "fvc_pp": ("fvc_pp", "fvcpp", "fvc_pct_pred", "fvc_percent_predicted", "ppfvc", "fvc_%pred"),
    "fev1_fvc": ("fev1_fvc", "fev1fvc", "fev1/fvc", "ratio", "fev1_fvc_ratio"),
    "gold": ("gold", "gold_stage", "gold_grade"),
    "emphysema_pct": ("emphysema_pct", "laa950_pct", "laa950"),
    "gas_trapping_pct": ("gas_trapping_pct", "laa856_pct", "laa856"),
    "perc15_hu": ("perc15_hu", "perc15"),
    "bronchodilator": ("bronchodilator", "pre_post", "bd"),
}
PRESETS = {"copdgene": COPDGENE, "plain": PLAIN, "none": {}}
NAMES = tuple(dict.fromkeys([*PLAIN, *COPDGENE]))
SAME_AT_EVERY_VISIT = ("subject_id", "sex", "race")
VISIT_SUFFIXES = ("_P1", "_P2", "_P3")

Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)]  # YAML's `0: F`
ReferenceName = Literal["gli2012", "gli-global", "nhanes3"]


class TableConfig(Config):
    """How to read a table of people: which columns, in which units, with which codes."""

    preset: Literal["copdgene", "plain", "none"] = "copdgene"
    columns: dict[str, Text] = Field(default_factory=dict)  # our name -> the table's; goes before the preset
    units: dict[str, str] = Field(default_factory=dict)  # our name -> unit; otherwise judged from the column's median
    codes: dict[str, dict[Text, Text]] = Field(default_factory=dict)  # our name -> {the table's code: our word}
    missing: tuple[Text, ...] = ()  # further codes for missing numbers
    reference: ReferenceName = "gli-global"
    default_race: str = ""  # of rows whose race is missing or not understood; "" takes the reference's default group

    @field_validator("columns", "units", "codes")
    @classmethod
    def check_names(cls, value: dict[str, object]) -> dict[str, object]:
        for name in value:
            if name not in NAMES:
                near = difflib.get_close_matches(name, NAMES, n=1)
                raise ValueError(f"{name!r} is none of copdvae's columns" + (f"; did you mean {near[0]!r}?" if near else ""))
        return value

    @field_validator("units")
    @classmethod
    def check_units(cls, value: dict[str, str]) -> dict[str, str]:
        for name, unit in value.items():
            if name not in QUANTITIES or unit not in QUANTITIES[name].units:
                known = ", ".join(QUANTITIES[name].units) if name in QUANTITIES else "no units"
                raise ValueError(f"{name} comes in {known}, not {unit!r}")
        return value

    @field_validator("codes")
    @classmethod
    def check_codes(cls, value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for name, codes in value.items():
            words = list(dict.fromkeys(WORDS.get(name, {}).values()))
            wrong = [word for word in codes.values() if word not in words]
            if wrong:
                raise ValueError(f"{name} has no codes" if not words else f"{name} is one of {', '.join(words)}, not {wrong[0]!r}")
        return value

    @field_validator("default_race")
    @classmethod
    def check_race(cls, value: str) -> str:
        if value and value not in RACES:
            raise ValueError(f"one of {', '.join(RACES)}, not {value!r}")
        return value


def find_columns(table: pd.DataFrame, config: TableConfig, visit: str | None = None) -> dict[str, str]:
    """Our name -> the table's column, for those that it has. `visit` chooses among the columns of a wide table."""
    chosen = dict(config.columns)
    for name, column in chosen.items():
        if column not in table:
            near = difflib.get_close_matches(column, list(table.columns), n=1)
            raise ReadError(f"no column {column!r} for {name}" + (f"; did you mean {near[0]!r}?" if near else ""), "no_column")
    there: dict[str, list[str]] = {}
    for column in table.columns:
        there.setdefault(squeeze(column), []).append(column)
    suffix = wide_suffix(table, config, visit)
    for name, aliases in PRESETS[config.preset].items():
        wanted = [alias + suffix for alias in aliases] if suffix else []
        if not suffix or name in SAME_AT_EVERY_VISIT:
            wanted += aliases
        found = next((there[squeeze(alias)] for alias in wanted if squeeze(alias) in there), [])
        if len(found) > 1 and name not in chosen:
            raise ReadError(
                f"columns {' and '.join(map(repr, found))} could both be {name}; say which (`columns: {{{name}: ...}}`)", "two_columns"
            )
        if found:
            chosen.setdefault(name, found[0])
    return chosen


def wide_suffix(table: pd.DataFrame, config: TableConfig, visit: str | None) -> str:
    """`_P2` where the table's names carry visits and visit 2 is wanted, "" for a long table or one visit."""
    keys = {squeeze(column) for column in table.columns}
    aliases = [alias for name, list_ in PRESETS[config.preset].items() if name not in SAME_AT_EVERY_VISIT for alias in list_]
    suffixes = [suffix for suffix in VISIT_SUFFIXES if any(squeeze(alias + suffix) in keys for alias in aliases)]
    if not suffixes or any(squeeze(alias) in keys for alias in PRESETS[config.preset].get("fev1_l", ())):
        return ""
    wanted = f"_P{visit}" if visit else suffixes[0]
    if wanted not in suffixes or (not visit and len(suffixes) > 1):
        raise ReadError(
            f"columns are there for visits {', '.join(suffix[2:] for suffix in suffixes)}; say which (`visit: 1`)", "several_visits"
        )
    return wanted


def guess_preset(table: pd.DataFrame) -> Literal["copdgene", "plain"]:
    """COPDGene's tables give themselves away by the names of the centres that read them."""
    return "copdgene" if any(re.search(r"_utah|_thirona|finalgold", column, re.IGNORECASE) for column in table.columns) else "plain"


def config_from_options(
    table: pd.DataFrame,
    reference: str = "gli-global",
    columns: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    codes: Sequence[str] | None = None,
    default_race: str = "",
) -> TableConfig:
    """How to read `table`, from `NAME=VALUE` options; a code is `NAME.CODE=WORD`."""
    by_name: dict[str, dict[str, str]] = {}
    for key, word in pairs(codes, "--code").items():
        name, _, raw = key.partition(".")
        by_name.setdefault(name, {})[raw] = word
    settings = {"preset": guess_preset(table), "columns": pairs(columns, "--column"), "units": pairs(units, "--unit"), "codes": by_name}
    return TableConfig.parse({**settings, "reference": reference, "default_race": default_race}, "options")


def pairs(options: Sequence[str] | None, flag: str) -> dict[str, str]:
    wrong = [option for option in options or () if "=" not in option]
    if wrong:
        raise ConfigError(f"{flag} {wrong[0]!r}: write NAME=VALUE")
    return dict(option.split("=", 1) for option in options or ())


def squeeze(column: str) -> str:
    return re.sub(r"[^a-z0-9%]", "", column.casefold())
