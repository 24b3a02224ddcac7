"""`spinmark trajectories`: from embeddings to tables, figures and a page; the same twice; what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark_biomarkers.embeddings import from_frame

VISITS = {"V00": 0.0, "V03": 730.0, "V06": 1461.0}


def embed(folder: Path, *, people: int = 24, **changes: Any) -> Path:
    """Embeddings of both knees of some people at three visits; all move along the first feature."""
    rng = np.random.default_rng(0)
    rows = []
    for person in range(people):
        for side in "RL":
            start, speed = rng.normal(size=4), 0.3 + 0.1 * rng.normal()
            for visit, days in VISITS.items():
                place = start + np.eye(4)[0] * speed * days / 365.25 + 0.1 * rng.normal(size=4)
                names = {"subject_id": f"S{person:02d}", "laterality": side, "visit": visit}
                rows.append({**names, "days": days, **{f"f{i}": v for i, v in enumerate(place)}})
    frame = pd.DataFrame(rows).assign(**changes)
    ds = from_frame(
        frame,
        fitted_subjects=[f"S{i:02d}" for i in range(18)],
        features=[f"f{i}" for i in range(4)],
    )

    def write(out: Path) -> None:
        ds.to_zarr(out / "embeddings.zarr", consolidated=False)

    artefacts.make(folder, "embeddings", write, config={"made": "by a test"})
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    embed(folder / "e")
    assert main(words(folder / "e", folder / "t")) == 0
    return folder


def words(embeddings: Path, out: Path, *more: str) -> list[str]:
    given = ["--preset", "smoke", "--embeddings", str(embeddings), "--out", str(out)]
    return ["trajectories", *given, *more]


def test_it_writes_tables_figures_and_a_page(study: Path) -> None:
    names = {path.name for path in (study / "t").iterdir()}
    tables = {f"{n}.parquet" for n in ("paths", "transitions", "speeds", "left_out", "known_at")}
    drawn = {"paths.png", "groups.png", "speeds.png", "trajectories.html"}
    assert names == {"run.json", "trajectories.json"} | tables | drawn
    assert artefacts.read(study / "t", "trajectories")["inputs"].keys() == {"embeddings"}
    facts = json.loads((study / "t" / "trajectories.json").read_text())
    assert facts["joints"] == 48
    assert facts["verdict"] in ("groups", "continuum")
    # All move along one feature at .3 a year.
    assert facts["speed"]["population"]["low"] < 0.3 < facts["speed"]["population"]["high"]
    known = pd.read_parquet(study / "t" / "known_at.parquet")
    assert set(known["known_at"]) == {1461.0}
    page = (study / "t" / "trajectories.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "S00" not in page


def test_the_same_twice_and_nothing_to_do_the_third_time(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(study / "e", tmp_path / "t")) == 0
    hashes = [artefacts.read(where / "t", "trajectories")["hash"] for where in (study, tmp_path)]
    assert hashes[0] == hashes[1]
    capsys.readouterr()
    assert main(words(study / "e", tmp_path / "t")) == 0
    said = capsys.readouterr().out
    assert "nothing to do" in said
    assert "48 joints" in said
    assert "trajectories.html in a browser" in said


@pytest.mark.parametrize(
    ("changes", "options", "match"),
    [
        ({"days": 3.0}, [], "none of 48 joints has scans on two days"),
        ({"days": np.nan}, [], "days: not a number at 144 scans"),
        ({}, ["--direction", "upwards"], "direction: 'upwards'; accepted are change, component:N"),
        ({}, ["--direction", "phenotypes:0-1"], "phenotypes:0-1 without phenotypes"),
        ({}, ["--k", "30"], "18 train and val subjects with two visits for up to 30 groups"),
        ({}, ["--weights", "[0, 0, 0]"], "weights: [0.0, 0.0, 0.0]"),
    ],
)
def test_bad_input_is_told_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    options: list[str],
    match: str,
) -> None:
    embed(tmp_path / "e", **changes)
    capsys.readouterr()
    assert main(words(tmp_path / "e", tmp_path / "t", *options)) == 1
    told = [
        line for line in capsys.readouterr().err.splitlines() if "components and draws" not in line
    ]
    assert len(told) == 1
    assert match in told[0]
    assert not (tmp_path / "t").exists()


def test_another_artefact_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(study / "t", study / "other")) == 1
    assert "is spinmark/trajectories, but spinmark/embeddings is needed" in capsys.readouterr().err
