"""SCARF, given variables, and sequences of visits."""

import numpy as np
import pytest
import torch

from spinmark_models.clinical import build_clinical_encoder
from spinmark_models.clinical.base import TabularEncoder
from spinmark_models.clinical.corruption import choose_shares
from spinmark_models.clinical.pretexts import hide_labels, label_columns
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_models.errors import InputError
from spinmark_models.export import load_clinical, save_clinical
from spinmark_models.losses.nt_xent import nt_xent_chance
from spinmark_models.tables import EncodedTable, TableSchema, VisitTable

NAMES = [f"X{i}" for i in range(6)]
KINDS = ["continuous"] * 4 + ["binary", "nominal"]
GROUPS = ["symptom", "symptom", "function", "function", "demographic", "demographic"]


def values(n: int, seed: int = 0) -> np.ndarray:
    """Four numbers and two categories that follow from two latents, a tenth missing."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 2))
    mixed = latent @ np.random.default_rng(9).normal(size=(2, 4)) + 0.2 * rng.normal(size=(n, 4))
    found = np.column_stack([mixed, (latent > 0).astype(float)])
    found[rng.random(found.shape) < 0.1] = np.nan
    return found


def made(n: int = 64, **changes: object) -> tuple[TabularEncoder, EncodedTable]:
    rows = values(n)
    schema = TableSchema.fit(rows, NAMES, KINDS, groups=GROUPS)
    base = {"hidden": 32, "latent": 4, "token": 4}
    torch.manual_seed(0)
    config = ClinicalEncoderConfig(**{**base, **changes})  # type: ignore[arg-type]
    return build_clinical_encoder(schema, config), schema.encode(rows, NAMES)


def sequences(table: EncodedTable, visits: int = 3) -> VisitTable:
    """Rows of three people's visits become sequences; the first visit of every other row is none."""
    parts = [part.reshape(-1, visits, part.shape[-1]) for part in table]
    parts[2] = parts[2].clone()
    parts[2][::2, 0] = False
    years = torch.arange(visits - 1, -1, -1).float().expand(len(parts[0]), visits)
    return VisitTable(*parts, years)


