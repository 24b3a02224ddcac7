"""`spinmark describe` on the small demo: what it writes, what it leaves out, what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark.__main__ import main
from spinmark.describing_material import gather
from spinmark.report.description_page import in_words
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_biomarkers.phenotypes.description.config import DescribeConfig
from spinmark_data.cohort.reader import Cohort

pytestmark = pytest.mark.multiproc


def words(demo: Path, out: Path, *more: str, cohort: Path | None = None) -> list[str]:
    return [
        *("describe", "--preset", "smoke", "--cohort", str(cohort or demo / "cohort")),
        *("--embeddings", str(demo / "embeddings" / "distilled")),
        *("--phenotypes", str(demo / "phenotypes"), "--out", str(out), *more),
    ]


@pytest.fixture(scope="module")
def measured(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's cohort with the measures of the phantom's own label maps."""
    out = tmp_path_factory.mktemp("measured") / "cohort"
    shutil.copytree(demo / "cohort", out)
    maps = demo / "phantom" / "truth" / "labels"
    given = ["measure", str(out), "--maps", str(maps), "--label_maps.codes", "phantom"]
    assert main([*given, "--workers", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def described(demo: Path, measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("described")
    quality = base / "quality"
    assert main(["quality", str(measured), "--out", str(quality)]) == 0
    given = words(demo, base / "out", "--quality", str(quality), cohort=measured)
    assert main(given) == 0
    return base / "out"


def test_it_writes_tables_figures_and_a_page(described: Path) -> None:
    names = {path.name for path in described.iterdir()}
    tables = {"enrichment.parquet", "enrichment.csv", "overall.csv", "panel.csv", "members.csv"}
    pages = {"description.html", "description.json", "surrogate.json", "run.json", "figures"}
    assert names == tables | pages | {"profiles.csv"}
    page = (described / "description.html").read_text()
    assert page.count("<section") >= 6
    assert "Phenotype 0" in page
    assert "http" not in page.split("</style>")[1].replace("http-equiv", "")
    for picture in (described / "figures").iterdir():
        assert picture.read_bytes()[:4] == b"\x89PNG"
    summary = json.loads((described / "description.json").read_text())
    assert summary["adjusted_for"] == ["AGE", "SEX"]
    assert sum(summary["sizes"].values()) == summary["joints"]
    variables = {row["variable"] for row in summary["artefacts"]}
    assert {"site", "scanner", "laterality", "visit", "sharpness", "spacing z, mm"} <= variables


def test_the_page_holds_no_identifier(demo: Path, described: Path) -> None:
    page = (described / "description.html").read_text()
    subjects = Cohort.open(demo / "cohort").table("subjects")["subject_id"]
    assert not [one for one in subjects if str(one) in page]


def test_what_the_encoder_learnt_from_is_left_out_or_shown_without_a_test(
    demo: Path, described: Path, measured: Path, tmp_path: Path
) -> None:
    used = set(json.loads(open_embeddings(demo / "embeddings" / "distilled").attrs["uses"]))
    found = pd.read_parquet(described / "enrichment.parquet")
    assert used
    assert not used & set(found["variable"])
    assert {"structure", "morphometric"} <= set(found["role"])
    assert "outcome" not in set(found["role"])
    out = tmp_path / "out"
    assert main(words(demo, out, "--include_used", "true", "--pictures", "false")) == 0
    shown = pd.read_parquet(out / "enrichment.parquet")
    rows = shown[shown["used"]]
    assert used >= set(rows["variable"])
    assert len(rows)
    assert rows["p"].isna().all()
    assert set(json.loads((out / "description.json").read_text())["learnt_from"]) <= used


def test_each_joint_has_the_cells_of_its_own_row(demo: Path) -> None:
    config = DescribeConfig(on="all", variables=["XRKL", "AGE"])
    folders = (demo / "cohort", demo / "embeddings" / "distilled", demo / "phenotypes")
    material = gather(*folders, None, config)
    joints = Cohort.open(demo / "cohort").table("joints").set_index(["joint_id", "visit"])["XRKL"]
    keys = pd.MultiIndex.from_frame(material.scans[["joint_id", "visit"]])
    np.testing.assert_array_equal(material.values["XRKL"], joints.reindex(keys).to_numpy(float))
    assert material.scans["joint_id"].is_unique
    assert material.values.index.tolist() == material.scans["scan_id"].tolist()
    assert material.dictionary.set_index("variable").loc["AGE", "used"]


def test_members_are_of_fitted_subjects(demo: Path, described: Path) -> None:
    chosen = pd.read_csv(described / "members.csv")
    ds = open_embeddings(demo / "embeddings" / "distilled")
    sets = dict(zip(ds["scan_id"].values, ds["set"].values, strict=True))
    assert {sets[scan] for scan in chosen["scan_id"]} <= {"train", "val"}


def test_the_same_call_gives_the_same_bytes(
    demo: Path, described: Path, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = described.parent / "again"
    given = ["--quality", str(described.parent / "quality")]
    assert main(words(demo, again, *given, cohort=measured)) == 0
    for path in sorted(described.rglob("*")):
        if path.is_file() and path.name != "run.json":
            other = again / path.relative_to(described)
            assert path.read_bytes() == other.read_bytes(), path.name
    assert main(words(demo, described, *given, cohort=measured)) == 0
    assert "whole already" in capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    capsys.readouterr()
    assert main(argv) in (1, 2)
    told = [line for line in capsys.readouterr().err.splitlines() if "describe: tables" not in line]
    assert len(told) == 1, told
    return told[0]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--variables", "[KRS12]"], "KRS12 has the role outcome"),
        (
            ["--variables", "[XRKLL]"],
            "no 'XRKLL' in the dictionary; accepted are names such as XRKL",
        ),
        (["--adjust", "[KRS12]"], "--adjust: KRS12 has the role outcome"),
        (["--roles", "[outcome]"], "roles: 'outcome' cannot describe a phenotype"),
        (["--variables", "[AGE]"], "testing them would be invalid"),
        (["--permutations", "3"], "permutations: 3; accepted is at least 99"),
    ],
)
def test_what_may_not_describe_is_refused_in_one_line(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    assert told in refused(capsys, words(demo, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


def test_artefacts_that_do_not_belong_together_are_refused(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(change: object) -> Path:
        to = tmp_path / f"embeddings-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(demo / "embeddings" / "distilled", to)
        shutil.rmtree(to / "embeddings.zarr")
        ds = change(open_embeddings(demo / "embeddings" / "distilled"))  # type: ignore[operator]
        ds.to_zarr(to / "embeddings.zarr", consolidated=False)
        return to

    def told(folder: Path) -> str:
        return refused(capsys, words(demo, tmp_path / "out", "--embeddings", str(folder)))

    fewer = changed(lambda ds: ds.isel(scan=slice(3, None)))
    assert "of their" in told(fewer)
    other = changed(lambda ds: ds.assign_attrs(cohort_hash="beef"))
    assert "of cohort beef, but --cohort is" in told(other)

    def strangers(ds):  # type: ignore[no-untyped-def]
        return ds.assign_coords(
            subject_id=("scan", np.array([f"X{one}" for one in ds["subject_id"].values], object))
        )

    assert "holds none of the" in told(changed(strangers))
    # The same scans by another encoder: their borders and prototypes would be of something else.
    assert "are not those that" in told(demo / "embeddings" / "ssl")


def test_a_difference_in_words() -> None:
    row = {
        **{"label": "Grade", "level": "", "effect_name": "standardised difference", "note": ""},
        **{"effect": -0.5, "low": -0.8, "high": -0.2, "members": 1.25, "others": 2.0, "q": 0.0004},
        **{"adjusted_effect": -0.4, "adjusted_low": -0.7, "adjusted_high": -0.1},
    }
    assert in_words(row) == (
        "Grade: lower by 0.50 (0.20 to 0.80) SD; mean 1.25 in members, 2 in others; q below 0.001; "
        "adjusted -0.40 (-0.70 to -0.10) SD."
    )
    odds = row | {"effect_name": "odds ratio", "level": "Female", "members": 0.5, "others": 0.25}
    odds |= {"effect": 3.0, "low": 1.5, "high": 6.0, "adjusted_effect": float("nan"), "q": 0.03}
    assert in_words(odds) == (
        "Grade (Female): odds ratio 3.00 (1.50 to 6.00); 50 % of members, 25 % of others; q 0.030."
    )
