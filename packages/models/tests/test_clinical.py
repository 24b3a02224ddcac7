import logging
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spinmark_models.clinical import ClinicalEncoder
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_models.errors import InputError
from spinmark_models.tables import TableSchema

NAMES = ["AGE", "SEX", "XRKL", "RACE"]
KINDS = ["continuous", "binary", "ordinal", "nominal"]


def table(n: int = 60, seed: int = 0, missing: float = 0.2) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [
            rng.normal(60, 9, n),
            rng.integers(1, 3, n),
            rng.integers(0, 5, n),
            rng.choice([0.0, 1.0, 3.0], n),
        ]
    ).astype(float)
    values[rng.random(values.shape) < missing] = np.nan
    return values


@pytest.fixture(scope="module")
def schema() -> TableSchema:
    return TableSchema.fit(table(), NAMES, KINDS)


def test_numbers_are_standardised_by_training_rows_only(schema: TableSchema) -> None:
    train = table()
    assert schema.centres[0] == np.nanmedian(train[:, 0])
    assert schema.scales[0] == pytest.approx(np.nanstd(train[:, 0]))
    row = np.array([[schema.centres[0] + 2 * schema.scales[0], 2, np.nan, 3]])
    encoded = schema.encode(row, NAMES)
    assert encoded.numbers[0].tolist() == pytest.approx([2, 0, 0, 0], abs=1e-5)
    assert encoded.codes[0].tolist() == [0, 1, 0, 2]
    assert encoded.observed[0].tolist() == [True, True, False, True]
    assert schema.cardinalities == (0, 2, 0, 3)


def test_columns_are_found_by_name(schema: TableSchema) -> None:
    values = table()
    one = schema.encode(values, NAMES)
    two = schema.encode(np.column_stack([values[:, 0], values[:, ::-1]]), ["EXTRA", *NAMES[::-1]])
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    with pytest.raises(InputError, match=r"lacks the column\(s\) \['RACE'\]"):
        schema.encode(values[:, :3], NAMES[:3])


