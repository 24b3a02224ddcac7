"""What the training commands share: their inputs and their closing words."""

import json
from pathlib import Path

from spinmark import artefacts
from spinmark.commands._folds import Fold, Folds
from spinmark.progress import done


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
    findings = json.loads((run / "doctor.json").read_text())["findings"]
    timing = run / "timing" / "doctor.json"
    if timing.is_file():
        findings.append(json.loads(timing.read_text()))
    lines = [f"{run}: encoder in {run}/encoder, curves in {run}/metrics.csv"]
    if (run / "start.json").is_file():
        start = json.loads((run / "start.json").read_text())
        counts = {key: len(start[key]) for key in ("matched", "inflated", "missing", "unexpected")}
        told = ", ".join(f"{count} {key}" for key, count in counts.items())
        lines.append(f"  started from {start['file']}: tensors {told} (names in {run}/start.json)")
    lines += [f"  {finding['verdict']}: {finding['text']}" for finding in findings]
    return "\n".join(lines)


def fold_summary(again: str, cohort: Path, run: Path, fold: Fold, made: Folds) -> int:
    """Say what training over folds made and what to run next.

    Args:
        again: The command and the inputs that it was given.
        cohort: The cohort.
        run: The run.
        fold: What was asked for.
        made: What was done.
    """
    if made.trained < made.folds:
        return done(
            f"{run}: fold {fold} is trained, {made.trained} of {made.folds} folds are there",
            f"{again} --out {run} --fold all, which trains those that are left and "
            "makes one run of them",
            fresh=made.fresh,
        )
    if not run.exists():
        return done(
            f"{run}: fold {fold} is trained, all {made.folds} folds are there",
            f"{again} --out {run} --fold all, which makes one run of them",
            fresh=made.fresh,
        )
    doctor = json.loads((run / "doctor.json").read_text())
    lines = [f"{run}: an encoder a fold in {run}/fold-*, each of which did without its fold"]
    lines += [f"  {finding['verdict']}: {finding['text']}" for finding in doctor["findings"]]
    return done(
        "\n".join(lines),
        f"spinmark embed --cohort {cohort} --run {run} --out EMBEDDINGS",
        fresh=made.fresh,
    )
