"""`spinmark probe` on the small demo: what it writes, and what it refuses in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from spinmark import probing
from spinmark.__main__ import main
from spinmark.commands.probe import parse
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import read_split
from spinmark_models.config import ProjectionConfig
from spinmark_training.transfer.alignment import Alignment, save_alignment

pytestmark = pytest.mark.multiproc
TARGETS = "[bone, cartilage, XRKL, AGE, SEX, SITE, replacement]"


def words(demo: Path, out: Path, *more: str) -> list[str]:
    return [
        *("probe", "--preset", "smoke", "--truth", str(demo / "phantom" / "truth")),
        *("--cohort", str(demo / "cohort"), "--split", str(demo / "split")),
        *("--embeddings.ssl", str(demo / "embeddings" / "ssl")),
        *("--out", str(out), *more),
    ]


def altered(folder: Path, to: Path, change: object) -> Path:
    """Copy an embeddings artefact with its dataset changed."""
    shutil.copytree(folder, to)
    found = open_embeddings(folder)
    shutil.rmtree(to / "embeddings.zarr")
    change(found).to_zarr(to / "embeddings.zarr", consolidated=False)  # type: ignore[operator]
    record = json.loads((to / "run.json").read_text())
    (to / "run.json").write_text(json.dumps(record | {"hash": to.name}))
    return to


@pytest.fixture(scope="module")
def parted(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of one arm whose features have parts."""
    base = tmp_path_factory.mktemp("parted")

    def with_parts(noise: float) -> object:
        def change(ds: xr.Dataset) -> xr.Dataset:
            width = ds.sizes["feature"]
            parts = np.where(np.arange(width) < width // 2, "table", "image").astype(object)
            jitter = np.random.default_rng(0).normal(size=ds["embedding"].shape) * noise
            return ds.assign(embedding=ds["embedding"] + jitter.astype(np.float32)).assign_coords(
                part=("feature", parts)
            )

        return change

    source = demo / "embeddings" / "distilled"
    return [altered(source, base / f"run{k}", with_parts(0.01 * k)) for k in range(2)]


@pytest.fixture(scope="module")
def probed(demo: Path, parted: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probe") / "probe"
    given = ["--embeddings.distilled", f"[{parted[0]}, {parted[1]}]", "--targets", TARGETS]
    assert main(words(demo, out, *given)) == 0
    return out


def test_names_of_arms_may_have_dots() -> None:
    given = ["--cohort", "c", "--split", "s", "--out", "o.p"]
    given += ["--embeddings.coupling-0.33", "[a.b, c]", "--embeddings.coupling-0", "d.e"]
    args = parse([*given, "--runs.v1.2=f.g", "--against", "[coupling-0.33]"])
    assert args.embeddings == {
        "coupling-0.33": [Path("a.b"), Path("c")],
        "coupling-0": Path("d.e"),
    }
    assert (args.runs, args.finetuned, args.out) == ({"v1.2": Path("f.g")}, {}, Path("o.p"))
    assert args.against == ["coupling-0.33"]


def test_what_an_arm_learnt_from_is_marked(probed: Path) -> None:
    rows = pd.read_parquet(probed / "probe.parquet")
    marked = rows[rows["learnt_from"]]
    assert set(marked["arm"].str.split("[").str[0]) == {"distilled"}
    assert set(marked["target"]) == {"AGE", "SEX"}


def test_it_writes_two_tables_a_figure_and_a_summary(probed: Path) -> None:
    names = {path.name for path in probed.iterdir()}
    tables = {"probe.parquet", "probe.csv", "differences.parquet", "differences.csv"}
    assert names == tables | {"probe.png", "summary.json", "run.json"}
    scores = pd.read_parquet(probed / "probe.parquet")
    arms = {"ssl", "distilled", "distilled[table]", "distilled[image]"}
    assert set(scores["arm"]) == arms
    assert set(scores["target"]) == {
        *("bone", "cartilage", "XRKL", "AGE", "SEX", "SITE", "replacement", "mean", "site")
    }
    whole = scores[scores["run"] == "all"]
    assert set(whole.loc[whole["arm"] == "distilled", "n_runs"].dropna()) == {2}
    assert set(scores.loc[scores["arm"] == "distilled", "run"]) == {"all", "0", "1"}
    left_out = scores[scores["target"] == "replacement"]
    assert left_out["reason"].str.contains("events").all()
    known = whole[(whole["reason"] == "") & (whole["metric"] == "auc")]
    assert known["value"].between(0, 1).all()
    differences = pd.read_parquet(probed / "differences.parquet")
    pairs = set(zip(differences["arm"], differences["against"], strict=True))
    assert ("ssl", "distilled") in pairs
    assert len(pairs) == 6


def test_the_summary_repeats_the_tables(probed: Path) -> None:
    page = json.loads((probed / "summary.json").read_text())
    scores = pd.read_parquet(probed / "probe.parquet")
    row = scores[
        (scores["arm"] == "ssl")
        & (scores["target"] == "mean")
        & (scores["role"] == "latent")
        & (scores["metric"] == "r2")
        & (scores["probe"] == "linear")
        & (scores["labels"] == "20")
    ]
    assert page["mean_r2"]["ssl"]["20"]["value"] == pytest.approx(row["value"].iloc[0])
    assert page["role"] == "latent"
    assert page["demographics"] == 3
    assert "ssl / distilled" in page["site_leak_ratio"]
    assert set(page["mean_r2_difference"]["ssl - distilled"]) == {"10", "20", "all"}
    # The same command finds it whole.
    assert page["site_chance"] == pytest.approx(0.5)


def test_targets_come_from_tables_truth_and_outcomes(demo: Path) -> None:
    cohort, split = Cohort.open(demo / "cohort"), read_split(demo / "split")
    scans, _ = probing.read_arms({"ssl": demo / "embeddings" / "ssl"}, cohort, split, "test")
    found = {target.name: target for target in probing.variables(cohort, scans)}
    assert found["XRKL"].kind == "number"
    assert found["SEX"].kind == "binary"
    # A letter stands for its place among the letters.
    assert set(np.unique(found["SITE"].values)) == {0.0, 1.0}
    joints = cohort.table("joints").set_index(["joint_id", "visit"])["XRKL"]
    keys = pd.MultiIndex.from_frame(scans[["joint_id", "visit"]])
    np.testing.assert_array_equal(found["XRKL"].values, joints.reindex(keys).to_numpy(float))
    (event,) = probing.events(cohort.table("outcomes"), scans)
    outcomes = cohort.table("outcomes").set_index("joint_id")
    for row, time, seen in zip(
        scans.to_dict("records"),
        event.values,
        event.event,
        strict=True,  # type: ignore[arg-type]
    ):
        if row["joint_id"] not in outcomes.index:
            assert np.isnan(time)
            continue
        of = outcomes.loc[row["joint_id"]]
        middle = (of["lower"] + of["upper"]) / 2 if of["cause"] == "event" else of["lower"]
        if middle > row["days"]:
            assert time == pytest.approx(middle - row["days"])
            assert seen == (of["cause"] == "event")
        else:
            assert np.isnan(time)


@pytest.mark.parametrize("heads", [True, False])
def test_retrieval_of_a_distilled_run(demo: Path, tmp_path: Path, heads: bool) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo / "runs" / "distil", run)
    shutil.rmtree(run / "alignment", ignore_errors=True)
    latents = len(json.loads((run / "teacher" / "teacher.json").read_text())["latent_mean"])
    features = open_embeddings(demo / "embeddings" / "distilled").sizes["feature"]
    if heads:
        torch.manual_seed(0)
        projection = ProjectionConfig(hidden=8, out=4)
        save_alignment(run / "alignment", Alignment(features, latents, projection).eval())
    given = ["--embeddings.distilled", str(demo / "embeddings" / "distilled")]
    given += ["--runs.distilled", str(run), "--targets", "[bone, XRKL]", "--sites", "false"]
    assert main(words(demo, tmp_path / "out", *given)) == 0
    scores = pd.read_parquet(tmp_path / "out" / "probe.parquet")
    found = scores[(scores["target"] == "retrieval") & (scores["scheme"] == "held-out")]
    assert set(found["probe"]) == {"alignment" if heads else "ridge map"}
    assert len(found) == 10
    recall = found[found["metric"] == "table_to_image_recall_at_5"].iloc[0]
    assert recall["chance"] == pytest.approx(5 / recall["n"])
    assert 0 <= recall["value"] <= 1


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    capsys.readouterr()
    assert main(argv) in (1, 2)
    told = [line for line in capsys.readouterr().err.splitlines() if "probe: arms" not in line]
    assert len(told) == 1, told
    return told[0]


def test_what_cannot_be_compared_is_refused(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = demo / "embeddings" / "distilled", tmp_path / "out"

    def refuses(name: str, change: object) -> str:
        made = altered(source, tmp_path / name, change)
        return refused(capsys, words(demo, out, "--embeddings.other", str(made)))

    fewer = refuses("fewer", lambda ds: ds.isel(scan=np.flatnonzero(ds["set"] != "test")[1:]))
    assert "scans of --embeddings.ssl" in fewer
    assert "accepted are arms with the same scans" in fewer
    cohort = refuses("cohort", lambda ds: ds.assign_attrs(cohort_hash="beef"))
    assert "is of cohort beef, but --cohort is" in cohort
    split = refuses("split", lambda ds: ds.assign_attrs(split_hash="beef"))
    assert "is of split beef, but --split is" in split
    everyone = np.full(open_embeddings(source).sizes["scan"], "train", dtype=object)
    seen = refuses("seen", lambda ds: ds.assign_coords(set=("scan", everyone)))
    assert "was fitted on" in seen
    assert "subjects of set test" in seen
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--targets", "[NOSUCH]"], "--targets: no 'NOSUCH'; accepted are"),
        (["--labels", "[3]"], "accepted are different numbers of at least 10"),
        (["--labels", "[4000]"], "4000 labelled ones are needed"),
        (["--against", "[nobody]", "--targets", "[bone]"], "--against: no arm 'nobody'"),
        (["--bootstrap", "5"], "accepted are at least 100 samples"),
        (["--runs.nobody", "RUN", "--targets", "[bone]"], "--runs.nobody: no such arm"),
        (["--embeddings.b", "[]"], "accepted are different folders"),
    ],
)
def test_settings_are_refused_in_one_line(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    more = [str(demo / "runs" / "distil") if word == "RUN" else word for word in more]
    assert told in refused(capsys, words(demo, tmp_path / "out", *more))


def test_a_constant_target_asked_for_by_name_is_refused(demo: Path) -> None:
    flat = probing.Target(name="FLAT", role="symptom", kind="number", values=np.ones(5))
    with pytest.raises(probing.InputError, match="'FLAT' is constant"):
        probing.chosen([flat], ["FLAT"])
    assert probing.chosen([flat], []) == []
