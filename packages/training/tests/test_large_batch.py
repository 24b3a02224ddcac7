import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_models.encoders import ImageEncoder, build_encoder
from spinmark_models.heads import ProjectionHead
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_training.batch import Batch, Cut
from spinmark_training.encoder_run import (
    BLOCKS,
    embedding_of,
    lay_out_alike,
    recompute_blocks,
)
from spinmark_training.errors import InputError
from spinmark_training.large_batch import embed_cut, embed_in_parts, refuse_batch_norm
from spinmark_training.sampling import Place

CPU = torch.device("cpu")
SHAPE = (8, 8, 8)


def small_encoder(norm: str = "group") -> ImageEncoder:
    torch.manual_seed(0)
    config = EncoderConfig(
        name="resnet10",
        widths=(4, 4, 8, 8),
        norm=norm,  # type: ignore[arg-type]
        stem_kernel=(3, 3, 3),
        groups=2,
    )
    return build_encoder(config, SHAPE)


def make_batch(joints: int, size: int, *, local: int = 0) -> Batch:
    """Joints with two views and `local` smaller ones, in parts of `size` joints."""
    generator = torch.Generator().manual_seed(3)
    whole = torch.randn(2, joints, 1, *SHAPE, generator=generator)
    small = torch.randn(max(local, 1), joints, 1, 4, 4, 4, generator=generator)

    def cut(part: int, device: torch.device) -> Cut:
        chosen = slice(part * size, min((part + 1) * size, joints))
        views = small[:, chosen].flatten(0, 1) if local else None
        return Cut(chosen, whole[:, chosen].flatten(0, 1), views)

    rows = torch.arange(joints)
    return Batch(
        first=rows, second=rows, subject=rows, after=Place(0, 0), cut=cut, parts=-(-joints // size)
    )


def loss_and_gradients(
    encoder: ImageEncoder, batch: Batch, *, direct: bool, dropout: float = 0.0
) -> tuple[Tensor, list[Tensor]]:
    """NT-Xent behind a head with batch normalisation, all smaller views pulled to the first."""
    encoder = copy.deepcopy(encoder).double()
    torch.manual_seed(1)
    head = ProjectionHead(encoder.embedding_size, ProjectionConfig(hidden=8, out=4)).double()
    drop = nn.Dropout(dropout)
    run = embedding_of(encoder)

    def embed(volumes: Tensor) -> Tensor:
        embedded: Tensor = drop(run(volumes.double()))
        return embedded

    weights = [*encoder.parameters(), *head.parameters()]
    if direct:
        student = embed_cut(embed, next(iter(batch.stream(CPU))))
    else:
        student = embed_in_parts(embed, list(encoder.parameters()), batch, CPU)
    first, second = head(student.whole).chunk(2)
    loss = nt_xent(first, second, 0.2)
    if student.local is not None:
        small = head(student.local).reshape(-1, *first.shape)
        loss = loss + (small - first).square().mean() + (small * second).sin().mean()
    return loss.detach(), list(torch.autograd.grad(loss, weights))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("local", [0, 3])
def test_the_gradient_in_parts_is_that_of_the_whole_batch(size: int, local: int) -> None:
    encoder = small_encoder()
    whole = loss_and_gradients(encoder, make_batch(12, 12, local=local), direct=True)
    parts = loss_and_gradients(encoder, make_batch(12, size, local=local), direct=False)
    assert torch.allclose(parts[0], whole[0], rtol=1e-12)
    for part, direct in zip(parts[1], whole[1], strict=True):
        assert torch.allclose(part, direct, rtol=1e-9, atol=1e-12)
        assert direct.abs().sum() > 0


def test_weights_that_are_added_to_each_other_get_a_gradient_each() -> None:
    batch = make_batch(6, 2)
    weights = [nn.Parameter(torch.full((3,), start)) for start in (1.0, 2.0)]

    def embed(volumes: Tensor) -> Tensor:
        return volumes.flatten(1)[:, :3] * (weights[0] + weights[1])

    parts = embed_in_parts(embed, weights, batch, CPU).whole
    whole = embed_cut(embed, next(iter(make_batch(6, 6).stream(CPU)))).whole
    found = torch.autograd.grad(parts.square().sum(), weights)
    expected = torch.autograd.grad(whole.square().sum(), weights)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("recomputed", [False, True])
def test_the_gradient_in_parts_is_that_of_the_whole_batch_in_bfloat16(recomputed: bool) -> None:
    def gradients(parts: int) -> Tensor:
        encoder, batch = small_encoder(), make_batch(12, 12 // parts)
        if recomputed:
            recompute_blocks(encoder)
        torch.manual_seed(1)
        head = nn.Linear(encoder.embedding_size, 4)
        weights = list(encoder.parameters())
        # As the trainer does: the way back lies outside.
        with torch.autocast("cpu", torch.bfloat16):
            if parts == 1:
                student = embed_cut(embedding_of(encoder), next(iter(batch.stream(CPU))))
            else:
                student = embed_in_parts(embedding_of(encoder), weights, batch, CPU)
            loss = nt_xent(*head(student.whole).chunk(2), 0.2)
        found = torch.autograd.grad(loss, [*weights, *head.parameters()])
        assert all(g.dtype == torch.float32 and g.abs().sum() > 0 for g in found)
        return torch.cat([g.flatten() for g in found])

    whole, parts = gradients(1), gradients(4)
    assert float((whole - parts).norm() / whole.norm()) < 0.02


def test_dropout_falls_alike_in_both_passes() -> None:
    encoder = small_encoder()
    batch = make_batch(6, 2)
    torch.manual_seed(7)
    loss, found = loss_and_gradients(encoder, batch, direct=False, dropout=0.5)
    count = len(list(encoder.parameters()))
    expected = sum(float(g.square().sum()) for g in found[:count])
    # The finite difference of the loss along the gradient, with the same numbers drawn.
    step = 1e-8 / expected**0.5
    moved = copy.deepcopy(encoder)
    with torch.no_grad():
        for p, g in zip(moved.double().parameters(), found, strict=False):
            p.add_(g, alpha=step)
    torch.manual_seed(7)
    after, _ = loss_and_gradients(moved, batch, direct=False, dropout=0.5)
    assert float(after - loss) / step == pytest.approx(expected, rel=1e-3)


def test_the_random_numbers_go_on_as_if_there_had_been_no_second_pass() -> None:
    encoder, batch = small_encoder(), make_batch(4, 2)
    drawn = []
    for backward in (True, False):
        torch.manual_seed(5)
        student = embed_in_parts(embedding_of(encoder), list(encoder.parameters()), batch, CPU)
        if backward:
            student.whole.sum().backward()  # type: ignore[no-untyped-call]
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_without_gradients_nothing_is_kept() -> None:
    encoder, batch = small_encoder(), make_batch(5, 2, local=2)
    with torch.no_grad():
        student = embed_in_parts(embedding_of(encoder), list(encoder.parameters()), batch, CPU)
        whole = embed_cut(embedding_of(encoder), next(iter(make_batch(5, 5, local=2).stream(CPU))))
    assert not student.whole.requires_grad
    assert torch.allclose(student.whole, whole.whole, atol=1e-6)
    assert student.local is not None
    assert whole.local is not None
    assert torch.allclose(student.local, whole.local, atol=1e-6)


def test_batch_normalisation_is_refused_by_the_layer_that_it_is() -> None:
    with pytest.raises(InputError, match=r"^trainer\.micro_batch: .*BatchNorm3d.*resnet10"):
        refuse_batch_norm(small_encoder("batch"))
    refuse_batch_norm(small_encoder("group"))


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(name="resnet10", widths=(4, 4, 8, 8), groups=2, stem_kernel=(3, 3, 3)),
        EncoderConfig(name="residual3d", widths=(4, 8), embedding=6, patch=(2, 2, 2)),
        EncoderConfig(name="resenc", widths=(4, 8), depths=(1, 1)),
        EncoderConfig(name="vit3d", width=12, depth=2, heads=2, patch=(4, 4, 4)),
    ],
    ids=lambda config: str(config.name),
)
def test_blocks_computed_again_give_the_same_gradient(config: EncoderConfig) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(config, SHAPE)
    again = copy.deepcopy(encoder)
    assert recompute_blocks(again) == sum(isinstance(b, BLOCKS) for b in encoder.modules())
    copied = copy.deepcopy(again)
    volumes = torch.randn(4, 1, *SHAPE)
    found = []
    for one in (encoder, again, copied):
        loss = one(volumes).embedding.sin().sum()
        found.append(torch.autograd.grad(loss, list(one.parameters()), allow_unused=True))
    for plain, recomputed, of_copy in zip(*found, strict=True):
        if plain is not None:
            assert torch.equal(plain, recomputed)
            assert torch.equal(plain, of_copy)
    assert list(encoder.state_dict()) == list(again.state_dict())


