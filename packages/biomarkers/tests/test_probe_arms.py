"""Probes of planted signal: what is there is found, what is not is not, and left out is said why."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.probing.arm import probe_arm, score_predictions
from spinmark_biomarkers.evaluation.probing.confounders import usable
from spinmark_biomarkers.evaluation.probing.finetuned import as_predictions
from spinmark_biomarkers.evaluation.probing.plan import budget_name, make_plan
from spinmark_biomarkers.evaluation.probing.predict import predict_cells, standardised
from spinmark_biomarkers.evaluation.probing.retrieval import baseline_rows, retrieval_scores
from spinmark_biomarkers.evaluation.probing.table import difference_rows, score_rows
from spinmark_biomarkers.evaluation.probing.targets import Target
from spinmark_biomarkers.evaluation.subject_scores import counts_of_resamples
from spinmark_biomarkers.figures.probes import probe_figure

SUBJECTS = 240


def number(name, values, role="latent"):
    return Target(name=name, role=role, kind="number", values=np.asarray(values, float))


class World:
    """Scans of 240 subjects, three sites, and what is true of them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        person = np.repeat(np.arange(SUBJECTS), 4)
        self.scans = pd.DataFrame(
            {
                "subject_id": [f"s{i:03d}" for i in person],
                "joint_id": [f"s{i:03d}:{'RL'[k % 4 // 2]}" for k, i in enumerate(person)],
                "scan_id": [f"scan{k:04d}" for k in range(len(person))],
                "days": np.tile([0.0, 365.0], 2 * SUBJECTS),
                "rank": 0,
                "set": np.where(person < 160, "train", "test"),
                "site": np.array(["A", "B", "C"])[person % 3],
            }
        )
        n = len(person)
        self.person, self.rng = person, rng
        self.age = rng.normal(size=SUBJECTS)[person]
        self.bone, self.pain = rng.normal(size=(2, n))
        self.hidden = rng.normal(size=n)
        time = rng.exponential(np.exp(-self.bone))
        missing = np.where(rng.random(n) < 0.2, np.nan, self.pain)
        self.targets = [
            number("bone", self.bone),
            number("hidden", self.hidden),
            number("AGED", self.age + 0.3 * rng.normal(size=n), "symptom"),
            number("PAIN", missing, "symptom"),
            Target(name="SEX", role="demographic", kind="binary", values=1.0 + (self.bone > 0.3)),
            Target(
                name="RACE",
                role="demographic",
                kind="nominal",
                values=np.digitize(self.pain, [-0.7, 0.7]).astype(float),
            ),
            Target(
                name="replacement",
                role="outcome",
                kind="event",
                values=np.minimum(time, 0.7),
                event=time < 0.7,
            ),
            Target(
                name="rare",
                role="outcome",
                kind="event",
                values=np.minimum(time, 0.7),
                event=person == 3,
            ),
        ]
        self.plan = make_plan(self.scans, self.targets, budgets=(50, 200, None), draws=3, seed=1)
        self.counts = counts_of_resamples(self.plan.test_subjects[1], draws=200, seed=0)

    def embedding(self, noise, site=0.0, features=24, seed=0):
        rng = np.random.default_rng(seed)
        known = np.column_stack([self.bone, self.pain, self.age])
        x = known @ np.random.default_rng(5).normal(size=(3, features))
        x[:, 0] += site * (self.person % 3)
        return x + noise * rng.normal(size=x.shape)


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def arms(world):
    age = [number("AGE", world.age)]
    options = {"resamples": world.counts, "demographics": usable(world.plan, age)}
    good = [world.embedding(0.5, site=30.0, seed=s) for s in range(3)]
    poor = [world.embedding(3.0, seed=s) for s in range(3)]
    return {
        "good": probe_arm(world.plan, good, **options),
        "poor": probe_arm(world.plan, poor, **options),
    }


@pytest.fixture(scope="module")
def table(world, arms):
    return score_rows(arms, world.plan, ["linear", "knn"])


def one(table, **named):
    found = table[np.logical_and.reduce([table[k] == v for k, v in named.items()])]
    assert len(found) == 1, found
    return found.iloc[0]


def test_what_is_there_is_found_and_more_labels_help(table):
    held = {"run": "all", "probe": "linear", "scheme": "held-out", "metric": "r2"}
    few, many = (one(table, arm="poor", target="bone", labels=k, **held) for k in ("50", "all"))
    assert few.value < many.value
    assert one(table, arm="good", target="bone", labels="200", **held).low > 0.8
    nothing = one(table, arm="good", target="hidden", labels="all", **held)
    assert nothing.value < 0.02
    assert (many.n, many.n_subjects, many.labelled, many.n_runs, many.n_draws) == (
        320,
        80,
        320,
        3,
        1,
    )
    assert (few.labelled, few.n_draws) == (50, 3)
    assert (
        one(
            table,
            arm="good",
            target="SEX",
            labels="200",
            run="all",
            probe="linear",
            scheme="held-out",
        ).low
        > 0.9
    )
    assert (
        one(
            table,
            arm="good",
            target="RACE",
            labels="200",
            run="all",
            probe="linear",
            scheme="held-out",
        ).low
        > 0.7
    )
    assert one(table, arm="good", target="bone", labels="200", **{**held, "probe": "knn"}).low > 0.4


