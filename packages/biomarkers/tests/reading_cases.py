"""Small phenotypes with a known truth, and readers whose sight is known."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr

from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.phenotypes.discover import Phenotypes
from spinmark_biomarkers.phenotypes.freeze import freeze
from spinmark_biomarkers.phenotypes.reading.forms import ODD, questions
from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan
from spinmark_biomarkers.phenotypes.store import VERSION


def phenotypes_of(sizes: list[int], *, seed: int = 0) -> tuple[xr.Dataset, Phenotypes]:
    """Subjects of both knees in as many groups as there are sizes, apart by five standard deviations."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = 5 * np.eye(len(sizes), 6)
    rows = []
    for n, label in enumerate(labels):
        for side in "LR":
            x = {f"f{i}": v for i, v in enumerate(centres[label] + rng.normal(size=6))}
            rows += [{"subject_id": str(1000001 + n), "laterality": side, "label": int(label), **x}]
    frame = pd.DataFrame(rows)
    held = {str(1000001 + n) for n in range(0, len(labels), 4)}
    ds = from_frame(
        frame.drop(columns="label"),
        fitted_subjects=set(frame["subject_id"]) - held,
        features=[f"f{i}" for i in range(6)],
    )
    x = ds["embedding"].values.astype(float)
    away = ((x[:, None] - centres) ** 2).sum(axis=2)
    probability = np.exp(-(away - away.min(axis=1, keepdims=True)) / 2)
    found = xr.Dataset(
        {
            "label": ("scan", frame["label"].to_numpy(np.int64)),
            "probability": (("scan", "phenotype"), probability / probability.sum(1, keepdims=True)),
            "fitted": ("scan", (ds["set"] != "test").values),
        },
        coords={name: ds[name] for name in ds.coords if ds[name].dims == ("scan",)},
        attrs={
            "schema": "spinmark/phenotypes", "version": VERSION, "method": "kmeans",
            "k": len(sizes), "visits": "baseline",
        },
    )  # fmt: skip
    known_at = pd.DataFrame({"joint_id": sorted(set(ds["joint_id"].values)), "known_at": 0.0})
    frozen = freeze(found, known_at, {"method": "kmeans", "k": len(sizes)})
    return ds, Phenotypes(dataset=frozen, known_at=known_at, facts={"verdict": "clusters"})


def shuffled(
    embeddings: xr.Dataset, phenotypes: Phenotypes, seed: int
) -> tuple[xr.Dataset, Phenotypes]:
    """The same scans in another order."""
    order = np.random.default_rng(seed).permutation(embeddings.sizes["scan"])
    moved = phenotypes.dataset.isel(scan=order)
    return embeddings.isel(scan=order), Phenotypes(
        dataset=moved, known_at=phenotypes.known_at, facts=phenotypes.facts
    )


def completed(
    plan: ReadingPlan, readers: dict[str, Callable[[str, str, str], str]]
) -> pd.DataFrame:
    """Readings as they come from completed forms of the first phase.

    A reader is a function of part, code and question.
    """
    rows = [
        (name, one.part, one.code, one.question, answer(one.part, one.code, one.question))
        for name, answer in readers.items()
        for one in questions(plan, 1)
    ]
    frame = pd.DataFrame(rows, columns=["reader", "part", "code", "question", "answer"])
    return frame.sort_values(["reader", "part", "code", "question"]).reset_index(drop=True)


def seeing(
    plan: ReadingPlan, share: float, rng: np.random.Generator
) -> Callable[[str, str, str], str]:
    """A reader who sees the odd one with some probability and guesses where not; nothing else is said."""
    right = plan.items.set_index("code")["answer"]

    def answer(part: str, code: str, question: str) -> str:
        if part != ODD:
            return ""
        seen = rng.random() < share and plan.items.set_index("code").at[code, "type"] != "control"
        return str(right[code]) if seen else str(rng.choice(plan.letters))

    return answer
