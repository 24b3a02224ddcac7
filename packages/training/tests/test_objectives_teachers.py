"""Objectives with a slow teacher, a queue, a bank or prototypes: values by hand, state, two processes."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import multiprocessing as mp
from torch.nn import functional as F

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_models.encoders import build_encoder
from spinmark_models.errors import InputError as ModelsInputError
from spinmark_models.losses.byol import byol
from spinmark_models.losses.core.negative_queue import NegativeQueue
from spinmark_models.losses.core.sinkhorn import sinkhorn
from spinmark_models.losses.crd import crd, crd_chance
from spinmark_models.losses.dino import dino
from spinmark_models.losses.mochi import mochi
from spinmark_models.losses.moco import moco_v3
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.registry import get_loss
from spinmark_models.losses.simsiam import simsiam
from spinmark_models.losses.swav import swapped_prediction, swav
from spinmark_models.losses.vid import vid
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives import MomentumTeacher, Objective, Scored, Views, build_objective
from spinmark_training.objectives.dino import Dino
from spinmark_training.objectives.instance_bank import InstanceBank
from spinmark_training.objectives.momentum_contrast import MomentumContrast
from spinmark_training.objectives.settings import DEFAULTS
from spinmark_training.objectives.slow_teacher import TaughtObjective
from spinmark_training.objectives.swav import Swav
from spinmark_training.side_information import SideInformation

from .conftest import SEQUENCE
from .embedded_batch import (
    WIDTH,
    OnePoint,
    batch_of,
    build,
    embeddings,
    joint_batch,
    known_of,
    small_encoder,
)

RELATIONS = ("cka", "cka_debiased", "pkt", "rkd_angle", "rkd_distance", "similarity_preserving")
TAUGHT = (
    *("moco", "mochi_queue", "moco_v3", "byol", "dino", "cosine", "vid", "crd", "kd"),
    *RELATIONS,
)
NAMES = (*TAUGHT, "simsiam", "swav", "instance_bank")
SIZES = {"queue": 24, "prototypes": 6, "predictor": 5, "hardest": 4, "mixed": 3, "with_query": 2}
# Fewest joints that a loss is defined for.
LEAST = {"cka": 2, "cka_debiased": 4, "pkt": 2, "rkd_angle": 3, "rkd_distance": 2}
# No statistics of a batch in the heads.
PLAIN = ProjectionConfig(hidden=16, out=4, layers=1, final_norm=False)


def settings(name: str, **more: Any) -> ObjectiveConfig:
    """A small configuration of an objective."""
    sizes = {field: size for field, size in SIZES.items() if field in DEFAULTS[name]}
    return ObjectiveConfig(name=name, **{**sizes, **more})


@pytest.fixture(scope="module")
def known(world: tuple[Cohort, Split]) -> SideInformation:
    return known_of(world, SEQUENCE)


def slow_views(batch: Batch, seed: int = 50) -> Views:
    """What a teacher's encoder says."""
    return Views(embeddings(batch, seed).whole.detach())


def score(objective: Objective, batch: Batch, seed: int = 0) -> Scored:
    """Score a batch; who has no teacher is not given its views."""
    slow = None if objective.teacher is None else slow_views(batch, seed + 50)
    scored: Scored = objective(embeddings(batch, seed), slow, batch)
    return scored


def used(objective: Objective, known: SideInformation, steps: int = 2) -> Objective:
    """The objective after some steps on other batches."""
    encoder = small_encoder()
    for step in range(1, steps + 1):
        objective.before_step((step - 1) / 10)
        score(objective, joint_batch(known, subjects=5, seed=step), seed=step)
        objective.after_step(encoder, step, 10)
    return objective


def halves(objective: TaughtObjective, batch: Batch) -> tuple[tuple[Tensor, ...], ...]:
    """The student's and the teacher's projections of both views, by the same heads."""
    student = objective.head(embeddings(batch).whole)
    teacher = objective.teacher.head(slow_views(batch).whole)
    return student.chunk(2), teacher.chunk(2)


