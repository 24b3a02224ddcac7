import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.clinical import (
    TABULAR_ENCODERS,
    ClinicalEncoder,
    TabularEncoder,
    build_clinical_encoder,
)
from spinmark_models.clinical.corruption import scarf
from spinmark_models.clinical.samplers import MarginalSampler, RowSampler
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_models.errors import InputError
from spinmark_models.export import load_clinical, save_clinical
from spinmark_models.losses.nt_xent import nt_xent, nt_xent_chance
from spinmark_models.losses.vime import vime_mask_chance
from spinmark_models.tables import EncodedTable, TableSchema

NAMES = ["AGE", "SEX", "PAIN", "RACE", "BMI"]
KINDS = ["continuous", "binary", "ordinal", "nominal", "continuous"]
GROUPS = ["demographic", "demographic", "symptom", "demographic", "function"]
VARIANTS: list[dict[str, Any]] = [
    {"name": "mlp"},
    {"name": "mlp", "numbers": "quantile", "bins": 5},
    {"name": "ft_transformer", "token": 16},
    {"name": "ft_transformer", "token": 16, "numbers": "quantile", "bins": 5},
]
IDS = ["mlp", "mlp-quantile", "ft", "ft-quantile"]
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=IDS)


def table(n: int = 120, seed: int = 0, missing: float = 0.2) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    columns = [
        rng.normal(60, 9, n),
        rng.integers(1, 3, n),
        rng.integers(0, 11, n),
        rng.choice([0.0, 1.0, 3.0], n),
        rng.gamma(9, 3, n),
    ]
    values = np.column_stack(columns).astype(float)
    values[rng.random(values.shape) < missing] = np.nan
    return values


def why(values: NDArray[np.float64], seed: int = 1) -> NDArray[Any]:
    return np.random.default_rng(seed).choice([".A", ".M"], values.shape)


@pytest.fixture(scope="module")
def schema() -> TableSchema:
    return TableSchema.fit(table(), NAMES, KINDS, groups=GROUPS, reasons=why(table()))


def make(schema: TableSchema, variant: dict[str, Any], **more: Any) -> TabularEncoder:
    torch.manual_seed(0)
    return build_clinical_encoder(schema, ClinicalEncoderConfig(hidden=24, **variant, **more))


def train(encoder: TabularEncoder, rows: EncodedTable, steps: int, lr: float = 5e-3) -> None:
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(encoder.parameters(), lr)
    for _ in range(steps):
        optimiser.zero_grad()
        encoder.pretext_loss(rows, generator).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


class FirstRelease(nn.Module):
    """The encoder of the first release, as it drew its weights and worked; figures depend on it."""

    def __init__(self, cardinalities: list[int]) -> None:
        super().__init__()
        columns, levels, token, hidden, latent = len(cardinalities), sum(cardinalities), 8, 128, 8
        self.count = torch.tensor(cardinalities)
        self.weight = nn.Parameter(torch.randn(columns, token) * token**-0.5)
        self.bias = nn.Parameter(torch.randn(columns, token) * token**-0.5)
        self.missing = nn.Parameter(torch.randn(columns, token) * token**-0.5)
        self.levels = nn.Embedding(levels, token)
        nn.init.normal_(self.levels.weight, std=token**-0.5)
        self.encoder = self.layers(columns * token, hidden, latent)
        self.decoder = self.layers(latent, hidden, columns + levels)

    def layers(self, inside: int, hidden: int, out: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        for width in (inside, hidden):
            parts += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(0.0)]
        return nn.Sequential(*parts, nn.Linear(hidden, out))

    def forward(self, rows: EncodedTable, shown: Tensor) -> Tensor:
        start = (self.count.cumsum(0) - self.count).clamp(max=int(self.count.sum()) - 1)
        tokens = rows.numbers.clamp(-5, 5)[..., None] * self.weight + self.bias
        names = self.levels(rows.codes + start)
        tokens = torch.where((self.count > 0)[:, None], names, tokens)
        tokens = torch.where(shown[..., None], tokens, self.missing)
        embedding: Tensor = self.encoder(tokens.flatten(1))
        return embedding

    def loss(self, rows: EncodedTable, generator: torch.Generator) -> Tensor:
        hidden = (torch.rand(rows.observed.shape, generator=generator) < 0.3) & rows.observed
        decoded = self.decoder(self(rows, rows.observed & ~hidden))
        columns = len(self.count)
        target = rows.numbers.clamp(-5, 5)
        parts = list(F.huber_loss(decoded[:, :columns], target, reduction="none").unbind(1))
        place = columns
        for j, count in enumerate(self.count.tolist()):
            if count:
                logits = decoded[:, place : place + count]
                parts[j] = F.cross_entropy(logits, rows.codes[:, j], reduction="none")
                place += count
        losses = torch.stack(parts, dim=1)
        kept = torch.where(hidden, losses, torch.zeros_like(losses))
        return kept.sum() / hidden.sum().clamp_min(1)


