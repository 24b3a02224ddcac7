"""Teachers that learn along, and losses brought to one size by their gradients."""

import math

import pytest
import torch
from torch import Tensor

from spinmark_models.losses.clip import clip_loss
from spinmark_models.losses.registry import get_loss
from spinmark_models.momentum import teacher_momentum
from spinmark_training.batch import Batch
from spinmark_training.config import PartsConfig
from spinmark_training.side_information import SideInformation
from spinmark_training.transfer import TRANSFERS, FittedTeacher, Transfer
from spinmark_training.transfer.balance import GradientBalance
from spinmark_training.transfer.registry import CONTRASTS

from .embedded_batch import WIDTH, embeddings, joint_batch, small_encoder
from .tabled_world import SEQUENCE, write_tabled
from .taught_world import fitted_teacher, self_supervised, transfer_of

World = tuple[FittedTeacher, SideInformation]
EVERY = dict.fromkeys(TRANSFERS, 1.0)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> World:
    return fitted_teacher(write_tabled(tmp_path_factory.mktemp("t") / "cohort"), SEQUENCE)


def scored(
    transfer: Transfer, batch: Batch, seed: int = 0
) -> tuple[Tensor, dict[str, Tensor | float], Tensor]:
    """The loss of a batch, its figures, and the embeddings."""
    z = embeddings(batch, seed).whole
    slow = embeddings(batch, seed + 100).whole.detach()
    torch.manual_seed(5)
    loss, figures = transfer(self_supervised(z, batch), z, batch, slow)
    return loss, figures, z


@pytest.mark.parametrize("teacher", ["frozen", "joint", "mutual"])
@pytest.mark.parametrize("name", [*TRANSFERS, "every"])
def test_every_weight_that_learns_gets_a_gradient(taught: World, name: str, teacher: str) -> None:
    terms = EVERY if name == "every" else {name: 1.0}
    if teacher == "joint" and not CONTRASTS.keys() & terms.keys():
        terms = {**terms, "clip": 1.0}
    if teacher == "mutual" and name == "soft_targets":
        terms = {**terms, "cka": 1.0}
    transfer = transfer_of(taught, terms=terms, teacher=teacher, learn_temperature=True)
    loss, figures, z = scored(transfer, joint_batch(taught[1]))
    loss.backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0
    # Processes wait for each of them.
    lonely = [n for n, p in transfer.named_parameters() if p.requires_grad and p.grad is None]
    assert not lonely
    assert all(math.isfinite(float(value)) for value in figures.values())


def test_a_joint_teacher_begins_where_the_frozen_one_stands(taught: World) -> None:
    batch = joint_batch(taught[1])
    terms = {"clip": 2.0, "rkd_distance": 1.0, "soft_targets": 1.0}
    frozen = transfer_of(taught, terms={"clip": 2.0, "rkd_distance": 1.0})
    joint = transfer_of(
        taught, terms={"clip": 2.0, "rkd_distance": 1.0}, teacher="joint", corruption=0, pretext=0
    )
    a, b = scored(frozen, batch)[0], scored(joint, batch)[0]
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    learning = transfer_of(taught, terms=terms, teacher="joint")
    _, figures, _ = scored(learning, batch)
    assert {"loss_clip", "loss_rkd_distance", "loss_soft_targets", "loss_pretext"} <= figures.keys()


def test_a_joint_teacher_learns_from_the_contrast_alone(taught: World) -> None:
    batch = joint_batch(taught[1])
    for weight, moved in ((1.0, True), (0.0, False)):
        transfer = transfer_of(
            taught,
            terms={"clip": weight, "rkd_distance": 1.0, "cosine": 1.0},
            teacher="joint",
            pretext=0.0,
        )
        scored(transfer, batch)[0].backward()
        assert transfer.learning is not None
        size = sum(p.grad.abs().sum() for p in transfer.learning.encoder.parameters())
        assert bool(size > 0) == moved


def test_a_joint_teacher_sees_corrupted_rows(taught: World) -> None:
    batch = joint_batch(taught[1], subjects=6)
    transfer = transfer_of(taught, terms={"clip": 1.0}, teacher="joint", corruption=0.5)
    rows = transfer.learning
    assert rows is not None
    whole = rows.whole(batch, rows.encoder).latent
    torch.manual_seed(0)
    seen = rows.seen(batch)
    assert (seen - whole).abs().mean() > 0.05
    expected = taught[0].targets[torch.cat([batch.first, batch.second])]
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)


def test_each_side_learns_from_the_average_of_the_other(taught: World) -> None:
    batch = joint_batch(taught[1])
    transfer = transfer_of(
        taught,
        terms={"clip": 2.0, "rkd_distance": 3.0},
        teacher="mutual",
        corruption=0.0,
        pretext=0.0,
    )
    with torch.no_grad():
        # Where the averages are is no longer where the networks are.
        for p in transfer.slow.parameters():
            p += 0.1
    loss, figures, z = scored(transfer, batch)
    heads, slow, rows = transfer.heads, transfer.slow, transfer.learning
    z_slow = embeddings(batch, 100).whole.detach()
    with torch.no_grad():
        t, t_slow = (rows.whole(batch, each).latent for each in (rows.encoder, slow.table))
        image, table = heads.image_head(z), heads.table_head(t)
        image_slow, table_slow = slow.heads.image_head(z_slow), slow.heads.table_head(t_slow)

    def halves(loss_of: object, a: Tensor, b: Tensor) -> Tensor:
        return sum(loss_of(x, y) for x, y in zip(a.chunk(2), b.chunk(2), strict=True)) / 2  # type: ignore[operator]

    def clip(a: Tensor, b: Tensor) -> Tensor:
        return clip_loss(a, b, 0.15)

    rkd = get_loss("rkd_distance")
    with torch.no_grad():
        expected = {
            "loss_clip": halves(clip, image, table_slow),
            "loss_rkd_distance": halves(rkd, z, t_slow),
            "loss_clip_table": halves(clip, image_slow, table),
            "loss_rkd_distance_table": halves(rkd, t, z_slow),
        }
        total = self_supervised(z, batch)
        for name, value in expected.items():
            assert float(figures[name]) == pytest.approx(float(value), rel=1e-4), name
            total = total + value * (2 if "clip" in name else 3)
    assert loss.item() == pytest.approx(float(total), rel=1e-4)
    loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in slow.parameters())


