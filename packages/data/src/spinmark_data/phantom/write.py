"""Write a phantom: a release as an archive would hand it out, and the truth beside it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.phantom.clinic import KL_CUTS
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.endpoints import kl_progression
from spinmark_data.phantom.images import grids_of, render_all, write_landmarks
from spinmark_data.phantom.nda_images import pack_images
from spinmark_data.phantom.nda_tables import write_nda
from spinmark_data.phantom.outcomes import Outcomes, parameters, true_incidence
from spinmark_data.phantom.population import Population
from spinmark_data.phantom.relaxation import WATER
from spinmark_data.phantom.scan_plan import entry_days
from spinmark_data.phantom.sequences import SEQUENCES
from spinmark_data.phantom.series_names import (
    RELEASES,
    accession_number,
    series_description,
    study_description,
)
from spinmark_data.phantom.simulate import simulate
from spinmark_data.phantom.state import LATENTS, PHENOTYPES

TABLES = "OAI Complete Data_ASCII"
NDA_TABLES = "Package_1000001"
TEN_YEARS_DAYS = 3652.5


@dataclass(frozen=True, kw_only=True)
class PhantomSummary:
    """What was written.

    Args:
        release: Folder of the release.
        truth: Folder of the truth.
        subjects: People.
        joints: Knees.
        scans: Series of MR images.
        replaced: Knees replaced within ten years of enrolment.
        share_replaced: The same as a share of the knees not replaced before enrolment.
        observed: Replacements that the study learns of.
        deaths: People who die in the simulated span.
        enriched: Whether replacements were made more frequent than in the OAI.
    """

    release: Path
    truth: Path
    subjects: int
    joints: int
    scans: int
    replaced: int
    share_replaced: float
    observed: int
    deaths: int
    enriched: bool


def write_phantom(
    config: PhantomConfig, out: Path, *, progress: Callable[[int, int], None] | None = None
) -> PhantomSummary:
    """Make a cohort and write `out/release` and `out/truth`.

    The same config gives the same bytes, whatever `config.workers` is.

    Args:
        config: Parameters of the cohort.
        out: Folder to write into; it is made if it does not exist.
        progress: Called with the scans done and their number.

    Raises:
        InputError: `out` already holds a release or a truth.
    """
    release, truth = out / "release", out / "truth"
    for folder in (release, truth):
        if folder.exists():
            raise InputError(f"{folder} already exists; name a folder that holds no phantom.")
    (release / (NDA_TABLES if config.layout == "nda" else TABLES)).mkdir(parents=True)
    (truth / "tables").mkdir(parents=True)

    from spinmark_data.phantom.signal import SCANNERS

    population, _, outcomes, plan, regions, sheets = simulate(config)
    gone = population.joints["replaced_at_baseline"].to_numpy()
    regions.drop(columns="joint").to_parquet(truth / "regions.parquet", index=False)
    complete = config.layout == "complete"
    for sheet in sheets:
        sheet.write(release / TABLES if complete else None, truth / "tables")
    if complete:
        _write_formats(release / TABLES)
        _write_contents(release, plan)
    else:
        write_nda(sheets, release / NDA_TABLES)
    names = [f"{style.manufacturer} {style.model}" for style in SCANNERS]
    _write_truth(truth, population, outcomes, plan, config, names)
    write_landmarks(population, plan, config, truth / "landmarks.parquet")
    render_all(population, plan, config, out, progress)
    if not complete:
        pack_images(release, release / NDA_TABLES, plan)

    fates = outcomes.joints
    ten_years = fates["replacement_days"] <= TEN_YEARS_DAYS
    return PhantomSummary(
        release=release,
        truth=truth,
        subjects=len(population.subjects),
        joints=len(population.joints),
        scans=len(plan),
        replaced=int(ten_years.sum()),
        share_replaced=float(ten_years[~gone].mean()),
        observed=int((fates["observed_cause"] == "event").sum()),
        deaths=int(np.isfinite(outcomes.subjects["death_days"]).sum()),
        enriched=config.enriched,
    )


def _write_formats(folder: Path) -> None:
    """Write a file of value labels such as a release has beside its tables; readers skip it."""
    lines = ["Value labels of AllClinical00", "", "$YESNO  0: No  1: Yes", "$GRADE  0: None", ""]
    (folder / "AllClinical00_Formats.txt").write_bytes("\r\n".join(lines).encode("ascii"))


def _write_contents(release: Path, plan: pd.DataFrame) -> None:
    """Write the contents.csv of each release folder, before its series exist."""
    for (visit, folder), scans in plan.groupby(
        ["visit", plan["folder"].str.split("/").str[:2].str.join("/")], sort=True
    ):
        barcode = "Barcode" if str(visit) in ("V00", "V01", "V03", "V05", "V06") else None
        lines = [
            f"Folder,ParticipantID,StudyDate,{barcode or 'AccessionNumber'},"
            "StudyDescription,SeriesDescription"
        ]
        for row in scans.to_dict("records"):
            # The barcode is the series' folder up to 48 months and the accession number later.
            series, side = str(row["series"]), str(row["laterality"])
            code = series if barcode else accession_number(series)[1:]
            lines.append(
                f"{row['folder'].split('/', 1)[1]},{row['subject_id']},{row['date']:%Y%m%d},{code},"
                f"{study_description(str(visit), side)},"
                f"{series_description(side, row['sequence'])}"
            )
        path = release / str(folder)
        path.mkdir(parents=True)
        (path / "contents.csv").write_bytes(
            "".join(f"{line}\r\n" for line in lines).encode("ascii")
        )


def _write_truth(
    truth: Path,
    population: Population,
    outcomes: Outcomes,
    plan: pd.DataFrame,
    config: PhantomConfig,
    scanners: list[str],
) -> None:
    """Write every latent, the phenotypes and the hazards."""
    people = population.subjects.drop(columns=["half", "enrolment_offset", "comorbidity_z"])
    pd.concat([people, outcomes.subjects], axis=1).to_parquet(
        truth / "subjects.parquet", index=False
    )
    keep = ["subject_id", "laterality", "phenotype", "second_phenotype", "medial"]
    knees = population.joints[keep].assign(entry_days=entry_days(plan, len(population.joints)))
    pd.concat([knees, outcomes.joints], axis=1).to_parquet(truth / "joints.parquet", index=False)
    true_incidence(population, outcomes, config).to_parquet(
        truth / "incidence.parquet", index=False
    )
    kl_progression(population, outcomes, config).to_parquet(
        truth / "progression.parquet", index=False
    )
    keep = ["subject_id", "laterality", "visit", "days", "scan_id", "sequence", "repeat"]
    keep += [*LATENTS, "site", *(str(name) for name in plan if str(name).startswith("artefact_"))]
    scans = plan[keep].assign(scanner=plan["scanner"].map(lambda k: scanners[k]))
    scans.to_parquet(truth / "scans.parquet", index=False)
    schema = {
        "schema": "spinmark/truth",
        "version": 1,
        "preset": config.name,
        "seed": config.seed,
        "subjects": config.subjects,
        "latents": list(LATENTS),
        "phenotypes": list(PHENOTYPES),
        "structure": config.structure,
        "mixed_cases": {
            "chance": config.overlap,
            "labels": "phenotype first, second_phenotype the other (0 none)",
        },
        "left_truncation": {
            "late_entry": config.late_entry,
            "entry_days": "joints.parquet: day of the first scan; no one is seen before it",
        },
        "symptom_coupling": config.symptom_coupling,
        "table_coupling": config.table_coupling,
        "informative_missing": config.informative_missing,
        "kl_progression": {
            "file": "progression.parquet",
            "severity": "0.75 cartilage + 0.75 hypertrophy, linear in time, without flares",
            "cuts": list(KL_CUTS),
            "event": "the true grade rises to 2 or more; (lower, upper] is what radiographs tell",
        },
        "sequences": {
            name: {"echo_time_ms": list(SEQUENCES[name].te_ms), "shape": list(grid.shape)}
            for name, grid in grids_of(config).items()
        },
        "t2_ms": {name: WATER[name].t2_ms for name in ("cartilage", "muscle", "meniscus", "fluid")},
        "nuisance": config.nuisance,
        "enriched": config.enriched,
        "hazard": parameters(config, outcomes),
        "frailty": {"law": "gamma", "mean": 1.0, "variance": config.frailty_variance},
        "visits": {visit: RELEASES[visit][0] for visit in config.visits},
    }
    text = json.dumps(schema, indent=2, sort_keys=True) + "\n"
    (truth / "schema.json").write_text(text, encoding="utf-8")
