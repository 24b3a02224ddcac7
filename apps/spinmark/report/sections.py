"""What each section of the report shows. Every figure comes from the package that knows the subject."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from spinmark import artefacts
from spinmark.report.page import Picture, Section, Table
from spinmark.report.prognosis_page import STRUCTURAL, after_unsealing

if TYPE_CHECKING:
    import xarray as xr

    from spinmark_data.cohort.reader import Cohort

CONTACT_SCANS = 12
SHOWN_ISSUES = 15
# Where along z, from the lateral to the medial side, the medial compartment is cut in its middle.
MEDIAL = 0.7


def cohort_section(cohort: "Cohort", sequence: str) -> Section:
    """Who is in, what was taken of them, and what was refused."""
    from spinmark_data import figures
    from spinmark_data.inspect.contact_sheet import contact_figure

    scans, issues = cohort.scans(sequence), cohort.table("issues")
    counted = (
        issues.groupby(["kind", "reason"], as_index=False)
        .size()
        .sort_values(["kind", "size"], ascending=[True, False], kind="stable")
        .head(SHOWN_ISSUES)
        .rename(columns={"size": "times"})
    )
    shape = " x ".join(map(str, cohort.manifest["sequences"][sequence]["shape"]))
    spacing = " x ".join(f"{s:g}" for s in cohort.manifest["sequences"][sequence]["spacing_mm"])
    pictures = [
        Picture(
            figure=contact_figure(cohort, sequence, scans=CONTACT_SCANS),
            title="Scans from across the cohort",
            method="Middle slices of a sample spread over visits and sites; left joints are mirrored.",
            caveat="A dozen scans show the kind of image, not its quality throughout.",
            raster=True,
        ),
        Picture(
            figure=figures.cohort_overview(
                scans.assign(sequence=sequence), cohort.table("visits"), cohort.table("joints")
            ),
            title="What is known of whom, and when",
            method="Counts and shares over the rows of the cohort's tables, by visit.",
            caveat="People who leave are not a random part; what is missing later may differ.",
        ),
        Picture(
            figure=figures.cohort_flow(cohort.table("flow")),
            title="From everyone to the analysed",
            method="Counted at each step of the ingest.",
            caveat="Counts only; who was left out is in tables/issues.parquet.",
        ),
    ]
    return Section(
        key="cohort",
        title="Cohort",
        lead=(
            f"{scans['subject_id'].nunique()} people, {scans['joint_id'].nunique()} joints, "
            f"{len(scans)} scans of {sequence} on a grid of {shape} voxels of {spacing} mm (z, y, x)."
        ),
        pictures=pictures,
        tables=[
            Table.of(
                "Issues met by the ingest",
                counted,
                f"{len(counted)} of {len(issues)} rows; all of them are in tables/issues.parquet.",
            )
        ]
        if len(issues)
        else [],
    )


def _curves(run: Path) -> pd.DataFrame:
    """The metrics of a run, beside each logged step's its timing where that was kept."""
    metrics, timing = pd.read_csv(run / "metrics.csv"), run / "timing" / "throughput.csv"
    if not timing.is_file():
        return metrics
    return metrics.merge(pd.read_csv(timing), on="step", how="left")


def training_section(runs: Mapping[str, Path]) -> Section:
    """The curves of every run and what the doctor says of it."""
    from spinmark_training.figures import training_curves

    notes, pictures = [], []
    for name, path in runs.items():
        artefacts.read(path, "run")
        findings = json.loads((path / "doctor.json").read_text())["findings"]
        notes += [
            f"{name}: {item['verdict']}: {item['text']}"
            for item in findings
            if item["verdict"] != "ok"
        ]
        if not any(item["verdict"] in ("warning", "failure") for item in findings):
            notes.append(f"{name}: nothing wrong was found in {len(findings)} checks")
        pictures.append(
            Picture(
                figure=training_curves(_curves(path)),
                title=f"Training of {name}",
                method="Loss on training subjects; probes and rank on validation subjects.",
                caveat="The loss compares a batch with itself: only its fall below chance counts.",
            )
        )
    return Section(
        key="training",
        title="Training",
        lead="Each encoder was trained on training subjects only, without radiographic grades.",
        pictures=pictures,
        notes=notes,
    )


