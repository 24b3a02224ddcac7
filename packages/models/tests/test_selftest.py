"""The selftest passes what is right and catches what is broken."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.selftest import contrast, convolution, run
from spinmark_models.selftest.convolution import ConvCase
from spinmark_models.selftest.records import Check, this_machine

CPU = torch.device("cpu")
CASES = [
    ConvCase(2, 3, 4, (6, 9, 8)),
    ConvCase(1, 1, 5, (4, 12, 10), (1, 3, 3), (1, 2, 2)),
    ConvCase(1, 4, 2, (7, 5, 9), (3, 1, 5), (2, 1, 3)),
    ConvCase(1, 6, 3, (5, 5, 5), (1, 1, 1), gradients=False),
    ConvCase(1, 2, 3, (5, 8, 7), (1, 3, 3), (1, 2, 1), padded=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_right_convolutions_pass(case: ConvCase) -> None:
    for check in (
        convolution.float32_against_products(case, CPU),
        convolution.bf16_against_float32(case, CPU),
    ):
        assert check.verdict == "pass"
        assert check.figure is not None
        assert check.tolerance is not None
        assert check.figure < check.tolerance / 2
    assert str(case) in check.name


def end_lost(x: Tensor, w: Tensor, **options: object) -> Tensor:
    """The last voxel of the last slice is never written."""
    y = F.conv3d(x, w, **options)  # type: ignore[arg-type]
    mask = torch.ones_like(y)
    mask[-1, -1, -1, -1, -1] = 0
    return y * mask


def too_large(x: Tensor, w: Tensor, **options: object) -> Tensor:
    return 1.05 * F.conv3d(x, w, **options)  # type: ignore[arg-type]


def no_number(x: Tensor, w: Tensor, **options: object) -> Tensor:
    return end_lost(x, w, **options) / end_lost(torch.ones_like(x), torch.ones_like(w), **options)


def padded_wrongly(x: Tensor, w: Tensor, **options: object) -> Tensor:
    return F.conv3d(x.roll(1, dims=3), w, **options)  # type: ignore[arg-type]


def short_sums(x: Tensor, w: Tensor, **options: object) -> Tensor:
    """Each channel's share is rounded to bf16 before the next is added."""
    parts = [
        F.conv3d(x[:, [c]], w[:, [c]], **options).bfloat16()  # type: ignore[arg-type]
        for c in range(x.shape[1])
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total.to(x.dtype)


BROKEN = [end_lost, too_large, no_number, padded_wrongly]


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_convolutions_are_caught(broken: convolution.Operator) -> None:
    case = CASES[0]
    assert convolution.bf16_against_float32(case, CPU, broken).verdict == "fail"
    assert convolution.float32_against_products(case, CPU, broken).verdict == "fail"


def test_float32_that_is_summed_in_short_floats_is_caught() -> None:
    assert convolution.float32_against_products(CASES[0], CPU, short_sums).verdict == "fail"


def test_a_right_result_with_a_wrong_gradient_is_caught() -> None:
    def steep(x: Tensor, w: Tensor, **options: object) -> Tensor:
        y = F.conv3d(x, w, **options)  # type: ignore[arg-type]
        return y + 0.1 * (y - y.detach())

    check = convolution.bf16_against_float32(CASES[0], CPU, steep)
    assert check.verdict == "fail"
    assert "float32" in check.note


def test_the_worst_error_by_hand() -> None:
    expected = torch.tensor([3.0, -4.0, 0.0, 0.0])
    assert convolution.worst(expected + torch.tensor([0.0, 0.5, 0.0, -0.25]), expected) == 0.2
    assert math.isnan(convolution.worst(expected / 0, expected))
    assert convolution.worst(expected, torch.zeros(4)) == math.inf
    assert math.isnan(convolution.worst_of_all([expected, expected / 0], [expected, expected]))


def test_the_plain_computation_is_nt_xent() -> None:
    z1, z2 = contrast.two_views(9, 5)
    torch.testing.assert_close(contrast.dense(z1, z2, 0.2), nt_xent(z1, z2, 0.2))


def test_rows_in_their_own_format_are_as_near_as_they_should_be() -> None:
    loss, what = contrast.in_own_format, "contrastive kernel's"
    checks = contrast.against_float64(torch.bfloat16, CPU, loss, what)
    assert [c.verdict for c in checks] == ["pass", "pass"]
    assert all(c.name.startswith(what) for c in checks)
    z1, z2 = contrast.two_views(9, 5)
    torch.testing.assert_close(loss(z1, z2, 0.2), nt_xent(z1, z2, 0.2))


@pytest.mark.parametrize("dtype", list(contrast.TOLERANCE))
def test_the_kernel_passes_and_broken_ones_do_not(dtype: torch.dtype) -> None:
    for check in contrast.against_float64(dtype, CPU):
        assert check.verdict == "pass"
        assert check.figure is not None
        assert check.tolerance is not None
        assert check.figure < check.tolerance / 2

    def loss_off(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
        return nt_xent(z1, z2, temperature) + 0.1

    def other_side_cut(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
        # As where rows of other processes are gathered without gradient.
        half = len(z1) // 2
        return nt_xent(torch.cat([z1[:half], z1[half:].detach()]), z2, temperature)

    verdicts = [c.verdict for c in contrast.against_float64(dtype, CPU, loss_off)]
    assert verdicts == ["fail", "pass"]
    verdicts = [c.verdict for c in contrast.against_float64(dtype, CPU, other_side_cut)]
    assert verdicts == ["pass", "fail"]


def test_what_changes_from_run_to_run_is_caught() -> None:
    g = torch.Generator().manual_seed(0)
    assert run.same_twice("draws", lambda: [torch.rand(3, generator=g)]).figure == 3
    assert run.same_twice("ones", lambda: [torch.ones(3)]).verdict == "pass"


@pytest.mark.parametrize(
    ("figure", "tolerance", "verdict"),
    [
        (0.1, 0.1, "pass"),
        (0.2, 0.1, "fail"),
        (math.nan, 0.1, "fail"),
        (math.inf, 0.1, "fail"),
        (0.5, None, "measured"),
        (None, None, "skipped"),
    ],
)
def test_verdicts(figure: float | None, tolerance: float | None, verdict: str) -> None:
    assert Check(name="x", figure=figure, tolerance=tolerance).verdict == verdict


def test_an_error_is_a_failure_and_too_little_memory_is_not() -> None:
    def broken() -> list[Check]:
        raise RuntimeError("no bf16 here\nat line 3")

    def full() -> list[Check]:
        raise torch.OutOfMemoryError("full")

    (failed,) = run.attempt("x", broken)
    assert (failed.verdict, failed.note) == ("fail", "no bf16 here")
    (skipped,) = run.attempt("x", full)
    assert skipped.verdict == "skipped"


def test_all_checks_in_order_on_small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "SMALL", tuple(CASES[:2]))
    monkeypatch.setattr(convolution, "LARGE", (CASES[2],))
    told: list[tuple[int, int]] = []
    checks = run.run_checks(CPU, progress=lambda done, total: told.append((done, total)))
    assert {c.verdict for c in checks} == {"pass", "skipped"}
    assert [c.name for c in checks if c.verdict == "skipped"] == ["CPU against the accelerator"]
    assert len(checks) == 3 * 2 + 3 * 2 + 1 + 3
    assert told[0] == (0, 8)
    assert told[-1] == (8, 8)
    # With no memory to spare, no convolution is tried and none has failed.
    monkeypatch.setattr(run, "SHARE_OF_MEMORY", 0.0)
    checks = run.run_checks(CPU)
    skipped = [c for c in checks if c.verdict == "skipped"]
    assert len(skipped) == 3 + 1
    assert "GB are free" in skipped[0].note


def test_the_machine_is_described() -> None:
    machine = this_machine(CPU)
    assert machine.torch == torch.__version__
    assert machine.device == "cpu"
    assert machine.threads == torch.get_num_threads()
    assert machine.cudnn is None


def test_the_reported_shape_is_that_of_the_report() -> None:
    case = convolution.REPORTED
    assert case.out_grid == (124, 1280, 720)
    # Beyond what 32 bits address in bytes.
    assert 2 * 16 * torch.Size(case.grid).numel() > 1 << 31
    assert case.bytes < 40e9
