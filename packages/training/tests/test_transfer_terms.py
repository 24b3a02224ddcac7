"""Terms between image and table against written-out sums in float64."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.clip import clip_loss
from spinmark_models.losses.registry import LOSSES, get_loss
from spinmark_training.errors import InputError
from spinmark_training.side_information import SideInformation
from spinmark_training.transfer import (
    TRANSFERS,
    FittedTeacher,
    ScanTables,
    Taught,
    load_alignment,
    save_alignment,
)
from spinmark_training.transfer.match import RELATIONS, Relational
from spinmark_training.transfer.near_tables import NearTables, near_tables, near_weights
from spinmark_training.transfer.soft_targets import best_constant
from spinmark_training.transfer.tables import CellColumns

from .embedded_batch import WIDTH, batch_of, embeddings, joint_batch
from .tabled_world import SEQUENCE, write_tabled
from .taught_world import fitted_teacher, self_supervised, transfer_of

World = tuple[FittedTeacher, SideInformation]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> World:
    return fitted_teacher(write_tabled(tmp_path_factory.mktemp("t") / "cohort"), SEQUENCE)


class Columns(CellColumns):
    """Columns of given numbers and codes."""

    def __init__(self, values: Tensor, nominal: Tensor) -> None:
        torch.nn.Module.__init__(self)
        seen = values.nan_to_num(nan=math.inf)
        self.place = torch.arange(len(values))
        self.values = values
        self.ranges = values.nan_to_num(nan=-math.inf).amax(0) - seen.amin(0)
        self.nominal = nominal


def gower_by_hand(rows: Tensor, ranges: Tensor, nominal: Tensor, i: int, j: int) -> float | None:
    """Gower's similarity of two rows, or none if they share fewer than half of the columns."""
    found = []
    for a, b, width, name in zip(rows[i], rows[j], ranges, nominal, strict=True):
        if bool(torch.isnan(a)) or bool(torch.isnan(b)):
            continue
        found.append(float(a == b) if name else 1 - float((a - b).abs() / width))
    return sum(found) / len(found) if len(found) >= max(1, len(ranges) / 2) else None


