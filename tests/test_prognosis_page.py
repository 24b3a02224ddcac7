"""The page of a prognosis: the increments first, and whole where few events leave little to say."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark.report.page import Section, render
from spinmark.report.prognosis_page import prognosis_section, write_page
from spinmark_biomarkers.phenotypes.discover import Phenotypes
from spinmark_biomarkers.survival.config import PrognoseConfig
from spinmark_biomarkers.survival.data import DAYS_PER_YEAR, SurvivalData
from spinmark_biomarkers.survival.hazards import PiecewiseHazard, WeibullHazard
from spinmark_biomarkers.survival.prognosis import HeldOut, Prognosis
from spinmark_biomarkers.survival.scoring import scored
from spinmark_biomarkers.survival.simulate import Scenario, simulate
from spinmark_biomarkers.survival.store import TABLES, read_prognosis, write_prognosis

SCENARIO = Scenario(subjects=150, beta=(0.7, 0.0, 1.0), dropout=0.03, frailty="none")
MODELS = ("clinical", "clinical_kl", "clinical_kl_embedding")
FITS = {
    "clinical": {"verdict": "good (R-hat 1.001)", "advice": ""},
    "clinical_kl": {"verdict": "bad: do not use these draws (R-hat 1.4)", "advice": "double tune"},
    "clinical_kl_embedding": {"verdict": "doubtful: draw more (R-hat 1.01)", "advice": "more draws"},
}  # fmt: skip


def held_out(events: int | None = None) -> tuple[HeldOut, pd.DataFrame]:
    """Predictions by the true law from one, two and three covariates, and the outcomes table."""
    made = simulate(SCENARIO, seed=3)
    data = made.data
    if events is not None:
        late = np.flatnonzero(data.event)[events:]
        data = data.with_rows(np.setdiff1d(np.arange(len(data.ids)), late))
    data = data.with_covariates(data.covariates, data.names)
    years = np.arange(0.0, 11.0)
    level, log_shape = (made.baseline[name].item() for name in ("level", "log_shape"))
    risk, shares, hazards = {}, {}, {}
    for k, name in enumerate(MODELS, start=1):
        eta = data.covariates[:, :k] @ np.array(SCENARIO.beta[:k])
        risk[name] = eta
        shares[name] = 1 - np.exp(-np.exp(level + eta)[:, None] * years ** np.exp(log_shape))
        law = WeibullHazard(
            np.tile(eta, (4, 1)), np.full(4, level), np.full(4, log_shape), np.zeros(4)
        )
        hazards[name] = {"event": law, "death": PiecewiseHazard.never(4, len(eta))}
    coords: dict[str, Any] = {
        "model": np.array(MODELS, dtype=object), "joint": data.ids, "time": years * DAYS_PER_YEAR,
    }  # fmt: skip
    mean = xr.DataArray(
        np.stack([shares[name] for name in MODELS]), dims=("model", "joint", "time"), coords=coords
    )
    cif = xr.concat([mean, 0 * mean], dim="cause").expand_dims(quantile=[0.025, 0.5, 0.975])
    cif = cif.transpose("model", "joint", "cause", "time", "quantile").to_dataset(name="cif")
    cif = cif.assign_coords(
        cause=np.array(["event", "death"], dtype=object),
        extrapolated=("time", years > 9),
        set=("joint", np.full(len(data.ids), "test", dtype=object)),
    ).assign_attrs(schema="spinmark/prognosis", version=2, endpoint="replacement")
    draws = xr.Dataset({"beta": (("chain", "draw"), np.zeros((2, 4)))})
    whole = Prognosis(
        cif=cif, metrics=pd.DataFrame(), mean=mean, risk=pd.DataFrame(risk, index=data.ids),
        posteriors=dict.fromkeys(MODELS, draws), diagnostics=dict(FITS),
    )  # fmt: skip
    outcomes = pd.DataFrame(
        {
            "joint_id": data.ids, "subject_id": data.subject_ids, "endpoint": "replacement",
            "entry": 0.0, "lower": data.lower * DAYS_PER_YEAR, "upper": data.upper * DAYS_PER_YEAR,
            "cause": np.array(["censored", "event", "death"])[data.cause], "weight": 1.0,
        }
    )  # fmt: skip
    test = SurvivalData.from_outcomes(outcomes, pd.DataFrame(index=data.ids), require_events=False)
    whole = Prognosis(**{**vars(whole), "risk": whole.risk.loc[test.ids.astype(str)]})
    return HeldOut(
        prognosis=whole,
        test=test,
        population=np.tile(mean.mean(["model", "joint"]).to_numpy(), (len(test.ids), 1)),
    ), outcomes


def labels(outcomes: pd.DataFrame) -> Phenotypes:
    n = len(outcomes)
    dataset = xr.Dataset(
        {
            "joint_id": ("scan", outcomes["joint_id"].to_numpy(dtype=object)),
            "days": ("scan", np.zeros(n)),
            "label": ("scan", np.arange(n) % 2),
        }
    )
    return Phenotypes(dataset=dataset, known_at=pd.DataFrame(), facts={})


def made(folder: Path, held: HeldOut, outcomes: pd.DataFrame, **changed: Any) -> Section:
    config = PrognoseConfig(reference="clinical_kl", bootstrap=20, **changed)
    groups = pd.DataFrame({"sex": np.arange(len(outcomes)) % 2}, index=outcomes["joint_id"])
    write_prognosis(folder, scored(held, config, groups=groups, ladder=MODELS))
    return prognosis_section(folder, outcomes, labels(outcomes))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Section, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("page")
    held, outcomes = held_out()
    return folder, made(folder, held, outcomes), outcomes


def test_the_increment_over_clinical_and_kl_comes_first(
    page: tuple[Path, Section, pd.DataFrame],
) -> None:
    _, section, _ = page
    first = section.notes[0]
    assert re.match(
        r"Adding embedding to clinical \+ KL raises the 8-year AUC by \.\d{3} \(\.\d{3} to \.\d{3}\): "
        r"better by more than chance would give\.$",
        first,
    )
    assert section.pictures[0].title == "What each model adds to clinical + KL"
    assert "4, 8, 9 years" in section.pictures[0].method
    assert section.tables[0].title == "Gains at 8 years"
    gains = {row[0]: row[1:] for row in section.tables[0].rows}
    assert gains["clinical + KL + embedding, against clinical + KL"][0].startswith("+")
    # The figure is of models that add something; the table has those that lack something too.
    axes = section.pictures[0].figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["clinical + KL + embedding"]
    assert "clinical, against clinical + KL" in gains


def test_fits_that_are_not_to_be_trusted_are_named_and_explained(
    page: tuple[Path, Section, pd.DataFrame],
) -> None:
    _, section, _ = page
    bad, doubtful = (line for line in section.notes if line.startswith("Of 3 fits"))
    assert "the draws of 1 must not be used: clinical + KL." in bad
    assert "clinical + KL + embedding." in doubtful
    fits = section.tables[-1]
    assert fits.title == "Fits"
    assert ["clinical + KL", FITS["clinical_kl"]["verdict"], "double tune"] in fits.rows


def test_no_name_of_a_column_is_on_the_page(page: tuple[Path, Section, pd.DataFrame]) -> None:
    folder, _, outcomes = page
    write_page(folder, outcomes, labels(outcomes))
    html = (folder / "prognosis.html").read_text(encoding="utf-8")
    text = re.sub(r"src=\"data:[^\"]*\"|<style>.*?</style>", "", html, flags=re.S)
    assert "clinical_kl" not in text
    assert "c_index" not in text
    assert ">nan<" not in text


def test_every_table_comes_back(page: tuple[Path, Section, pd.DataFrame], tmp_path: Path) -> None:
    folder, _, _ = page
    found = read_prognosis(folder)
    held, outcomes = held_out()
    groups = pd.DataFrame({"sex": np.arange(len(outcomes)) % 2}, index=outcomes["joint_id"])
    config = PrognoseConfig(reference="clinical_kl", bootstrap=20)
    want = scored(held, config, groups=groups, ladder=MODELS)
    for name in TABLES:
        pd.testing.assert_frame_equal(
            getattr(found, name), getattr(want, name), check_dtype=False, check_exact=True
        )
    assert not found.increments.empty
    assert not found.subgroups.empty
    assert not found.checks.empty
    # No model has left-out densities here, and no file says so.
    assert found.elpd.empty
    assert not (folder / "elpd.parquet").exists()
    assert found.told == want.told
    assert found.compared == want.compared
    assert found.compared["main_years"] == 8.0


@pytest.mark.parametrize("events", [0, 3])
def test_few_events_leave_a_whole_page(tmp_path: Path, events: int) -> None:
    held, outcomes = held_out(events)
    section = made(tmp_path, held, outcomes)
    text = render("Prognosis", "banner", [section])
    assert "Ten-year prognosis" in text
    assert {"Scores on test subjects at 8 years", "Fits"} <= {t.title for t in section.tables}
    # Of a few events a bootstrap makes too short an interval: none of it is called a gain.
    assert not any("by more than chance" in line for line in section.notes)
    assert any(
        line.startswith("Fewer than 10 events by these years: 4 (") for line in section.notes
    )
    if not events:
        assert section.notes[0].endswith("the 8-year AUC cannot be computed.")
        assert sum("no discordant pair" in line for line in section.notes) == 1
    else:
        assert section.notes[0].endswith("too few events to say.")


def test_horizons_of_ones_own_are_those_of_the_page(tmp_path: Path) -> None:
    held, outcomes = held_out()
    section = made(tmp_path, held, outcomes, horizons_years=[4.0, 9.0])
    titles = [table.title for table in section.tables]
    assert titles[:2] == ["Gains at 9 years", "Scores on test subjects at 9 years"]
    assert "the 9-year AUC" in section.notes[0]
    assert "4, 9 years" in section.pictures[0].method
    other = tmp_path / "other"
    other.mkdir()
    none = made(other, held, outcomes, horizons_years=[3.0, 7.0])
    assert "the 7-year AUC" in none.notes[0]
    assert "No horizon was named primary." in none.pictures[0].method
