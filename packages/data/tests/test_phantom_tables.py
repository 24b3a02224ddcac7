"""The phantom's release tables: names, grammar, missing cells and outcomes."""

import datetime
import re

import numpy as np
import pandas as pd
import pytest

from spinmark_data.phantom.clinic import clinic_visit
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.outcome_table import CONTACTS, outcomes_sheet
from spinmark_data.phantom.outcomes import simulate_outcomes
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.progression import trajectories
from spinmark_data.phantom.release_tables import build_sheets
from spinmark_data.phantom.scan_plan import plan_scans

CONFIG = PhantomConfig(subjects=250, seed=11, event_share=0.25)

FILMED = ("00", "01", "03", "05", "06", "08", "10")
MISSING = re.compile(r"\.[A-Z]?(: .*)?")
CODED = re.compile(r"-?\d+(\.\d+)?: .*")
NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)")
DATE = re.compile(r"\d\d/\d\d/\d{4}")


@pytest.fixture(scope="module")
def made():
    population = sample_population(CONFIG)
    latents = trajectories(population, CONFIG)
    gone = population.joints["replaced_at_baseline"].to_numpy()
    entry = np.where(gone[:, None], 0.0, latents["V00"])
    womkp = clinic_visit(population, entry, "V00", CONFIG)[1]["WOMKP"].to_numpy()
    outcomes = simulate_outcomes(population, womkp, CONFIG)
    plan = plan_scans(population, latents, outcomes, CONFIG, 4)
    sheets = build_sheets(population, latents, outcomes, plan, CONFIG)
    sheets.append(outcomes_sheet(population, outcomes, CONFIG))
    return population, outcomes, plan, {sheet.stem: sheet for sheet in sheets}


def test_every_contact_and_film_has_its_table(made):
    stems = set(made[3])
    contacts = {f"AllClinical{n}" for n in [*FILMED, "07", "09", "11", "12"]}
    films = {f"kxr_sq_bu{n}" for n in FILMED}
    assert stems == contacts | films | {"Enrollees", "SubjectChar00", "Outcomes99"}
    assert len(made[3]["Enrollees"].cells) == 60


def test_every_cell_fits_the_grammar(made):
    for sheet in made[3].values():
        for name, column in sheet.cells.items():
            if name.endswith(("SITE", "INJNOTE")) or "BARCD" in name:
                continue
            for cell in column.unique():
                fits = cell == " " or any(
                    rule.fullmatch(cell) for rule in (MISSING, CODED, NUMBER, DATE)
                )
                assert fits, (sheet.stem, name, cell)
                assert "|" not in cell


def test_cells_that_are_shown_hold_the_truth(made):
    for sheet in made[3].values():
        for name, column in sheet.cells.items():
            truth = sheet.truth[name]
            if not pd.api.types.is_numeric_dtype(truth):
                continue
            shown = column.str.extract(r"^(-?\d+(?:\.\d+)?)(?::|$)", expand=False).astype(float)
            known = shown.notna()
            np.testing.assert_allclose(shown[known], truth[known], rtol=1e-9)


def test_more_cells_are_missing_later_and_codes_vary(made):
    def share(visit):
        cells = made[3][f"AllClinical{visit}"].cells[f"V{visit}KOOSYMR"]
        here = cells[~cells.str.startswith(".:")]
        return here.str.startswith(".").mean()

    early = np.mean([share("00"), share("01")])
    late = np.mean([share("06"), share("08"), share("10")])
    assert 0.0 < early < 0.06 < late < 0.25
    for visit in ("07", "09", "11"):
        cells = made[3][f"AllClinical{visit}"].cells[f"V{visit}WOMKPR"]
        assert set(cells) <= {".F: Not done, phone contact", ".: Missing Form/Incomplete Workbook"}
    assert " " in set(made[3]["AllClinical00"].cells["V00WOMKPR"])


def test_names_carry_the_prefixes_of_the_release(made):
    first, later = made[3]["AllClinical00"].cells, made[3]["AllClinical03"].cells
    assert {"P01BMI", "V00WOMKPL", "P01INJR", "P01FAMKR", "V0020MPACE", "V00EVDATE"} <= set(first)
    assert "V00VISDYS" not in first
    assert {"V03BMI", "V03VISDYS", "V03FVDATE", "V03KRSR12", "V03400MTIM"} <= set(later)
    assert "V03FAMKR" not in later
    assert "V01VISDYS" not in made[3]["AllClinical01"].cells