def test_the_default_encoder_is_bit_by_bit_that_of_the_first_release() -> None:
    plain = TableSchema.fit(table(), NAMES, KINDS)
    torch.manual_seed(5)
    old = FirstRelease(list(plain.cardinalities))
    torch.manual_seed(5)
    new = ClinicalEncoder(plain, ClinicalEncoderConfig())
    rows = plain.encode(table(), NAMES)
    assert list(new.state_dict()) == list(old.state_dict())
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]
    optimisers = [torch.optim.AdamW(m.parameters(), 3e-3) for m in (old, new)]
    for _ in range(15):
        losses = (old.loss(rows, generators[0]), new.reconstruction_loss(rows, generators[1]))
        assert torch.equal(*losses)
        for loss, optimiser in zip(losses, optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    for name, weight in old.state_dict().items():
        assert torch.equal(weight, new.state_dict()[name]), name
    with torch.no_grad():
        assert torch.equal(old(rows, rows.observed), new(rows))


@every_variant
@pytest.mark.parametrize("missing", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_any_share_of_cells_may_be_missing(
    schema: TableSchema, variant: dict[str, Any], missing: float
) -> None:
    encoder = make(schema, variant)
    values = table(9, seed=4, missing=missing)
    embedding = encoder.embed(values, NAMES, why(values))
    assert embedding.shape == (9, 8)
    assert np.isfinite(embedding).all()
    loss = encoder.pretext_loss(schema.encode(values, NAMES), torch.Generator().manual_seed(0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in encoder.parameters())


@every_variant
def test_what_a_hidden_cell_holds_has_no_influence(
    schema: TableSchema, variant: dict[str, Any]
) -> None:
    encoder = make(schema, variant).eval()
    rows = schema.encode(table(8, seed=2, missing=0.3), NAMES, why(table(8)))
    hidden = torch.rand(8, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    other = rows._replace(
        numbers=rows.numbers.masked_fill(hidden, 3.25),
        codes=rows.codes.masked_fill(hidden & encoder.categorical, 1),
        reasons=rows.reasons.masked_fill(hidden, 2),
    )
    assert torch.equal(encoder(rows, hidden), encoder(other, hidden))
    blank = rows._replace(observed=rows.observed & ~hidden, reasons=rows.reasons * ~hidden)
    assert torch.equal(encoder(rows, hidden), encoder(blank))
    nothing = encoder(rows, torch.ones_like(hidden))
    assert torch.equal(nothing, encoder(other, torch.ones_like(hidden)))
    # Rows of a batch may go through other kernels at its end; they differ by rounding at most.
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))


@every_variant
def test_the_order_of_columns_in_a_table_does_not_matter(
    schema: TableSchema, variant: dict[str, Any]
) -> None:
    encoder = make(schema, variant)
    values = table(8, seed=2)
    order = [3, 0, 4, 2, 1]
    words = why(values)
    one = encoder.embed(values, NAMES, words)
    two = encoder.embed(values[:, order], [NAMES[j] for j in order], words[:, order])
    assert np.array_equal(one, two)


def test_the_transformer_does_not_know_the_order_of_a_schema() -> None:
    values = table()
    order = [3, 0, 4, 2, 1]
    names, kinds = [NAMES[j] for j in order], [KINDS[j] for j in order]
    one = make(TableSchema.fit(values, NAMES, KINDS), VARIANTS[2]).eval()
    two = make(TableSchema.fit(values[:, order], names, kinds), VARIANTS[2]).eval()
    state = dict(one.state_dict())
    for name in ("weight", "bias", "missing"):
        state[name] = state[name][order]
    # Levels of SEX and RACE change places: two of the one, three of the other.
    state["levels.weight"] = state["levels.weight"][[2, 3, 4, 0, 1]]
    state = {k: v for k, v in state.items() if not k.startswith("decoder")}
    two.load_state_dict(state, strict=False)
    rows = table(9, seed=6)
    np.testing.assert_allclose(
        two.embed(rows[:, order], names), one.embed(rows, NAMES), rtol=1e-5, atol=1e-6
    )


@every_variant
def test_a_column_that_is_missing_altogether_is_no_obstacle(
    schema: TableSchema, variant: dict[str, Any]
) -> None:
    encoder = make(schema, variant)
    for j in range(5):
        values = table(6, seed=3)
        values[:, j] = np.nan
        assert np.isfinite(encoder.embed(values, NAMES)).all()


@every_variant
def test_a_known_reason_is_told_and_an_unknown_one_is_none(
    schema: TableSchema, variant: dict[str, Any]
) -> None:
    encoder = make(schema, variant)
    row = table(1, missing=0.0)
    row[0, 2] = np.nan

    def embedded(reason: str | None) -> NDArray[np.float32]:
        return encoder.embed(row, NAMES, [[None, None, reason, None, None]])

    found = {reason: embedded(reason) for reason in (".A", ".M", ".Z", None)}
    assert not np.allclose(found[".A"], found[".M"])
    assert not np.allclose(found[".A"], found[None])
    assert np.array_equal(found[".Z"], found[None])
    assert np.array_equal(encoder.embed(row, NAMES), found[None])


@every_variant
@pytest.mark.parametrize("pretext", ["hide", "vime"])
def test_every_weight_learns(schema: TableSchema, variant: dict[str, Any], pretext: str) -> None:
    encoder = make(schema, variant, pretext=pretext, group_dropout=0.2)
    values = table()
    rows = schema.encode(values, NAMES, why(values))
    loss = encoder.pretext_loss(rows, torch.Generator().manual_seed(0))
    loss.backward()  # type: ignore[no-untyped-call]
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        # A key's bias adds the same to all of a row's similarities, which the softmax takes away.
        if not name.endswith("key.bias"):
            assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("variant", [VARIANTS[1], VARIANTS[3]], ids=[IDS[1], IDS[3]])
def test_two_threads_give_the_same_gradient_every_time(
    schema: TableSchema, variant: dict[str, Any]
) -> None:
    encoder = make(schema, variant, pretext="vime", group_dropout=0.2)
    values = table(256)
    rows = schema.encode(values, NAMES, why(values))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = set()
        for _ in range(3):
            encoder.zero_grad()
            torch.manual_seed(0)
            loss = encoder.pretext_loss(rows, torch.Generator().manual_seed(0))
            loss.backward()  # type: ignore[no-untyped-call]
            grown = [p.grad for p in encoder.parameters() if p.grad is not None]
            found.add(b"".join(g.numpy().tobytes() for g in grown))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_a_whole_group_is_hidden_and_scored(schema: TableSchema) -> None:
    encoder = make(schema, VARIANTS[0], group_dropout=0.5, corruption=1e-9)
    rows = schema.encode(table(4000, seed=1, missing=0.0), NAMES)
    hidden = encoder.hide(rows, torch.Generator().manual_seed(0))
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    assert torch.equal(hidden[:, 0], hidden[:, 3])
    assert abs(float(hidden[:, 2].double().mean()) - 0.5) < 4 * (0.25 / 4000) ** 0.5
    plain = TableSchema.fit(table(), NAMES, KINDS)
    ungrouped = make(plain, VARIANTS[0], group_dropout=0.5)
    with pytest.raises(InputError, match="no groups"):
        ungrouped.hide(plain.encode(table(), NAMES))


@pytest.mark.parametrize("variant", VARIANTS[1:], ids=IDS[1:])
def test_training_learns_that_columns_agree(variant: dict[str, Any]) -> None:
    factor = np.random.default_rng(0).normal(size=200)
    values = np.column_stack([factor, factor, factor > 0]).astype(float)
    names, kinds = ["A", "B", "C"], ["continuous", "continuous", "binary"]
    fitted = TableSchema.fit(values, names, kinds)
    small = {"blocks": 1, "attention_dropout": 0.0, "ffn_dropout": 0.0, "latent": 4}
    encoder = make(fitted, {**variant, **small})
    rows = fitted.encode(values, names)
    train(encoder, rows, 120, lr=1e-2)
    hidden = torch.zeros(200, 3, dtype=torch.bool)
    hidden[:, 0] = True
    loss = encoder.eval().reconstruction_loss(rows, hidden_NP=hidden).detach()
    # The spread of a standard normal about its median costs 0.36 under this loss.
    assert float(loss) < 0.1


@pytest.mark.parametrize(
    "variant", [VARIANTS[0], {**VARIANTS[3], "blocks": 2, "heads": 4}], ids=["mlp", "ft-quantile"]
)
def test_vime_learns_which_cells_do_not_fit(variant: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=300)
    values = np.column_stack([factor, -2 * factor, np.exp(factor), factor > 0]).astype(float)
    values[rng.random(values.shape) < 0.05] = np.nan
    names, kinds = list("ABCD"), ["continuous"] * 3 + ["binary"]
    fitted = TableSchema.fit(values, names, kinds)
    encoder = make(fitted, variant, pretext="vime", alpha=0.5, attention_dropout=0.0)
    rows = fitted.encode(values, names)
    train(encoder, rows, 80, lr=1e-2)
    encoder.eval()
    encoder.config.alpha = 0.0
    with torch.no_grad():
        for sampler in (None, RowSampler(rows)):
            loss = encoder.vime_loss(rows, torch.Generator().manual_seed(1), sampler)
            assert float(loss) < 0.85 * vime_mask_chance(0.3)


def test_the_loss_of_vime_needs_its_mask(schema: TableSchema) -> None:
    rows = schema.encode(table(), NAMES)
    with pytest.raises(InputError, match="pretext is 'hide'"):
        make(schema, VARIANTS[0]).vime_loss(rows)


def test_scarf_finds_the_row_behind_its_corrupted_view() -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(64, 3))
    values = factors @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(64, 12))
    names = [f"X{j}" for j in range(12)]
    fitted = TableSchema.fit(values, names, ["continuous"] * 12)
    encoder = make(fitted, VARIANTS[0])
    rows, sampler = fitted.encode(values, names), MarginalSampler(fitted)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(encoder.parameters(), 5e-3)
    losses = []
    for _ in range(100):
        view = scarf(rows, sampler, generator, rate=0.3).table
        loss = nt_xent(encoder(rows), encoder(view), 0.5)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.75 * nt_xent_chance(64)


