import math

import numpy as np
import pytest
import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.vime import vime, vime_mask_chance


def made_up(n: int = 6, p: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    logits, losses = (torch.randn(n, p, generator=g, dtype=torch.float64) for _ in range(2))
    changed, visible, observed = (torch.rand(n, p, generator=g) < q for q in (0.4, 0.7, 0.8))
    return logits, changed, losses.square(), visible, observed


def test_both_terms_are_means_over_their_cells() -> None:
    logits, changed, losses, visible, observed = made_up()
    mask, feature = [], []
    for i in range(6):
        for j in range(4):
            if visible[i, j]:
                p = 1 / (1 + math.exp(-float(logits[i, j])))
                mask.append(-math.log(p if changed[i, j] else 1 - p))
            if observed[i, j]:
                feature.append(float(losses[i, j]))
    found = vime(logits, changed, losses, visible_NP=visible, observed_NP=observed, alpha=1.7)
    assert float(found) == pytest.approx(np.mean(mask) + 1.7 * np.mean(feature), rel=1e-12)
    plain = vime(logits, changed, losses, alpha=0)
    expected = torch.nn.functional.binary_cross_entropy(logits.sigmoid(), changed.double())
    torch.testing.assert_close(plain, expected)


def test_cells_that_are_not_scored_add_nothing() -> None:
    logits, changed, losses, visible, observed = made_up()
    found = vime(logits, changed, losses, visible_NP=visible, observed_NP=observed)
    wild = vime(
        logits.masked_fill(~visible, 1e30),
        changed ^ ~visible,
        losses.masked_fill(~observed, math.inf),
        visible_NP=visible,
        observed_NP=observed,
    )
    assert torch.equal(found, wild)
    nothing = torch.zeros_like(visible)
    assert float(vime(logits, changed, losses, visible_NP=nothing, observed_NP=nothing)) == 0


def test_a_constant_guess_costs_the_entropy() -> None:
    changed = torch.arange(40).view(10, 4) % 5 == 0
    logits = torch.full((10, 4), math.log(0.2 / 0.8), dtype=torch.float64)
    loss = float(vime(logits, changed, torch.zeros(10, 4), alpha=1.0))
    assert loss == pytest.approx(vime_mask_chance(0.2), rel=1e-7)
    assert vime_mask_chance(0.5) == pytest.approx(math.log(2))
    assert vime_mask_chance(0) == vime_mask_chance(1) == 0


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = vime(logits, torch.tensor([[False, True]]), torch.zeros(1, 2))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(1e4)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_what_cannot_be_scored_is_refused() -> None:
    logits, changed, losses, visible, _ = made_up()
    for arguments in (
        (logits[:3], changed, losses),
        (logits, changed[:, :2], losses),
        (logits[0], changed[0], losses[0]),
        (logits[:0], changed[:0], losses[:0]),
    ):
        with pytest.raises(InputError, match=r"\(rows, columns\)"):
            vime(*arguments)
    with pytest.raises(InputError, match=r"\(rows, columns\)"):
        vime(logits, changed, losses, visible_NP=visible[:2])
    with pytest.raises(InputError, match="alpha is -1"):
        vime(logits, changed, losses, alpha=-1)