def phenotype_section(
    cohort: "Cohort", embeddings: "xr.Dataset", phenotypes: Any, sequence: str
) -> list[Section]:
    """The map of the embeddings, the groups found in them and how far to trust these."""
    from spinmark_biomarkers.figures.embedding_map import embedding_map
    from spinmark_biomarkers.figures.phenotypes import (
        artefact_bars,
        prototype_panel,
        stability_bars,
    )
    from spinmark_biomarkers.phenotypes.discover import prototypes

    summary = phenotypes.summary()
    chosen = prototypes(embeddings, phenotypes, per=3)
    order = pd.Index(cohort.scans(sequence)["scan_id"].astype(object))
    shown = [scan for scans in chosen.values() for scan in scans]
    read = cohort.read(sequence, order.get_indexer(pd.Index(shown)))
    volumes = dict(zip(shown, read, strict=True))
    space = Section(
        key="embeddings",
        title="Embeddings",
        lead="One vector per scan; scans that the encoder finds alike lie close together.",
        pictures=[
            Picture(
                figure=embedding_map(embeddings, phenotypes, by=by),
                title=f"Map of the embeddings, by {by}",
                method="The first two principal components of the scans that were clustered.",
                caveat="Two components of many: distance on the map is not distance in the space.",
            )
            for by in ("phenotype", "site")
        ],
    )
    groups = Section(
        key="phenotypes",
        title="Phenotypes",
        lead=f"{summary['k']} groups; verdict: {summary['verdict']}. {summary['reasons'][0]}",
        notes=[
            *summary["reasons"][1:],
            *([summary["severity"]["sentence"]] if "severity" in summary else []),
            f"Labels are frozen: {phenotypes.to_dataset().attrs['frozen_hash'][:16]}.",
            *after_unsealing(summary),
        ],
        tables=_criteria(summary["structure"]["table"]),
        pictures=[
            Picture(
                figure=prototype_panel(volumes, chosen, at=MEDIAL),
                title="Prototypes of each phenotype",
                method="Joints nearest each centre, one a person; one slice, medial compartment.",
                caveat="Prototypes are the most typical members; a group is wider than they are.",
                raster=True,
            ),
            Picture(
                figure=stability_bars(phenotypes),
                title="Stability of each phenotype",
                method="Jaccard overlap when whole people are drawn again; below 0.60 is unstable.",
                caveat="A stable group can still be an artefact; see the next panel.",
            ),
            Picture(
                figure=artefact_bars(phenotypes),
                title="Is a phenotype a scanner, a site or a side?",
                method="Cramer's V with a permutation test that moves whole people.",
                caveat="Sites may recruit different people, so an association is not proof.",
            ),
        ],
    )
    return [space, groups]


CRITERIA = {
    "prediction_strength": "prediction strength",
    "borders_p": "valleys, p",
    "pac": "PAC",
    "pac_excess": "PAC below its null, SD",
    "gap": "gap",
    "silhouette": "silhouette",
}


def _criteria(rows: list[dict[str, Any]]) -> list[Table]:
    """What each number of phenotypes has for it, as far as it was computed."""
    names = [name for name in CRITERIA if any(row.get(name) is not None for row in rows)]
    if not names:
        return []

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.3g}"

    return [
        Table(
            title="How many, by each criterion",
            columns=["k", *(CRITERIA[name] for name in names)],
            rows=[[str(row["k"]), *(cell(row.get(name)) for name in names)] for row in rows],
            note="The first two decide: 0.8 or more is found again in other people, and then a border needs "
            "a valley. The others say how many, given that there are some.",
        )
    ]


def evaluation_section(folder: Path) -> Section:
    """What the run found of a phantom's truth."""
    figures = json.loads((folder / "metrics.json").read_text())
    tables = [
        _matrix("Ridge-probe R2 of each true latent", figures["probe_r2"]),
        _column("Mean R2 over the latents", figures["probe_r2_mean"]),
    ]
    if figures["probe_r2_mean_difference"]:
        block = figures["probe_r2_mean_difference"]
        tables.append(_column("Paired differences of mean R2", block))
    if figures.get("site_balanced_accuracy"):
        tables.append(_column("Site read from the vector", figures["site_balanced_accuracy"]))
    for key, title in (("phenotypes", "Phenotypes"), ("prognosis", "C-index")):
        if key in figures:
            block = figures[key].get("c_index", figures[key])
            scored = {k: v for k, v in block.items() if isinstance(v, dict)}
            tables += [_column(title, scored)] if scored else []
    notes = ["A phantom can show that software and statistics work; it says nothing about people."]
    if figures.get("phenotypes", {}).get("true_k", 2) < 2:
        notes.append("The truth has no phenotypes: whatever groups were found are invented.")
    if (counts := figures.get("morphometry")) is not None:
        seen = f"{counts['measured']} of {counts['scans']} scored scans were measured."
        notes.append(f"{STRUCTURAL} {seen}")
    return Section(
        key="truth",
        title="Against the truth",
        lead=(
            "This cohort was made up, so the truth is known. Probes are fitted on training subjects and "
            f"scored on the {figures['scored_on']} subjects, with 95 % intervals from resampled people."
        ),
        tables=tables,
        notes=notes,
    )


def _text(item: Mapping[str, Any]) -> str:
    if item["value"] is None:
        return "not defined"
    if item["low"] is None or item["high"] is None:
        return f"{item['value']:.2f}"
    return f"{item['value']:.2f} ({item['low']:.2f} to {item['high']:.2f})"


def _matrix(title: str, block: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = list(next(iter(block.values())))
    rows = [[name, *(_text(row[column]) for column in columns)] for name, row in block.items()]
    return Table(title=title, columns=["", *columns], rows=rows)


def _column(title: str, block: Mapping[str, Any]) -> Table:
    rows = [[name, _text(item), str(item["n"])] for name, item in block.items()]
    return Table(title=title, columns=["", "value (95 % interval)", "n"], rows=rows)


def provenance_section(paths: Mapping[str, Path]) -> Section:
    """What everything was made from."""
    rows = []
    for name, path in paths.items():
        record = json.loads((path / "run.json").read_text())
        made_from = ", ".join(f"{key} {value[:8]}" for key, value in record["inputs"].items())
        seed = "" if record["seed"] is None else str(record["seed"])
        rows.append([name, record["hash"][:16], seed, made_from])
    return Section(
        key="provenance",
        title="Provenance",
        lead="Each artefact records its configuration, the versions used and the hashes of its inputs.",
        tables=[
            Table(
                title="Artefacts",
                columns=["artefact", "hash", "seed", "made from"],
                rows=rows,
                note="The whole record is in each folder's run.json.",
            )
        ],
    )
