"""Objectives that take positives or an order from the tables."""

import math

import pytest
import torch
from torch import Tensor

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.losses.metadata import metadata_enhanced
from spinmark_models.losses.rank_n_contrast import rank_n_contrast, rank_n_contrast_censored
from spinmark_models.losses.sup_con import sup_con
from spinmark_models.losses.tabular_similarity import tabular_similarity
from spinmark_models.losses.y_aware import y_aware
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives import Objective
from spinmark_training.objectives.chance import soft_floor
from spinmark_training.objectives.labelled_rows import class_floor, negative_figures
from spinmark_training.objectives.near_numbers import standardised
from spinmark_training.side_information import SideInformation

from .embedded_batch import OnePoint, batch_of, build, embeddings, joint_batch, known_of
from .tabled_world import SEQUENCE, write_tabled

NAMES = (
    "sup_con",
    "rank_n_contrast",
    "rank_n_contrast_censored",
    "y_aware",
    "tabular_similarity",
    "metadata_enhanced",
)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Cohort, Split]]:
    folder = tmp_path_factory.mktemp("worlds")
    return [write_tabled(folder / "plain"), write_tabled(folder / "spoilt", spoil=True)]


@pytest.fixture(scope="module")
def known(worlds: list[tuple[Cohort, Split]]) -> SideInformation:
    return known_of(worlds[0], SEQUENCE)


def _halves(objective: Objective, whole: Tensor) -> tuple[Tensor, Tensor]:
    first, second = objective.projector(whole).chunk(2)  # type: ignore[operator]
    return first, second


