"""`spinmark directions`: from embeddings to frozen axes and a page, and what is refused."""

import json
from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark_biomarkers.embeddings import from_frame
from spinmark_biomarkers.phenotypes.directions.config import DirectionsConfig
from spinmark_biomarkers.phenotypes.directions.find import find_directions
from spinmark_biomarkers.phenotypes.directions.matching import match_axes
from spinmark_biomarkers.phenotypes.directions.store import read_directions
from spinmark_data.cohort.reader import Cohort
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import sample_population

TINY = Path(__file__).parents[1] / "packages" / "training" / "tests" / "tiny_cohort.py"


def write_embeddings(folder: Path, ds: xr.Dataset) -> None:
    attrs = {"schema": "spinmark/embeddings", "version": 1, "sequence": "SAG_3D_DESS"}
    ds.assign_attrs(attrs | dict(ds.attrs)).to_zarr(
        folder / "embeddings.zarr", consolidated=False, zarr_format=3
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 16 subjects and embeddings that know two of its symptoms."""
    folder = tmp_path_factory.mktemp("study")
    kept = []
    write = run_path(str(TINY))["write_tiny"]
    artefacts.make(
        folder / "cohort", "cohort", lambda path: kept.append(write(path)), config={"by": "test"}
    )
    cohort, split = Cohort.open(folder / "cohort"), kept[0][1]
    joints = cohort.table("joints")
    rng = np.random.default_rng(0)
    x = joints[["PAIN1", "PAIN2"]].to_numpy() @ rng.normal(size=(2, 6))
    frame = joints[["subject_id", "laterality", "visit", "days"]].join(
        pd.DataFrame(x + 0.2 * rng.normal(size=x.shape)).add_prefix("f")
    )
    fitted = split.frame.loc[split.frame["set"] != "test", "subject_id"]
    ds = from_frame(frame, fitted_subjects=fitted).assign_attrs(
        cohort_hash=cohort.hash, uses=json.dumps(["PAIN3"])
    )
    scans = cohort.scans("SAG_3D_DESS").set_index(["subject_id", "laterality", "visit"])
    keys = list(zip(*(ds[n].values for n in ("subject_id", "laterality", "visit")), strict=True))
    ds = ds.assign_coords(scan_id=("scan", scans.loc[keys, "scan_id"].to_numpy().astype(object)))
    artefacts.make(
        folder / "embeddings",
        "embeddings",
        lambda path: write_embeddings(path, ds),
        config={"by": "test"},
    )
    return folder


def words(study: Path, out: Path, *more: str) -> list[str]:
    given = ["--embeddings", str(study / "embeddings"), "--out", str(out)]
    return ["directions", "--preset", "smoke", *given, *more]


def test_it_finds_describes_and_draws_axes_and_finds_them_whole(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "axes"
    more = ["--cohort", str(study / "cohort"), "--on", "all"]
    assert main(words(study, out, *more)) == 0
    said = capsys.readouterr().out
    assert "2 axes (ica)" in said
    assert "axes are frozen" in said
    assert "directions.html in a browser" in said
    names = {path.name for path in out.iterdir()}
    tables = {"scores.csv", "members.csv", "described.csv", "described.parquet"}
    stored = {"directions.zarr", "directions.json", "known_at.parquet", "run.json"}
    assert names == tables | stored | {"figures", "directions.html"}
    pictures = {path.stem for path in (out / "figures").iterdir()}
    assert pictures == {
        *("scores", "loadings", "stability", "artefacts", "reliability", "described")
    }
    assert artefacts.read(out, "directions")["inputs"].keys() == {"cohort", "embeddings"}
    described = pd.read_csv(out / "described.csv")
    assert set(described["axis"]) == {"axis 0", "axis 1"}
    pains = described[described["variable"].isin(["PAIN1", "PAIN2"])]
    assert pains["q"].min() < 0.01
    # What the encoder learnt from is shown and not tested.
    assert described.loc[described["variable"] == "PAIN3", "p"].isna().all()
    members = pd.read_csv(out / "members.csv")
    assert set(members["place"]) == {"low", "middle", "high"}
    fitted = read_directions(out).dataset
    assert set(members["scan_id"]) <= set(fitted["scan_id"].values[fitted["fitted"].values])
    page = (out / "directions.html").read_text()
    assert "How far to trust them" in page
    assert not set(members["scan_id"]) & set(page.split())
    scores = pd.read_csv(out / "scores.csv")
    assert len(scores) == 32
    assert main(words(study, out, *more)) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["pca", "archetypes", "reliable"])
def test_other_methods_write_the_same_bytes_twice(study: Path, tmp_path: Path, method: str) -> None:
    for name in ("one", "two"):
        assert main(words(study, tmp_path / name, "--method", method)) == 0
    one, two = (json.loads((tmp_path / n / "run.json").read_text()) for n in ("one", "two"))
    assert one["files"] == two["files"]
    assert read_directions(tmp_path / "one").facts["method"] == method
    assert not (tmp_path / "one" / "described.csv").exists()


def test_a_continuum_of_independent_latents_is_read_back(tmp_path: Path) -> None:
    # The phantom without groups: four independent latents of each knee, mixed into sixteen features.
    config = PhantomConfig(subjects=300, structure="continuum", site_confounding=0.0, seed=1)
    population = sample_population(config)
    truth = population.latents
    rng = np.random.default_rng(0)
    x = truth @ rng.normal(size=(4, 16))
    x = x + 0.3 * x.std() * rng.normal(size=x.shape)
    joints = population.joints[["subject_id", "laterality"]].reset_index(drop=True)
    frame = joints.join(pd.DataFrame(x).add_prefix("f"))
    ds = from_frame(frame, fitted_subjects=joints["subject_id"].unique()[:200])
    held = ds["set"].values == "test"
    mean = {}
    for method in ("pca", "ica"):
        settings = DirectionsConfig(
            method=method, bootstrap=2, permutations=19, null_draws=19, restarts=4
        )
        found = find_directions(ds, settings)
        assert found.facts["axes_number"] == 4
        scores = found.dataset["score"].values[held]
        mean[method] = match_axes(truth[held], scores)[1].mean()
    # Independence tells the latents apart; variance leaves them mixed.
    assert mean["ica"] > 0.93
    assert mean["pca"] < mean["ica"] - 0.05


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--axes", "90"], "13 train and val subjects for 90 axes"),
        (["--method", "tsne"], "method"),
        (["--members", "0"], "--members: 0; accepted is at least 1"),
        (["--method", "reliable", "--repeats", "rescans"], "need repeated scans"),
        (["--nuisance", "[coil]"], "nuisance"),
        (["--roles", "[outcome]", "--cohort", "COHORT"], "which no description may see"),
        (["--cohort", "EMBEDDINGS"], "spinmark/embeddings"),
        (["--embeddings", "COHORT"], "spinmark/cohort"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    told: str,
) -> None:
    places = {"COHORT": str(study / "cohort"), "EMBEDDINGS": str(study / "embeddings")}
    argv = words(study, tmp_path / "out", *(places.get(word, word) for word in more))
    capsys.readouterr()
    assert main(argv) in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "resamples" not in line]
    assert len(lines) == 1, lines
    assert told in lines[0]
    assert not (tmp_path / "out").exists()