def test_an_unknown_category_becomes_missing_with_a_warning(
    schema: TableSchema, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        encoded = schema.encode(np.array([[60.0, 1, 2, 2.0], [60.0, 9.0, 2, 1]]), NAMES)
    assert encoded.observed[0].tolist() == [True, True, True, False]
    assert encoded.observed[1].tolist() == [True, False, True, True]
    assert "RACE holds [2.0], never seen" in caplog.text


def test_constant_columns_are_left_out_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    values = np.column_stack([table()[:, 0], np.full(60, 3.0), np.full(60, np.nan)])
    with caplog.at_level(logging.WARNING):
        fitted = TableSchema.fit(values, ["A", "B", "C"], ["continuous"] * 3)
    assert (fitted.names, fitted.dropped) == (("A",), ("B", "C"))
    assert "['B', 'C']" in caplog.text
    with pytest.raises(InputError, match="None of the 1 columns"):
        TableSchema.fit(values[:, 1:2], ["B"], ["continuous"])


def test_a_schema_survives_json(schema: TableSchema) -> None:
    assert TableSchema.from_json(schema.to_json()) == schema
    for text in ("{", "[]", '{"names": []}', schema.to_json().replace('"AGE", ', "")):
        with pytest.raises(InputError, match="table schema"):
            TableSchema.from_json(text)


@pytest.mark.parametrize("missing", [0.0, 0.5, 1.0])
def test_any_share_of_cells_may_be_missing(schema: TableSchema, missing: float) -> None:
    encoder = ClinicalEncoder(schema, ClinicalEncoderConfig(hidden=16))
    embedding = encoder.embed(table(7, seed=1, missing=missing), NAMES)
    assert embedding.shape == (7, 8)
    assert np.isfinite(embedding).all()
    assert encoder.training


def test_a_hidden_cell_looks_like_a_missing_one(schema: TableSchema) -> None:
    encoder = ClinicalEncoder(schema, ClinicalEncoderConfig(hidden=16)).eval()
    values = table(5, seed=2, missing=0.0)
    hidden = torch.zeros(5, 4, dtype=torch.bool)
    hidden[:, 1:3] = True
    blank = values.copy()
    blank[:, 1:3] = np.nan
    a = encoder(schema.encode(values, NAMES), hidden)
    assert torch.equal(a, encoder(schema.encode(blank, NAMES)))


def test_the_loss_is_the_mean_over_hidden_observed_cells(schema: TableSchema) -> None:
    torch.manual_seed(0)
    encoder = ClinicalEncoder(schema, ClinicalEncoderConfig(hidden=16)).eval().double()
    encoded = schema.encode(table(9, seed=3), NAMES)
    encoded = encoded._replace(numbers=encoded.numbers.double())
    hidden = torch.rand(9, 4, generator=torch.Generator().manual_seed(1)) < 0.6
    loss = encoder.reconstruction_loss(encoded, hidden_NP=hidden).detach()
    decoded = encoder.decoder(encoder(encoded, hidden)).detach().numpy()
    offsets = {1: (4, 2), 3: (6, 3)}
    cells = []
    for i in range(9):
        for j in range(4):
            if not (hidden[i, j] and encoded.observed[i, j]):
                continue
            if j in offsets:
                start, count = offsets[j]
                logits = decoded[i, start : start + count]
                cells.append(np.log(np.exp(logits).sum()) - logits[int(encoded.codes[i, j])])
            else:
                r = abs(decoded[i, j] - float(encoded.numbers[i, j]))
                cells.append(r * r / 2 if r < 1 else r - 0.5)
    assert float(loss) == pytest.approx(np.mean(cells), rel=1e-9)
    nothing = encoder.reconstruction_loss(encoded, hidden_NP=torch.zeros_like(hidden)).detach()
    assert float(nothing) == 0.0


def test_corruption_hides_its_share_of_observed_cells_only(schema: TableSchema) -> None:
    encoder = ClinicalEncoder(schema, ClinicalEncoderConfig(hidden=16, corruption=0.3))
    encoded = schema.encode(table(4000, seed=4), NAMES)
    hidden = encoder.hide(encoded, torch.Generator().manual_seed(0))
    assert not (hidden & ~encoded.observed).any()
    share = float(hidden.sum() / encoded.observed.sum())
    assert share == pytest.approx(0.3, abs=4 * (0.21 / 12800) ** 0.5)


def test_training_learns_that_columns_agree() -> None:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=400)
    values = np.column_stack([factor, factor, factor > 0]).astype(float)
    names, kinds = ["A", "B", "C"], ["continuous", "continuous", "binary"]
    fitted = TableSchema.fit(values, names, kinds)
    torch.manual_seed(0)
    encoder = ClinicalEncoder(fitted, ClinicalEncoderConfig(hidden=32, latent=4))
    encoded = fitted.encode(values, names)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(encoder.parameters(), 5e-3)
    for _ in range(120):
        optimiser.zero_grad()
        encoder.reconstruction_loss(encoded, generator).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    hidden = torch.zeros(400, 3, dtype=torch.bool)
    hidden[:, 0] = True
    loss = encoder.eval().reconstruction_loss(encoded, hidden_NP=hidden).detach()
    # The spread of a standard normal about its median costs 0.36 under this loss.
    assert float(loss) < 0.05


@pytest.mark.parametrize("field", [{"latent": 0}, {"corruption": 1.0}, {"dropout": -0.1}])
def test_impossible_configurations_are_refused(schema: TableSchema, field: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(field))):
        ClinicalEncoder(schema, ClinicalEncoderConfig(**field))


def test_a_number_may_follow_the_last_category() -> None:
    values = table()[:, [1, 3, 0, 2]]
    fitted = TableSchema.fit(
        values, ["SEX", "RACE", "AGE", "PAIN"], [KINDS[i] for i in (1, 3, 0, 2)]
    )
    encoder = ClinicalEncoder(fitted, ClinicalEncoderConfig(hidden=16))
    assert encoder(fitted.encode(values, ["SEX", "RACE", "AGE", "PAIN"])).isfinite().all()