def by_hand(
    image: Tensor,
    table: Tensor,
    cells: Columns,
    temperature: float,
    softness: float,
    direction: float,
    subject: Tensor | None,
) -> float:
    """The formula of `near_tables`, term by term."""
    n = len(image)
    s = [[float(F.cosine_similarity(a, b, dim=0)) / temperature for b in table] for a in image]
    total = 0.0
    for i in range(n):
        kept = [j for j in range(n) if j == i or subject is None or subject[i] != subject[j]]
        w = {}
        for j in kept:
            g = gower_by_hand(cells.values, cells.ranges, cells.nominal, i, j)
            w[j] = 1.0 if i == j else 0.0 if g is None else math.exp((g - 1) / softness)
        p = {j: w[j] / sum(w.values()) for j in kept}
        across = math.log(sum(math.exp(s[i][j]) for j in kept))
        down = math.log(sum(math.exp(s[j][i]) for j in kept))
        total += direction * sum(p[j] * (across - s[i][j]) for j in kept)
        total += (1 - direction) * sum(p[j] * (down - s[j][i]) for j in kept)
    return total / n


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    softness=st.sampled_from([0.03, 0.1, 1.0]),
    direction=st.sampled_from([0.0, 0.3, 1.0]),
    grouped=st.booleans(),
)
def test_near_tables_are_positives_by_degree(
    seed: int, softness: float, direction: float, grouped: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(7, 4))
    values[:, 3] = rng.integers(0, 3, 7)
    values[rng.random((7, 4)) < 0.3] = np.nan
    values[0] = [0.0, 1.0, 2.0, 0.0]
    values[1] = [1.0, 0.0, 1.0, 2.0]
    cells = Columns(torch.from_numpy(values), torch.tensor([False, False, False, True]))
    image, table = (torch.from_numpy(rng.normal(size=(7, 5))) for _ in range(2))
    subject = torch.tensor([0, 0, 1, 1, 2, 3, 4]) if grouped else None
    weights = near_weights(cells.values, cells, softness, subject)
    found = near_tables(image, table, weights, 0.2, direction=direction, groups=subject)
    expected = by_hand(image, table, cells, 0.2, softness, direction, subject)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_with_no_softness_near_tables_are_clip() -> None:
    generator = torch.Generator().manual_seed(1)
    image, table, values = (
        torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    image.requires_grad_()
    cells = Columns(values, torch.zeros(4, dtype=torch.bool))
    near = near_tables(image, table, near_weights(values, cells, 1e-6), 0.1, direction=0.2)
    plain = clip_loss(image, table, 0.1, lam=0.2)
    assert near.item() == pytest.approx(plain.item(), rel=1e-12)
    for a, b in zip(
        torch.autograd.grad(near, image), torch.autograd.grad(plain, image), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_near_tables_move_between_their_floor_and_chance(taught: World) -> None:
    teacher, known = taught
    assert teacher.tables is not None
    term = NearTables(CellColumns(teacher.tables), 0.1, 0.1, 0.5)
    batch = joint_batch(known)
    figures = term.figures(batch)
    same = torch.ones(2 * len(batch), 3)
    assert term(same, same, batch).item() == pytest.approx(
        float(figures["chance_near_tables"]), rel=1e-5
    )
    assert float(figures["floor_near_tables"]) < float(figures["chance_near_tables"])
    assert float(figures["chance_near_tables"]) == pytest.approx(math.log(len(batch)), rel=1e-6)


def test_the_chance_of_the_contrasts_is_the_loss_of_one_point(taught: World) -> None:
    batch = joint_batch(taught[1])
    for name in ("clip", "siglip"):
        for ignore in (False, True):
            transfer = transfer_of(taught, terms={name: 1.0}, ignore_same_subject=ignore)
            term = transfer.terms[name]
            same = torch.ones(2 * len(batch), 3)
            if name == "siglip":
                # One logit for all pairs, at its best.
                others = sum(
                    int((batch.subject != s).sum()) if ignore else len(batch) - 1
                    for s in batch.subject
                ) / len(batch)
                with torch.no_grad():
                    term.logits.bias.fill_(-math.log(others))
                    term.logits.log_scale.fill_(-100.0)
            level = float(term.figures(batch)[f"chance_{name}"])
            assert term(same, same, batch).item() == pytest.approx(level, rel=1e-5)


def test_a_learnt_temperature_starts_at_the_one_given_and_moves(taught: World) -> None:
    batch = joint_batch(taught[1])
    fixed, learnt = (
        transfer_of(taught, terms={"clip": 1.0}, temperature=0.2, learn_temperature=learn)
        for learn in (False, True)
    )
    z = embeddings(batch).whole
    ssl = self_supervised(z, batch)
    (a, _), (b, figures) = fixed(ssl, z, batch), learnt(ssl, z, batch)
    assert a.item() == pytest.approx(b.item(), rel=1e-6)
    assert float(figures["temperature_clip"]) == pytest.approx(0.2)
    b.backward()
    assert learnt.terms["clip"].log_scale.grad.abs() > 0


def test_terms_are_the_losses_of_the_library_behind_linear_maps(taught: World) -> None:
    batch = joint_batch(taught[1])
    z = embeddings(batch).whole
    latent = taught[0].targets[torch.cat([batch.first, batch.second])]
    for name in TRANSFERS:
        if name in ("clip", "siglip", "near_tables", "soft_targets"):
            continue
        term = transfer_of(taught, terms={name: 1.0}).terms[name]
        moving = latent.clone().requires_grad_()
        value = term(z, Taught(moving, moving), batch)
        loss = get_loss(name)
        (z1, z2), (t1, t2) = z.chunk(2), latent.chunk(2)
        if name in RELATIONS:
            expected = (loss(z1, t1) + loss(z2, t2)) / 2
        elif name == "crd":
            maps = term.of_student, term.of_teacher
            log_mean = 1 / (2 * maps[0].out_features * 0.07**2)
            pairs = ((maps[0](z1), maps[1](t1)), (maps[0](z2), maps[1](t2)))
            expected = sum(loss(*pair, 0.07, log_mean=log_mean) for pair in pairs) / 2
        elif name == "vid":
            expected = loss(term.predictor(z), latent, term.variance())
        else:
            expected = loss(term.predictor(z), latent)
        torch.testing.assert_close(value, expected, msg=name)
        if name != "crd":
            assert torch.autograd.grad(value, moving, allow_unused=True)[0] is None, name


def test_every_distillation_loss_of_the_library_is_a_term() -> None:
    of_library = {name for name, entry in LOSSES.items() if entry.family == "distillation"}
    assert of_library | {"clip", "siglip"} <= set(TRANSFERS)


@pytest.mark.parametrize("name", sorted(RELATIONS))
def test_a_relation_of_too_few_rows_says_nothing(name: str) -> None:
    for joints in range(1, 5):
        batch = batch_of(*([list(range(joints))] * 3))
        z = embeddings(batch).whole
        latent = torch.randn(2 * joints, 3)
        value = Relational(name)(z, Taught(latent, latent), batch)
        value.backward()
        assert z.grad is not None
        assert z.grad.isfinite().all()
        if joints < RELATIONS[name]:
            assert value.item() == 0


def soft_by_hand(term: torch.nn.Module, said: Tensor, target: Tensor, temperature: float) -> float:
    """The mean over variables of Huber losses and softened divergences, cell by cell."""
    total, column = 0.0, 0
    for size in term._sizes:
        losses = []
        for own, wanted in zip(said.double(), target.double(), strict=True):
            if size:
                p = np.exp(wanted[column : column + size].numpy() / temperature)
                q = np.exp(own[column : column + size].numpy() / temperature)
                p, q = p / p.sum(), q / q.sum()
                losses.append(temperature**2 * float((p * np.log(p / q)).sum()))
            else:
                error = abs(float(own[column] - wanted[column]))
                losses.append(error**2 / 2 if error < 1 else error - 0.5)
        total += sum(losses) / len(losses)
        column += max(1, size)
    return total / len(term._sizes)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_targets_are_what_the_teacher_expects(taught: World, temperature: float) -> None:
    teacher, known = taught
    symptoms = ("symptom", "RACE", "SEX", "AGE")
    transfer = transfer_of(
        taught, terms={"soft_targets": 1.0}, symptoms=symptoms, soft_temperature=temperature
    )
    term, batch = transfer.terms["soft_targets"], joint_batch(known)
    said = transfer.rows(batch).said
    assert said is not None
    z = embeddings(batch).whole
    value = term(z, transfer.rows(batch), batch)
    with torch.no_grad():
        expected = soft_by_hand(term, term.heads(z), said, temperature)
        flat = soft_by_hand(term, term.constant.expand(len(z), -1), said, temperature)
    assert value.item() == pytest.approx(expected, rel=1e-4)
    assert float(term.figures(batch)["chance_soft_targets"]) == pytest.approx(flat, rel=1e-4)
    # Rows whose symptom was never asked have a target as well.
    assert teacher.tables is not None
    place = teacher.tables.place
    pain = teacher.encoder.schema.names.index("WOMKP")
    seen = place < len(teacher.tables.rows.observed)
    unasked = ~teacher.tables.rows.observed[place[seen], pain]
    assert unasked.any()
    assert transfer.rows.said[seen][unasked].isfinite().all()
    assert transfer.rows.said[~seen].isnan().all()


def test_heads_begin_with_the_best_constant() -> None:
    generator = torch.Generator().manual_seed(4)
    said = torch.randn(50, 4, generator=generator) * 2
    start = best_constant(said, (0, 3), 2.0).double()

    def loss(constant: Tensor) -> Tensor:
        flat = constant.expand(50, -1)
        wanted = (said[:, 1:].double() / 2).softmax(1)
        divergence = F.kl_div((flat[:, 1:] / 2).log_softmax(1), wanted, reduction="batchmean")
        return F.huber_loss(flat[:, 0], said[:, 0].double()) + 4 * divergence

    moving = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(moving), moving)
    assert gradient.abs().max() < 1e-6


def test_what_nobody_may_learn_from_ends_the_run(taught: World) -> None:
    teacher, known = taught
    assert teacher.tables is not None
    hidden = torch.nonzero(known.subjects() < 0)[:4, 0].tolist()
    batch = batch_of(hidden, hidden, [0, 0, 1, 1])
    transfer = transfer_of(taught, terms={"rkd_distance": 1.0})
    z = embeddings(batch).whole
    assert transfer(self_supervised(z, batch), z, batch)[0].isnan()
    joint = transfer_of(taught, terms={"clip": 1.0}, teacher="joint")
    with pytest.raises(IndexError):
        joint(self_supervised(z, batch), z, batch)


def test_the_heads_of_a_run_in_parts_take_the_whole_embedding(
    taught: World, tmp_path: Path
) -> None:
    from spinmark_training.config import PartsConfig

    transfer = transfer_of(taught, terms={"clip": 1.0}, parts=PartsConfig(table=3))
    assert transfer.heads is not None
    save_alignment(tmp_path / "alignment", transfer.heads)
    heads = load_alignment(tmp_path)
    assert heads is not None
    z = torch.randn(5, WIDTH)
    changed = torch.cat([z[:, :3], torch.randn(5, WIDTH - 3)], dim=1)
    assert torch.equal(heads.image(z), heads.image(changed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms": {"clop": 1.0}}, "transfer.terms: 'clop'; accepted are"),
        ({"terms": {"clip": -1.0}}, "transfer.terms.clip: -1.0; accepted are 0 and more"),
        ({"ssl_weight": math.nan}, "ssl_weight: nan; accepted are 0 and more"),
        ({"temperature": 0.0}, "transfer.temperature: 0.0; accepted are numbers above 0"),
        ({"softness": -1.0}, "transfer.softness: -1.0"),
        ({"direction": 1.5}, r"transfer.direction: 1.5; accepted are values in \[0, 1\]"),
        ({"corruption": 2.0}, "transfer.corruption: 2.0"),
        ({"memory": 1.0}, r"transfer.memory: 1.0; accepted are values in \[0, 1\)"),
        ({"pretext": -1.0}, "transfer.pretext: -1.0"),
        ({"terms": {"cka": 1.0}, "teacher": "joint"}, "of which the teacher learns nothing"),
        ({"terms": {"soft_targets": 1.0}, "teacher": "mutual"}, "learns nothing"),
        (
            {"terms": {"soft_targets": 1.0}, "symptoms": ("XRKL",)},
            "transfer.symptoms: 'XRKL'; accepted are inputs of the teacher",
        ),
        (
            {"terms": {"clip": 1.0, "soft_targets": 1.0}, "teacher": "joint", "pretext": 0.0},
            "nobody trains it to",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    taught: World, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        transfer_of(taught, **changes)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_teacher_that_learns_along_takes_single_rows(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    world = write_tabled(tmp_path_factory.mktemp("t") / "cohort")
    sequence = fitted_teacher(world, SEQUENCE, visits="sequence")
    batch = joint_batch(sequence[1])
    z = embeddings(batch).whole
    near = transfer_of(sequence, terms={"near_tables": 1.0})
    assert near(self_supervised(z, batch), z, batch)[0].isfinite()
    with pytest.raises(InputError, match=r"with teacher.visits 'sequence'; accepted are row"):
        transfer_of(sequence, terms={"clip": 1.0}, teacher="joint")


def test_a_column_that_nobody_has_is_shared_by_nobody(taught: World) -> None:
    tables = taught[0].tables
    assert tables is not None
    observed = tables.rows.observed.clone()
    observed[:, 0] = False
    rows = tables.rows._replace(observed=observed)
    cells = CellColumns(ScanTables(tables.schema, rows, tables.place))
    assert cells.ranges.isfinite().all()
    assert near_weights(cells.values, cells, 0.1).isfinite().all()
    assert replace(taught[0], tables=None).tables is None
