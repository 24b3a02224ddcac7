"""Whether predictions of cells are as sure as they may be: scores of numbers and of categories."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spinmark_models.tables import TableSchema

# Half the width of the middle 90 % of a normal distribution, in standard deviations.
_HALF_90 = 1.6448536269514722
_BINS = 10

Row = tuple[str, str, float, int]


@dataclass(frozen=True)
class Asked:
    """Predictions of cells, and the cells.

    Attributes:
        decoded: What the readout gives, `(N, P + categories)`.
        numbers: Standardised numbers `(N, P)`.
        codes: Category codes `(N, P)`.
        asked: Which cells are scored `(N, P)`.
    """

    decoded: Tensor
    numbers: Tensor
    codes: Tensor
    asked: Tensor


def residual_sd(asked: Asked, schema: TableSchema) -> Tensor:
    """The root mean squared error of each number, `(P,)`; NaN for categories and where none was asked."""
    out = torch.full((len(schema.names),), torch.nan, dtype=torch.float64)
    for j, count in enumerate(schema.cardinalities):
        cells = asked.asked[:, j]
        if not count and bool(cells.any()):
            off = (asked.numbers[cells, j] - asked.decoded[cells, j]).double()
            out[j] = off.square().mean().sqrt()
    return out


def score(asked: Asked, schema: TableSchema, sd: Tensor, base: Tensor) -> list[Row]:
    """Score predictions against the cells, beside a constant a column.

    Args:
        asked: Predictions and cells.
        schema: The columns.
        sd: Of each number's error in training rows, `(P,)`.
        base: The constants, as the readout has them.

    Returns:
        Metric, variable, value and number of cells; see `missing_report`.
    """
    rows: list[Row] = []
    losses: list[Tensor] = []
    constants: list[Tensor] = []
    numeric: list[tuple[Tensor, Tensor]] = []
    inside: list[Tensor] = []
    sure: list[tuple[Tensor, ...]] = []
    start = len(schema.names)
    for j, (name, count) in enumerate(zip(schema.names, schema.cardinalities, strict=True)):
        cells = asked.asked[:, j]
        if count:
            span = slice(start, start + count)
            start += count
            codes = asked.codes[cells, j]
            loss, constant, parts = _category(asked.decoded[cells, span], base[span], codes)
            sure.append(parts)
        else:
            truth = asked.numbers[cells, j].double()
            off = truth - asked.decoded[cells, j]
            loss, constant = off.square(), (truth - base[j]).square()
            numeric.append((loss, constant))
            if torch.isfinite(sd[j]):
                inside.append(off.abs() <= _HALF_90 * sd[j])
                rows.append(("coverage_90", name, _mean(inside[-1].double()), len(off)))
        losses.append(loss)
        constants.append(constant)
        rows.append(("loss", name, _mean(loss), len(loss)))
        rows.append(("loss_constant", name, _mean(constant), len(loss)))
    rows += _whole(losses, constants)
    if numeric:
        off, against = (torch.cat(parts).sum() for parts in zip(*numeric, strict=True))
        n = sum(len(parts[0]) for parts in numeric)
        rows.append(("r2", "", float(1 - off / against) if against > 0 else float("nan"), n))
    if inside:
        every = torch.cat(inside).double()
        rows.append(("coverage_90", "", _mean(every), len(every)))
    if sure:
        rows += _sureness([torch.cat(parts) for parts in zip(*sure, strict=True)])
    return rows


def _whole(losses: list[Tensor], constants: list[Tensor]) -> list[Row]:
    loss, constant = torch.cat(losses), torch.cat(constants)
    return [
        ("loss", "", _mean(loss), len(loss)),
        ("loss_constant", "", _mean(constant), len(loss)),
    ]


def _category(
    logits: Tensor, base: Tensor, codes: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Nats of the readout and of the frequencies; Brier scores, and how sure and how right each was."""
    parts: list[Tensor] = []
    nats: list[Tensor] = []
    for given in (logits.double(), base.double().expand_as(logits)):
        chance = given.softmax(dim=1)
        truth = torch.nn.functional.one_hot(codes, logits.shape[1]).double()
        nats.append(-(given.log_softmax(dim=1) * truth).sum(dim=1))
        top, guess = chance.max(dim=1)
        parts += [(chance - truth).square().sum(dim=1), top, (guess == codes).double()]
    return nats[0], nats[1], tuple(parts)


def _sureness(parts: list[Tensor]) -> list[Row]:
    brier, top, right, brier_0, top_0, right_0 = parts
    n = len(brier)
    return [
        ("brier", "", _mean(brier), n),
        ("brier_constant", "", _mean(brier_0), n),
        ("ece", "", calibration_error(top, right), n),
        ("ece_constant", "", calibration_error(top_0, right_0), n),
    ]


def calibration_error(sure_N: Tensor, right_N: Tensor) -> float:
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599), in 10 bins of equal width.

    Args:
        sure_N: The probability of each guess, in [0, 1].
        right_N: Whether it was right, 0 or 1.

    Returns:
        The mean over guesses of how far the bin's mean probability lies from its share of right guesses.
    """
    if len(sure_N) == 0:
        return float("nan")
    place = (sure_N * _BINS).ceil().long().sub(1).clamp(0, _BINS - 1)
    gap = torch.zeros(_BINS, dtype=torch.float64)
    gap.index_add_(0, place, (sure_N - right_N).double())
    return float(gap.abs().sum() / len(sure_N))


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else float("nan")
