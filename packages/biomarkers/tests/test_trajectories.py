"""Trajectories end to end: verdicts, groups, what is frozen, what is drawn, what is refused."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.trajectories import group_arrows, path_map, speed_intervals
from spinmark_biomarkers.phenotypes.trajectories.config import TrajectoriesConfig
from spinmark_biomarkers.phenotypes.trajectories.find import find_trajectories
from spinmark_biomarkers.phenotypes.trajectories.store import (
    read_trajectories,
    write_trajectories,
)

from .trajectory_cases import cohort

FAST = {"components": 3, "bootstrap": 3, "null_draws": 19, "k_max": 3}


@pytest.fixture(scope="module")
def flow():
    ds, _ = cohort(people=40, moving="flow")
    return ds, find_trajectories(ds, TrajectoriesConfig(**FAST))


def test_a_flow_is_a_continuum_and_hangs_together(flow):
    _, found = flow
    facts = found.summary()
    assert facts["verdict"] == "continuum"
    assert facts["p"]["movement"] <= 0.05
    assert len(facts["reasons"]) == 4
    assert facts["joints"] == len(found.speeds) == found.paths["joint_id"].nunique()
    assert facts["transitions"] == len(found.transitions) == facts["joints"] + facts["corners"]
    assert sum(row["n"] for row in facts["groups"]) == facts["transitions"]
    # The last transition of a joint ends at its last visit, which is when the trajectory is known.
    ends = found.transitions.groupby("joint_id")[["start_years", "years"]].last().sum(axis=1)
    known = found.speeds.set_index("joint_id")["known_at"] / 365.25
    assert ends.to_numpy() == pytest.approx(known.loc[ends.index].to_numpy())
    steps = sum(row["n"] for row in facts["steps"])
    assert steps == facts["corners"]


def test_planted_directions_are_groups_and_noise_is_none():
    ds, velocity = cohort(people=100, moving="groups", seed=1)
    found = find_trajectories(ds, TrajectoriesConfig(**FAST))
    facts = found.summary()
    assert facts["verdict"] == "groups"
    names = [f"S{i // 2:03d}:{'RL'[i % 2]}" for i in range(len(velocity))]
    truth = pd.Series(velocity.argmax(axis=1), index=names)
    table = found.transitions.drop_duplicates("joint_id").set_index("joint_id")
    crossed = pd.crosstab(truth.loc[table.index], table["group"])
    # Every group is of one planted direction, for the most part.
    assert crossed.max(axis=0).sum() / len(table) > 0.8
    still = find_trajectories(
        cohort(people=40, moving="none", seed=2)[0], TrajectoriesConfig(**FAST)
    )
    assert still.summary()["verdict"] == "none"


def test_writing_and_reading_are_inverse_and_a_changed_group_is_told(flow, tmp_path):
    _, found = flow
    write_trajectories(tmp_path / "t", found)
    again = read_trajectories(tmp_path / "t")
    assert again.facts == json.loads(json.dumps(found.facts))
    pd.testing.assert_frame_equal(again.speeds, found.speeds, check_dtype=False)
    known = pd.read_parquet(tmp_path / "t" / "known_at.parquet")
    assert list(known.columns) == ["joint_id", "known_at"]
    speeds = pd.read_parquet(tmp_path / "t" / "speeds.parquet")
    for column, value in (("path_group", 99), ("known_at", 0.0), ("speed", 1.5)):
        changed = speeds.copy()
        changed.loc[0, column] = value
        changed.to_parquet(tmp_path / "t" / "speeds.parquet", index=False)
        with pytest.raises(InputError, match="frozen as"):
            read_trajectories(tmp_path / "t")
    (tmp_path / "t" / "paths.parquet").unlink()
    with pytest.raises(InputError, match=r"no paths\.parquet"):
        read_trajectories(tmp_path / "t")


def test_rows_in_another_order_give_the_same_hash(flow):
    ds, found = flow
    order = np.random.default_rng(0).permutation(ds.sizes["scan"])
    other = find_trajectories(ds.isel(scan=order), TrajectoriesConfig(**FAST))
    assert other.facts["frozen_hash"] == found.facts["frozen_hash"]
    assert other.facts["p"] == found.facts["p"]


def test_held_out_people_move_nothing_but_the_speed_of_all(flow):
    ds, found = flow
    moved = ds.copy(deep=True)
    held = ds["set"].values == "test"
    moved["embedding"].values[held] *= 3
    other = find_trajectories(moved, TrajectoriesConfig(**FAST))
    for key in ("p", "strength", "motion", "measure", "k"):
        assert other.facts[key] == found.facts[key]
    mine = [t.facts["groups"][0]["start"] for t in (found, other)]
    assert mine[0] == mine[1]


def test_phenotypes_give_a_direction_and_speeds_by_phenotype(flow):
    ds, _ = flow
    label = (ds["embedding"].values[:, 0] > ds["embedding"].values[:, 0].mean()).astype(int)
    phenotypes = ds.drop_vars("embedding").assign(label=("scan", label))
    config = TrajectoriesConfig(**FAST | {"direction": "phenotypes:0-1"})
    facts = find_trajectories(ds, config, phenotypes=phenotypes).summary()
    rows = facts["speed_by_phenotype"]
    assert [row["phenotype"] for row in rows] == [0, 1]
    assert sum(row["n"] for row in rows) == facts["joints"]
    # All move along the first feature, which the two halves differ in.
    assert all(row["low"] > 0 for row in rows)


def test_speeds_by_phenotype_are_not_drawn_together_by_noise():
    # Two visits and noise that hides all: predicted speeds are all but equal, true ones are not.
    ds, velocity = cohort(people=150, visits=2, moving="groups", noise=0.6, seed=4)
    names = [f"S{i // 2:03d}:{'RL'[i % 2]}" for i in range(len(velocity))]
    label = pd.Series((velocity[:, 0] > 0.25).astype(int), index=names)
    label = label.loc[ds["joint_id"].values.astype(str)].to_numpy()
    phenotypes = ds.drop_vars("embedding").assign(label=("scan", label))
    config = TrajectoriesConfig(**FAST | {"components": 6, "direction": "component:1", "k": 2})
    found = find_trajectories(ds, config, phenotypes=phenotypes)
    days = ds.to_dataframe().reset_index().groupby("joint_id")["days"].agg(["min", "max"])
    days = days.loc[found.speeds["joint_id"]]
    years = (days["max"] - days["min"]).to_numpy() / 365.25
    quotient = found.speeds["quotient"].to_numpy()
    for row in found.summary()["speed_by_phenotype"]:
        mine = (found.speeds["phenotype"] == row["phenotype"]).to_numpy()
        # Peer: the slope of a weighted line through the origin, one joint a person or not.
        line = np.polynomial.Polynomial.fit(years[mine], quotient[mine], 0, w=years[mine])
        assert row["value"] == pytest.approx(line.convert().coef[0])
        spread = quotient[mine].std() / np.sqrt(mine.sum())
        assert 0.6 < (row["high"] - row["low"]) / (2 * 1.96 * spread) < 1.8


def test_hdbscan_is_another_way_to_group(flow):
    facts = find_trajectories(flow[0], TrajectoriesConfig(**FAST | {"method": "hdbscan"})).summary()
    assert facts["k_chosen"] == "found by HDBSCAN"
    assert facts["k"] == len(facts["groups"])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"k": 1}, "k: 1; accepted is null or a whole number of at least 2"),
        ({"k_max": 1}, "k_max: 1; accepted is at least 2"),
        ({"null_draws": 5}, "null_draws: 5; accepted is at least 19"),
        ({"direction": "sideways"}, "direction: 'sideways'; accepted are change"),
        ({"motion": "jump"}, "motion: 'jump'"),
        ({"method": "magic"}, "method: 'magic'"),
        ({"k": 40}, "32 train and val subjects with two visits for up to 40 groups"),
        ({"part": "table"}, "these embeddings have no parts"),
    ],
)
def test_bad_settings_are_told_in_one_line(flow, changes, match):
    with pytest.raises(InputError, match=match) as caught:
        find_trajectories(flow[0], TrajectoriesConfig(**FAST | changes))
    assert "\n" not in str(caught.value)


def test_figures_are_drawn_and_say_the_verdict(flow):
    for draw in (path_map, group_arrows, speed_intervals):
        figure = draw(flow[1])
        figure.savefig(io.BytesIO(), format="png")
        words = " ".join(axes.get_title() for axes in figure.axes)
        assert "verdict: continuum" in words or "mean reliability" in words
    few = path_map(flow[1], joints=10).axes[0]
    assert sum(len(arrows.U) for arrows in few.collections) >= 10
