"""Several sequences of one joint, from one present to all."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from spinmark_models.config import EncoderConfig, FusionConfig, Shape3
from spinmark_models.encoders.fusion import FusionEncoder
from spinmark_models.errors import InputError

from .encoder_cases import SMALL, volumes

GRIDS: dict[str, Shape3] = {"dess": (8, 16, 16), "tse.fs": (4, 24, 24), "t2map": (6, 16, 24)}
CONFIG = FusionConfig(sequences=tuple(GRIDS), encoder=SMALL["resnet10"], embedding=5)


def make(config: FusionConfig = CONFIG, grids: dict[str, Shape3] = GRIDS) -> FusionEncoder:
    torch.manual_seed(0)
    return FusionEncoder(config, grids).double()


def scans(b: int) -> dict[str, Tensor]:
    return {n: volumes(b, 1, *g, seed=i).double() for i, (n, g) in enumerate(GRIDS.items())}


def presence(pattern: list[tuple[bool, bool, bool]]) -> dict[str, Tensor]:
    return dict(zip(GRIDS, torch.tensor(pattern).unbind(1), strict=True))


EVERY = [row for row in product((False, True), repeat=3) if any(row)]


@pytest.mark.parametrize("shared", [False, True])
def test_every_pattern_equals_the_joint_alone(shared: bool) -> None:
    fusion = make(replace(CONFIG, shared=shared)).eval()
    x = scans(len(EVERY))
    together = fusion(x, presence(EVERY))
    assert together.shape == (7, 5)
    for i, row in enumerate(EVERY):
        own = {n: x[n][i : i + 1] for n, there in zip(GRIDS, row, strict=True) if there}
        torch.testing.assert_close(together[i : i + 1], fusion(own))


def test_it_is_the_join_of_embeddings_and_tokens() -> None:
    fusion = make().eval()
    x = scans(1)
    fused = fusion({"tse.fs": x["tse.fs"]})
    vector = fusion._encoder(1)(x["tse.fs"]).embedding[0]
    columns = torch.cat([fusion.missing_SE[0], vector, fusion.missing_SE[2]])
    torch.testing.assert_close(fused[0], fusion.join.weight @ columns + fusion.join.bias)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_what_stands_for_a_missing_scan_changes_nothing(norm: str) -> None:
    encoder = replace(SMALL["resnet10"], norm=norm)
    results = []
    for content in (0.0, 1e6, torch.nan, torch.inf):
        fusion = make(replace(CONFIG, encoder=encoder)).train()
        x = scans(len(EVERY))
        present = presence(EVERY)
        for name in GRIDS:
            x[name][~present[name]] = content
        fused = fusion(x, present)
        fused.square().sum().backward()
        gradients = [p.grad for p in fusion.parameters() if p.grad is not None]
        buffers = [b.double() for b in fusion.buffers()]
        results.append([fused, *gradients, *buffers])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


def test_a_token_gets_gradient_where_its_sequence_is_missing() -> None:
    fusion = make()
    fusion(scans(2), presence([(True, True, False), (True, True, True)])).square().sum().backward()
    assert fusion.missing_SE.grad is not None
    reached = (fusion.missing_SE.grad != 0).any(1)
    assert reached.tolist() == [False, False, True]


def test_rows_and_presence_move_together() -> None:
    fusion = make().eval()
    x, present = scans(7), presence(EVERY)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    moved = fusion({n: v[order] for n, v in x.items()}, {n: v[order] for n, v in present.items()})
    torch.testing.assert_close(moved, fusion(x, present)[order])


def test_a_shared_encoder_is_one() -> None:
    shared, apart = make(replace(CONFIG, shared=True)), make()
    assert list(shared.encoders) == ["shared"]
    assert len(apart.encoders) == 3
    widths = [sum(p.numel() for p in f.encoders.parameters()) for f in (shared, apart)]
    assert widths[1] == 3 * widths[0]


def test_weights_survive_a_round_trip() -> None:
    fusion = make().eval()
    other = make(replace(CONFIG)).eval()
    torch.nn.init.zeros_(other.missing_SE)
    other.load_state_dict(fusion.state_dict())
    x = {"dess": scans(1)["dess"]}
    assert torch.equal(other(x), fusion(x))


@pytest.mark.parametrize(
    ("config", "grids", "words"),
    [
        (FusionConfig(sequences=()), {}, "name each of 1 or more once"),
        (FusionConfig(sequences=("a", "a")), {"a": (8, 8, 8)}, "once"),
        (CONFIG, {"dess": (8, 8, 8)}, "grids are given for"),
        (replace(CONFIG, embedding=0), GRIDS, "embedding is 0"),
        (replace(CONFIG, encoder=EncoderConfig(), shared=True), GRIDS, "belongs to one grid"),
    ],
)
def test_impossible_fusions_are_refused(
    config: FusionConfig, grids: dict[str, Shape3], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        make(config, grids)
    assert "\n" not in str(caught.value)


def test_impossible_batches_are_refused() -> None:
    fusion = make()
    x = scans(2)
    none = presence([(True, True, True), (False, False, False)])
    cases: list[tuple[dict[str, Tensor], dict[str, Tensor], str]] = [
        (x, none, "1 of 2 joints have no sequence at all, the first in row 1"),
        ({}, {}, "No volumes are given"),
        ({**x, "t1rho": x["dess"]}, {}, "Unknown sequence 't1rho'"),
        ({**x, "dess": x["dess"][:1]}, {}, "use 1 volumes|use 2 volumes"),
        (x, {"dess": torch.ones(2)}, "use 2 volumes and torch.bool"),
        ({"dess": x["dess"]}, presence([(True, True, True)] * 2), "no volumes of it are given"),
        ({**x, "t2map": x["t2map"][:, :, 0]}, {}, "t2map: A batch has shape"),
    ]
    for given_x, present, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            fusion(given_x, present)
        assert "\n" not in str(caught.value)
