"""MOAKS from the phantom through its release to the cohort's tables: what went in comes out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from spinmark_data.features import DEFAULT_ROLES, clinical_features
from spinmark_data.ingest.oai.tables import read_oai_tables
from spinmark_data.ingest.tableset import TableSet
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.moaks import COLUMNS
from spinmark_data.phantom.moaks_table import moaks_sheets, regions_of
from spinmark_data.phantom.nda_tables import write_nda
from spinmark_data.phantom.outcome_table import outcomes_sheet
from spinmark_data.phantom.outcomes import Outcomes, simulate_outcomes
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.progression import trajectories
from spinmark_data.phantom.release_tables import build_sheets
from spinmark_data.phantom.scan_plan import plan_scans

CONFIG = PhantomConfig(
    subjects=24,
    seed=7,
    visits=("V00", "V03"),
    event_share=0.4,
    replaced_at_baseline=0.2,
    moaks_share=0.9,
    follow_up_visits=("V00", "V01", "V03"),
)
# The order in which the ingest prefers the projects, from its own documentation.
PREFERRED = ["65", "63A", "63B", "63C", "63D", "63E", "63F", "30", "22"]


@dataclass
class Phantom:
    """Tables of a phantom without images, as truth and as both layouts come back."""

    truth: dict[str, pd.DataFrame]
    complete: TableSet
    nda: TableSet
    outcomes: Outcomes
    joints: pd.DataFrame
    scans: pd.DataFrame


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    out = tmp_path_factory.mktemp("moaks")
    for name in ("truth", "nda", "complete"):
        (out / name).mkdir()
    population = sample_population(CONFIG)
    latents = trajectories(population, CONFIG)
    outcomes = simulate_outcomes(population, np.full(2 * CONFIG.subjects, 6.0), CONFIG)
    plan = plan_scans(population, latents, outcomes, CONFIG, 4)
    sheets = build_sheets(population, latents, outcomes, plan, CONFIG)
    sheets.append(outcomes_sheet(population, outcomes, CONFIG))
    sheets += moaks_sheets(population, regions_of(population, plan, CONFIG), CONFIG)
    for sheet in sheets:
        sheet.write(out / "complete", out / "truth")
    write_nda(sheets, out / "nda")
    truth = {
        f"V{path.stem[-2:]}": pd.read_parquet(path)
        for path in sorted((out / "truth").glob("kMRI_SQ_MOAKS_BICL*.parquet"))
    }
    return Phantom(
        truth=truth,
        complete=read_oai_tables(out / "complete"),
        nda=read_oai_tables(out / "nda"),
        outcomes=outcomes,
        joints=population.joints,
        scans=plan,
    )


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """The row of each knee that the ingest prefers, under its joint's id."""
    rank = table["READPRJ"].map(PREFERRED.index)
    first = table.assign(rank=rank).sort_values("rank", kind="stable")
    first = first.drop_duplicates(["ID", "SIDE"])
    side = first["SIDE"].astype(int).map({1: "R", 2: "L"})
    return first.set_index(first["ID"].astype(str) + ":" + side)


def expected(name: str, values: pd.Series) -> dict[str, pd.Series]:
    """What a column becomes; a cell of cartilage holds the grades of area and of full thickness."""
    if not name.startswith("MCM"):
        return {name: values}
    text = values.map("{:.1f}".format)
    return {name: text.str[0].astype(float), f"{name}FT": text.str[2].astype(float)}


@pytest.mark.parametrize("layout", ["complete", "nda"])
def test_every_cell_is_the_truths_or_has_a_reason(phantom: Phantom, layout: str) -> None:
    tables: TableSet = getattr(phantom, layout)
    missing = set(
        tables.missing[["subject_id", "laterality", "visit", "variable"]].itertuples(
            index=False, name=None
        )
    )
    assert sorted(phantom.truth) == ["V00", "V03"]
    compared = lost = 0
    for visit, table in phantom.truth.items():
        found = tables.joints[tables.joints["visit"] == visit].set_index("joint_id")
        rows = chosen(table)
        # Whoever was not read has no grade.
        others = found.index.difference(rows.index)
        assert len(others)
        for name in COLUMNS:
            if name.startswith("MOS") and name not in found:
                continue  # The ingest knows the osteophytes of the tibia only.
            for variable, values in expected(name, rows[f"{visit}{name}"]).items():
                assert found.loc[others, variable].isna().all()
                back = found[variable].reindex(rows.index)
                held = back.notna()
                np.testing.assert_array_equal(back[held], values[held])
                compared += int(held.sum())
                lost += int((~held).sum())
                for joint in rows.index[~held]:
                    subject, side = joint.split(":")
                    assert (subject, side, visit, variable) in missing
    assert compared > 100 * lost > 0
    assert "MOSTM" in tables.joints


def test_a_replaced_knee_is_not_read(phantom: Phantom) -> None:
    fates = phantom.outcomes.joints
    gone = 0
    for visit, table in phantom.truth.items():
        days = np.repeat(phantom.outcomes.days[visit].to_numpy(), 2)
        with np.errstate(invalid="ignore"):
            replaced = (fates["replacement_days"].to_numpy() <= days) | fates[
                "replaced_at_baseline"
            ].to_numpy()
        ids = phantom.joints["subject_id"] + ":" + phantom.joints["laterality"]
        assert not set(chosen(table).index) & set(ids[replaced])
        scanned = phantom.scans[phantom.scans["visit"] == visit]
        assert set(chosen(table).index) <= set(scanned["subject_id"] + ":" + scanned["laterality"])
        gone += int(replaced.sum())
    assert gone > 3


def test_some_knees_are_read_by_two_projects_that_differ_little(phantom: Phantom) -> None:
    tables = []
    for visit, frame in phantom.truth.items():
        plain = frame.set_axis([str(name).removeprefix(visit) for name in frame], axis=1)
        tables.append(plain.assign(visit=visit))
    table = pd.concat(tables)
    twice = table[table.duplicated(["ID", "SIDE", "visit"], keep=False)]
    assert len(twice) >= 2
    assert set(table["READPRJ"]) <= set(PREFERRED)
    for _, rows in twice.groupby(["ID", "SIDE", "visit"]):
        scores = rows[list(COLUMNS)].to_numpy(float)
        assert (scores[0] == scores[1]).mean() > 0.6


def test_moaks_never_enters_the_teacher(phantom: Phantom) -> None:
    tables = phantom.complete
    held = tables.dictionary.set_index("variable")
    moaks = held.index[held["group"] == "MOAKS"]
    assert len(moaks) > 80
    assert set(held.loc[moaks, "role"]) == {"structure"}
    assert "structure" not in DEFAULT_ROLES

    class Held:
        def table(self, name: str) -> pd.DataFrame:
            return tables.dictionary if name == "dictionary" else tables.tables()[name]

    features = clinical_features(Held(), phantom.scans)
    assert not set(moaks) & set(features.dictionary["variable"])
    told = clinical_features(Held(), phantom.scans, roles=(*DEFAULT_ROLES, "structure"))
    assert set(moaks) & set(told.dictionary["variable"])
