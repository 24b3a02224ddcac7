"""The description as files: tables, figures and a summary."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spinmark.describing import Described, told
from spinmark.report.page import Section


def write_description(folder: Path, described: Described, sections: Sequence[Section]) -> None:
    """Write all tables, the figures of the page and `description.json`.

    Args:
        folder: Made already.
        described: What is said.
        sections: The page's; their figures are written as PNG, but for those that show scans.
    """
    described.enrichment.to_parquet(folder / "enrichment.parquet", index=False)
    described.enrichment.to_csv(folder / "enrichment.csv", index=False)
    described.overall.to_csv(folder / "overall.csv", index=False)
    described.panel.to_csv(folder / "panel.csv", index=False)
    described.members.to_csv(folder / "members.csv", index=False)
    if described.profiles is not None:
        described.profiles.to_csv(folder / "profiles.csv", index=False)
    _json(folder / "surrogate.json", _surrogate(described))
    _json(folder / "description.json", _summary(described))
    (folder / "figures").mkdir()
    for section in sections:
        for number, picture in enumerate(section.pictures):
            if not picture.raster:
                name = section.key if number == 0 else f"{section.key}-{number + 1}"
                picture.figure.savefig(
                    folder / "figures" / f"{name}.png", dpi=120, metadata={"Software": None}
                )


def _json(path: Path, page: dict[str, Any]) -> None:
    path.write_text(json.dumps(page, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _surrogate(described: Described) -> dict[str, Any]:
    rules = [rule.to_dict() | {"text": str(rule)} for rule in described.rules]
    if isinstance(described.surrogate, str):
        return {"reason": described.surrogate, "rules": rules}
    return described.surrogate.to_dict() | {"rules": rules}


def _summary(described: Described) -> dict[str, Any]:
    m = described.material
    shown = m.scans[m.shown]
    facts = m.phenotypes.summary()
    sizes = shown["label"].value_counts().sort_index()
    used = m.dictionary.loc[m.dictionary["used"].to_numpy(bool), "variable"]
    return {
        "told": told(described),
        "frozen_hash": m.phenotypes.to_dataset().attrs["frozen_hash"],
        "verdict": facts.get("verdict"),
        "joints": len(shown),
        "subjects": int(shown["subject_id"].nunique()),
        "sizes": {str(label): int(n) for label, n in sizes.items()},
        "adjusted_for": [str(name) for name in m.adjust.columns],
        "learnt_from": sorted(map(str, used)),
        "tests": int(described.enrichment["p"].notna().sum()),
        "found": int((described.enrichment["q"] <= 0.05).sum()),
        "artefacts": _records(described.panel),
        "notes": list(described.notes),
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        if isinstance(value, float | np.floating):
            return float(value) if np.isfinite(value) else None
        return value.item() if isinstance(value, np.generic) else value

    return [
        {str(key): plain(value) for key, value in row.items()} for row in frame.to_dict("records")
    ]