def test_moco_is_the_cross_entropy_over_the_queue_without_the_own_subject(
    known: SideInformation,
) -> None:
    objective = used(build(settings("moco", temperature=0.3), known), known)
    assert isinstance(objective, MomentumContrast)
    batch = joint_batch(known)
    (q1, q2), (k1, k2) = halves(objective, batch)
    rows, owners = objective.queue.filled()
    terms, counts = [], []
    for q, k in ((q1, k2), (q2, k1)):
        q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
        for i, subject in enumerate(batch.subject.tolist()):
            others = rows[owners != subject]
            logits = torch.cat([q[i] @ k[i][:, None], others @ q[i]]) / 0.3
            terms.append(logits.logsumexp(0) - logits[0])
            counts.append(len(others))
    scored = score(objective, batch)
    torch.testing.assert_close(scored.loss, torch.stack(terms).mean())
    assert len(rows) == 24
    assert float(scored.figures["negatives"]) == pytest.approx(sum(counts) / len(counts))
    logs = [math.log1p(count) for count in counts]
    assert float(scored.figures["chance"]) == pytest.approx(sum(logs) / len(logs))


def test_mochi_on_a_queue_draws_from_the_number_of_the_step(known: SideInformation) -> None:
    objective = used(build(settings("mochi_queue"), known), known)
    assert isinstance(objective, MomentumContrast)
    batch = joint_batch(known)
    objective.before_step(0.25)
    (q1, q2), (k1, k2) = halves(objective, batch)
    generator = torch.Generator().manual_seed(round(0.25 * 2**31))
    want = [
        mochi(
            q,
            k,
            0.2,
            queue=objective.queue,
            hardest=4,
            mixed=3,
            with_query=2,
            generator=generator,
            groups=batch.subject,
        )
        for q, k in ((q1, k2), (q2, k1))
    ]
    torch.testing.assert_close(score(objective, batch).loss, (want[0] + want[1]) / 2)
    again = score(objective, batch).loss
    assert torch.equal(again, score(objective, batch).loss)
    objective.before_step(0.5)
    assert not torch.equal(again, score(objective, batch).loss)


def test_moco_v3_byol_and_simsiam_are_the_losses_of_their_heads(known: SideInformation) -> None:
    batch = joint_batch(known)
    contrast = build(settings("moco_v3", temperature=0.3), known)
    assert isinstance(contrast, TaughtObjective)
    (s1, s2), (t1, t2) = halves(contrast, batch)
    p1, p2 = contrast.predictor(torch.cat([s1, s2])).chunk(2)  # type: ignore[operator]
    want = moco_v3(p1, p2, t1, t2, 0.3, batch.subject)
    torch.testing.assert_close(score(contrast, batch).loss, want)

    taught = build(settings("byol"), known)
    assert isinstance(taught, TaughtObjective)
    (s1, s2), (t1, t2) = halves(taught, batch)
    p1, p2 = taught.predictor(torch.cat([s1, s2])).chunk(2)  # type: ignore[operator]
    torch.testing.assert_close(score(taught, batch).loss, byol(p1, p2, t1, t2))

    alone: Any = build(settings("simsiam"), known)
    assert alone.teacher is None
    z = alone.projector(embeddings(batch).whole)
    p1, p2 = alone.predictor(z).chunk(2)
    torch.testing.assert_close(score(alone, batch).loss, simsiam(p1, p2, *z.chunk(2)))


@pytest.mark.parametrize("ignore", [True, False])
def test_the_bank_is_asked_with_the_other_view_for_who_is_new(
    known: SideInformation, ignore: bool
) -> None:
    objective = build(settings("instance_bank", ignore_same_subject=ignore), known)
    assert isinstance(objective, InstanceBank)
    batch = joint_batch(known, subjects=5)
    part = batch_of(batch.first[:5].tolist(), batch.second[:5].tolist(), [0, 0, 1, 1, 2])
    score(objective, part)
    objective.after_step(small_encoder(), 1, 10)
    slots, bank = known.joints()[batch.first], objective.bank
    assert sorted(slots[:5].tolist()) == torch.nonzero(bank.filled)[:, 0].tolist()
    z = F.normalize(objective.projector(embeddings(batch).whole), dim=1)
    n, terms, counts = len(batch), [], []
    for i in range(2 * n):
        slot, subject = int(slots[i % n]), int(batch.subject[i % n])
        own = bank.rows[slot] if bool(bank.filled[slot]) else z[(i + n) % (2 * n)].detach()
        others = [
            bank.rows[j]
            for j in range(len(bank.rows))
            if bool(bank.filled[j])
            and j != slot
            and not (ignore and int(bank.groups[j]) == subject)
        ]
        logits = torch.stack([z[i] @ own, *(z[i] @ row for row in others)]) / 0.07
        terms.append(logits.logsumexp(0) - logits[0])
        counts.append(len(others))
    scored = score(objective, batch)
    torch.testing.assert_close(scored.loss, torch.stack(terms).mean())
    assert float(scored.figures["negatives"]) == pytest.approx(sum(counts) / len(counts))


