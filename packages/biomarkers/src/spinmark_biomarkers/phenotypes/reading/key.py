"""The answer key on disk. A changed key is refused: its hash stands in every form."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.reading.plan import ITEM_COLUMNS, SHEET_COLUMNS, ReadingPlan

FILES = ("key.json", "sheets.csv", "items.csv")


def write_key(folder: Path, plan: ReadingPlan) -> None:
    """Write `key.json`, `sheets.csv` and `items.csv` into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "schema": "spinmark/reading-key",
        "version": 1,
        "set": plan.set_id,
        "frozen_hash": plan.frozen_hash,
        "phenotypes": plan.k,
        "signs": list(plan.signs),
        "notes": plan.notes,
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (folder / "key.json").write_text(text, encoding="utf-8")
    plan.sheets.to_csv(folder / "sheets.csv", index=False, lineterminator="\n")
    plan.items.to_csv(folder / "items.csv", index=False, lineterminator="\n")


def read_key(folder: Path) -> ReadingPlan:
    """Read the key and check that nothing in it was changed.

    Raises:
        InputError: A file is absent or cannot be read, or the key is not the one that was written.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name}; accepted is the key that reading-sheets wrote")
    edited = (
        f"{folder}: the key was changed after the sheets were made; accepted is the key as reading-sheets "
        "wrote it"
    )
    try:
        facts = json.loads((folder / "key.json").read_text(encoding="utf-8"))
        sheets = _read(folder / "sheets.csv", SHEET_COLUMNS, ("phenotype", "place"))
        items = _read(folder / "items.csv", ITEM_COLUMNS, ("phenotype", "odd_phenotype"))
        items["distance"] = items["distance"].replace("", "nan").astype(np.float64)
        plan = ReadingPlan(
            sheets=sheets,
            items=items,
            signs=tuple(map(str, facts["signs"])),
            frozen_hash=str(facts["frozen_hash"]),
            k=int(facts["phenotypes"]),
            notes=[str(note) for note in facts["notes"]],
        )
        if plan.set_id != facts["set"]:
            raise InputError(edited)
    except (KeyError, TypeError, ValueError, pd.errors.ParserError) as error:
        raise InputError(edited) from error
    return plan


def _read(path: Path, columns: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise KeyError(missing[0])
    return frame.astype(dict.fromkeys(numbers, np.int64))
