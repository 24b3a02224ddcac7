"""The whole way, at the size of the smoke presets."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_biomarkers.phenotypes.store import read_phenotypes
from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import read_split

LATENTS = {"bone", "cartilage", "inflammation", "hypertrophy"}
ARMS = {"distilled", "ssl", "untrained", "voxel_pca", "table", "shuffled"}

pytestmark = pytest.mark.multiproc


@pytest.fixture(scope="module")
def metrics(demo: Path) -> dict[str, Any]:
    return dict(json.loads((demo / "metrics.json").read_text()))


def is_figure(item: Any) -> bool:
    return set(item) == {"value", "low", "high", "n"}


def test_metrics_have_the_shape_that_is_promised(metrics: dict[str, Any]) -> None:
    assert set(metrics["probe_r2"]) >= ARMS
    for arm in ARMS:
        assert set(metrics["probe_r2"][arm]) == LATENTS
        assert all(is_figure(item) for item in metrics["probe_r2"][arm].values())
    assert is_figure(metrics["phenotypes"]["ari"])
    assert is_figure(metrics["phenotypes"]["ari_ceiling"])
    models = {"clinical", "kl", "embedding", "clinical_kl", "clinical_kl_embedding", "truth"}
    assert set(metrics["prognosis"]["c_index"]) >= models
    assert metrics["prognosis"]["n_events"] > 0
    for cost in metrics["stages"].values():
        assert cost["seconds"] > 0
        assert 10 < cost["peak_mb"] < 8192


def test_the_table_knows_the_latents_and_noise_does_not(metrics: dict[str, Any]) -> None:
    # Eight test subjects: only what is large can be asserted.
    means = {arm: item["value"] for arm, item in metrics["probe_r2_mean"].items()}
    assert means["table"] > means["untrained"]
    assert all(math.isfinite(value) for value in means.values())


def test_no_subject_is_on_two_sides_and_every_stage_agrees(demo: Path) -> None:
    split = read_split(demo / "split").frame
    assert split["subject_id"].is_unique
    sets = split.set_index("subject_id")["set"]
    for name in ("distilled", "ssl", "voxel_pca"):
        vectors = open_embeddings(demo / "embeddings" / name)
        expected = sets.loc[vectors["subject_id"].to_numpy().astype(str)].to_numpy()
        assert (vectors["set"].to_numpy().astype(str) == expected).all()
    found = read_phenotypes(demo / "phenotypes").to_dataset()
    fitted = found["fitted"].to_numpy()
    of = sets.loc[found["subject_id"].to_numpy().astype(str)].to_numpy()
    assert fitted.any()
    assert not (of[fitted] == "test").any()


def test_every_artefact_says_what_it_was_made_from(demo: Path) -> None:
    cohort = artefacts.content_hash(demo / "cohort")
    for path, kind in (
        ("split", "split"),
        ("runs/distil", "run"),
        ("embeddings/distilled", "embeddings"),
        ("prognosis", "prognosis"),
        ("evaluation", "evaluation"),
    ):
        assert artefacts.read(demo / path, kind)["inputs"]["cohort"] == cohort
    assert not list(demo.rglob("*.partial"))
    assert not list(demo.rglob(".*.lock"))


def test_the_release_comes_back_equal_to_its_truth(demo: Path) -> None:
    cohort = Cohort.open(demo / "cohort")
    truth = pd.read_parquet(demo / "phantom" / "truth" / "scans.parquet")
    scans = cohort.scans("SAG_3D_DESS")
    keys = ["subject_id", "laterality", "visit"]
    both = scans.merge(truth, on=keys, suffixes=("", "_true"), validate="one_to_one")
    assert len(both) == len(truth) == len(scans)
    np.testing.assert_array_equal(both["days"], both["days_true"])
    assert (both["site"].astype(str) == both["site_true"].astype(str)).all()
    assert (both["mirrored"] == (both["laterality"] == "L")).all()


def test_nothing_identifying_is_written_after_the_release(demo: Path) -> None:
    import pydicom

    source = next(path for path in (demo / "phantom" / "release").rglob("001") if path.is_file())
    header = pydicom.dcmread(source, stop_before_pixels=True)
    # The number of a participant is the cohort's own key, and stands in every scan_id.
    words = {*re.split(r"[\^\s]+", str(header.PatientName)), str(header.StudyDate)}
    parts = [word.encode() for word in words - {str(header.PatientID)} if len(word) > 3]
    assert len(parts) >= 3
    for folder in ("cohort", "embeddings", "report.html"):
        path = demo / folder
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        assert files
        for file in files:
            content = file.read_bytes()
            assert not any(part in content for part in parts), file


class Links(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("src", "href") and value is not None:
                self.loaded.append(value)


def test_the_report_opens_offline_and_says_method_and_caveat(demo: Path) -> None:
    page = (demo / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert all(link.startswith(("data:", "#")) for link in links.loaded)
    pictures = page.count("<figure>")
    assert pictures >= 10
    assert page.count("<b>Method.</b>") == page.count("<b>Caveat.</b>") == pictures
    for heading in ("Cohort", "Against the truth", "Training", "Phenotypes", "Ten-year prognosis"):
        assert f"<h2>{heading}</h2>" in page


def test_a_stage_found_whole_is_not_made_again(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (demo / "split" / "run.json").stat().st_mtime_ns
    words = ["--cohort", f"{demo}/cohort", "--seed", "3", "--out", f"{demo}/split"]
    assert main(["split", "--preset", "smoke", *words]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (demo / "split" / "run.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics_twice(demo: Path, tmp_path: Path) -> None:
    words = ["--stage_preset", "smoke", "--seed", "3", "--out", str(tmp_path / "again")]
    assert main(["demo", *words]) == 0
    first, second = (
        json.loads((path / "metrics.json").read_text()) for path in (demo, tmp_path / "again")
    )
    del first["stages"], second["stages"]
    assert first == second