def test_the_bank_holds_training_joints_only(world: tuple[Cohort, Split]) -> None:
    known, (cohort, split) = known_of(world, SEQUENCE), world
    objective = used(build(settings("instance_bank"), known), known)
    assert isinstance(objective, InstanceBank)
    sets = dict(zip(split.frame["subject_id"], split.frame["set"], strict=True))
    joints = known.joints()
    scans = cohort.scans(SEQUENCE)
    held_out = [sets[s] != "train" for s in scans["subject_id"]]
    assert any(held_out)
    assert not objective.bank.filled[joints[torch.tensor(held_out)]].any()


def prepared(name: str, known: SideInformation, **more: Any) -> Objective:
    """An objective with several grids, in the middle of its run."""
    encoder = build_encoder(
        EncoderConfig(name="resnet10", widths=(4, 4, 8, WIDTH), stem_kernel=(3, 3, 3)), (8, 16, 16)
    )
    objective = build_objective(settings(name, **more), PLAIN, encoder, known)
    objective.before_step(0.15)
    return objective


def with_local(batch: Batch, views: int) -> Views:
    parts = [embeddings(batch, seed).whole[: len(batch)] for seed in range(20, 20 + views)]
    return Views(embeddings(batch).whole, torch.cat(parts) if parts else None)


@pytest.mark.parametrize("views", [0, 3])
def test_dino_follows_the_centred_teacher_on_other_views(
    known: SideInformation, views: int
) -> None:
    objective = prepared("dino", known, local_views=views)
    assert isinstance(objective, Dino)
    objective.centre.value.copy_(torch.linspace(-0.1, 0.1, 6))
    batch = joint_batch(known)
    student, slow = with_local(batch, views), slow_views(batch)
    rows = torch.cat([student.whole, *([] if student.local is None else [student.local])])
    said = objective.head(rows).scores.chunk(2 + views)
    outputs = objective.teacher.head(slow.whole).scores.chunk(2)
    # Half of the warm-up has passed.
    assert objective.teacher_temperature == pytest.approx(0.055)
    want = dino(said, outputs, objective.centre.value, 0.1, 0.055)
    scored = objective(student, slow, batch)
    torch.testing.assert_close(scored.loss, want)
    assert scored.projected.shape == (2 * len(batch), 4)
    before = objective.centre.value.clone()
    objective.remember()
    mean = torch.cat(outputs).mean(dim=0)
    torch.testing.assert_close(objective.centre.value, 0.9 * before + 0.1 * mean)


def test_a_teacher_that_decides_has_no_entropy_and_one_that_does_not_all(
    known: SideInformation,
) -> None:
    objective, batch = prepared("dino", known), joint_batch(known)
    assert isinstance(objective, Dino)
    found = []
    for scale in (0.0, 1e6):
        nn.init.constant_(objective.teacher.head.prototypes.weight, 1.0)  # type: ignore[union-attr, arg-type]
        objective.centre.value.copy_(scale * torch.arange(6.0))
        figures = objective(embeddings(batch), slow_views(batch), batch).figures
        found.append(float(figures["teacher_entropy"]))
    assert found == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize(("start", "warmup"), [(0.02, 0.0), (0.04, 0.5), (0.1, 1.0)])