def norm(x: NDArray[Any], state: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    centred = x - x.mean()
    scaled = centred / np.sqrt((centred**2).mean() + 1e-5)
    result: NDArray[Any] = scaled * state[f"{name}.weight"] + state[f"{name}.bias"]
    return result


def transformer_by_hand(tokens: NDArray[Any], state: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """One row's tokens through three blocks of four heads, each step in a loop."""

    def linear(x: NDArray[Any], name: str) -> NDArray[Any]:
        result: NDArray[Any] = state[f"{name}.weight"] @ x + state[f"{name}.bias"]
        return result

    x = [state["cls"], *tokens]
    for b in range(3):
        at = f"blocks.{b}"
        normed = x if b == 0 else [norm(t, state, f"{at}.attention_norm") for t in x]
        q, k, v = (
            [linear(t, f"{at}.attention.{n}") for t in normed] for n in ("query", "key", "value")
        )
        size = len(x[0]) // 4
        for i in range(len(x)):
            mixed = []
            for head in range(4):
                part = slice(head * size, (head + 1) * size)
                scores = [math.exp(q[i][part] @ key[part] / math.sqrt(size)) for key in k]
                values = [s * value[part] for s, value in zip(scores, v, strict=True)]
                mixed.append(sum(values) / sum(scores))
            x[i] = x[i] + linear(np.concatenate(mixed), f"{at}.attention.out")
        for i in range(len(x)):
            wide = linear(norm(x[i], state, f"{at}.feed_norm"), f"{at}.feed.0")
            half = len(wide) // 2
            x[i] = x[i] + linear(wide[:half] * np.maximum(wide[half:], 0), f"{at}.feed.3")
    return linear(np.maximum(norm(x[0], state, "head.0"), 0), "head.2")


def test_the_transformer_is_that_of_the_paper(schema: TableSchema) -> None:
    encoder = make(schema, VARIANTS[2], heads=4).double().eval()
    for weight in encoder.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    rows = schema.encode(table(4, seed=7), NAMES)
    rows = rows._replace(numbers=rows.numbers.double())
    state = {k: v.numpy().astype(np.float64) for k, v in encoder.encoder.state_dict().items()}
    with torch.no_grad():
        tokens, got = encoder.tokens(rows).numpy(), encoder(rows).numpy()
    wanted = np.stack([transformer_by_hand(row, state) for row in tokens])
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-10)


def test_the_transformer_equals_that_of_its_authors() -> None:
    peer = pytest.importorskip("rtdl_revisiting_models")
    values = table(200, missing=0.0)[:, [0, 2, 4, 1, 3]]
    names, kinds = list("ABCDE"), ["continuous", "ordinal", "continuous", "binary", "nominal"]
    fitted = TableSchema.fit(values, names, kinds)
    torch.manual_seed(1)
    ours = build_clinical_encoder(fitted, ClinicalEncoderConfig(name="ft_transformer")).eval()
    defaults = peer.FTTransformer.get_default_kwargs()
    del defaults["_is_default"]
    assert ours.config.blocks == defaults["n_blocks"]
    assert ours.config.token_size() == defaults["d_block"]
    assert ours.config.heads == defaults["attention_n_heads"]
    assert ours.config.attention_dropout == defaults["attention_dropout"]
    assert ours.config.ffn_dropout == defaults["ffn_dropout"]
    assert ours.config.ffn_factor == defaults["ffn_d_hidden_multiplier"]
    theirs = peer.FTTransformer(
        n_cont_features=3, cat_cardinalities=[2, 3], d_out=8, **defaults
    ).eval()
    copy = {"cls": theirs.cls_embedding.weight}
    copy["head.0"], copy["head.2"] = theirs.backbone.output[0], theirs.backbone.output[2]
    for b, block in enumerate(theirs.backbone.blocks):
        for name, theirs_name in (("query", "W_q"), ("key", "W_k"), ("value", "W_v")):
            copy[f"blocks.{b}.attention.{name}"] = getattr(block["attention"], theirs_name)
        copy[f"blocks.{b}.attention.out"] = block["attention"].W_out
        copy[f"blocks.{b}.feed_norm"] = block["ffn_normalization"]
        copy[f"blocks.{b}.feed.0"] = block["ffn"].linear1
        copy[f"blocks.{b}.feed.3"] = block["ffn"].linear2
        if b:
            copy[f"blocks.{b}.attention_norm"] = block["attention_normalization"]
    state = {}
    for name, module in copy.items():
        if isinstance(module, Tensor):
            state[name] = module
        else:
            state |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
    ours.encoder.load_state_dict(state)
    levels = [
        e.weight + b
        for e, b in zip(theirs.cat_embeddings.embeddings, theirs.cat_embeddings.bias, strict=True)
    ]
    ours.levels.weight.data = torch.cat(levels).detach()
    ours.weight.data[:3] = theirs.cont_embeddings.weight.data
    ours.bias.data[:3] = theirs.cont_embeddings.bias.data
    rows = fitted.encode(values, names)
    with torch.no_grad():
        expected = theirs(rows.numbers[:, :3], rows.codes[:, 3:])
        torch.testing.assert_close(ours(rows), expected, rtol=1e-4, atol=1e-5)


@every_variant
@pytest.mark.parametrize("pretext", ["hide", "vime"])
def test_every_encoder_is_the_same_from_a_folder(
    schema: TableSchema, variant: dict[str, Any], pretext: str, tmp_path: Path
) -> None:
    encoder = make(schema, variant, pretext=pretext)
    save_clinical(tmp_path, encoder)
    loaded = load_clinical(tmp_path)
    assert type(loaded) is TABULAR_ENCODERS[variant["name"]]
    assert (loaded.schema, loaded.config) == (schema, encoder.config)
    values = table(7, seed=8)
    words = why(values)
    one, two = (e.embed(values, NAMES, words) for e in (encoder, loaded))
    assert np.array_equal(one, two)
    assert not loaded.training


def test_a_folder_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    plain = TableSchema.fit(table(), NAMES, KINDS)
    encoder = make(plain, VARIANTS[0])
    save_clinical(tmp_path, encoder)
    path = tmp_path / "clinical.json"
    page = json.loads(path.read_text())
    kept = ("token", "hidden", "latent", "corruption", "dropout", "clip")
    page["config"] = {k: page["config"][k] for k in kept} | {"token": 8}
    for name in ("groups", "reasons", "marginals", "scaling", "rows"):
        del page["table"][name]
    path.write_text(json.dumps(page))
    loaded = load_clinical(tmp_path)
    values = table(7, seed=8)
    assert np.array_equal(loaded.embed(values, NAMES), encoder.embed(values, NAMES))
    # It still learns by hiding; what it lacks is said when it is asked for.
    assert loaded.pretext_loss(loaded.schema.encode(values, NAMES)).isfinite()
    with pytest.raises(InputError, match="no marginals"):
        MarginalSampler(loaded.schema)


def test_encoders_are_built_by_name(schema: TableSchema) -> None:
    assert sorted(TABULAR_ENCODERS) == ["ft_transformer", "mlp"]
    for name, kind in TABULAR_ENCODERS.items():
        encoder = build_clinical_encoder(schema, ClinicalEncoderConfig(name=name))
        assert type(encoder) is kind
        assert encoder.embedding_size == 8
    with pytest.raises(InputError, match=r"Unknown tabular encoder 'tabnet'.*ft_transformer"):
        build_clinical_encoder(schema, ClinicalEncoderConfig(name="tabnet"))
    with pytest.raises(InputError, match="names the tabular encoder 'ft_transformer'"):
        ClinicalEncoder(schema, ClinicalEncoderConfig(name="ft_transformer"))


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"token": 0}, "token is 0"),
        ({"name": "ft_transformer", "token": 10, "heads": 4}, "multiple of the heads"),
        ({"numbers": "bins"}, "valid values are"),
        ({"numbers": "quantile", "bins": 0}, "bins is 0"),
        ({"pretext": "saint"}, "pretext is 'saint'"),
        ({"group_dropout": 1.0}, "group_dropout is 1.0"),
        ({"attention_dropout": math.nan}, "attention_dropout is nan"),
        ({"ffn_factor": 0.0}, "ffn_factor is 0.0"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"blocks": 0}, "blocks is 0"),
    ],
)
def test_impossible_configurations_are_refused(
    schema: TableSchema, field: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        build_clinical_encoder(schema, ClinicalEncoderConfig(**field))
    assert "\n" not in str(caught.value)
