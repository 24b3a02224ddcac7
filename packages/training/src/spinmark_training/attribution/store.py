"""Attributions as files: tables, volumes where the patient was, pictures and a summary."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from spinmark_data.cohort.reader import Cohort
from spinmark_data.export.common import Scan, check_names
from spinmark_data.export.nifti import ENDING, to_nifti, write_nifti
from spinmark_data.ingest.geometry import mirror
from spinmark_training.attribution.attribute import Attribution, ScanAttribution
from spinmark_training.attribution.figures import cell_figure, voxel_figure
from spinmark_training.attribution.sanity import Agreement

SCHEMA = "spinmark/attribution"
VERSION = 1
Progress = Callable[[int, int], None]
_DPI = 110


@dataclass(frozen=True)
class Pictured:
    """What a page shows of one scan.

    Attributes:
        checks: Its figures by name.
        voxels: The picture of its voxels.
        cells: That of its table row.
    """

    checks: dict[str, float]
    voxels: Figure
    cells: Figure


@dataclass(frozen=True)
class Written:
    """What was written, for whoever makes a page of it.

    Attributes:
        summary: The content of `summary.json`.
        groups: That of `groups.csv`.
        structures: That of `structures.csv`; empty without label maps.
        pictured: The first scans, as many as were asked for.
    """

    summary: dict[str, Any]
    groups: pd.DataFrame
    structures: pd.DataFrame
    pictured: list[Pictured]


def write_attribution(
    folder: Path, found: Attribution, *, pictured: int = 12, progress: Progress | None = None
) -> Written:
    """Explain the chosen scans and write what was found, scan by scan.

    `table.parquet` and `table.csv` hold a row a scan and variable, `groups.csv` a row a scan and group,
    `structures.csv` a row a scan and labelled structure, `voxels/` a NIfTI file a scan, `pictures/` two
    PNG files a scan, `summary.json` the rest. No file holds the value of a cell; the pictures show the
    scans.

    Args:
        folder: Where to write; made if absent.
        found: The run and the scans.
        pictured: How many scans are returned as figures.
        progress: Called with scans done and scans in all.
    """
    everything = _scans(found.cohort, found.opened.source.sequence)
    chosen = [everything[row] for row in found.chosen.tolist()]
    check_names(chosen, everything)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    cells, groups, structures = list[pd.DataFrame](), list[pd.DataFrame](), list[pd.DataFrame]()
    told: list[dict[str, Any]] = []
    shown: list[Pictured] = []
    for scan, one in zip(chosen, found, strict=True):
        explained = one.explanation
        _write_voxels(folder / "voxels" / f"{scan.name}{ENDING}", scan, one)
        picture = Pictured(
            dict(explained.checks),
            voxel_figure(explained.volume, explained.voxels, found.opened.source.spacing_mm),
            cell_figure(explained.cells, explained.groups),
        )
        for kind, figure in (("voxels", picture.voxels), ("cells", picture.cells)):
            _save(figure, folder / "pictures" / f"{scan.name}_{kind}.png")
        shown += [picture] if len(shown) < pictured else []
        labelled = [(explained.cells, cells), (explained.groups, groups)]
        labelled += [(one.structures, structures)] if one.structures is not None else []
        for frame, frames in labelled:
            frame.insert(0, "scan_id", one.scan_id)
            frames.append(frame)
        told.append(_scan_page(one))
        if progress is not None:
            progress(len(told), len(chosen))
    table, group_table = pd.concat(cells, ignore_index=True), pd.concat(groups, ignore_index=True)
    shares = pd.concat(structures, ignore_index=True) if structures else pd.DataFrame()
    table.to_parquet(folder / "table.parquet", index=False)
    table.to_csv(folder / "table.csv", index=False)
    group_table.to_csv(folder / "groups.csv", index=False)
    if len(shares):
        shares.to_csv(folder / "structures.csv", index=False)
    summary = _summary(found, told, group_table, shares)
    (folder / "summary.json").write_text(json.dumps(_plain(summary), indent=1) + "\n")
    return Written(summary, group_table, shares, shown)


def _scans(cohort: Cohort, sequence: str) -> list[Scan]:
    """Every scan of a sequence with its affine, without opening the voxels."""
    rows, affine, _ = cohort.coordinates(sequence)
    told = [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]
    return [
        Scan(sequence=sequence, index=i, row=row, affine=affine[i], echo_time_ms=None)
        for i, row in enumerate(told)
    ]


def _write_voxels(path: Path, scan: Scan, one: ScanAttribution) -> None:
    """Write a volume in the order of the acquisition: what the cohort mirrored is turned back."""
    voxels = one.explanation.voxels
    if scan.row["mirrored"]:
        voxels = mirror(voxels, scan.affine)
    write_nifti(path, to_nifti(voxels, scan.affine, scale=1.0, offset=0.0, name=one.scan_id))


def _save(figure: Figure, path: Path) -> None:
    # Without the software's version equal inputs give equal bytes.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})


def _scan_page(one: ScanAttribution) -> dict[str, Any]:
    page: dict[str, Any] = {"scan_id": one.scan_id, "set": str(one.scan["set"])}
    page |= dict(one.explanation.checks)
    if one.explanation.cascade:
        page["cascade"] = {
            name: asdict(agreement) for name, agreement in one.explanation.cascade.items()
        }
    return page


def _summary(
    found: Attribution, told: list[dict[str, Any]], groups: pd.DataFrame, shares: pd.DataFrame
) -> dict[str, Any]:
    config, opened = found.config, found.opened
    checks = [{k: v for k, v in page.items() if isinstance(v, int | float)} for page in told]
    mean = pd.DataFrame(checks).mean().to_dict()
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "space": opened.similarity.space,
        "sequence": opened.source.sequence,
        "table_baseline": config.table_baseline,
        "voxel_baseline": config.voxel_baseline,
        "baseline_scans": opened.baseline.scans,
        "tolerance": config.tolerance,
        "box": list(config.box),
        "randomised": config.randomised,
        "own_row": float(np.diag(found.pairs).mean()),
        "other_rows": _others(found),
        "mean": mean,
        "groups": _mean_shares(groups),
        "scans": told,
    }
    if len(shares):
        ratio = shares.groupby("structure")[["attribution_share", "volume_share"]].mean()
        ratio["ratio"] = ratio["attribution_share"] / ratio["volume_share"]
        summary["structures"] = ratio.to_dict("index")
    summary["warnings"] = warnings_of(summary, config.warn_above)
    return summary


def _others(found: Attribution) -> float:
    """How alike scans are to the rows of other people, on average."""
    people = found.opened.source.scans["subject_id"].to_numpy()[found.chosen]
    apart = people[:, None] != people[None, :]
    return float(found.pairs[apart].mean()) if apart.any() else float("nan")


def _mean_shares(groups: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Each group's mean attribution over the scans."""
    mean = groups.groupby(["by", "name"])["attribution"].mean()
    return {str(by): mean.loc[by].to_dict() for by in mean.index.get_level_values(0).unique()}