def test_the_teachers_temperature_goes_evenly_to_its_end(
    known: SideInformation, start: float, warmup: float
) -> None:
    objective = build(
        settings("dino", teacher_temperature_start=start, teacher_warmup=warmup), known
    )
    assert isinstance(objective, Dino)
    for progress in (0.0, 0.2, 0.5, 0.9):
        objective.before_step(progress)
        share = 1.0 if warmup == 0 else min(1.0, progress / warmup)
        assert objective.teacher_temperature == pytest.approx(start + (0.07 - start) * share)


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_held_prototypes_have_a_gradient_of_zero(name: str, known: SideInformation) -> None:
    objective: Any = build(settings(name, freeze_prototypes=0.1), known)
    batch, losses = joint_batch(known), []
    for progress, moves in ((0.05, False), (0.1, True)):
        objective.zero_grad()
        objective.before_step(progress)
        objective.teacher_temperature = 0.05
        loss = score(objective, batch).loss
        loss.backward()  # type: ignore[no-untyped-call]
        grown = objective.head.prototypes.weight.grad
        assert bool(grown.any()) == moves
        losses.append(loss.detach())
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("queue", [0, 24])
def test_swav_is_the_library_s_with_what_is_stored(known: SideInformation, queue: int) -> None:
    objective = used(build(settings("swav", queue=queue), known, PLAIN), known)
    assert isinstance(objective, Swav)
    batch = joint_batch(known)
    first, second = objective.head(embeddings(batch).whole).scores.chunk(2)
    stored = [objective.head.score(q.filled()[0]) for q in objective.queues]  # type: ignore[operator]
    assert [len(rows) for rows in stored] == ([20, 20] if queue else [])
    more = {f"stored{i}_MK": rows for i, rows in enumerate(stored, 1)}
    torch.testing.assert_close(score(objective, batch).loss, swav(first, second, **more))


def test_swav_assigns_whole_views_and_all_others_predict(known: SideInformation) -> None:
    objective = prepared("swav", known, local_views=2)
    batch = joint_batch(known)
    student = with_local(batch, 2)
    assert isinstance(objective, Swav)
    assert student.local is not None
    scores = objective.head(torch.cat([student.whole, student.local])).scores.chunk(4)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]
    terms = [swapped_prediction(scores[b], sinkhorn(scores[a]), 0.1) for a, b in pairs]
    torch.testing.assert_close(objective(student, None, batch).loss, torch.stack(terms).mean())


@pytest.mark.parametrize("name", ["cosine", "vid", "crd", "kd", *RELATIONS])
@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_self_distillation_is_its_loss_both_ways_and_a_contrast(
    name: str, contrast: float, known: SideInformation
) -> None:
    # A linear predictor says of each view what it says of both together.
    more = {"predictor": 0} if name in ("vid", "cosine") else {}
    objective: Any = build(settings(name, consistency=2.0, contrast=contrast, **more), known)
    batch = joint_batch(known)
    (s1, s2), (t1, t2) = halves(objective, batch)

    def one_way(s: Tensor, t: Tensor) -> Tensor:
        if name == "crd":
            maps = objective.compare
            rows, keys = maps.of_student(s), maps.of_teacher(t)
            return crd(rows, keys, 0.07, log_mean=1 / (2 * 4 * 0.07**2), groups=batch.subject)
        if name == "kd":
            return F.kl_div((s / 4).log_softmax(1), (t / 4).softmax(1), reduction="batchmean") * (
                4.0**2
            )
        if name == "vid":
            return vid(objective.compare.predictor(s), t, objective.compare.variance())
        if name == "cosine":
            return (2 - 2 * F.cosine_similarity(objective.compare.predictor(s), t)).mean()
        found: Tensor = get_loss(name)(s, t)
        return found

    want = one_way(s1, t2) + one_way(s2, t1)
    if contrast:
        want = want + contrast * nt_xent(s1, s2, 0.1, batch.subject)
    torch.testing.assert_close(score(objective, batch).loss, want)


def test_cosine_without_a_contrast_is_half_of_byol(known: SideInformation) -> None:
    batch = joint_batch(known)
    one: Any = build(settings("cosine"), known)
    other: Any = build(settings("byol"), known)
    other.head.load_state_dict(one.head.state_dict())
    other.teacher.load_state_dict(one.teacher.state_dict())
    other.predictor.load_state_dict(one.compare.predictor.state_dict())
    torch.testing.assert_close(2 * score(one, batch).loss, score(other, batch).loss)


