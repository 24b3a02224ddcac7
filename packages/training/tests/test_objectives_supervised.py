"""Supervised heads: the loss, its gradient and its best constant, against other programs and by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import huber, log_softmax
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_models.export import load_encoder
from spinmark_training.batch import Batch
from spinmark_training.config import (
    DataConfig,
    MonitorConfig,
    ObjectiveConfig,
    OptimConfig,
    PretrainConfig,
    TrainerConfig,
)
from spinmark_training.errors import InputError
from spinmark_training.objectives import Objective, Views
from spinmark_training.objectives.label_heads import LabelColumns, huber_centre
from spinmark_training.objectives.supervised import Supervised
from spinmark_training.pretrain import pretrain
from spinmark_training.side_information import SideInformation

from .embedded_batch import WIDTH, batch_of, build, embeddings, joint_batch, known_of, small_encoder
from .tabled_world import SEQUENCE, write_tabled
from .tiny_cohort import write_tiny

Worlds = list[tuple[Cohort, Split]]
ALL = ("demographic", "symptom", "function", "structure")


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    folder = tmp_path_factory.mktemp("worlds")
    return [write_tabled(folder / "plain"), write_tabled(folder / "spoilt", spoil=True)]


@pytest.fixture(scope="module")
def known(worlds: Worlds) -> SideInformation:
    return known_of(worlds[0], SEQUENCE)


def heads(
    known: SideInformation, labels: Sequence[str] = ALL, delta: float | None = None
) -> Supervised:
    config = ObjectiveConfig(name="supervised", labels=tuple(labels), huber_delta=delta)
    objective = build(config, known)
    assert isinstance(objective, Supervised)
    return objective


def by_hand(objective: Objective, whole: npt.NDArray[np.float64], batch: Batch) -> float:
    """The loss cell by cell in double precision."""
    assert isinstance(objective, Supervised)
    state = {key: value.detach().double().numpy() for key, value in objective.state_dict().items()}
    said = whole @ state["heads.linear.weight"].T + state["heads.linear.bias"]
    rows = torch.cat([batch.first, batch.second])
    numbers, codes = (
        objective.heads.numbers[rows].double().numpy(),
        objective.heads.codes[rows].numpy(),
    )
    means: list[float] = []
    for column in range(numbers.shape[1]):
        cells = [
            float(huber(objective.heads.delta, said[row, column] - numbers[row, column]))
            for row in range(len(rows))
            if not math.isnan(numbers[row, column])
        ]
        means.append(sum(cells) / len(cells) if cells else 0.0)
    start = numbers.shape[1]
    for column, size in enumerate(objective.heads.sizes):
        logits = log_softmax(said[:, start : start + size], axis=1)
        cells = [
            -float(logits[row, code]) for row, code in enumerate(codes[:, column]) if code >= 0
        ]
        means.append(sum(cells) / len(cells) if cells else 0.0)
        start += size
    return sum(means) / len(means)


@pytest.mark.parametrize("delta", [0.3, 1.0, math.inf])
def test_the_loss_is_the_mean_over_variables_of_their_known_cells(
    delta: float, known: SideInformation
) -> None:
    objective, batch = heads(known, delta=delta), joint_batch(known)
    assert objective.uses == ("AGE", "WOMKP", "FUNC", "XRKL", "SEX", "RACE")
    student = embeddings(batch)
    scored = objective(student, None, batch)
    expected = by_hand(objective, student.whole.detach().double().numpy(), batch)
    assert scored.loss.item() == pytest.approx(expected, rel=1e-5)
    assert 0 < float(scored.figures["labelled"]) < 1


def test_the_gradient_is_that_of_differences_in_double_precision(known: SideInformation) -> None:
    objective, batch = heads(known).double(), joint_batch(known, subjects=2)
    whole = embeddings(batch).whole.detach().double().requires_grad_()
    objective(Views(whole), None, batch).loss.backward()
    assert whole.grad is not None
    point, step = whole.detach().numpy(), 1e-6
    for place in np.ndindex(point.shape):
        up, down = point.copy(), point.copy()
        up[place] += step
        down[place] -= step
        slope = (by_hand(objective, up, batch) - by_hand(objective, down, batch)) / (2 * step)
        assert float(whole.grad[place]) == pytest.approx(slope, abs=1e-7)


def test_each_view_has_the_labels_of_its_own_visit(known: SideInformation) -> None:
    objective = heads(known, ("AGE",))
    first, second = (int(row) for row in known.rows[:2])
    ages = objective.heads.numbers[[first, second], 0]
    assert ages[0] != ages[1]
    with torch.no_grad():
        objective.heads.linear.weight.zero_()
        objective.heads.linear.weight[0, 0] = 1
        objective.heads.linear.bias.zero_()
    whole = torch.zeros(2, WIDTH)
    whole[:, 0] = ages
    batch = batch_of([first], [second], [0])
    assert objective(Views(whole), None, batch).loss.item() == 0
    assert objective(Views(whole.flip(0)), None, batch).loss.item() > 0


def _all_scans(known: SideInformation) -> Batch:
    """Every row that is known once as a first view and once as a second."""
    rows = known.rows.tolist()
    return batch_of(rows, rows, [0] * len(rows))


def _fit(objective: Supervised, whole: Tensor, batch: Batch) -> None:
    optimiser = torch.optim.LBFGS(
        objective.parameters(), max_iter=300, tolerance_grad=1e-10, tolerance_change=1e-13
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss: Tensor = objective(Views(whole), None, batch).loss
        loss.backward()
        return loss

    optimiser.step(closure)


def test_heads_that_are_fitted_to_the_end_are_those_of_sklearn(known: SideInformation) -> None:
    objective = heads(known, ("WOMKP", "XRKL", "RACE"), math.inf).double()
    batch = _all_scans(known)
    rows = torch.cat([batch.first, batch.second])
    rng = np.random.default_rng(3)
    x = np.tile(rng.normal(size=(len(batch), WIDTH)), (2, 1))
    _fit(objective, torch.from_numpy(x), batch)
    numbers, logits = objective.heads(torch.from_numpy(x))
    for column in range(2):
        y = objective.heads.numbers[rows, column].numpy()
        there = np.isfinite(y)
        expected = LinearRegression().fit(x[there], y[there]).predict(x)
        assert numbers[:, column].detach().numpy() == pytest.approx(expected, abs=1e-4)
    codes = objective.heads.codes[rows, 0].numpy()
    assert (codes >= 0).all()
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(x, codes)
    shares = logits[0].softmax(dim=1).detach().numpy()
    assert shares == pytest.approx(peer.predict_proba(x), abs=1e-3)


@pytest.mark.parametrize("delta", [0.5, math.inf])
def test_chance_is_the_loss_of_the_best_constant(delta: float, known: SideInformation) -> None:
    objective, batch = heads(known, delta=delta), _all_scans(known)
    student = Views(torch.randn(2 * len(batch), WIDTH))
    with torch.no_grad():
        objective.heads.linear.weight.zero_()
    scored = objective(student, None, batch)
    # The heads start at the constants.
    assert float(scored.figures["chance"]) == pytest.approx(scored.loss.item(), rel=1e-6)
    scored.loss.backward()
    assert objective.heads.linear.bias.grad is not None
    # No other constant is better for the training scans.
    assert objective.heads.linear.bias.grad.abs().max() < 1e-6


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), delta=st.floats(0.05, 5))
def test_the_centre_has_the_least_huber_loss(seed: int, n: int, delta: float) -> None:
    values = np.random.default_rng(seed).standard_t(2, n)

    def loss(centre: float) -> float:
        return float(huber(delta, values - centre).sum())

    found = huber_centre(torch.from_numpy(values), delta)
    least = minimize_scalar(
        loss, bounds=(values.min() - 1, values.max() + 1), method="bounded", options={"xatol": 1e-9}
    )
    assert loss(found) <= least.fun + 1e-9
    assert huber_centre(torch.from_numpy(values), math.inf) == pytest.approx(values.mean())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_not_known_moves_nothing(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    codes = torch.randint(0, 3, (12, 1), generator=generator)
    codes[:3, 0] = torch.arange(3)
    gone = torch.rand(12, 3, generator=generator) < 0.4
    gone[:3] = False
    numbers[gone[:, :2]] = math.nan
    codes[gone[:, 2:]] = -1
    columns = LabelColumns(("a", "b", "c"), numbers, codes, (3,))
    objective = Supervised(small_encoder(), columns, 1.0)
    batch = batch_of([0, 4, 5, 6], [7, 8, 9, 10], [0, 1, 2, 3])
    rows = torch.cat([batch.first, batch.second])
    student = embeddings(batch, seed)
    scored = objective(student, None, batch)
    scored.loss.backward()
    assert student.whole.grad is not None
    assert student.whole.grad.isfinite().all()
    blind = gone[rows].all(dim=1)
    assert (student.whole.grad[blind] == 0).all()
    moved = student.whole.detach() + 100 * blind[:, None]
    again = objective(Views(moved), None, batch)
    assert again.loss.item() == pytest.approx(scored.loss.item())


def test_a_batch_without_a_cell_of_a_variable_gives_0_for_it(known: SideInformation) -> None:
    batch = joint_batch(known)
    objective = heads(known, ("WOMKP", "RACE"))
    whole = heads(known, ("WOMKP",))
    whole.heads.linear.load_state_dict(
        {"weight": objective.heads.linear.weight[:1], "bias": objective.heads.linear.bias[:1]}
    )
    objective.heads.codes.fill_(-1)
    student = embeddings(batch)
    scored = objective(student, None, batch)
    expected = whole(student, None, batch).loss / 2
    assert scored.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    objective.heads.numbers.fill_(math.nan)
    scored = objective(student, None, batch)
    scored.loss.backward()
    assert scored.loss.item() == 0
    assert float(scored.figures["chance"]) == float(scored.figures["labelled"]) == 0
    assert student.whole.grad is not None
    assert (student.whole.grad == 0).all()
    assert all((p.grad == 0).all() for p in objective.parameters() if p.grad is not None)


def test_nothing_that_is_known_of_held_out_subjects_is_kept(worlds: Worlds) -> None:
    plain, spoilt = (heads(known_of(world, SEQUENCE)) for world in worlds)
    for (key, one), (_, other) in zip(plain.named_buffers(), spoilt.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, msg=key)
    assert plain.state_dict().keys() == {"heads.linear.weight", "heads.linear.bias"}
    torch.testing.assert_close(plain.state_dict(), spoilt.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("labels", "delta", "message"),
    [
        (("XRPROSTH",), None, "XRPROSTH has the role outcome"),
        (("outcome",), None, "'outcome'; accepted are variables, and roles other than"),
        (("SITE",), None, "SITE has the role administrative"),
        (("KL",), None, "'KL'; no table of the cohort has this variable"),
        (("AGE",), 0.0, "objective.huber_delta: 0.0; accepted are numbers above 0"),
        (("AGE",), math.nan, "objective.huber_delta: nan"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_one_line(
    labels: tuple[str, ...], delta: float | None, message: str, known: SideInformation
) -> None:
    with pytest.raises(InputError, match=message) as error:
        heads(known, labels, delta)
    assert "\n" not in str(error.value)


class _Worn(SideInformation):
    """The same cohort, of which one variable never varies."""

    def numbers(self, names: Sequence[str], field: str = "objective.labels") -> Tensor:
        found = super().numbers(names, field)
        return torch.where(found.isfinite(), 3.0, found) if "WOMKP" in names else found


def test_a_constant_is_left_out_or_refused(
    worlds: Worlds, known: SideInformation, caplog: pytest.LogCaptureFixture
) -> None:
    known = known_of(worlds[0], SEQUENCE)
    known.__class__ = _Worn
    assert heads(known, ("WOMKP", "AGE")).uses == ("AGE",)
    assert "['WOMKP'] take(s) one value among the training scans" in caplog.text
    with pytest.raises(InputError, match=r"WOMKP.*takes one value among the training scans"):
        heads(known, ("WOMKP",))


def _config(steps: int, micro_batch: int | None = None) -> PretrainConfig:
    return PretrainConfig(
        data=DataConfig(sequence=SEQUENCE, subjects_per_batch=4, cross_visit=1.0),
        encoder=EncoderConfig(name="resnet10", norm="group", widths=(4, 8, 8, 8), embedding=8),
        projection=ProjectionConfig(hidden=16, out=4),
        objective=ObjectiveConfig(name="supervised", labels=ALL),
        optim=OptimConfig(name="sgd", steps=steps, lr=1e-2),
        trainer=TrainerConfig(threads=1, log_every=1, micro_batch=micro_batch),
        monitor=MonitorConfig(every=0, variables=(), leakage=None, lidar_scans=0),
    )


def test_a_batch_in_parts_gives_the_same_weights(worlds: Worlds, tmp_path: Path) -> None:
    weights = {}
    for parts in (None, 3):
        pretrain(*worlds[0], _config(3, parts), tmp_path / str(parts))
        weights[parts] = load_encoder(tmp_path / str(parts) / "encoder")[0].state_dict()
    torch.testing.assert_close(weights[3], weights[None], rtol=1e-4, atol=1e-6)


def test_an_encoder_learns_what_it_is_told(tmp_path: Path) -> None:
    config = replace(
        _config(60),
        data=DataConfig(sequence=SEQUENCE, subjects_per_batch=10),
        encoder=EncoderConfig(widths=(4, 8), embedding=8),
        objective=ObjectiveConfig(name="supervised", labels=("WORN", "PAIN1")),
        optim=OptimConfig(steps=60, lr=3e-3),
    )
    summary = pretrain(*write_tiny(tmp_path / "cohort"), config, tmp_path / "run")
    losses = [row["loss"] for row in summary.rows if "loss" in row]
    chance = [row["chance"] for row in summary.rows if "chance" in row]
    assert np.mean(losses[:3]) > 0.8 * np.mean(chance[:3])
    assert np.mean(losses[-10:]) < 0.8 * np.mean(chance[-10:])
