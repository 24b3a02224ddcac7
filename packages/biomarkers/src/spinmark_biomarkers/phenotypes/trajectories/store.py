"""The trajectories artefact on disk; reading it checks that no path was changed."""

import json
from pathlib import Path

import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.trajectories.find import Trajectories
from spinmark_biomarkers.phenotypes.trajectories.frozen import freeze_paths

TABLES = ("paths", "transitions", "speeds", "left_out")


def write_trajectories(folder: Path, trajectories: Trajectories) -> None:
    """Write tables, `known_at.parquet` and `trajectories.json` into a folder.

    Args:
        folder: Made where absent. Whole-or-absent is the caller's care.
        trajectories: What `find_trajectories` returned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        getattr(trajectories, name).to_parquet(folder / f"{name}.parquet", index=False)
    known = trajectories.speeds[["joint_id", "known_at"]]
    known.to_parquet(folder / "known_at.parquet", index=False)
    text = json.dumps(trajectories.facts, indent=2, sort_keys=True, allow_nan=False)
    (folder / "trajectories.json").write_text(text + "\n", encoding="utf-8")


def read_trajectories(folder: Path) -> Trajectories:
    """Read trajectories and verify the hash that froze them.

    Args:
        folder: As written by `write_trajectories`.

    Raises:
        InputError: Where a part is absent or a path's groups, speed or day was changed.
    """
    for name in (*(f"{table}.parquet" for table in TABLES), "trajectories.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name}; accepted is what 'spinmark trajectories' wrote")
    facts = json.loads((folder / "trajectories.json").read_text(encoding="utf-8"))
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    frozen = freeze_paths(tables["speeds"], facts["config"])
    if frozen != facts["frozen_hash"]:
        raise InputError(
            f"{folder}: trajectories hash to {frozen[:12]}, frozen as "
            f"{str(facts['frozen_hash'])[:12]}; accepted are trajectories as found"
        )
    return Trajectories(**tables, facts=facts)