def test_the_value_is_the_mean_over_runs_and_draws_of_r2(world, table):
    bone = next(c for c in world.plan.cells if c.target.name == "bone" and c.budget == 50)
    scores = []
    for seed in range(3):
        x = standardised(world.embedding(3.0, seed=seed), world.plan.train)
        said = predict_cells(x, world.plan, probes=["linear"])["bone", 50, "linear"]
        scores += [r2_score(world.bone[bone.scored], draw) for draw in said]
    row = one(table, arm="poor", run="all", target="bone", probe="linear", labels="50", metric="r2")
    assert row.value == pytest.approx(np.mean(scores))
    by_run = [
        one(
            table, arm="poor", run=str(k), target="bone", probe="linear", labels="50", metric="r2"
        ).value
        for k in range(3)
    ]
    np.testing.assert_allclose(by_run, np.reshape(scores, (3, 3)).mean(axis=1))


def test_differences_are_paired(arms, table):
    rows = difference_rows(arms)
    named = {"target": "mean", "role": "latent", "labels": "50", "metric": "r2", "probe": "linear"}
    made = one(rows, **named)
    a, b = (one(table, arm=arm, run="all", **named) for arm in ("good", "poor"))
    assert made.value == pytest.approx(a.value - b.value)
    assert made.low > 0
    assert (made.arm, made.against) == ("good", "poor")
    assert set(difference_rows(arms, against=["good"])["arm"]) == {"poor"}


def test_the_mean_over_targets_is_that_of_their_values(table):
    named = {"arm": "good", "run": "all", "labels": "50", "metric": "r2", "probe": "linear"}
    both = [one(table, target=name, **named).value for name in ("bone", "hidden")]
    assert one(table, target="mean", role="latent", **named).value == pytest.approx(np.mean(both))
    symptoms = [one(table, target=name, **named).value for name in ("AGED", "PAIN")]
    mean = one(table, target="mean", role="variables", **named).value
    assert mean == pytest.approx(np.mean(symptoms))


def test_events_are_ranked_by_budgets_of_events_and_rare_ones_left_out(table):
    held = {"arm": "good", "run": "all", "probe": "linear"}
    made = one(table, target="replacement", labels="50", **held)
    assert made.labelled_events == 50
    assert made.labelled > 50
    assert made.metric == "c_index"
    assert made.low > 0.6
    # A joint counts once, at its first scan.
    assert made.n == 160
    rare = table[(table["target"] == "rare") & (table["arm"] == "good")]
    assert len(rare) == 6
    assert rare["value"].isna().all()
    assert rare["reason"].str.contains("2 events among labelled joints; 50 are needed").any()
    assert rare["reason"].str.contains("2 events among labelled joints; 20 are needed").any()


def test_what_goes_with_age_alone_is_not_beyond_it(table):
    held = {"arm": "good", "run": "all", "labels": "200", "probe": "linear"}
    aged = one(table, target="AGED", metric="r2_demographics", **held)
    assert aged.low > 0.7
    assert abs(one(table, target="AGED", metric="r2_beyond_demographics", **held).value) < 0.05
    bone = one(table, target="bone", metric="r2_beyond_demographics", **held)
    assert bone.low > 0.8


def test_the_site_is_read_where_it_stands_and_leaks_more(arms, table):
    good, poor = (one(table, arm=arm, run="all", target="site") for arm in ("good", "poor"))
    assert good.low > 0.9
    assert poor.chance == pytest.approx(1 / 3)
    assert poor.value == pytest.approx(1 / 3, abs=0.12)
    noisy = difference_rows({"poor": arms["poor"], "good": arms["good"]})
    leak = one(noisy, metric="site_leak_ratio")
    assert leak.value == pytest.approx((poor.value - 1 / 3) / (good.value - 1 / 3))
    assert leak.high < 0.3


def test_a_site_left_out_is_predicted_from_the_others(world, table):
    rows = table[(table["scheme"] == "leave-one-site-out") & (table["arm"] == "poor")]
    rows = rows[(rows["target"] == "bone") & (rows["run"] == "all")]
    assert set(rows["site"]) == {"A", "B", "C", "all"}
    assert one(rows, site="all").n == 320
    assert one(rows, site="A").n < 160
    # By hand, for one site.
    site = world.scans["site"].to_numpy()
    cell = next(c for c in world.plan.cells if c.target.name == "bone" and c.budget is None)
    fit = cell.subsets[0][site[cell.subsets[0]] != "A"]
    new = cell.scored[site[cell.scored] == "A"]
    values = []
    for seed in range(3):
        x = standardised(world.embedding(3.0, seed=seed), world.plan.train)
        alone = make_plan(
            world.scans.assign(set=np.where(site == "A", "test", "train"))
            .iloc[np.sort(np.concatenate([fit, new]))]
            .reset_index(drop=True),
            [number("bone", world.bone[np.sort(np.concatenate([fit, new]))])],
            budgets=[None],
            seed=0,
        )
        said = predict_cells(x[np.sort(np.concatenate([fit, new]))], alone, probes=["linear"])
        values.append(r2_score(world.bone[new], said["bone", None, "linear"][0]))
    assert one(rows, site="A").value == pytest.approx(np.mean(values))


