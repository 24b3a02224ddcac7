"""What the training commands share: their inputs and their closing words."""

import json
from pathlib import Path

from spinmark import artefacts


def run_inputs(cohort: Path, split: Path, **runs: Path | None) -> dict[str, Path | str]:
    """Check the artefacts that a training command starts from, and name them."""
    artefacts.read(cohort, "cohort")
    artefacts.read(split, "split")
    inputs: dict[str, Path | str] = {"cohort": cohort, "split": split}
    for name, run in runs.items():
        if run is None:
            continue
        if run.suffix == ".safetensors":
            inputs[name] = artefacts.file_hash(run)
            continue
        artefacts.read(run, "run")
        inputs[name] = run
    return inputs


def summary(run: Path) -> str:
    """Say in one or more lines what a run made and whether it is healthy."""
    doctor = json.loads((run / "doctor.json").read_text())
    lines = [f"{run}: encoder in {run}/encoder, curves in {run}/metrics.csv"]
    lines += [f"  {finding['verdict']}: {finding['text']}" for finding in doctor["findings"]]
    return "\n".join(lines)