def test_averages_follow_by_their_share(taught: World) -> None:
    transfer = transfer_of(taught, terms={"clip": 1.0}, teacher="mutual", momentum=0.6)
    encoder = small_encoder()
    rows = transfer.learning
    with torch.no_grad():
        for p in [*encoder.parameters(), *rows.encoder.parameters(), *transfer.heads.parameters()]:
            p += torch.randn_like(p)
    pairs = (
        (transfer.slow.image, encoder),
        (transfer.slow.table, rows.encoder),
        (transfer.slow.heads, transfer.heads),
    )
    before = [[p.clone() for p in slow.parameters()] for slow, _ in pairs]
    transfer.after_step(encoder, 3, 10)
    share = teacher_momentum(3, 10, 0.6)
    for (slow, own), old in zip(pairs, before, strict=True):
        for p, q, was in zip(slow.parameters(), own.parameters(), old, strict=True):
            torch.testing.assert_close(p, share * was + (1 - share) * q)
    usual = transfer_of(taught, terms={"clip": 1.0}, teacher="mutual").slow
    assert usual.share(1, 10_000) == pytest.approx(0.996, abs=1e-6)
    assert usual.share(1, 20) == pytest.approx(teacher_momentum(1, 20, 0.5))


def norms_of(losses: list[Tensor], z: Tensor) -> list[float]:
    return [float(torch.autograd.grad(x, z, retain_graph=True)[0].norm()) for x in losses]


def test_a_balanced_loss_pulls_by_its_share_of_the_self_supervised_one() -> None:
    z = torch.randn(6, 4, requires_grad=True)
    balance = GradientBalance(2, 0.5)
    history: list[list[float]] = []
    for step in range(3):
        scale = 10.0**step
        losses = [z.square().mean(), scale * z.sin().sum(), 1e-4 * z.exp().sum()]
        found = balance(losses[0], losses[1:], z)
        twice = balance(losses[0], losses[1:], z)
        # Asked twice, remembered once.
        assert torch.equal(found, twice)
        history.append(norms_of(losses, z))
        weights = [0.5 ** (len(history) - k) for k in range(len(history))]
        means = [
            sum(w * row[i] for w, row in zip(weights, history, strict=True)) / sum(weights)
            for i in range(3)
        ]
        assert found.tolist() == pytest.approx([means[0] / m for m in means[1:]], rel=1e-5)
        if step == 0:
            pulls = norms_of([f * x for f, x in zip(found, losses[1:], strict=True)], z)
            assert pulls == pytest.approx([history[0][0]] * 2, rel=1e-5)
        balance.after_step()
    assert set(balance.state_dict()) == {"norms", "steps"}
    assert float(balance.steps) == 3


def test_a_loss_without_a_gradient_is_left_alone() -> None:
    z = torch.randn(6, 4, requires_grad=True)
    balance = GradientBalance(2, 0.9)
    found = balance(z.square().mean(), [torch.tensor(2.0), 0 * z.sum()], z)
    assert found.tolist() == [0, 0]


def test_weights_are_shares_under_balance(taught: World) -> None:
    batch = joint_batch(taught[1])
    terms = {"clip": 0.5, "similarity_preserving": 2.0, "vid": 0.25}
    transfer = transfer_of(taught, terms=terms, balance="gradients")
    _, figures, z = scored(transfer, batch)
    (own,) = norms_of([self_supervised(z, batch)], z)
    for name, weight in terms.items():
        alone = transfer_of(taught, 0.0, terms={name: 1.0})
        # The same heads as where all are built together.
        built = transfer.state_dict()
        alone.load_state_dict({key: built[key] for key in alone.state_dict()})
        value, _, again = scored(alone, batch)
        (pull,) = norms_of([figures[f"weight_{name}"] * value], again)
        assert pull == pytest.approx(weight * own, rel=1e-4), name


@pytest.mark.parametrize("teacher", ["joint", "mutual"])
def test_a_balance_leaves_what_images_have_no_part_in(taught: World, teacher: str) -> None:
    batch = joint_batch(taught[1])
    transfer = transfer_of(taught, terms={"clip": 0.5}, teacher=teacher, balance="gradients")
    loss, figures, z = scored(transfer, batch)
    expected = self_supervised(z, batch) + figures["weight_clip"] * figures["loss_clip"]
    expected = expected + figures["loss_pretext"]
    if teacher == "mutual":
        expected = expected + 0.5 * figures["loss_clip_table"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_penalties_of_parts_are_not_balanced(taught: World) -> None:
    parts = PartsConfig(table=WIDTH // 2, terms={"orthogonal": 2.0})
    transfer = transfer_of(taught, terms={"clip": 1.0}, balance="gradients", parts=parts)
    loss, figures, z = scored(transfer, joint_batch(taught[1]))
    expected = (
        self_supervised(z, joint_batch(taught[1]))
        + figures["weight_clip"] * figures["loss_clip"]
        + 2 * figures["loss_orthogonal"]
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