def test_predictions_made_elsewhere_are_scored_alike(world, table):
    x = standardised(world.embedding(3.0, seed=0), world.plan.train)
    said = predict_cells(x, world.plan, probes=["linear"])
    ids = world.scans["scan_id"].to_numpy()
    frame = pd.concat(
        pd.DataFrame(
            {
                "scan_id": ids[c.scored],
                "target": name,
                "labels": budget_name(budget),
                "draw": draw,
                "prediction": values,
            }
        )
        for (name, budget, probe), draws in said.items()
        for c in world.plan.cells
        if c.target.name == name and c.budget == budget and name in ("bone", "SEX", "RACE")
        for draw, values in enumerate(draws)
    ).sample(frac=1, random_state=0)
    found = as_predictions(frame, world.plan, name="file")
    scores = score_predictions(world.plan, [found], world.counts)
    for key, scored in scores.items():
        assert key.probe == "finetuned"
        named = {"target": key.target, "labels": key.labels, "metric": key.metric}
        row = one(table, arm="poor", run="0", probe="linear", scheme="held-out", **named)
        assert scored.scores.values.mean() == pytest.approx(row.value)
    assert len(scores) == 9
    with pytest.raises(InputError, match="bone with 50 labels lacks predictions"):
        as_predictions(frame[frame["draw"] != 1], world.plan, name="file")
    with pytest.raises(InputError, match="stands twice"):
        as_predictions(pd.concat([frame, frame]), world.plan, name="file")
    with pytest.raises(InputError, match="no column 'draw'"):
        as_predictions(frame.drop(columns="draw"), world.plan, name="file")
    with pytest.raises(InputError, match="none of the targets"):
        as_predictions(frame[frame["target"] == "bone"].assign(target="x"), world.plan, name="file")


def test_retrieval_finds_joints_better_than_chance_and_within_strata(world):
    rows = baseline_rows(world.plan)
    assert rows.size == 160
    assert (world.scans["days"].iloc[rows] == 0).all()
    table = np.column_stack([world.bone, world.pain, world.age])[rows]
    pairs = [
        (table + 0.2 * np.random.default_rng(s).normal(size=table.shape), table) for s in (0, 1)
    ]
    strata = (world.person[rows] % 2).astype(str)
    scores = retrieval_scores(
        world.plan, pairs, rows, space="alignment", resamples=world.counts, strata=strata
    )
    found = score_rows({"a": scores}, world.plan, [])
    made = one(found, run="all", scheme="held-out", metric="image_to_table_recall_at_1")
    assert made.chance == pytest.approx(1 / 160)
    assert made.low > 0.1
    near = one(found, run="all", scheme="within strata", metric="image_to_table_recall_at_1")
    assert near.chance == pytest.approx(1 / 80)
    assert near.value >= made.value
    back = one(found, run="all", scheme="held-out", metric="table_to_image_median_rank")
    assert 1 <= back.low <= back.value < back.chance == 80.5


def test_the_figure_shows_arms_and_site(table):
    figure = probe_figure(table, role="latent")
    left, right = figure.axes
    assert [t.get_text() for t in left.get_xticklabels()] == ["50", "200", "all"]
    assert [t.get_text() for t in right.get_yticklabels()] == ["good", "poor"]
    with pytest.raises(InputError, match="no mean R2"):
        probe_figure(table[table["target"] == "SEX"], role="latent")


def test_settings_that_cannot_be_are_refused(world):
    one_target = [world.targets[0]]
    with pytest.raises(InputError, match="labels:"):
        make_plan(world.scans, one_target, budgets=(3,), seed=0)
    with pytest.raises(InputError, match="labels:"):
        make_plan(world.scans, one_target, budgets=(50, 50), seed=0)
    with pytest.raises(InputError, match="draws: 0"):
        make_plan(world.scans, one_target, draws=0, seed=0)
    with pytest.raises(InputError, match="set val: no scan"):
        make_plan(world.scans, one_target, seed=0, on="val")
    with pytest.raises(
        InputError, match="no target can be probed; bone: 320 training joints have it"
    ):
        make_plan(world.scans, one_target, budgets=(5000,), seed=0)
    with pytest.raises(InputError, match="constant among scored scans"):
        make_plan(world.scans, [number("flat", np.ones(len(world.scans)))], seed=0)
    with pytest.raises(InputError, match="none of 2 features varies"):
        standardised(np.ones((5, 2)), np.arange(3))
    with pytest.raises(InputError, match="all finite"):
        standardised(np.full((5, 2), np.nan), np.arange(3))