def warnings_of(summary: dict[str, Any], above: float) -> list[str]:
    """Say in plain words what speaks against trusting the maps.

    Args:
        summary: The content of `summary.json`.
        above: Rank correlation with random weights from which on a map is doubted.
    """
    mean, found = summary["mean"], []
    if not summary["own_row"] > summary["other_rows"] and not math.isnan(summary["other_rows"]):
        found.append(
            f"Scans are no more alike to their own rows ({summary['own_row']:.2f}) than to those of other "
            f"people ({summary['other_rows']:.2f}): there is nothing to be explained."
        )
    incomplete = sum(
        not (page["table_complete"] and page["voxel_complete"]) for page in summary["scans"]
    )
    if incomplete:
        found.append(
            f"{incomplete} of {len(summary['scans'])} scans did not reach the tolerance {summary['tolerance']} "
            "within most_steps; their attributions do not add up."
        )
    found += _randomised_warnings(mean, above)
    for kind in ("table", "voxel"):
        value = mean.get(f"{kind}_occlusion_correlation", math.nan)
        if value < 0.3:
            found.append(
                f"Hiding parts agrees little with integrated gradients of the {kind}s: rank correlation "
                f"{value:.2f}."
            )
    return found


def _randomised_warnings(mean: dict[str, float], above: float) -> list[str]:
    named = {
        "table_randomised_absolute": "table rows, in absolute values",
        "table_randomised_signed": "table rows",
        "voxel_randomised_signed": "voxels",
        "voxel_randomised_gradient": "voxels, in mean gradients",
    }
    found = [
        f"Random weights give much the same map of {what}: rank correlation {mean[key]:.2f}, above "
        f"{above:g}. It says little of what was learnt."
        for key, what in named.items()
        if mean.get(key, math.nan) > above
    ]
    absolute = mean.get("voxel_randomised_absolute", math.nan)
    if absolute > above:
        signed, gradient = (mean[f"voxel_randomised_{name}"] for name in ("signed", "gradient"))
        found.append(
            f"Random weights give voxel maps of much the same absolute values: rank correlation "
            f"{absolute:.2f}, above {above:g} (with signs {signed:.2f}, of mean gradients {gradient:.2f}). "
            "Where a map is strong follows in part from where the scan differs from its starting point, "
            "whatever was learnt."
        )
    return found


def _plain(value: Any) -> Any:
    """Turn what is no number into null, since JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return asdict(value) if isinstance(value, Agreement) else value
