"""A release's tables in the form of an NDA package: tab-delimited, quoted, long over visits.

Names of structures and columns are those that public descriptions of the package show; a variable
that none of them shows keeps its name in lower case. Codes come bare and missing cells blank, so that
the reasons of the Complete Data are lost, as they are in a real package.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from spinmark_data.phantom.sheets import Sheet

Row = dict[str, str]

_MISSING = re.compile(r"\.[A-Z]?(?:: .*)?|\s*")
_CODE = re.compile(r"(-?\d+(?:\.\d+)?): .*")
_SEX = {"1": "M", "2": "F"}
_RACE = {"0": "Other Non-White", "1": "White", "2": "Black or African American", "3": "Asian"}
_ETHNICITY = {"0": "Not Hispanic or Latino", "1": "Hispanic or Latino"}
_SIDED = {
    "WOMKP": ("womac_pain_right", "womac_pain_left"),
    "WOMSTF": ("womac_stiffness_right", "womac_stiffness_left"),
    "WOMADL": ("womac_disability_right", "womac_disability_left"),
    "WOMTS": ("womac_total_right", "womac_total_left"),
    "KOOSKP": ("koos_rkpain", "koos_lkpain"),
    "KOOSYM": ("koos_rksymptoms", "koos_lksymptoms"),
    "SWELL": ("sym_rkn1", "sym_lkn1"),
}
# Structure -> stems that it holds; names of columns where they are not the stem's.
_STRUCTURES: Mapping[str, Mapping[str, str]] = {
    "oai_koos_womac01": {
        **{f"{stem}{side}": names["RL".index(side)] for stem, names in _SIDED.items() for side in "RL"},
        "KOOSQOL": "koos_qol",
        "KOOSFSR": "koos_sports",
    },
    "oai_oarisk01": {
        name: name.lower()
        for name in ("BMI", "FAMKR", "EDCV", "INJR", "INJL", "KSURGR", "KSURGL", "INJNOTE",
                     "KRSR12", "KRSL12")
    },
    "oai_physfunct01": {"20MPACE": "w20mpace", "400MTIM": "w400mtim"}
    | {
        f"{stem}{side}": f"{stem}{side}".lower()
        for stem in ("WBPN", "BONENL", "BULGE", "CREPIT", "BONTND", "FLEXDG", "ALIGN")
        for side in "RL"
    },
    "oai_pase01": {"PASE": "pase"},
    "oai_ces_d01": {"CESD": "cesd"},
    "oai_charlson01": {"COMORB": "comorb"},
}  # fmt: skip
_OUTCOMES = {
    "V99RNTCNT": "rntcnt",
    "V99EDDCF": "ddcf",
    "V99EDDDATE": "dthdate",
    "V99EDDVSPR": "ddvspr",
}


def bare(cell: str) -> str:
    """A cell of the Complete Data as NDA has it: the code alone, or nothing where it is missing.

    Examples:
        >>> bare("2: Female"), bare(".A: Not Expected"), bare(".5")
        ('2', '', '.5')
    """
    if _MISSING.fullmatch(cell):
        return ""
    match = _CODE.fullmatch(cell)
    return match.group(1) if match else cell


class _Persons:
    """What every structure says of a person."""

    def __init__(self, enrollees: Sheet, baseline: Sheet) -> None:
        ids = [str(subject) for subject in enrollees.truth["ID"]]
        ages = [bare(cell) for cell in baseline.cells["V00AGE"]]
        sexes = [_SEX[bare(cell)] for cell in enrollees.cells["P02SEX"]]
        self.enrolled = dict(zip(ids, baseline.cells["V00EVDATE"], strict=True))
        self._age = dict(zip(ids, ages, strict=True))
        self._sex = dict(zip(ids, sexes, strict=True))
        self._number = {subject: place for place, subject in enumerate(ids)}

    def row(self, subject: str, visit: str, date: str, age: str = "") -> Row:
        years = age or self._age[subject]
        return {
            "collection_id": "2343",
            "subjectkey": f"NDAR_INV{self._number[subject]:08d}",
            "src_subject_id": subject,
            "interview_date": date,
            "interview_age": f"{12 * float(years):.0f}",
            "sex": self._sex[subject],
            "ageyears": years,
            "visit": visit,
            "version": "25",
        }


def _columns(sheet: Sheet, visit: str) -> dict[str, list[str]]:
    """The cells of a table by name without the prefix of the visit or of screening."""
    prefixes = (visit, "P01", "P02")
    return {
        name[3:] if name.startswith(prefixes) else name: [bare(cell) for cell in column]
        for name, column in sheet.cells.items()
    }


def _enrollees(sheet: Sheet, people: _Persons) -> list[Row]:
    cells = _columns(sheet, "V00")
    rows = []
    for i, subject in enumerate(cells["ID"]):
        rows.append(
            people.row(subject, "V00", people.enrolled[subject])
            | {
                "e_cohort": cells["COHORT"][i],
                "ethnicity": _ETHNICITY[cells["HISP"][i]],
                "race": _RACE[cells["RACE"][i]],
                "site": cells["SITE"][i],
                "interim_visit": "0",
            }
        )
    return rows


def _clinic(sheets: Iterable[Sheet], columns: Mapping[str, str], people: _Persons) -> list[Row]:
    """A row a person at each visit they came to; a column not asked at a visit is blank there."""
    rows = []
    for sheet in sheets:
        visit = f"V{sheet.stem[-2:]}"
        cells = _columns(sheet, visit)
        dates = cells["EVDATE"] if visit == "V00" else cells["FVDATE"]
        for i, subject in enumerate(cells["ID"]):
            if dates[i]:
                row = people.row(subject, visit, dates[i], cells["AGE"][i])
                for stem, name in columns.items():
                    row[name] = cells[stem][i] if stem in cells else ""
                rows.append(row)
    return rows


def _readings(sheets: Iterable[Sheet], people: _Persons) -> list[Row]:
    rows = []
    for sheet in sheets:
        visit = f"V{sheet.stem[-2:]}"
        cells = _columns(sheet, visit)
        kept = {name for name in cells if name.startswith("XR")} - {"XRDATE"}
        for i, subject in enumerate(cells["ID"]):
            row = people.row(subject, visit, cells["XRDATE"][i])
            row |= {"readprj": cells["READPRJ"][i], "side": cells["SIDE"][i]}
            row |= {name.lower(): cells[name][i] for name in sorted(kept)}
            # A package has lost the first zero of a barcode.
            row["barcode"] = cells["BARCDBU"][i].lstrip("0")
            rows.append(row)
    return rows


def _moaks(sheets: Iterable[Sheet], people: _Persons) -> list[Row]:
    rows = []
    for sheet in sheets:
        visit = f"V{sheet.stem[-2:]}"
        cells = _columns(sheet, visit)
        scores = [name for name in cells if name not in ("ID", "SIDE", "READPRJ", "VERSION")]
        for i, subject in enumerate(cells["ID"]):
            row = people.row(subject, visit, people.enrolled[subject])
            row |= {"readprj": cells["READPRJ"][i], "side": cells["SIDE"][i]}
            rows.append(row | {name.lower(): cells[name][i] for name in scores})
    return rows


def _fates(sheet: Sheet, people: _Persons) -> list[Row]:
    cells = {name: [bare(cell) for cell in column] for name, column in sheet.cells.items()}
    names = {
        name: _OUTCOMES.get(name, name.removeprefix("V99E").lower())
        for name in cells
        if name.startswith("V99")
    }
    rows = []
    for i, subject in enumerate(cells["ID"]):
        row = people.row(subject, "V99", people.enrolled[subject])
        rows.append(row | {short: cells[name][i] for name, short in names.items()})
    return rows


def _write(folder: Path, structure: str, rows: list[Row]) -> None:
    """Write one structure: names, descriptions, rows; every value in quotes."""
    if not rows:
        return
    number = f"{structure}_id"
    names = ["collection_id", number, "dataset_id"]
    names += [name for name in rows[0] if name not in names]
    names.append("collection_title")
    described = [f"{name.replace('_', ' ').capitalize()} of the phantom" for name in names]
    lines = [names, described]
    for i, row in enumerate(rows, start=1):
        whole = row | {number: f"{i}", "dataset_id": "1", "collection_title": "Phantom"}
        lines.append([whole[name] for name in names])
    text = "".join("\t".join(f'"{cell}"' for cell in line) + "\n" for line in lines)
    (folder / f"{structure}.txt").write_bytes(text.encode("utf-8"))


def write_nda(sheets: list[Sheet], folder: Path) -> None:
    """Write the tables of a release as the structures of an NDA package.

    Args:
        sheets: All tables in the form of the Complete Data.
        folder: The package's folder.
    """
    by_stem = {sheet.stem: sheet for sheet in sheets}
    clinical = [sheet for stem, sheet in by_stem.items() if stem.startswith("AllClinical")]
    films = [sheet for stem, sheet in by_stem.items() if stem.startswith("kxr_sq_bu")]
    moaks = [sheet for stem, sheet in by_stem.items() if stem.startswith("kMRI_SQ_MOAKS")]
    people = _Persons(by_stem["Enrollees"], by_stem["AllClinical00"])
    _write(folder, "oai_enrollee01", _enrollees(by_stem["Enrollees"], people))
    for structure, columns in _STRUCTURES.items():
        _write(folder, structure, _clinic(clinical, columns, people))
    _write(folder, "oai_kxrsemiquant01", _readings(films, people))
    _write(folder, "oai_kmrisemiquant01", _moaks(moaks, people))
    _write(folder, "oai_outcome01", _fates(by_stem["Outcomes99"], people))