def test_what_cannot_be_computed_again_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^trainer\.checkpoint_activations: .*encoder\.norm group"
    ):
        recompute_blocks(small_encoder("batch"))


def saved_bytes(run: Callable[[], Tensor]) -> int:
    """Bytes that the graph keeps for the way back, tensors counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


def test_less_is_kept_for_the_way_back() -> None:
    encoder = small_encoder()
    lean = copy.deepcopy(encoder)
    recompute_blocks(lean)
    volumes = torch.randn(8, 1, *SHAPE)
    plain = saved_bytes(lambda: encoder(volumes).embedding)
    recomputed = saved_bytes(lambda: lean(volumes).embedding)
    assert recomputed < 0.6 * plain
    batches = [make_batch(joints, 2) for joints in (4, 16)]
    kept = [
        saved_bytes(
            lambda batch=batch: (
                embed_in_parts(  # type: ignore[misc]
                    embedding_of(encoder), list(encoder.parameters()), batch, CPU
                ).whole
            )
        )
        for batch in batches
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("name", ["resnet10", "slices", "resenc", "vit3d", "residual3d"])
def test_the_layout_of_memory_leaves_the_embedding_as_it_is(name: str) -> None:
    sizes = {
        "slices": EncoderConfig(widths=(4, 4, 8, 8), groups=2, attention=4),
        "resenc": EncoderConfig(widths=(4, 8), depths=(1, 1)),
        "vit3d": EncoderConfig(width=12, depth=2, heads=2, patch=(4, 4, 4)),
        "resnet10": EncoderConfig(widths=(4, 4, 8, 8), groups=2),
        "residual3d": EncoderConfig(widths=(4, 8), embedding=6),
    }
    torch.manual_seed(0)
    encoder = build_encoder(replace(sizes[name], name=name), (8, 32, 32)).double().eval()
    volumes = torch.randn(3, 1, 8, 32, 32, dtype=torch.float64)
    plain = encoder(volumes).embedding
    for layout in (True, False, None):
        found = embedding_of(copy.deepcopy(encoder), channels_last=layout)(volumes)
        assert torch.allclose(plain, found, atol=1e-9)


def test_kernels_lie_as_was_asked() -> None:
    for layout, expected in ((True, True), (False, False)):
        encoder = small_encoder()
        embedding_of(encoder, channels_last=layout)
        kernels = [p for p in encoder.parameters() if p.ndim == 5 and min(p.shape) > 1]
        last = [p.is_contiguous(memory_format=torch.channels_last_3d) for p in kernels]
        assert set(last) == {expected}


@pytest.mark.parametrize("fused", [False, True])
def test_moments_from_a_checkpoint_lie_as_their_weights(fused: bool) -> None:
    # What a checkpoint holds is contiguous; a fused optimiser takes memory as it lies.
    start, gradient = torch.randn(4, 3, 2, 2, 2), torch.randn(4, 3, 2, 2, 2)
    ended = []
    for layout, resumed in ((torch.contiguous_format, False), (torch.channels_last_3d, True)):
        weight = nn.Parameter(start.clone(memory_format=layout))
        optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
        for step in range(3):
            if resumed and step == 1:
                state = optimizer.state[weight]
                state |= {k: v.contiguous() for k, v in state.items()}
                lay_out_alike(optimizer)
                assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
            weight.grad = ((step + 1) * gradient).clone(memory_format=layout)
            optimizer.step()
        ended.append(weight.detach())
    torch.testing.assert_close(ended[1], ended[0], rtol=1e-6, atol=1e-7)