def test_the_chance_of_crd_is_the_library_s(known: SideInformation) -> None:
    batch = joint_batch(known)
    scored = score(build(settings("crd", ignore_same_subject=False), known), batch)
    assert float(scored.figures["chance"]) == pytest.approx(crd_chance(len(batch)))
    assert float(scored.figures["negatives"]) == len(batch) - 1
    one = score(build(settings("crd"), known), batch_of([0, 4], [0, 4], [3, 3]))
    assert float(one.figures["chance"]) == 0


@pytest.mark.parametrize("name", ["moco", "mochi_queue", "moco_v3", "instance_bank"])
def test_an_encoder_that_maps_all_to_one_point_is_at_its_chance(
    name: str, known: SideInformation
) -> None:
    objective: Any = build(settings(name), known, PLAIN)
    for holder, part in ((objective, "head"), (objective, "projector"), (objective, "predictor")):
        if hasattr(holder, part):
            setattr(holder, part, OnePoint())
    if objective.teacher is not None:
        objective.teacher.head = OnePoint()
    batch = joint_batch(known)
    score(objective, joint_batch(known, subjects=6, seed=2))
    if objective.teacher is not None:
        objective.remember()
    else:
        objective.after_step(small_encoder(), 1, 10)
    scored = score(objective, batch)
    assert float(scored.figures["chance"]) > 0
    assert float(scored.loss.detach()) == pytest.approx(float(scored.figures["chance"]), rel=1e-5)


@pytest.mark.parametrize("name", TAUGHT)
def test_the_teacher_moves_by_its_closed_form(name: str, known: SideInformation) -> None:
    objective: Any = build(settings(name, momentum=0.8), known)
    student = small_encoder()
    with torch.no_grad():
        for tensor in (*student.parameters(), *objective.head.parameters()):
            tensor.add_(torch.randn(tensor.shape))
    before = copy.deepcopy(objective.teacher.state_dict())
    objective.after_step(student, 3, 12)
    share = 1 - 0.2 * (math.cos(math.pi * 3 / 12) + 1) / 2
    own = {f"encoder.{k}": v for k, v in student.state_dict().items()}
    own |= {f"head.{k}": v for k, v in objective.head.state_dict().items()}
    after = objective.teacher.state_dict()
    assert after.keys() == own.keys()
    for key, value in own.items():
        want = share * before[key] + (1 - share) * value if value.is_floating_point() else value
        torch.testing.assert_close(after[key], want)
    assert not any(p.requires_grad for p in objective.teacher.parameters())


def test_a_teacher_of_a_short_run_is_faster() -> None:
    encoder, head = small_encoder(), nn.Linear(WIDTH, 4)
    given = MomentumTeacher(encoder, head, 0.9)
    assert given.start(5) == given.start(10**6) == 0.9
    usual = MomentumTeacher(encoder, head)
    assert [usual.start(steps) for steps in (1, 10, 100, 2500, 10**6)] == pytest.approx(
        [0.0, 0.0, 0.9, 0.996, 0.996]
    )
    assert MomentumTeacher(encoder, head, longest=0.999).start(10**6) == 0.999