def _expected(
    name: str, first: Tensor, second: Tensor, batch: Batch, known: SideInformation
) -> Tensor:
    rows = torch.cat([batch.first, batch.second])
    both = torch.cat([first, second])
    groups = batch.subject
    if name == "sup_con":
        return sup_con(both, known.joints()[rows], 0.1, subjects=groups.repeat(2))
    if name == "rank_n_contrast":
        return rank_n_contrast(both, known.numbers(("AGE",))[rows, 0], 2.0)
    if name == "rank_n_contrast_censored":
        time, event = known.survival("replacement")
        return rank_n_contrast_censored(both, time[rows], event[rows], 2.0)
    if name == "y_aware":
        age = known.numbers(("AGE",))[:, 0]
        seen = age[known.rows]
        age = (age - seen.mean()) / seen.std(correction=0)
        mean = (age[batch.first] + age[batch.second]) / 2
        return y_aware(first, second, mean, 0.1, bandwidth=0.25, groups=groups)
    if name == "tabular_similarity":
        uses = ("SEX", "RACE", "AGE", "WOMKP", "FUNC")
        table = known.numbers(uses)
        seen = table[known.rows].nan_to_num(0)
        least = torch.where(table[known.rows].isnan(), torch.inf, seen).amin(0)
        most = torch.where(table[known.rows].isnan(), -torch.inf, seen).amax(0)
        own, other = table[batch.first], table[batch.second]
        rows_NF = torch.where(own.isnan(), other, own)
        return tabular_similarity(
            first,
            second,
            rows_NF,
            most - least,
            0.1,
            nominal=torch.tensor([False, True, False, False, False]),
            groups=groups,
        )
    days = known.days()[batch.first]
    return metadata_enhanced(first, second, groups, known.joints()[batch.first], days, 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_is_the_librarys_loss_of_the_tables(name: str, known: SideInformation) -> None:
    objective = build(ObjectiveConfig(name=name), known)
    batch = joint_batch(known)
    student = embeddings(batch)
    scored = objective(student, None, batch)
    expected = _expected(name, *_halves(objective, student.whole), batch, known)
    assert scored.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    scored.loss.backward()
    assert student.whole.grad is not None
    assert student.whole.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_chance_is_the_loss_of_an_encoder_that_maps_all_to_one_point(
    name: str, known: SideInformation
) -> None:
    objective = build(ObjectiveConfig(name=name), known)
    objective.projector = OnePoint()
    batch = joint_batch(known)
    scored = objective(embeddings(batch), None, batch)
    assert float(scored.figures["chance"]) == pytest.approx(scored.loss.item(), abs=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_is_known_of_held_out_subjects_is_kept(
    name: str, worlds: list[tuple[Cohort, Split]]
) -> None:
    plain, spoilt = (build(ObjectiveConfig(name=name), known_of(each, SEQUENCE)) for each in worlds)
    for (key, one), (other_key, other) in zip(
        plain.named_buffers(), spoilt.named_buffers(), strict=True
    ):
        assert key == other_key
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    # What is known of people travels with the run's cohort, never with its checkpoints.
    assert all(not key.startswith(("label", "table", "numbers")) for key in plain.state_dict())


def test_what_an_objective_has_learnt_from_is_told(known: SideInformation) -> None:
    uses = {name: build(ObjectiveConfig(name=name), known).uses for name in NAMES}
    assert uses == {
        "sup_con": (),
        "rank_n_contrast": ("AGE",),
        "rank_n_contrast_censored": ("outcome:replacement",),
        "y_aware": ("AGE",),
        "tabular_similarity": ("SEX", "RACE", "AGE", "WOMKP", "FUNC"),
        "metadata_enhanced": (),
    }


def test_sup_con_takes_classes_and_counts_its_negatives(known: SideInformation) -> None:
    batch = joint_batch(known)
    student = embeddings(batch)
    objective = build(ObjectiveConfig(name="sup_con", labels=("XRKL",)), known)
    scored = objective(student, None, batch)
    assert objective.uses == ("XRKL",)
    rows = torch.cat([batch.first, batch.second])
    labels, subjects = known.codes("XRKL")[0][rows].tolist(), batch.subject.repeat(2).tolist()
    count = [
        sum(
            i != j
            and not (labels[i] == labels[j] and labels[i] >= 0)
            and subjects[i] != subjects[j]
            for j in range(len(rows))
        )
        for i in range(len(rows))
    ]
    assert float(scored.figures["negatives"]) == pytest.approx(sum(count) / len(count))


def test_rows_without_a_label_are_like_no_other() -> None:
    labels, subjects = torch.tensor([0, 0, -1, -1]), torch.tensor([0, 1, 2, 2])
    for known, expected in ((None, (2 + 2 + 3 + 3) / 4), (subjects, 2)):
        figures = negative_figures(labels, known)
        assert float(figures["negatives"]) == expected
        assert float(figures["negatives_expected"]) == expected


def test_the_floor_of_classes_is_reached_where_classes_are_points() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, -1])
    expected = (3 * math.log(2) + 2 * math.log(1)) / 5
    assert float(class_floor(labels)) == pytest.approx(expected)
    points = torch.eye(4, dtype=torch.float64)[labels]
    assert float(sup_con(points, labels, 0.01)) == pytest.approx(expected, abs=1e-9)
    assert float(class_floor(torch.tensor([-1, -1, 0]))) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_which_nothing_is_known_gives_a_number(
    name: str, known: SideInformation
) -> None:
    objective = build(ObjectiveConfig(name=name), known)
    for key, buffer in objective.named_buffers():
        if not key.startswith(("projector", "ranges", "joint")):
            buffer.copy_(torch.full_like(buffer, math.nan if buffer.is_floating_point() else 0))
    batch = joint_batch(known)
    scored = objective(embeddings(batch), None, batch)
    scored.loss.backward()
    assert math.isfinite(scored.loss.item())
    assert all(math.isfinite(float(value)) for value in scored.figures.values())


@pytest.mark.parametrize("name", NAMES)
def test_one_joint_gives_a_number(name: str, known: SideInformation) -> None:
    row = int(known.rows[0])
    batch = batch_of([row], [row + 1], [0])
    scored = build(ObjectiveConfig(name=name), known)(embeddings(batch), None, batch)
    assert math.isfinite(scored.loss.item())
    assert all(math.isfinite(float(value)) for value in scored.figures.values())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ObjectiveConfig(name="sup_con", labels=("AGE",)), "AGE is continuous; sup_con takes"),
        (ObjectiveConfig(name="sup_con", labels=("RACE", "SEX")), "sup_con takes one variable"),
        (ObjectiveConfig(name="rank_n_contrast", labels=("RACE",)), "takes one continuous"),
        (ObjectiveConfig(name="rank_n_contrast", labels=("symptom", "function")), "takes one"),
        (ObjectiveConfig(name="y_aware", labels=("RACE",)), "RACE is nominal; y_aware takes"),
        (ObjectiveConfig(name="y_aware", labels=("SITE",)), "SITE has the role administrative"),
        (
            ObjectiveConfig(name="rank_n_contrast_censored", endpoint="pain"),
            r"objective.endpoint: 'pain'; this cohort has \['replacement'\]",
        ),
        (
            ObjectiveConfig(name="metadata_enhanced", ignore_same_subject=False),
            "objective.ignore_same_subject: False",
        ),
        (ObjectiveConfig(name="nt_xent", labels=("AGE",)), "nt_xent does not use it"),
    ],
)
def test_what_an_objective_cannot_learn_from_is_refused_in_one_line(
    config: ObjectiveConfig, message: str, known: SideInformation
) -> None:
    with pytest.raises(InputError, match=message) as error:
        build(config, known)
    assert "\n" not in str(error.value)


