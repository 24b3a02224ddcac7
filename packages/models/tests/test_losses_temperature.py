"""A temperature may be learnt where the loss tells its slope, and is refused where it does not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.crd import crd
from spinmark_models.losses.debiased import debiased
from spinmark_models.losses.decoupled import decoupled
from spinmark_models.losses.hard_negative import hard_negative
from spinmark_models.losses.kd import kd
from spinmark_models.losses.mochi import mochi
from spinmark_models.losses.moco import moco_v3
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.rank_n_contrast import rank_n_contrast
from spinmark_models.losses.ring import ring
from spinmark_models.losses.semi_hard import semi_hard
from spinmark_models.losses.sup_con import sup_con
from spinmark_models.losses.swav import swav
from spinmark_models.losses.y_aware import y_aware


def pair() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 6, 4, generator=g, dtype=torch.float64)
    return a, b


LEARNT: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "nt_xent": nt_xent,
    "decoupled": decoupled,
    "sup_con": lambda a, b, t: sup_con(a, torch.tensor([0, 0, 1, 1, 2, 2]), t),
    "y_aware": lambda a, b, t: y_aware(a, b, torch.arange(6.0), t),
    "moco_v3": lambda a, b, t: moco_v3(a, b, b, a, t),
    "crd": crd,
    "ring": ring,
    "swav": swav,
    "kd": kd,
}
FIXED: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "debiased": debiased,
    "hard_negative": hard_negative,
    "mochi": mochi,
    "semi_hard": semi_hard,
    "rank_n_contrast": lambda a, b, t: rank_n_contrast(a, torch.arange(6.0), t),
}


@pytest.mark.parametrize("name", sorted(LEARNT))
def test_a_learnt_temperature_gets_its_slope(name: str) -> None:
    a, b = pair()
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: LEARNT[name](a, b, t), (temperature,))


@pytest.mark.parametrize("name", sorted(FIXED))
def test_a_temperature_that_cannot_be_learnt_is_refused(name: str) -> None:
    a, b = pair()
    with pytest.raises(InputError, match="needs a gradient; this loss takes a fixed one"):
        FIXED[name](a, b, torch.tensor(0.3, requires_grad=True))
    assert torch.isfinite(FIXED[name](a, b, torch.tensor(0.3)))
