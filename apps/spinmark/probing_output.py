"""What `spinmark probe` writes: two tidy tables, a figure and a summary."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from spinmark.errors import InputError
from spinmark.probing import folders
from spinmark_biomarkers.evaluation.probing.finetuned import as_predictions
from spinmark_biomarkers.evaluation.probing.table import (
    HELD_OUT,
    ArmScores,
    difference_rows,
    score_rows,
)

if TYPE_CHECKING:
    from spinmark.commands.probe import Probe
    from spinmark_biomarkers.evaluation.probing.plan import Plan
    from spinmark_biomarkers.evaluation.probing.predict import Predictions

FINETUNED = "finetuned.parquet"
# Metrics of the mean over targets that the summary tells.
MEANS = {
    "mean_r2": "r2",
    "mean_r2_demographics": "r2_demographics",
    "mean_r2_beyond_demographics": "r2_beyond_demographics",
}


def read_finetuned(where: Path | list[Path], name: str, plan: "Plan") -> "list[Predictions]":
    """Read the predictions of an arm; a file with several seeds holds several runs.

    Raises:
        InputError: No such file, or its predictions do not fit the plan.
    """
    runs = []
    for folder in folders(where, f"finetuned.{name}"):
        path = folder / FINETUNED
        if not path.is_file():
            raise InputError(f"--finetuned.{name}: {folder} holds no {FINETUNED}")
        frame = pd.read_parquet(path)
        seeds = frame.groupby("seed", sort=True) if "seed" in frame.columns else [(0, frame)]
        runs += [
            as_predictions(part.drop(columns="seed", errors="ignore"), plan, name=str(path))
            for _, part in seeds
        ]
    common = set(runs[0])
    if any(set(run) != common for run in runs):
        raise InputError(f"--finetuned.{name}: runs differ in their targets or labels")
    return runs


def write(
    out: Path,
    plan: "Plan",
    found: Mapping[str, ArmScores],
    args: "Probe",
    demographics: int,
    uses: Mapping[str, Collection[str]],
) -> None:
    """Write probe.parquet, differences.parquet, their CSV twins, probe.png and summary.json."""
    if unknown := [name for name in args.against if name not in found]:
        raise InputError(f"--against: no arm '{unknown[0]}'; there are {', '.join(found)}")
    scores = marked(score_rows(found, plan, args.probes), uses)
    differences = difference_rows(found, against=args.against)
    save(out, "probe", scores)
    save(out, "differences", differences)
    from spinmark_biomarkers.figures.probes import probe_figure

    role = shown_role(scores)
    probe_figure(scores, role=role).savefig(out / "probe.png", dpi=150)
    page = summary(scores, differences, role)
    page |= {"scored_on": args.on, "demographics": demographics}
    (out / "summary.json").write_text(json.dumps(page, indent=1) + "\n")


def marked(scores: pd.DataFrame, uses: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """Add `learnt_from`: whether the arm was trained with the target itself in hand.

    Args:
        scores: Rows with `arm` (`NAME` or `NAME[PART]`), `target` and `kind`.
        uses: What each arm learnt from: variables, and endpoints as `outcome:NAME`.

    Returns:
        The same with the column. A fine-tuned probe learns its target by design and is not marked for it.
    """
    learnt = [
        (f"outcome:{target}" if kind == "event" else target) in uses.get(arm.split("[")[0], ())
        for arm, target, kind in zip(scores["arm"], scores["target"], scores["kind"], strict=True)
    ]
    return scores.assign(learnt_from=learnt)


def save(out: Path, name: str, frame: pd.DataFrame) -> None:
    """Write a table as Parquet, and as CSV with four decimals for people."""
    frame.to_parquet(out / f"{name}.parquet", index=False)
    frame.to_csv(out / f"{name}.csv", index=False, float_format="%.4f")


def shown_role(scores: pd.DataFrame) -> str:
    """Return the role whose mean stands in figure and summary: true latents where there are any."""
    roles = set(scores.loc[scores["target"] == "mean", "role"])
    return "latent" if "latent" in roles else "variables"


def _figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Figures by the arm (or the pair) and the number of labels."""
    page: dict[str, Any] = {}
    for row in rows.to_dict("records"):
        name = str(row["arm"]) if "against" not in row else f"{row['arm']} - {row['against']}"
        made = {
            key: float(row[key]) if np.isfinite(row[key]) else None
            for key in ("value", "low", "high")
        }
        page.setdefault(name, {})[str(row["labels"])] = made | {"n_runs": int(row["n_runs"])}
    return page


def summary(scores: pd.DataFrame, differences: pd.DataFrame, role: str) -> dict[str, Any]:
    """Return what a benchmark reads: means over the targets of a role, their differences, the site."""
    page: dict[str, Any] = {"role": role}
    whole = scores[(scores["run"] == "all") & (scores["reason"] == "")]

    def means(frame: pd.DataFrame, metric: str, probe: str = "linear") -> dict[str, Any]:
        chosen = (frame["target"] == "mean") & (frame["role"] == role)
        chosen &= (frame["metric"] == metric) & (frame["probe"] == probe)
        return _figures(frame[chosen & (frame["scheme"] == HELD_OUT)])

    for name, metric in MEANS.items():
        page[name] = means(whole, metric)
        page[f"{name}_difference"] = means(differences, metric)
    for probe in ("knn", "finetuned"):
        page[f"mean_r2_{probe}"] = means(whole, "r2", probe)
        page[f"mean_r2_{probe}_difference"] = means(differences, "r2", probe)
    without = whole[(whole["scheme"] != HELD_OUT) & (whole["site"] == "all")]
    without = without[(without["target"] == "mean") & (without["role"] == role)]
    page["mean_r2_leave_one_site_out"] = _figures(without)
    site = whole[whole["target"] == "site"]
    page["site_balanced_accuracy"] = _figures(site)
    page["site_chance"] = float(site["chance"].iloc[0]) if len(site) else None
    leaks = differences[differences["metric"] == "site_leak_ratio"]
    page["site_leak_ratio"] = {
        name.replace(" - ", " / "): figures for name, figures in _figures(leaks).items()
    }
    page["retrieval"] = {
        f"{row['arm']} {row['metric']}": {
            key: row[key] for key in ("value", "low", "high", "chance", "n")
        }
        for row in whole[(whole["target"] == "retrieval") & (whole["scheme"] == HELD_OUT)].to_dict(
            "records"
        )
    }
    cells = int((whole["scheme"] == HELD_OUT).sum())
    left_out = int((scores["reason"] != "").sum())
    page["told"] = (
        f"{len(set(whole['arm']))} arms, {whole['target'].nunique()} targets, {cells} figures"
        + (f", {left_out} left out (column reason)" if left_out else "")
    )
    return page
