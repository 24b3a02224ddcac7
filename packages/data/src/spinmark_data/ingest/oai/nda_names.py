"""What the structures and columns of an NDA package are in the OAI's own words.

These tables are data: names met in public descriptions of the package (its structures, the headers
of those below) and no more. A YAML given as `oai.nda_names` adds to them or corrects them:

    structures: {oai_mine01: ALLCLINICAL}       # structure -> stem of the Complete Data
    variables: {oai_mine01.score: PASE, pain_r: WOMKPR}   # column -> name without the visit
    values: {RACE: {White: 1}}                  # text -> code, by variable
    ignored: [oai_mine01.note]                  # columns that are not worth a word
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spinmark_data.errors import InputError

STRUCTURES: Mapping[str, str] = {
    "oai_enrollee01": "ENROLLEES",
    **{
        f"oai_{name}01": "ALLCLINICAL"
        for name in (
            *("oarisk", "koos_womac", "oapain", "charlson", "ces_d", "sf12", "lld", "cope"),
            *("pase", "physfunct", "gfadl", "exercise"),
        )
    },
    "oai_kxrsemiquant01": "KXR_SQ_BU",
    "oai_kxrquantjsw01": "KXR_QJSW_DURYEA",
    "oai_xralign01": "KXR_FTA_DURYEA",
    "oai_kmrisemiquant01": "KMRI_SQ_MOAKS_BICL",
    "oai_kmriquant01": "KMRI_QCART",
    "oai_biomarker01": "BIOSPEC_FNIH",
    "oai_outcome01": "OUTCOMES",
}
# Those that hold no variable of this project, or none that a row a person could hold.
SKIPPED = frozenset(
    f"oai_{name}01"
    for name in (
        *("accelday", "accelmin", "accelsummary", "bone", "hxrsemiquant", "inventory"),
        *("kxrquant_ftb", "labcollection", "meduse", "mrimeta", "nutrition", "sage", "xrmeta"),
    )
)
VARIABLES: Mapping[str, str] = {
    "oai_enrollee01.e_cohort": "COHORT",
    "ageyears": "AGE",
    "ethnicity": "HISP",
    "interview_date": "FVDATE",
    **{
        f"womac_{what}_{word}": f"{stem}{side}"
        for what, stem in (
            ("pain", "WOMKP"),
            ("stiffness", "WOMSTF"),
            ("disability", "WOMADL"),
            ("total", "WOMTS"),
        )
        for word, side in (("right", "R"), ("left", "L"))
    },
    "koos_rkpain": "KOOSKPR",
    "koos_lkpain": "KOOSKPL",
    "koos_rksymptoms": "KOOSYMR",
    "koos_lksymptoms": "KOOSYML",
    "koos_qol": "KOOSQOL",
    "koos_sports": "KOOSFSR",
    "sym_rkn1": "SWELLR",
    "sym_lkn1": "SWELLL",
    "w20mpace": "20MPACE",
    "w400mtim": "400MTIM",
    "weight_met": "WEIGHT",
    "oai_outcome01.rntcnt": "RNTCNT",
    "oai_outcome01.ddcf": "EDDCF",
    "oai_outcome01.dthdate": "EDDDATE",
    "oai_outcome01.ddvspr": "EDDVSPR",
    **{
        f"oai_outcome01.{side}k{what}": f"E{side.upper()}K{what.upper()}"
        for side in "rl"
        for what in (
            *("blrp", "rpsn", "rpcf", "tlpr", "tppr", "podx", "days", "date", "fldt"),
            *("vspr", "vsaf", "vsrp", "xrpr", "xraf"),
        )
    },
    "side": "SIDE",
    "readprj": "READPRJ",
}
VALUES: Mapping[str, Mapping[str, float]] = {
    "SEX": {"M": 1, "F": 2},
    "HISP": {"Not Hispanic or Latino": 0, "Hispanic or Latino": 1},
    "RACE": {"Other Non-White": 0, "White": 1, "Black or African American": 2, "Asian": 3},
}
# What NDA adds to every structure for itself.
IGNORED = frozenset(
    {
        "collection_id",
        "collection_title",
        "dataset_id",
        "interview_age",
        "oai_enrollee01.interim_visit",
        "src_subject_id",
        "study_cohort_name",
        "subjectkey",
        "version",
        "visit",
    }
)
# Said in every structure, and read from that of the persons.
OF_PERSONS = frozenset({"ageyears", "ethnicity", "interview_date", "race", "sex", "site"})
_TOP = ("structures", "variables", "values", "ignored")


@dataclass(frozen=True, kw_only=True)
class NdaNames:
    """The names of a package.

    Args:
        structures: Structure -> stem of the Complete Data.
        variables: Column, or `structure.column` -> name without the visit's prefix.
        values: Variable -> text -> code.
        ignored: Columns, or `structure.column`, that are not counted as unknown.
    """

    structures: Mapping[str, str]
    variables: Mapping[str, str]
    values: Mapping[str, Mapping[str, float]]
    ignored: frozenset[str]

    def of(self, structure: str, column: str) -> str | None:
        """The OAI's name of a column, or None where no table says it."""
        return self.variables.get(f"{structure}.{column}", self.variables.get(column))

    def is_ignored(self, structure: str, column: str) -> bool:
        """Whether a column is not worth a word."""
        return (
            column in self.ignored
            or f"{structure}.{column}" in self.ignored
            or column == f"{structure}_id"
        )


def read_names(path: Path | None) -> NdaNames:
    """The names of this module, with those of a YAML on top.

    Raises:
        InputError: The file is absent, no YAML, or holds another key or type.
    """
    given: Any = {}
    if path is not None:
        try:
            given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError:
            raise InputError(f"oai.nda_names {path} cannot be read; give a YAML file.") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            raise InputError(f"oai.nda_names {path} is no YAML in UTF-8.") from None
        if not isinstance(given, dict) or (unknown := [key for key in given if key not in _TOP]):
            found = f"unknown keys {unknown}" if isinstance(given, dict) else "no mapping"
            raise InputError(f"oai.nda_names {path} holds {found}; accepted: {list(_TOP)}.")
    for key in ("structures", "variables", "values"):
        if not isinstance(given.get(key, {}), dict):
            raise InputError(f"oai.nda_names {path}: {key} must be a mapping.")
    if not isinstance(given.get("ignored", []), list):
        raise InputError(f"oai.nda_names {path}: ignored must be a list.")
    values: dict[str, dict[str, float]] = {name: dict(codes) for name, codes in VALUES.items()}
    for name, codes in given.get("values", {}).items():
        try:
            told = {str(text): float(code) for text, code in codes.items()}
        except (AttributeError, TypeError, ValueError):
            raise InputError(
                f"oai.nda_names {path}: values.{name} must map texts to numbers."
            ) from None
        values.setdefault(str(name).upper(), {}).update(told)
    lower = {str(k).lower(): str(v).upper() for k, v in given.get("structures", {}).items()}
    names = {str(k).lower(): str(v).upper() for k, v in given.get("variables", {}).items()}
    return NdaNames(
        structures={**STRUCTURES, **lower},
        variables={**VARIABLES, **names},
        values=values,
        ignored=IGNORED | {str(name).lower() for name in given.get("ignored", [])},
    )