def stores(objective: Objective) -> dict[str, Tensor]:
    """What is remembered, apart from the running statistics of normalisations."""
    return {
        key: value.clone()
        for key, value in objective.state_dict().items()
        if key.startswith(("queue", "bank", "centre"))
    }


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_a_checkpoint_and_forward_leaves_no_trace(
    name: str, known: SideInformation
) -> None:
    config = settings(name, **({"queue": 24} if name == "swav" else {}))
    objective = used(build(config, known, PLAIN), known)
    again = build(config, known, PLAIN)
    again.load_state_dict(copy.deepcopy(objective.state_dict()))
    batch = joint_batch(known)
    for each in (objective, again):
        each.before_step(0.5)
    before = stores(objective)
    first, second = (score(each, batch).loss for each in (objective, again))
    assert torch.equal(first, second)
    assert torch.equal(first, score(objective, batch).loss)
    for key, value in stores(objective).items():
        assert torch.equal(value, before[key])
    if name in ("moco", "mochi_queue", "dino", "swav", "instance_bank"):
        for each in (objective, again):
            each.after_step(small_encoder(), 3, 10)
        after, other = stores(objective), stores(again)
        assert any(not torch.equal(after[key], before[key]) for key in before)
        assert all(torch.equal(after[key], other[key]) for key in after)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_the_embeddings_and_every_weight(
    name: str, known: SideInformation
) -> None:
    objective = used(build(settings(name), known), known)
    objective.before_step(0.5)
    batch = joint_batch(known)
    student = embeddings(batch)
    slow = None if objective.teacher is None else slow_views(batch)
    objective(student, slow, batch).loss.backward()
    assert student.whole.grad is not None
    assert student.whole.grad.abs().max() > 0
    for key, weight in objective.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, key


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("subjects", [[3], [3, 3], [3, 3, 4]])
def test_a_tiny_batch_gives_a_number_or_one_line(
    name: str, subjects: list[int], known: SideInformation
) -> None:
    objective = build(settings(name), known)
    batch = batch_of(list(range(len(subjects))), list(range(len(subjects))), subjects)
    if len(subjects) < LEAST.get(name, 1):
        with pytest.raises(ModelsInputError, match=r"A batch has .*example.*at least") as caught:
            score(objective, batch)
        assert "\n" not in str(caught.value)
        return
    scored = score(objective, batch)
    assert torch.isfinite(scored.loss)
    assert all(math.isfinite(float(value)) for value in scored.figures.values())


@pytest.mark.parametrize(
    ("name", "more", "match"),
    [
        ("moco", {"queue": 0}, r"objective.queue: 0; accepted are 1 and more"),
        ("moco", {"momentum": 1.5}, r"objective.momentum: 1.5; accepted are numbers in \[0, 1\]"),
        ("moco", {"local_views": 2}, "objective.local_views: 2; moco does not use it"),
        ("mochi_queue", {"hardest": 0}, "objective.hardest: 0"),
        ("byol", {"predictor": -1}, "objective.predictor: -1"),
        ("dino", {"prototypes": 1}, "objective.prototypes: 1; accepted are 2 and more"),
        ("dino", {"teacher_temperature": 0.0}, "objective.teacher_temperature: 0"),
        ("dino", {"teacher_warmup": 2.0}, "objective.teacher_warmup: 2"),
        ("dino", {"centre_momentum": -1.0}, "objective.centre_momentum: -1"),
        ("dino", {"local_views": -1}, "objective.local_views: -1"),
        ("dino", {"local_views": 2}, "'residual3d' takes volumes of one grid only.*resnet10"),
        ("swav", {"epsilon": 0.0}, "objective.epsilon: 0"),
        ("swav", {"freeze_prototypes": 2.0}, "objective.freeze_prototypes: 2"),
        ("instance_bank", {"bank_momentum": 1.5}, "objective.bank_momentum: 1.5"),
        ("kd", {"contrast": -1.0}, "objective.contrast: -1"),
        ("pkt", {"contrast_temperature": 0.0}, "objective.contrast_temperature: 0"),
    ],
)
def test_an_impossible_setting_is_refused_in_one_line(
    name: str, more: dict[str, Any], match: str, known: SideInformation
) -> None:
    with pytest.raises(InputError, match=match) as caught:
        build(settings(name, **more), known)
    assert "\n" not in str(caught.value)


def test_smaller_views_that_do_not_come_are_missed_in_one_line(known: SideInformation) -> None:
    objective, batch = prepared("swav", known, local_views=2), joint_batch(known)
    with pytest.raises(InputError, match=r"objective.local_views: 2; .* data.local_shape"):
        objective(embeddings(batch), None, batch)


def test_smaller_views_pass_a_real_encoder(known: SideInformation) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(
        EncoderConfig(name="resnet10", widths=(4, 4, 8, 8), stem_kernel=(3, 3, 3)), (8, 16, 16)
    )
    objective = build_objective(settings("dino", local_views=2), PLAIN, encoder, known)
    batch = batch_of([0, 1, 4], [0, 1, 4], [0, 0, 1])
    whole, local = torch.randn(6, 1, 8, 16, 16), torch.randn(6, 1, 4, 8, 8)
    assert objective.teacher is not None
    with torch.no_grad():
        slow = Views(objective.teacher.encoder(whole).embedding)
    student = Views(encoder(whole).embedding, encoder(local).embedding)
    objective.before_step(0.5)
    objective(student, slow, batch).loss.backward()
    assert all(p.grad is not None for p in encoder.parameters())
    objective.after_step(encoder, 1, 4)