def test_films_are_keyed_by_knee_and_project(made):
    for visit in ("00", "03", "08"):
        table = pd.DataFrame(made[3][f"kxr_sq_bu{visit}"].cells)
        assert not table.duplicated(["ID", "SIDE", "READPRJ"]).any()
        expected = {"37", "42"} if visit == "08" else {"15", "37"}
        assert set(table["READPRJ"]) == expected
    barcodes = made[3]["kxr_sq_bu00"].cells["V00BARCDBU"]
    assert barcodes.str.fullmatch(r"0166\d{8}|T").all()


def test_files_are_piped_crlf_and_once_not_ascii(made, tmp_path):
    for sheet in made[3].values():
        sheet.write(tmp_path, tmp_path)
    names = {path.name for path in tmp_path.glob("*.txt")}
    assert {"ALLCLINICAL08.txt", "kXR_SQ_BU03.txt", "kxr_sq_bu05.txt"} <= names
    raw = (tmp_path / "Enrollees.txt").read_bytes()
    raw.decode("ascii")
    assert raw.count(b"\r\n") == raw.count(b"\n") == CONFIG.subjects + 1
    assert b'"' not in raw
    assert b"\xef" in (tmp_path / "AllClinical00.txt").read_bytes()
    assert (tmp_path / "Outcomes99.txt").read_bytes().startswith(b"id|VERSION|")
    assert b"|readprj|" in (tmp_path / "kxr_sq_bu05.txt").read_bytes()
    assert b"|v03XRKL|" in (tmp_path / "kXR_SQ_BU03.txt").read_bytes()
    for path in tmp_path.glob("*.txt"):
        widths = {line.count(b"|") for line in path.read_bytes().splitlines()}
        assert len(widths) == 1


def test_outcomes_table_says_what_was_observed(made):
    population, outcomes, _, sheets = made
    table = pd.DataFrame(sheets["Outcomes99"].cells)
    codes = {code: visit for visit, (code, _) in CONTACTS.items()}
    for s, side in enumerate("RL"):
        knees = outcomes.joints.iloc[s::2].reset_index(drop=True)
        confirmed = table[f"V99E{side}KRPCF"].str.startswith("3")
        exact = (knees["observed_cause"] == "event") & (
            knees["observed_lower"] == knees["observed_upper"]
        )
        assert (confirmed == exact).all()
        days = table.loc[confirmed, f"V99E{side}KDAYS"].astype(float)
        assert (days == knees.loc[confirmed, "replacement_days"]).all()
        before = table[f"V99E{side}KBLRP"].str.startswith("1")
        assert (before == knees["replaced_at_baseline"]).all()
    last = table["V99RNTCNT"].str.split(":").str[0].astype(int).map(codes)
    assert (last == outcomes.subjects["last_contact"]).all()
    dead = outcomes.subjects["death_known"].to_numpy()
    start = pd.to_datetime(sheets["AllClinical00"].truth["V00EVDATE"], format="%m/%d/%Y")
    died = pd.to_datetime(table.loc[dead, "V99EDDDATE"], format="%m/%d/%Y")
    assert ((died - start[dead]).dt.days == outcomes.subjects["death_days"][dead]).all()
    assert population.joints["replaced_at_baseline"].sum() > 0


def test_no_scan_after_replacement_death_or_dropout(made):
    population, outcomes, plan, _ = made
    day = plan["days"].to_numpy()
    joint = plan["joint"].to_numpy()
    people = outcomes.subjects.iloc[joint // 2]
    assert (day < outcomes.joints["replacement_days"].to_numpy()[joint]).all()
    assert (day < people["death_days"].to_numpy()).all()
    assert (day < people["dropout_days"].to_numpy()).all()
    assert not population.joints["replaced_at_baseline"].to_numpy()[joint].any()
    assert plan["folder"].is_unique
    assert plan["series"].str.fullmatch(r"1\d{7}").all()
    assert isinstance(plan["date"].iloc[0], datetime.date)


def test_a_cohort_without_follow_up_can_be_made():
    config = PhantomConfig(subjects=3, visits=("V00",), follow_up_visits=("V00",))
    population = sample_population(config)
    latents = trajectories(population, config)
    outcomes = simulate_outcomes(population, np.zeros(6), config)
    plan = plan_scans(population, latents, outcomes, config, 4)
    stems = [s.stem for s in build_sheets(population, latents, outcomes, plan, config)]
    assert stems == ["Enrollees", "SubjectChar00", "AllClinical00", "kxr_sq_bu00"]
    assert (outcomes.subjects["last_contact_days"] == 0).all()
