"""In which order the demo's stages run."""

from pathlib import Path

import pytest

from spinmark.commands.demo import Demo, in_order, needs, stages
from spinmark.errors import InputError


def test_each_stage_waits_for_what_it_reads_and_no_more(tmp_path: Path) -> None:
    before = needs(stages(Demo(out=tmp_path)))
    assert before["phantom"] == set()
    assert before["ingest"] == {"phantom"}
    assert before["distil"] == {"ingest", "split", "pretrain"}
    assert before["embed_voxel_pca"] == {"ingest", "split"}
    assert before["discover"] == {"embed_distilled", "ingest"}
    assert before["evaluate"] >= {"phantom", "prognose", "discover", "embed_shuffled", "split"}
    assert before["report"] >= {"evaluate", "shuffled", "ssl", "pretrain", "distil"}
    places = {name: i for i, name in enumerate(before)}
    assert all(places[n] < places[name] for name, found in before.items() for n in found)


def test_a_stage_that_fails_ends_the_demo_and_what_runs_beside_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = {
        "bad": ["split", "--cohort", f"{tmp_path}/nowhere", "--out", f"{tmp_path}/split"],
        "long": ["phantom", "--subjects", "2000", "--workers", "1", "--out", f"{tmp_path}/p"],
        "after": ["ingest", "--release", f"{tmp_path}/split/x", "--out", f"{tmp_path}/c"],
    }
    with pytest.raises(InputError, match="stage bad ended with status"):
        list(in_order(plan, 2))
    said = capfd.readouterr().out
    assert "[1/3] spinmark split" in said
    assert f"{tmp_path}/nowhere" in said
    assert "[3/3]" not in said
    assert not (tmp_path / "p").exists()