def test_the_queue_counts_its_keys_again_after_a_checkpoint() -> None:
    full, empty = NegativeQueue(4, 3), NegativeQueue(4, 3)
    full.enqueue(torch.randn(3, 3))
    empty.load_state_dict(full.state_dict())
    assert len(empty) == len(full) == 3
    empty.load_state_dict(NegativeQueue(4, 3).state_dict())
    assert len(empty) == 0


def shared_batch() -> Batch:
    """Eight joints whose subjects cross the two processes."""
    return batch_of([0, 4, 8, 12, 2, 6, 10, 14], [0, 4, 8, 12, 2, 6, 10, 14], [0, 1, 2, 3] * 2)


def share_of(views: Views, rank: int) -> Views:
    """Four joints of each whole view."""
    parts = [view[4 * rank : 4 * rank + 4] for view in views.whole.detach().chunk(2)]
    return Views(torch.cat(parts).requires_grad_())


class Joints:
    """Numbers of joints, which is all that is asked here."""

    def joints(self) -> Tensor:
        """Every second scan belongs to the joint of the one before."""
        return torch.arange(16) // 2


def one_step(name: str, rank: int | None) -> dict[str, Any]:
    """Two steps of one process, or of one of two; the second is what is looked at."""
    more = {"queue": 24} if name == "swav" else {}
    if "predictor" in DEFAULTS[name]:
        more["predictor"] = 0
    objective = build(settings(name, **more), Joints(), PLAIN)  # type: ignore[arg-type]
    whole = shared_batch()
    here = slice(None) if rank is None else slice(4 * rank, 4 * rank + 4)
    batch = batch_of(
        whole.first[here].tolist(), whole.second[here].tolist(), whole.subject[here].tolist()
    )
    encoder, found = small_encoder(), dict[str, Any]()
    for step in (1, 2):
        student, slow = embeddings(whole, step), slow_views(whole, 60 + step)
        if rank is not None:
            student, slow = share_of(student, rank), share_of(slow, rank)
        objective.before_step(step / 4)
        objective.zero_grad()
        scored = objective(student, None if objective.teacher is None else slow, batch)
        scored.loss.backward()
        grown = student.whole.grad
        found = {
            "loss": scored.loss.detach(),
            "grown": grown,
            "weights": {k: p.grad for k, p in objective.named_parameters() if p.requires_grad},
            "figures": {
                k: torch.as_tensor(v)
                for k, v in scored.figures.items()
                if k in ("chance", "negatives", "chance_contrast")
            },
        }
        objective.after_step(encoder, step, 4)
    return found | {"stores": stores(objective)}


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save({name: one_step(name, rank) for name in NAMES}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.multiproc
def test_two_processes_are_one(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name in NAMES:
        one, (first, second) = one_step(name, None), (part[name] for part in parts)
        close = {"msg": lambda text, name=name: f"{name}: {text}", "rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close((first["loss"] + second["loss"]) / 2, one["loss"], **close)
        # First views of both processes, then second ones.
        halves_of = [part["grown"].chunk(2) for part in (first, second)]
        grown = torch.cat([halves_of[r][view] for view in (0, 1) for r in (0, 1)]) / 2
        torch.testing.assert_close(grown, one["grown"], **close)
        for key, want in one["weights"].items():
            got = (first["weights"][key] + second["weights"][key]) / 2
            torch.testing.assert_close(got, want, **close)
        for part in (first, second):
            torch.testing.assert_close(part["figures"], one["figures"], **close)
            kept = {k: v for k, v in part["stores"].items() if not k.startswith("queue")}
            torch.testing.assert_close(kept, {k: one["stores"][k] for k in kept}, **close)
            for key in part["stores"]:
                # Both hold the same; a queue takes the processes' keys in another order.
                assert torch.equal(first["stores"][key], second["stores"][key])
