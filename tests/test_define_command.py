"""`spinmark define` on the small demo: what is written, and that split takes it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark.commands.prognose import checked
from spinmark.errors import InputError
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import read_split

pytestmark = pytest.mark.multiproc


@pytest.fixture(scope="module")
def definition(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("define") / "definition"
    words = ["--preset", "demo", "--cohort", str(demo / "cohort"), "--out", str(out)]
    assert main(["define", *words]) == 0
    return out


def test_what_is_written_is_counted(demo: Path, definition: Path) -> None:
    cohort = Cohort.open(demo / "cohort")
    flow = pd.read_csv(definition / "flow.csv", keep_default_na=False)
    joints = pd.read_parquet(definition / "joints.parquet")
    scans = pd.read_parquet(definition / "scans.parquet")
    assert flow.iloc[0]["subjects"] == len(cohort.table("subjects"))
    assert flow.iloc[-1]["joints"] == len(joints) > 0
    assert flow.iloc[-1]["scans"] == len(scans) > 0
    assert set(scans["joint_id"]) == set(joints["joint_id"])
    assert (scans["rank"] == 0).all()
    graded = cohort.table("joints").query("visit == 'V00' and XRKL == XRKL")["joint_id"]
    assert set(joints["joint_id"]) <= set(graded)
    excluded = pd.read_parquet(definition / "excluded.parquet")
    assert set(excluded.loc[excluded["unit"] == "joint", "joint_id"]).isdisjoint(joints["joint_id"])
    assert len(pd.read_csv(definition / "alone.csv")) == 5


def test_endpoints_are_of_the_analysed_and_of_the_schema(demo: Path, definition: Path) -> None:
    rows = pd.read_parquet(definition / "endpoints" / "outcomes.parquet")
    joints = set(pd.read_parquet(definition / "joints.parquet")["joint_id"])
    assert set(rows["joint_id"]) <= joints
    assert set(rows["endpoint"]) >= {
        "replacement",
        "radiographic_incidence",
        "womac_pain_worsening",
    }
    assert set(rows["cause"]) <= {"event", "death", "censored"}
    assert (rows["upper"] >= rows["lower"]).all()
    before = Cohort.open(demo / "cohort").table("outcomes")
    copied = rows[rows["endpoint"] == "replacement"][list(before.columns)]
    kept = before[before["joint_id"].isin(joints)].sort_values("joint_id")
    pd.testing.assert_frame_equal(copied.reset_index(drop=True), kept.reset_index(drop=True))
    page = yaml.safe_load((definition / "endpoints" / "definition.yaml").read_text())
    assert page["jsn_progression"]["compartment"] == "either"
    assert "doi:10.1038/s41598-019-56527-3" in page["kl_progression"]["about"]


def test_the_figure_is_drawn_twice(definition: Path) -> None:
    pixels = np.asarray(Image.open(definition / "flow.png").convert("L"))
    assert pixels.std() > 5
    assert ElementTree.parse(definition / "flow.svg").getroot().tag.endswith("svg")


def test_the_same_again_is_found_whole_and_the_cohort_is_untouched(
    demo: Path, definition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = artefacts.content_hash(demo / "cohort")
    words = ["--preset", "demo", "--cohort", str(demo / "cohort"), "--out", str(definition)]
    assert main(["define", *words]) == 0
    text = capsys.readouterr().out
    assert "nothing to do" in text
    assert "analysed: " in text
    assert f"Next: spinmark split --cohort {demo / 'cohort'} --definition {definition}" in text
    assert artefacts.content_hash(demo / "cohort") == before


def test_the_content_is_the_same_when_made_again(
    demo: Path, definition: Path, tmp_path: Path
) -> None:
    words = ["--preset", "demo", "--cohort", str(demo / "cohort"), "--out", str(tmp_path / "d")]
    assert main(["define", *words]) == 0
    assert artefacts.content_hash(tmp_path / "d") == artefacts.content_hash(definition)


def test_the_survival_package_takes_every_endpoint(definition: Path) -> None:
    rows = pd.read_parquet(definition / "endpoints" / "outcomes.parquet")
    for _, group in rows.groupby("endpoint"):
        covariates = pd.DataFrame(
            {"x": np.arange(len(group), dtype=float)}, index=group["joint_id"]
        )
        data = SurvivalData.from_outcomes(group, covariates)
        assert len(data.cause) == len(group)


def test_a_split_divides_only_the_analysed(
    demo: Path, definition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--cohort", str(demo / "cohort"), "--out", str(tmp_path / "split"), "--manifests", "true",
             "--definition", str(definition), "--forward_visit", "V03"]  # fmt: skip
    assert main(["split", *words]) == 0
    split = read_split(tmp_path / "split")
    joints = pd.read_parquet(definition / "joints.parquet")
    assert set(split.frame["subject_id"]) == set(joints["subject_id"])
    for name in ("scans", "folds", "retest_pairs"):
        assert (tmp_path / "split" / f"{name}.parquet").is_file()
    other = tmp_path / "other"
    assert main(["define", "--cohort", str(demo / "cohort"), "--out", str(other)]) == 0
    record = (other / "run.json").read_text()
    content = artefacts.content_hash(demo / "cohort")
    (other / "run.json").write_text(record.replace(content, "0" * len(content)))
    capsys.readouterr()
    words = [
        "--cohort",
        str(demo / "cohort"),
        "--out",
        str(tmp_path / "s2"),
        "--definition",
        str(other),
    ]
    assert main(["split", *words]) == 1
    assert "was made from another cohort" in capsys.readouterr().err


@pytest.mark.slow
def test_a_prognosis_and_its_report_take_the_definitions_outcomes(
    demo: Path, definition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = artefacts.read(demo / "prognosis", "prognosis")
    common = [word for name in ("cohort", "phenotypes") for word in (f"--{name}", str(demo / name))]
    common += ["--embeddings", record["config"]["embeddings"]]
    made, chosen = tmp_path / "prognosis", ["--definition", str(definition)]
    words = ["prognose", "--preset", "smoke", *common, *chosen, "--out", str(made)]
    assert main(words) == 0
    assert f"--definition {definition} --out report.html" in capsys.readouterr().out
    used = artefacts.read(made, "prognosis")["inputs"]["definition"]
    assert used == artefacts.content_hash(definition)
    joints = set(pd.read_parquet(definition / "joints.parquet")["joint_id"])
    assert set(pd.read_parquet(made / "risk.parquet").index) <= joints
    report = ["report", *common, "--out", str(tmp_path / "report.html"), "--prognosis"]
    assert main([*report, str(made), *chosen]) == 0
    capsys.readouterr()
    assert main([*report, str(made)]) == 1
    assert "give that one as --definition" in capsys.readouterr().err
    other = tmp_path / "other"
    cohort = ["--cohort", str(demo / "cohort")]
    assert main(["define", *cohort, "--out", str(other)]) == 0
    assert main([*report, str(made), "--definition", str(other)]) == 1
    assert "made with another definition" in capsys.readouterr().err


def test_a_prognosis_without_fitting_outcomes_is_refused(
    demo: Path, definition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = artefacts.read(demo / "prognosis", "prognosis")
    assert "definition" not in {**record["config"], **record["inputs"]}
    common = [word for name in ("cohort", "phenotypes") for word in (f"--{name}", str(demo / name))]
    common += ["--embeddings", record["config"]["embeddings"]]
    report = ["report", *common, "--out", str(tmp_path / "report.html")]
    words = [*report, "--prognosis", str(demo / "prognosis"), "--definition", str(definition)]
    assert main(words) == 1
    assert "leave --definition out" in capsys.readouterr().err
    other = tmp_path / "other"
    assert main(["define", "--cohort", str(demo / "cohort"), "--out", str(other)]) == 0
    words = ["prognose", "--preset", "smoke", *common, "--out", str(tmp_path / "no")]
    assert main([*words, "--definition", str(other)]) == 1
    assert "has no endpoints" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_an_endpoint_with_more_causes_than_the_models_know_is_refused() -> None:
    rows = pd.DataFrame({"endpoint": ["a", "a", "b"], "cause": ["event", "replacement", "death"]})
    with pytest.raises(InputError, match="event, death and censored are accepted"):
        checked(rows, "a")
    assert checked(rows, "b") is rows


def test_a_split_without_later_options_is_the_earlier_artefact(demo: Path) -> None:
    record = artefacts.read(demo / "split", "split")
    assert not {"forward_day", "definition", "manifests"} & set(record["config"])
    assert sorted(record["files"]) == ["split.parquet"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("criteria: [{name: a, include: XRLK < 2}]", "the nearest known one is 'XRKL'"),
        ("criteria: [{name: a, include: XRKL == 8}]", "XRKL never takes this value"),
        ("criteria: [{name: a}]", "one of them"),
        ("criteria: [{name: a, includ: XRKL < 2}]", "includ"),
        ("endpoints: {kl_progresion: {}}", "the nearest is 'kl_progression'"),
        ("endpoints: {jsw_loss: {}}", "Unknown variable 'MCMJSW'"),
        ("sequences: [SAG]", "the nearest is 'SAG_3D_DESS'"),
        ("scan_columns: nowhere.csv", "no such file"),
    ],
)
def test_a_wrong_definition_is_one_line(
    demo: Path, tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "definition.yaml"
    file.write_text(text + "\n")
    words = ["--config", str(file), "--cohort", str(demo / "cohort"), "--out", str(tmp_path / "d")]
    assert main(["define", *words]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "d").exists()
