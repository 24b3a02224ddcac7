import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spinmark_models.clinical.corruption import choose_cells, corrupt, drop_groups, scarf, vime
from spinmark_models.clinical.samplers import MarginalSampler
from spinmark_models.errors import InputError
from spinmark_models.tables import EncodedTable, TableSchema

NAMES = ["AGE", "PAIN", "RACE", "SEX"]
KINDS = ["continuous", "ordinal", "nominal", "binary"]


def encoded(n: int = 3000, missing: float = 0.3) -> tuple[TableSchema, EncodedTable]:
    rng = np.random.default_rng(0)
    values = np.column_stack(
        [
            rng.normal(60, 9, n),
            rng.integers(0, 11, n),
            rng.choice([1.0, 2.0, 5.0], n, p=[0.7, 0.2, 0.1]),
            rng.integers(0, 2, n),
        ]
    ).astype(float)
    values[rng.random(values.shape) < missing] = np.nan
    why = rng.choice([".A", ".M"], values.shape)
    schema = TableSchema.fit(values, NAMES, KINDS, reasons=why)
    return schema, schema.encode(values, NAMES, why)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def within(found: float, rate: float, n: float) -> bool:
    """Whether a share is one that 4 standard deviations of a binomial allow."""
    return abs(found - rate) < 4 * math.sqrt(rate * (1 - rate) / n)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_vime_corrupts_its_share_of_each_column(rate: float) -> None:
    schema, table = encoded()
    result = vime(table, MarginalSampler(schema), seeded(), rate)
    assert not (result.chosen & ~table.observed).any()
    for j in range(4):
        n = int(table.observed[:, j].sum())
        assert within(int(result.chosen[:, j].sum()) / n, rate, n)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6, 1.0])
def test_scarf_corrupts_exactly_its_share_of_each_row(rate: float) -> None:
    schema, table = encoded()
    result = scarf(table, MarginalSampler(schema), seeded(), rate)
    assert not (result.chosen & ~table.observed).any()
    for seen, chosen in zip(table.observed.sum(1), result.chosen.sum(1), strict=True):
        assert int(chosen) == math.floor(rate * int(seen) + 1e-9)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 40))
def test_a_share_is_what_it_is_on_paper(columns: int, tenths: int) -> None:
    # 0.3 * 10 must be 3, and 0.1 * 3 / 0.3 must be 1, whatever floats make of it.
    rate = tenths / 40
    cells = choose_cells(torch.ones(3, columns, dtype=torch.bool), rate, seeded(), "share")
    assert (cells.sum(1) == columns * tenths // 40).all()


def test_every_cell_is_as_likely_in_a_share() -> None:
    cells = choose_cells(torch.ones(8000, 5, dtype=torch.bool), 0.4, seeded(), "share")
    for j in range(5):
        assert within(float(cells[:, j].double().mean()), 0.4, 8000)


def test_what_is_not_chosen_stays_and_missing_stays_missing() -> None:
    schema, table = encoded()
    result = vime(table, MarginalSampler(schema), seeded())
    for before, after in zip(table, result.table, strict=True):
        assert torch.equal(before[~result.chosen], after[~result.chosen])
    assert torch.equal(result.table.observed, table.observed)
    assert torch.equal(result.table.reasons, table.reasons)
    assert table.reasons.max() == 2


def test_changed_cells_are_those_that_can_be_told() -> None:
    schema, table = encoded()
    result = vime(table, MarginalSampler(schema), seeded(), 0.5)
    same = (result.table.numbers == table.numbers) & (result.table.codes == table.codes)
    assert torch.equal(result.changed, result.chosen & ~same)
    # Two equally likely values: half of the draws hit the old one.
    hit = result.chosen[:, 3]
    share = float(result.changed[:, 3].sum() / hit.sum())
    assert within(share, 0.5, int(hit.sum()))
    # Shares .7, .2, .1: 1 - (.49 + .04 + .01) change.
    hit = result.chosen[:, 2]
    assert float(result.changed[:, 2].sum() / hit.sum()) == pytest.approx(0.46, abs=0.06)


def test_missing_cells_are_filled_only_when_asked() -> None:
    schema, table = encoded()
    result = corrupt(table, MarginalSampler(schema), 0.5, seeded(), fill_missing=True)
    filled = result.chosen & ~table.observed
    assert within(float(filled.sum() / (~table.observed).sum()), 0.5, int((~table.observed).sum()))
    assert torch.equal(result.table.observed, table.observed | result.chosen)
    assert (result.table.reasons[filled] == 0).all()
    assert result.changed[filled].all()


def test_the_seed_settles_every_draw_and_the_input_is_left_alone() -> None:
    schema, table = encoded(200)
    copy = EncodedTable(*(part.clone() for part in table))
    first, second = (vime(table, MarginalSampler(schema), seeded(3)) for _ in range(2))
    other = vime(table, MarginalSampler(schema), seeded(4))

    def parts(x: object) -> list[Tensor]:
        return [*x.table, x.chosen, x.changed]  # type: ignore[attr-defined]

    assert all(torch.equal(a, b) for a, b in zip(parts(first), parts(second), strict=True))
    assert not torch.equal(first.chosen, other.chosen)
    assert all(torch.equal(a, b) for a, b in zip(table, copy, strict=True))


def test_groups_go_whole_and_as_often_as_asked() -> None:
    groups = ["symptom", "demographic", "symptom", "function"]
    hidden = drop_groups(groups, 6000, 0.2, seeded())
    assert torch.equal(hidden[:, 0], hidden[:, 2])
    for j in (0, 1, 3):
        assert within(float(hidden[:, j].double().mean()), 0.2, 6000)
    both = float((hidden[:, 0] & hidden[:, 1]).double().mean())
    assert within(both, 0.04, 6000)
    assert not drop_groups(groups, 50, 0.0, seeded()).any()
    assert drop_groups(groups, 50, 1.0, seeded()).all()


def test_impossible_corruption_is_refused() -> None:
    schema, table = encoded(50)
    for rate in (-0.1, 1.5, math.nan):
        with pytest.raises(InputError, match="rate is"):
            corrupt(table, MarginalSampler(schema), rate)
    with pytest.raises(InputError, match="'all'"):
        choose_cells(table.observed, 0.5, how="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no groups"):
        drop_groups([], 5, 0.5)
