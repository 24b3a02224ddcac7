"""Contrasts and statistics of two views: values by the library, chance levels by a collapse."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import ProjectionConfig
from spinmark_models.losses.barlow_twins import barlow_twins
from spinmark_models.losses.debiased import debiased
from spinmark_models.losses.decoupled import decoupled
from spinmark_models.losses.hard_negative import hard_negative
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.ring import ring, ring_chance
from spinmark_models.losses.semi_hard import semi_hard
from spinmark_models.losses.vicreg import vicreg
from spinmark_models.losses.w_mse import w_mse, whitened
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.chance import candidates, contrast_figures
from spinmark_training.objectives.two_sides import siglip_level
from spinmark_training.objectives.two_views import ring_level
from spinmark_training.side_information import SideInformation

from .embedded_batch import OnePoint, batch_of, build, embeddings, joint_batch, known_of

Loss = Callable[..., Tensor]

CONTRASTS: Mapping[str, tuple[Loss, Mapping[str, Any]]] = {
    "nt_xent": (nt_xent, {"temperature": 0.3}),
    "decoupled": (decoupled, {"temperature": 0.3, "sigma": 0.5}),
    "debiased": (debiased, {"temperature": 0.4, "tau_plus": 0.2}),
    "hard_negative": (hard_negative, {"temperature": 0.4, "tau_plus": 0.05, "beta": 2.0}),
    "ring": (ring, {"temperature": 0.3, "inner": 0.2, "outer": 0.7}),
    "semi_hard": (semi_hard, {"margin": 0.4}),
}


@pytest.fixture(scope="module")
def known(world: tuple[Cohort, Split]) -> SideInformation:
    return known_of(world, "TINY")


@pytest.mark.parametrize("ignore", [True, False])
@pytest.mark.parametrize("name", CONTRASTS)
def test_a_contrast_is_the_librarys(name: str, ignore: bool, known: SideInformation) -> None:
    loss, options = CONTRASTS[name]
    objective = build(ObjectiveConfig(name=name, ignore_same_subject=ignore, **options), known)
    batch = joint_batch(known)
    student = embeddings(batch)
    scored = objective(student, None, batch)
    first, second = objective.projector(student.whole).chunk(2)
    expected = loss(first, second, groups=batch.subject if ignore else None, **options)
    assert scored.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(scored.projected, torch.cat([first, second]).detach())
    assert not scored.projected.requires_grad
    # 4 subjects with 2 joints each, 2 views a joint.
    assert float(scored.figures["negatives"]) == (12 if ignore else 14)


@pytest.mark.parametrize("ignore", [True, False])
@pytest.mark.parametrize(
    "name", ["nt_xent", "decoupled", "debiased", "hard_negative", "mochi", "semi_hard", "clip"]
)
def test_chance_is_the_loss_of_an_encoder_that_maps_all_to_one_point(
    name: str, ignore: bool, known: SideInformation
) -> None:
    objective = build(ObjectiveConfig(name=name, ignore_same_subject=ignore), known)
    head = "projectors" if name == "clip" else "projector"
    collapsed = torch.nn.ModuleList([OnePoint(), OnePoint()]) if name == "clip" else OnePoint()
    setattr(objective, head, collapsed)
    batch = batch_of([0, 4, 1, 5, 2], [0, 4, 1, 5, 2], [0, 0, 0, 1, 2])
    scored = objective(embeddings(batch), None, batch)
    assert float(scored.figures["chance"]) == pytest.approx(scored.loss.item(), abs=2e-5)


@pytest.mark.parametrize("name", ["nt_xent", "decoupled", "debiased", "mochi", "ring", "siglip"])
def test_a_batch_of_one_subject_gives_a_number(name: str, known: SideInformation) -> None:
    objective = build(ObjectiveConfig(name=name), known)
    batch = batch_of([0, 4], [1, 5], [0, 0])
    scored = objective(embeddings(batch), None, batch)
    scored.loss.backward()
    assert math.isfinite(scored.loss.item())
    assert all(math.isfinite(float(value)) for value in scored.figures.values())
    assert float(scored.figures["negatives"]) == 0


@pytest.mark.parametrize("n", [2, 5, 64])
@pytest.mark.parametrize(("inner", "outer"), [(0.0, 1.0), (0.01, 0.1), (0.07, 0.5)])
def test_the_level_of_a_ring_is_the_librarys(n: int, inner: float, outer: float) -> None:
    level = ring_level(inner, outer)(torch.tensor([2.0 * n - 2], dtype=torch.float64))
    assert float(level) == pytest.approx(ring_chance(n, inner, outer), abs=1e-12)


@pytest.mark.parametrize("groups", [[0, 1, 2], [0, 0, 1, 2, 2], [0, 0, 0]])
def test_chance_counts_the_candidates_one_by_one(groups: list[int]) -> None:
    n, logs = len(groups), []
    for i, own in enumerate(groups):
        others = sum(2 for j, other in enumerate(groups) if j != i and other != own)
        logs.append(math.log(1 + others))
    for ignore, expected in ((True, sum(logs) / n), (False, math.log(2 * n - 1))):
        chance = float(contrast_figures(torch.tensor(groups), ignore)["chance"])
        assert chance == pytest.approx(expected, abs=1e-12)
    assert candidates(torch.tensor(groups), False, views=1).tolist() == [n - 1.0] * n


def test_mixtures_are_drawn_by_the_place_of_the_batch_and_nothing_else(
    known: SideInformation,
) -> None:
    objective = build(ObjectiveConfig(name="mochi", hardest=4), known)
    batch = joint_batch(known)
    student = embeddings(batch)
    torch.manual_seed(1)
    before = objective(student, None, batch).loss
    torch.manual_seed(2)
    assert torch.equal(before, objective(student, None, batch).loss)
    batch.after = batch.after._replace(epoch=7)
    assert not torch.equal(before, objective(student, None, batch).loss)


STATISTICS: Mapping[str, tuple[Loss, Mapping[str, Any], float | None]] = {
    "barlow_twins": (barlow_twins, {"redundancy": 0.02}, 4.0),
    "vicreg": (vicreg, {"invariance": 20.0, "variance": 10.0, "covariance": 2.0}, None),
    "w_mse": (w_mse, {"shrinkage": 0.01}, 2.0),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_are_the_librarys(name: str, known: SideInformation) -> None:
    loss, options, chance = STATISTICS[name]
    projection = ProjectionConfig(hidden=16, out=4, final_norm=name != "vicreg")
    objective = build(ObjectiveConfig(name=name, **options), known, projection)
    batch = joint_batch(known)
    student = embeddings(batch)
    scored = objective(student, None, batch)
    expected = loss(*objective.projector(student.whole).chunk(2), **options)
    assert scored.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert scored.figures.get("chance") == chance


def test_a_small_batch_whitens_its_first_features(known: SideInformation) -> None:
    objective = build(ObjectiveConfig(name="w_mse", shrinkage=0.0), known)
    batch = joint_batch(known, subjects=3)
    student = embeddings(batch)
    scored = objective(student, None, batch)
    first, second = objective.projector(student.whole).chunk(2)
    assert scored.figures["features"] == 3
    expected = w_mse(first[:, :3], second[:, :3], 0.0)
    assert scored.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    # The first features of all that are whitened, not others.
    z = torch.randn(20, 4, dtype=torch.float64)
    torch.testing.assert_close(whitened(z, 0.0)[:, :3], whitened(z[:, :3], 0.0))


def test_a_head_that_fulfils_the_variance_term_is_refused(known: SideInformation) -> None:
    with pytest.raises(InputError, match=r"projection.final_norm: True; vicreg asks for False"):
        build(ObjectiveConfig(name="vicreg"), known)


def test_clip_and_siglip_match_first_with_second_views_by_a_head_each(
    known: SideInformation,
) -> None:
    batch = joint_batch(known)
    student = embeddings(batch)
    for name in ("clip", "siglip"):
        objective = build(ObjectiveConfig(name=name, temperature=0.2), known)
        scored = objective(student, None, batch)
        heads = objective.projectors
        halves = student.whole.chunk(2)
        a, b = (torch.nn.functional.normalize(heads[i](halves[i]).double(), dim=1) for i in (0, 1))
        logits = a @ b.T / 0.2
        others = batch.subject[:, None] != batch.subject[None, :]
        own = torch.eye(len(batch), dtype=torch.bool)
        if name == "clip":
            kept = logits.masked_fill(~(others | own), -torch.inf)
            target = torch.arange(len(batch))
            cross = torch.nn.functional.cross_entropy
            expected = (cross(kept, target) + cross(kept.T, target)) / 2
        else:
            logits = logits - 10
            match = -torch.nn.functional.logsigmoid(logits[own]).sum()
            apart = -torch.nn.functional.logsigmoid(-logits[others]).sum()
            expected = (match + apart) / len(batch)
            assert float(scored.figures["bias"]) == -10
        assert scored.loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert float(scored.figures["temperature"]) == pytest.approx(0.2, rel=1e-6)
        assert float(scored.figures["negatives"]) == 6


def test_what_the_cosines_are_divided_by_is_learnt_and_kept(known: SideInformation) -> None:
    batch = joint_batch(known)
    for name, learnt in (("clip", "log_scale"), ("siglip", "logits.log_scale")):
        objective = build(ObjectiveConfig(name=name), known)
        objective(embeddings(batch), None, batch).loss.backward()
        parameter = dict(objective.named_parameters())[learnt]
        assert parameter.grad is not None
        assert float(parameter.grad) != 0
        assert learnt in objective.state_dict()


@pytest.mark.parametrize("negatives", [1.0, 6.0, 63.0])
def test_the_level_of_siglip_is_the_least_over_one_number_for_all_logits(negatives: float) -> None:
    x = torch.linspace(-12, 5, 200001, dtype=torch.float64)
    sigmoid = torch.nn.functional.logsigmoid
    best = (-sigmoid(x) - negatives * sigmoid(-x)).min()
    found = siglip_level(torch.tensor([negatives], dtype=torch.float64))
    assert float(found) == pytest.approx(float(best), abs=1e-7)