def descend(encoder: TabularEncoder, rows: EncodedTable, steps: int) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = encoder.pretext_loss(rows, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_scarf_starts_near_chance_and_learns_to_tell_rows() -> None:
    encoder, rows = made(n=60, pretext="scarf", temperature=0.2, corruption=0.2)
    losses = descend(encoder, rows, 60)
    assert losses[0] > 0.8 * nt_xent_chance(60)
    assert np.mean(losses[-10:]) < 0.9 * losses[0]


def test_scarf_is_not_won_by_which_cells_are_missing() -> None:
    """Rows that differ in nothing but their missing cells are told apart little better than by chance."""
    rng = np.random.default_rng(0)
    rows = np.ones((64, 12))
    rows[0] = 2.0
    rows[rng.random(rows.shape) < 0.5] = np.nan
    names = [f"X{i}" for i in range(12)]
    schema = TableSchema.fit(rows, names, ["ordinal"] * 12)
    torch.manual_seed(0)
    config = ClinicalEncoderConfig(
        hidden=32, latent=4, token=4, pretext="scarf", temperature=0.2, corruption=0.9
    )
    encoder = build_clinical_encoder(schema, config)
    losses = descend(encoder, schema.encode(rows, names), 60)
    assert np.mean(losses[-10:]) > 0.85 * nt_xent_chance(64)


def test_the_rate_is_that_of_the_paper_unless_it_is_given() -> None:
    assert ClinicalEncoderConfig(pretext="scarf").corruption_rate() == 0.6
    assert ClinicalEncoderConfig(pretext="vime").corruption_rate() == 0.3
    assert ClinicalEncoderConfig(pretext="scarf", corruption=0.3).corruption_rate() == 0.3


def test_supervision_asks_for_labels_alone() -> None:
    encoder, rows = made(pretext="supervised", labels=("symptom",))
    generator = torch.Generator().manual_seed(1)
    assert encoder.labels is not None
    hidden = hide_labels(rows, encoder.labels, 0.3, generator)
    loss = encoder.reconstruction_loss(rows, hidden_NP=hidden, scored_P=encoder.labels)
    losses = encoder.cell_losses(encoder(rows, hidden), rows)
    scored = (hidden & rows.observed)[:, :2]
    expected = losses[:, :2][scored].mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert np.mean(descend(encoder, rows, 80)[-10:]) < 0.6 * float(loss.detach())


def test_labels_are_hidden_wholly_in_half_of_the_rows() -> None:
    _, rows = made(n=4000)
    labels = torch.tensor([True, True, False, False, False, False])
    hidden = hide_labels(rows, labels, 0.2, torch.Generator().manual_seed(0))
    assert not (hidden & ~rows.observed).any()
    full = rows.observed[:, 0] & rows.observed[:, 1]
    # All of them in half of the rows, and by chance both in a quarter of the rest.
    share = (hidden[full, 0] & hidden[full, 1]).float().mean()
    assert float(share) == pytest.approx(0.625, abs=0.03)
    others = hidden[:, 2:][rows.observed[:, 2:]].float().mean()
    assert float(others) == pytest.approx(0.2, abs=0.02)


def test_impossible_labels_are_refused() -> None:
    encoder, _ = made()
    assert label_columns(encoder.schema, ["X0", "function"]) == (0, 2, 3)
    with pytest.raises(InputError, match="labels name 'pain'; valid are the columns"):
        label_columns(encoder.schema, ["pain"])
    with pytest.raises(InputError, match="are 6 of 6 columns"):
        label_columns(encoder.schema, ["symptom", "function", "demographic"])
    with pytest.raises(InputError, match="are 0 of 6 columns"):
        label_columns(encoder.schema, [])


def test_predictions_are_what_the_decoder_says() -> None:
    encoder, rows = made()
    latent = encoder(rows)
    found = encoder.predictions(latent)
    assert list(found) == NAMES
    decoded = encoder.decoder(latent)
    assert torch.equal(found["X1"], decoded[:, 1])
    assert torch.equal(found["X4"], decoded[:, 6:8].softmax(dim=1))
    assert torch.equal(found["X5"], decoded[:, 8:10].softmax(dim=1))


def test_shares_are_even_and_some_rows_lose_all() -> None:
    allowed = torch.ones(20000, 10, dtype=torch.bool)
    allowed[:, 0] = False
    hidden = choose_shares(allowed, torch.Generator().manual_seed(0))
    assert not hidden[:, 0].any()
    count = hidden.sum(dim=1)
    # A tenth lose all; of the rest each number from 0 to 9 of nine cells is as likely.
    share = torch.bincount(count, minlength=10) / len(count)
    expected = torch.full((10,), 0.09)
    expected[9] += 0.1
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("pretext", ["hide", "vime", "scarf", "supervised"])
@pytest.mark.parametrize("name", ["mlp", "ft_transformer"])
def test_sequences_are_learnt_from(pretext: str, name: str, tmp_path: object) -> None:
    encoder, flat = made(
        n=60,
        pretext=pretext,
        history="gru",
        name=name,
        token=8,
        heads=2,
        blocks=1,
        group_dropout=0.1,
    )
    rows = sequences(flat)
    losses = descend(encoder, rows, 3)
    assert np.isfinite(losses).all()
    encoder.eval()
    folder = tmp_path / "encoder"  # type: ignore[operator]
    save_clinical(folder, encoder)
    assert torch.equal(load_clinical(folder)(rows), encoder(rows))


def test_a_sequence_is_its_visits_in_the_order_of_time() -> None:
    encoder, flat = made(n=60, history="gru")
    encoder.eval()
    rows = sequences(flat)
    out = encoder(rows)
    assert out.shape == (20, 4)
    # A visit of which nothing is known is none, wherever it stands.
    empty = VisitTable(*(torch.zeros_like(part) for part in rows), torch.full_like(rows.years, 9.0))
    longer = VisitTable(
        *(torch.cat([a, b], dim=1) for a, b in zip(empty, rows, strict=True)),
        torch.cat([empty.years, rows.years], dim=1),
    )
    torch.testing.assert_close(encoder(longer), out)
    # Hidden earlier visits are none too, and a row alone is a sequence of one.
    hidden = torch.zeros_like(rows.observed)
    hidden[:, :-1] = True
    torch.testing.assert_close(encoder(rows, hidden), encoder(rows.now()))
    other = VisitTable(*(part[:, [1, 0, 2]] for part in rows), rows.years)
    assert not torch.allclose(encoder(other), out)
    plain, _ = made(n=60)
    with pytest.raises(InputError, match="history is 'none'"):
        plain(rows)


def test_all_hidden_is_the_empty_row() -> None:
    encoder, flat = made(n=60, history="gru")
    encoder.eval()
    rows = sequences(flat)
    out = encoder(rows, torch.ones_like(rows.observed))
    nothing = EncodedTable(*(torch.zeros_like(part[:1]) for part in flat))
    torch.testing.assert_close(out, encoder(nothing).expand_as(out))


def test_a_visit_table_goes_wherever_a_table_goes() -> None:
    _, flat = made(n=60)
    rows = sequences(flat)
    part = rows.rows(torch.tensor([4, 2]))
    assert isinstance(part, VisitTable)
    assert torch.equal(part.years, rows.years[[4, 2]])
    assert torch.equal(rows.now().numbers, rows.numbers[:, -1])
    assert rows.flat().numbers.shape == (60, 6)
    assert torch.equal(rows.to(torch.device("cpu")).years, rows.years)
    assert flat.now() is flat
    assert flat.flat() is flat
    assert flat.years is None
