"""The slice encoder and the vision transformer: what only they promise."""

import pytest
import torch

from spinmark_models.encoders.slices import GatedAttention, SliceEncoder, filled_slices
from spinmark_models.encoders.vit import VisionTransformer3D
from spinmark_models.errors import InputError

from .encoder_cases import small, volumes


def slice_encoder(**fields: object) -> SliceEncoder:
    encoder = small("slices", **fields).double().eval()
    assert isinstance(encoder, SliceEncoder)
    return encoder


def transformer(grid: tuple[int, int, int], **fields: object) -> VisionTransformer3D:
    encoder = small("vit3d", grid, **fields).eval()
    assert isinstance(encoder, VisionTransformer3D)
    return encoder


def test_padding_may_stand_anywhere_and_hold_anything() -> None:
    encoder = slice_encoder()
    x = volumes(2, 1, 5, 24, 24).double()
    alone = encoder(x).embedding
    blank = torch.full((2, 1, 1, 24, 24), -1.4).double()
    for at in range(6):
        padded = torch.cat([x[:, :, :at], blank, x[:, :, at:]], dim=2)
        torch.testing.assert_close(encoder(padded).embedding, alone)
        present = torch.ones(2, 6, dtype=torch.bool)
        present[:, at] = False
        torch.testing.assert_close(encoder(padded, present).embedding, alone)
        for content in (torch.nan, torch.inf, 7.0):
            padded[:, :, at] = content
            torch.testing.assert_close(encoder(padded, present).embedding, alone)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_what_padding_holds_reaches_no_gradient(norm: str) -> None:
    results = []
    for content in (-1.4, 5.0, torch.nan):
        encoder = small("slices", norm=norm).train()
        x = volumes(2, 1, 4, 24, 24)
        x[0, :, 1] = content
        encoder(x).embedding.square().sum().backward()
        results.append([p.grad for p in encoder.parameters()] + list(encoder.buffers()))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_rows_may_be_padded_differently() -> None:
    encoder = slice_encoder()
    x = volumes(2, 1, 5, 24, 24).double()
    present = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    together = encoder(x, present).embedding
    torch.testing.assert_close(together[:1], encoder(x[:1, :, :3]).embedding)
    torch.testing.assert_close(together[1:], encoder(x[1:]).embedding)


def test_slices_are_a_set() -> None:
    encoder = slice_encoder()
    x = volumes(1, 1, 5, 24, 24).double()
    torch.testing.assert_close(encoder(x.flip(2)).embedding, encoder(x).embedding)
    assert not torch.allclose(encoder(x[:, :, :2]).embedding, encoder(x).embedding)


def test_the_embedding_is_the_weighted_mean_of_the_slices() -> None:
    encoder = slice_encoder()
    x = volumes(1, 1, 3, 24, 24).double()
    maps = [encoder.trunk(x[:, :, i])[-1] for i in range(3)]
    vectors = [m.mean((2, 3))[0] for m in maps]
    attention = encoder.attention
    scores = []
    for h in vectors:
        value = torch.tanh(attention.value.weight @ h + attention.value.bias)
        gate = 1 / (1 + torch.exp(-(attention.gate.weight @ h + attention.gate.bias)))
        scores.append((attention.score.weight[0] @ (value * gate) + attention.score.bias[0]).exp())
    expected = sum(s * v for s, v in zip(scores, vectors, strict=True)) / sum(scores)
    torch.testing.assert_close(encoder(x).embedding[0], expected)
    coarsest = encoder(x).pyramid[-1]
    torch.testing.assert_close(coarsest, torch.stack(maps, dim=2))


def test_weights_sum_to_one_over_members() -> None:
    attention = GatedAttention(4, 3)
    member = torch.tensor([[True, False, True], [False, False, True]])
    weights = attention(volumes(2, 3, 4), member)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert torch.equal(weights > 0, member)


def test_a_stack_of_blank_slices_still_gets_numbers() -> None:
    encoder = slice_encoder()
    x = torch.zeros(1, 1, 3, 24, 24).double()
    assert not bool(filled_slices(x).any())
    assert bool(torch.isfinite(encoder(x).embedding).all())


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (torch.ones(2, 4, dtype=torch.bool), "must be torch.bool of shape"),
        (torch.ones(2, 5), "must be torch.bool of shape"),
        (torch.tensor([[True] * 5, [False] * 5]), "leaves a stack without a slice"),
    ],
)
def test_impossible_masks_are_refused(present: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        slice_encoder()(volumes(2, 1, 5, 24, 24).double(), present)


def test_learned_positions_are_kept_on_their_grid_and_interpolated_elsewhere() -> None:
    encoder = transformer((8, 16, 24), positions="learned")
    like = torch.zeros(1, 1, 24)
    assert encoder.positions is not None
    with torch.no_grad():
        # A ramp along x stays one.
        encoder.positions.copy_(torch.arange(3.0).expand(1, 24, 2, 2, 3))
        same = encoder._positions((2, 2, 3), like).reshape(2, 2, 3, 24)
        assert torch.equal(same[..., 0], torch.arange(3.0).expand(2, 2, 3))
        twice = encoder._positions((2, 2, 6), like).reshape(2, 2, 6, 24)
    expected = torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.0])
    torch.testing.assert_close(twice[1, 0, :, 5], expected)
    encoder(volumes(1, 1, 11, 30, 9)).embedding.sum().backward()
    assert encoder.positions.grad is not None
    assert bool((encoder.positions.grad != 0).any())


@pytest.mark.parametrize("positions", ["sincos", "learned"])
def test_where_a_patch_lies_matters(positions: str) -> None:
    encoder = transformer((4, 16, 16), positions=positions)
    x = volumes(1, 1, 4, 16, 16)
    assert not torch.allclose(encoder(x.roll(8, 4)).embedding, encoder(x).embedding, atol=1e-4)


def test_a_class_token_is_not_part_of_the_maps() -> None:
    encoder = transformer((8, 16, 24), pool="token")
    assert encoder.token is not None
    x = volumes(2, 1, 8, 16, 24)
    output = encoder(x)
    assert all(m.shape == (2, 24, 2, 2, 3) for m in output.pyramid)
    output.embedding.square().sum().backward()
    assert encoder.token.grad is not None
    assert encoder.config.levels == (2, 3, 4, 5)
    assert len(output.pyramid) == 4


def test_padding_to_whole_patches_is_zeros() -> None:
    encoder = transformer((8, 16, 24))
    x = volumes(1, 1, 6, 13, 24)
    whole = torch.zeros(1, 1, 8, 16, 24)
    whole[:, :, :6, :13] = x
    torch.testing.assert_close(encoder(x).embedding, encoder(whole).embedding)