def test_columns_are_standardised_by_the_rows_that_have_them() -> None:
    numbers = torch.tensor([[1.0, 5.0], [math.nan, 5.0], [3.0, math.nan]], dtype=torch.float64)
    expected = torch.tensor([[-1.0, 0.0], [math.nan, 0.0], [1.0, math.nan]], dtype=torch.float64)
    torch.testing.assert_close(standardised(numbers), expected, equal_nan=True)


def _weights(name: str, batch: Batch, known: SideInformation) -> list[list[float]]:
    """The weight of each view as a positive of each other, one by one."""
    subject, joint = batch.subject.tolist(), known.joints()[batch.first].tolist()
    table = known.numbers(("SEX", "RACE", "AGE", "WOMKP", "FUNC"))
    own, other = table[batch.first], table[batch.second]
    seen = table[known.rows]
    age = ((own[:, 2] + other[:, 2]) / 2 / seen[:, 2].std(correction=0)).tolist()
    least = seen.nan_to_num(torch.inf).amin(0)
    span = (seen.nan_to_num(-torch.inf).amax(0) - least).tolist()
    cells = torch.where(own.isnan(), other, own).tolist()
    days = known.days()[batch.first].tolist()
    n = len(batch)

    def alike(i: int, k: int) -> float:
        if name == "metadata_enhanced":
            return float(joint[i] == joint[k] and abs(days[i] - days[k]) <= 2000)
        if subject[i] == subject[k]:
            return 0.0
        if name == "y_aware":
            return math.exp(-((age[i] - age[k]) ** 2) / (2 * 0.25**2))
        both = [c for c in range(5) if not math.isnan(cells[i][c] + cells[k][c])]
        parts = [
            float(cells[i][c] == cells[k][c])
            if c == 1
            else 1 - min(1, abs(cells[i][c] - cells[k][c]) / span[c])
            for c in both
        ]
        return math.exp((sum(parts) / len(both) - 1) / 0.1) if len(both) >= 2.5 else 0.0

    return [
        [0.0 if j == i else 1.0 if j % n == i % n else alike(i % n, j % n) for j in range(2 * n)]
        for i in range(2 * n)
    ]


@pytest.mark.parametrize("name", ["y_aware", "tabular_similarity", "metadata_enhanced"])
def test_the_floor_is_the_mean_entropy_of_the_weights(name: str, known: SideInformation) -> None:
    batch = joint_batch(known, subjects=6)
    joints = known.joints()
    # One joint with two visits, so that near visits have something to find.
    other = next(
        row
        for row in torch.nonzero(joints == joints[batch.first[0]])[:, 0].tolist()
        if row != int(batch.first[0])
    )
    batch = batch_of(
        [*batch.first.tolist(), other],
        [*batch.second.tolist(), other],
        [*batch.subject.tolist(), 0],
    )
    figures = build(ObjectiveConfig(name=name, **_wide(name)), known)(
        embeddings(batch), None, batch
    ).figures
    entropies = []
    for row in _weights(name, batch, known):
        shares = [weight / sum(row) for weight in row if weight > 0]
        entropies.append(-sum(share * math.log(share) for share in shares))
    expected = sum(entropies) / len(entropies)
    assert float(figures["floor"]) == pytest.approx(expected, rel=1e-4)
    assert 0 < expected < float(figures["chance"])


def _wide(name: str) -> dict[str, float]:
    return {"window_days": 2000.0} if name == "metadata_enhanced" else {}


def test_without_other_positives_the_floor_is_0() -> None:
    assert float(soft_floor(torch.eye(5), None)) == 0
    assert float(soft_floor(torch.ones(4, 4), torch.zeros(4))) == 0
    assert float(soft_floor(torch.ones(4, 4), None)) == pytest.approx(math.log(7))
