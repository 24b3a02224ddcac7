"""Scans and table rows of a distilled run in one space, for the retrieval of `spinmark probe`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark import artefacts
from spinmark.errors import InputError
from spinmark.probing import Arm, folders
from spinmark_biomarkers.evaluation.probing.plan import Plan
from spinmark_biomarkers.evaluation.probing.predict import standardised
from spinmark_biomarkers.evaluation.probing.retrieval import baseline_rows, retrieval_scores
from spinmark_biomarkers.evaluation.probing.table import ArmScores
from spinmark_biomarkers.evaluation.probing.targets import Target
from spinmark_biomarkers.evaluation.spectral import ridge_predictions

if TYPE_CHECKING:
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import Split

Floats = npt.NDArray[np.float64]
Pair = tuple[Floats, Floats]
AGE_YEARS = 5.0


def retrieval(
    given: Mapping[str, Path | list[Path]],
    arms: Sequence[Arm],
    plan: Plan,
    cohort: "Cohort",
    split: "Split",
    *,
    resamples: Floats,
    demographics: Sequence[Target],
) -> dict[str, ArmScores]:
    """Score retrieval for each arm that has runs.

    Args:
        given: Runs by the name of an arm.
        arms: The arms.
        plan: The plan.
        cohort: The cohort.
        split: The split.
        resamples: How often each test subject is drawn.
        demographics: Age and sex give strata, where there are both.

    Raises:
        InputError: No such arm, another number of runs, or a run that kept no teacher.
    """
    by_name = {arm.name: arm for arm in arms}
    rows = baseline_rows(plan)
    found: dict[str, ArmScores] = {}
    for name, where in given.items():
        if name not in by_name:
            raise InputError(f"--runs.{name}: no such arm; there are {', '.join(by_name)}")
        arm, runs = by_name[name], folders(where, f"runs.{name}")
        if len(runs) != len(arm.runs):
            raise InputError(
                f"--runs.{name}: {len(runs)} runs for {len(arm.runs)} embeddings; accepted are as many"
            )
        made = [
            _pair(run, x, of, plan, rows, cohort, split)
            for run, x, of in zip(runs, arm.runs, arm.folders, strict=True)
        ]
        if len({space for space, _ in made}) > 1:
            raise InputError(f"--runs.{name}: some runs have alignment heads and some have none")
        found[name] = retrieval_scores(
            plan,
            [pair for _, pair in made],
            rows,
            space=made[0][0],
            resamples=resamples,
            strata=_strata(plan.scans, rows, demographics),
        )
    return found


def _strata(
    scans: pd.DataFrame, rows: npt.NDArray[np.int64], demographics: Sequence[Target]
) -> npt.NDArray[Any] | None:
    named = {target.name: target.values[rows] for target in demographics}
    if not {"AGE", "SEX"} <= set(named):
        return None
    band = np.floor(named["AGE"] / AGE_YEARS)
    return np.array([f"{sex:g} {age:g}" for sex, age in zip(named["SEX"], band, strict=True)])


def _pair(
    run: Path,
    embedding: npt.NDArray[Any],
    folder: Path,
    plan: Plan,
    rows: npt.NDArray[np.int64],
    cohort: "Cohort",
    split: "Split",
) -> tuple[str, Pair]:
    """Bring the scans and rows of the scored joints into one space, and say which."""
    import torch

    from spinmark_training.teacher import load_teacher, teacher_latents
    from spinmark_training.transfer.alignment import load_alignment

    artefacts.read(run, "run")
    made_from = artefacts.read(folder, "embeddings")["inputs"].get("run")
    if made_from is not None and made_from != artefacts.content_hash(run):
        raise InputError(f"{run}: is not the run that {folder} was made from; give that one")
    if not (run / "teacher").is_dir():
        raise InputError(f"{run}: kept no teacher; accepted are runs of `spinmark distil`")
    teacher = load_teacher(run / "teacher")
    latents = teacher_latents(teacher, cohort, split, plan.scans)
    alignment = load_alignment(run)
    if alignment is not None:
        with torch.inference_mode():
            image = alignment.image(torch.from_numpy(embedding[rows].astype(np.float32)))
            table = alignment.table(torch.from_numpy(latents[rows].astype(np.float32)))
        return "alignment", (image.double().numpy(), table.double().numpy())
    # Without heads: the teacher's latents as a ridge regression reads them from the embedding.
    x, y = standardised(embedding, plan.train), standardised(latents, plan.train)
    subject = plan.scans["subject_id"].to_numpy().astype(str)[plan.train]
    return "ridge map", (
        ridge_predictions(x[plan.train], y[plan.train], subject, x[rows])[0],
        y[rows],
    )
