"""The parts of attribution, each against a closed form or a planted truth."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor, nn

from spinmark_data.export.common import Scan
from spinmark_models.clinical import TabularEncoder, build_clinical_encoder
from spinmark_models.config import ClinicalEncoderConfig, EncoderConfig, ProjectionConfig
from spinmark_models.encoders import ImageEncoder, build_encoder
from spinmark_models.encoders.base import EncoderOutput
from spinmark_models.tables import EncodedTable, TableSchema, VisitTable
from spinmark_training.attribution.attribute import ScanAttribution
from spinmark_training.attribution.cells import cell_path, described, latents, median_row
from spinmark_training.attribution.choose import choose_scans
from spinmark_training.attribution.explain import Explainer, Explanation, Pair
from spinmark_training.attribution.figures import slices_shown
from spinmark_training.attribution.occlusion import boxes, occlusion, rank_correlation, sums
from spinmark_training.attribution.opened import fit_ridge_heads
from spinmark_training.attribution.path import integrated_gradients
from spinmark_training.attribution.sanity import Map, agreement, mean_agreement
from spinmark_training.attribution.similarity import RidgeHeads, Similarity, cascade, drawn_anew
from spinmark_training.attribution.store import _write_voxels, warnings_of
from spinmark_training.attribution.structures import structure_shares
from spinmark_training.attribution.windows import Embedding
from spinmark_training.config import AttributionConfig
from spinmark_training.errors import InputError
from spinmark_training.transfer.alignment import Alignment

GRID = (4, 8, 8)
NAMES = ["PAIN", "AGE", "SEX", "WALK"]
KINDS = ["continuous", "continuous", "binary", "ordinal"]


def values(n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(3)
    table = np.column_stack(
        [rng.normal(5, 2, n), rng.normal(60, 8, n), rng.integers(1, 3, n), rng.integers(0, 5, n)]
    ).astype(float)
    table[0, 1] = np.nan
    return table


@pytest.fixture(scope="module")
def schema() -> TableSchema:
    return TableSchema.fit(
        values(), NAMES, KINDS, groups=["symptom", *["demographic"] * 2, "function"]
    )


def teacher(schema: TableSchema, seed: int = 0, **changes: object) -> TabularEncoder:
    torch.manual_seed(seed)
    config = ClinicalEncoderConfig(hidden=12, latent=3, token=4, **changes)  # type: ignore[arg-type]
    return build_clinical_encoder(schema, config).eval()


def rows(schema: TableSchema, start: int = 0, stop: int = 1) -> EncodedTable:
    return schema.encode(values()[start:stop], NAMES)


class Corner(ImageEncoder):
    """An encoder that looks at the first 2 x 4 x 4 voxels and nowhere else."""

    strides = ((1, 1, 1),)
    channels = (1,)

    def __init__(self, config: EncoderConfig, input_shape: tuple[int, int, int]) -> None:
        super().__init__(config, input_shape)
        self.look = nn.Sequential(nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, self.embedding_size))

    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        corner = x_BCDHW[:, 0, :2, :4, :4].flatten(1)
        return EncoderOutput(self.look(corner), [x_BCDHW])


def similarity_with(encoder: ImageEncoder, schema: TableSchema) -> Similarity:
    torch.manual_seed(7)
    heads = Alignment(encoder.embedding_size, 3, ProjectionConfig(hidden=8, out=5)).eval()
    mean, sd = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 1.5, 1.0])
    return Similarity(Embedding(encoder.eval()), teacher(schema), mean, sd, heads)


@pytest.fixture(scope="module")
def real(schema: TableSchema) -> Similarity:
    torch.manual_seed(1)
    config = EncoderConfig(widths=(4, 8), embedding=6)
    return similarity_with(build_encoder(config, GRID), schema)


@pytest.fixture(scope="module")
def volume() -> Tensor:
    return torch.from_numpy(np.random.default_rng(5).normal(size=(1, *GRID)).astype(np.float32))


def test_a_path_ends_where_the_encoder_puts_the_row(schema: TableSchema, real: Similarity) -> None:
    row = rows(schema, 2, 3)
    path = cell_path(real.clinical, row, "missing")
    torch.testing.assert_close(latents(real.clinical, path.tokens[None]), real.clinical(row))
    hidden = real.clinical(row, torch.ones_like(row.observed))
    torch.testing.assert_close(latents(real.clinical, path.baseline[None]), hidden)


def test_cells_add_up_and_a_missing_one_gets_nothing(
    schema: TableSchema, real: Similarity, volume: Tensor
) -> None:
    row = rows(schema)
    path = cell_path(real.clinical, row, "missing")
    assert path.differ.tolist() == [True, False, True, True]
    found = integrated_gradients(
        real.to_volume(volume), path.tokens, path.baseline, tolerance=1e-3, most_steps=4096
    )
    cells = path.by_column(found.attribution)
    there = (real.rows(row) @ real.image(volume[None]).T).item()
    nothing = real.clinical(row, torch.ones_like(row.observed))
    from_ = (real.heads.table((nothing - real.mean) / real.sd) @ real.image(volume[None]).T).item()
    assert cells.sum() == pytest.approx(there - from_, abs=2e-3 * max(abs(there - from_), 0.1))
    assert cells[1] == 0
    assert (cells[[0, 2, 3]] != 0).all()


def test_the_median_row_has_no_attribution_from_itself(
    schema: TableSchema, real: Similarity
) -> None:
    table = values()
    middle = [*np.nanmedian(table[:, :2], axis=0), 0.0, float(np.median(table[:, 3]))]
    codes, counts = np.unique(table[:, 2], return_counts=True)
    middle[2] = codes[counts.argmax()]
    row = schema.encode(np.array([middle]), NAMES)
    path = cell_path(real.clinical, row, "median")
    torch.testing.assert_close(path.tokens, path.baseline)
    with pytest.raises(InputError, match="table_baseline: 'median' needs the shares"):
        median_row(replace(schema, marginals=()))


def test_a_sequence_of_visits_is_a_path_too(schema: TableSchema, volume: Tensor) -> None:
    clinical = teacher(schema, history="gru")
    flat = rows(schema, 0, 3)
    sequence = VisitTable(*(part[None] for part in flat), torch.tensor([[2.0, 1.0, 0.0]]))
    path = cell_path(clinical, sequence, "missing")
    assert path.tokens.shape[:2] == (3, 4)
    torch.testing.assert_close(
        latents(clinical, path.tokens[None], path.visits), clinical(sequence)
    )
    alone = cell_path(clinical, flat.rows(slice(1, 2)), "missing")
    torch.testing.assert_close(
        latents(clinical, alone.tokens[None], alone.visits), clinical(flat.rows(slice(1, 2)))
    )
    torch.manual_seed(2)
    encoder = build_encoder(EncoderConfig(widths=(4, 8), embedding=6), GRID)
    similarity = replace(similarity_with(encoder, schema), clinical=clinical)
    found = integrated_gradients(
        similarity.to_volume(volume, path.visits), path.tokens, path.baseline
    )
    assert found.complete
    assert path.by_column(found.attribution).sum() == pytest.approx(
        found.change, abs=found.bound + 1e-6
    )


def test_the_dictionary_describes_variables_in_the_teachers_order(schema: TableSchema) -> None:
    dictionary = pd.DataFrame(
        {
            "variable": ["WALK", "AGE", "PAIN", "SEX"],
            "label": ["Time to walk", "", "Pain", None],
            "role": ["function", "demographic", "symptom", "demographic"],
            "group": ["performance", "person", "", None],
        }
    )
    found = described(schema, dictionary)
    assert found["variable"].tolist() == NAMES
    assert found["label"].tolist() == ["Pain", "AGE", "SEX", "Time to walk"]
    assert found["group"].tolist() == ["other", "person", "other", "performance"]


def test_an_encoder_that_sees_one_corner_gets_attribution_there_alone(
    schema: TableSchema, volume: Tensor
) -> None:
    torch.manual_seed(4)
    similarity = similarity_with(Corner(EncoderConfig(embedding=6), GRID), schema)
    config = AttributionConfig(box=(2, 4, 4), randomised=1)
    variables = described(schema, pd.DataFrame(columns=["variable", "label", "role", "group"]))
    pair = Pair(volume, torch.zeros_like(volume), rows(schema, 2, 3))
    found = Explainer(similarity, variables, config)(pair)
    labels = np.zeros(GRID, np.uint8)
    labels[:2, :4, :4] = 9
    assert (found.voxels[labels == 0] == 0).all()
    assert (found.voxels[labels == 9] != 0).all()
    shares = structure_shares(found.voxels, labels, {9: "corner"}).set_index("structure")
    assert shares.loc["corner", "attribution_share"] == 1
    assert shares.loc["corner", "ratio"] == pytest.approx(volume.numel() / 32)
    assert shares.loc["outside", "ratio"] == 0
    # Hiding boxes finds the same one; of the eight boxes seven can change nothing.
    numbers = torch.from_numpy(boxes(GRID, (2, 4, 4)))
    hidden = occlusion(similarity.to_row(pair.row), volume, pair.baseline, numbers, batch_size=3)
    assert np.flatnonzero(np.abs(hidden) > 1e-6).tolist() == [0]


def test_hiding_terms_of_a_sum_gives_each_term_as_do_gradients() -> None:
    x, baseline = torch.randn(12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    parts = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3])

    def score(rows: Tensor) -> Tensor:
        # One squared sum a part; the last part is not looked at.
        return sum(rows[:, torch.from_numpy(parts == p)].sum(1) ** 2 for p in range(3))  # type: ignore[return-value]

    hidden = occlusion(score, x, baseline, torch.from_numpy(parts), batch_size=2)
    closed = [float(x[parts == p].sum() ** 2) for p in range(3)]
    np.testing.assert_allclose(hidden, [*closed, 0], atol=1e-12)
    found = integrated_gradients(score, x, baseline)
    np.testing.assert_allclose(sums(found.attribution.numpy(), parts), [*closed, 0], atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    box=st.tuples(*[st.integers(1, 10)] * 3),
)
def test_boxes_cut_a_grid_into_parts(
    shape: tuple[int, int, int], box: tuple[int, int, int]
) -> None:
    found = boxes(shape, box)
    assert found.shape == shape
    assert set(found.ravel()) == set(range(int(found.max()) + 1))
    for number in range(int(found.max()) + 1):
        z, y, x = np.nonzero(found == number)
        for places, size in zip((z, y, x), box, strict=True):
            assert np.ptp(places) < size


def test_boxes_that_cannot_be_hidden_one_by_one_are_refused() -> None:
    with pytest.raises(InputError, match=r"box: \(0, 1, 1\); accepted are three numbers"):
        boxes(GRID, (0, 1, 1))
    with pytest.raises(InputError, match="8192 at most"):
        boxes((64, 64, 64), (2, 2, 2))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, float).T
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    else:
        assert np.isnan(rank_correlation(a, b))


def test_agreement_counts_only_where_input_and_baseline_differ() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400))
    where = np.arange(400) < 200
    zeros = [np.where(where, v, 0) for v in (a, b)]
    found = agreement(Map(zeros[0], zeros[0]), Map(zeros[1], zeros[1]), where)
    assert abs(found.absolute) < 0.2
    assert rank_correlation(*(np.abs(v) for v in zeros)) > 0.6
    own = agreement(Map(a, a), Map(-a, a), where)
    assert (own.absolute, own.signed, own.gradient) == pytest.approx((1, -1, 1))
    assert mean_agreement([own, own]) == own
    assert np.isnan(mean_agreement([]).signed)


def test_weights_drawn_anew_leave_the_trained_ones_alone(real: Similarity) -> None:
    before = {k: v.clone() for k, v in real.embedding.encoder.state_dict().items()}
    state = torch.get_rng_state()
    one, same, other = (drawn_anew(real, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    after = real.embedding.encoder.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    for get in (lambda s: s.embedding.encoder, lambda s: s.clinical, lambda s: s.heads):
        drawn, again, third = (
            torch.cat([p.flatten() for p in get(s).parameters()]) for s in (one, same, other)
        )
        assert torch.equal(drawn, again)
        assert not torch.equal(drawn, third)


def test_the_cascade_goes_from_the_heads_to_the_first_layer(real: Similarity) -> None:
    steps = cascade(real, 3)
    names = [name for name, _ in steps]
    assert names == ["heads", "flatten", "stages.1", "stages.0", "stem"]
    trained = real.embedding.encoder.state_dict()
    fresh = drawn_anew(real, 3).embedding.encoder.state_dict()
    for place, (_, step) in enumerate(steps):
        state = step.embedding.encoder.state_dict()
        anew = tuple(names[1 : place + 1])
        for key, value in state.items():
            from_ = fresh if anew and key.startswith(anew) else trained
            assert torch.equal(value, from_[key]), (place, key)
        assert step.clinical is real.clinical


def test_a_ridge_map_finds_a_linear_relation() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 5)) * [1, 2, 3, 4, 0] + 1
    weight = rng.normal(size=(5, 2))
    weight[4] = 0
    y = x @ weight + [1.0, -2.0]
    heads = fit_ridge_heads(
        x.astype(np.float32), y.astype(np.float32), np.repeat([f"S{i}" for i in range(30)], 10)
    )
    with torch.no_grad():
        predicted = heads.map(torch.from_numpy(x.astype(np.float32))).numpy()
    np.testing.assert_allclose(predicted, y, atol=0.02)
    assert isinstance(heads.drawn_anew(1), RidgeHeads)
    with pytest.raises(InputError, match="1 training subject"):
        fit_ridge_heads(x[:3].astype(np.float32), y[:3].astype(np.float32), np.array(["S"] * 3))


def test_windows_are_averaged_as_embed_does() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(widths=(4, 8), embedding=6), (4, 8, 8)).eval()
    volumes = torch.randn(2, 1, 4, 8, 12)
    corners, weights = torch.tensor([[0, 0, 0], [0, 0, 4]]), torch.tensor([0.25, 0.75])
    parts = [encoder(volumes[..., x : x + 8]).embedding for x in (0, 4)]
    found = Embedding(encoder, corners, weights)(volumes)
    torch.testing.assert_close(found, 0.25 * parts[0] + 0.75 * parts[1])


def frame() -> pd.DataFrame:
    keys = [(f"S{i}", side, v) for i in range(5) for side in "RL" for v in (1, 0)]
    scans = pd.DataFrame(keys, columns=["subject_id", "laterality", "visit"])
    scans["joint_id"] = scans["subject_id"] + scans["laterality"]
    scans["days"], scans["rank"] = 365.0 * scans["visit"], 0
    scans["scan_id"] = scans["joint_id"] + scans["visit"].astype(str)
    return scans


def test_scans_are_drawn_of_different_people_and_early() -> None:
    scans = frame()
    sets = pd.Series(np.where(scans["subject_id"] == "S0", "train", "test"))
    usable = (scans["scan_id"] != "S1R0").to_numpy()
    options = {"on": "test", "seed": 1}
    rows_ = choose_scans(scans, sets, usable, (), count=4, **options)  # type: ignore[arg-type]
    picked = scans.iloc[rows_]
    assert set(picked["subject_id"]) == {"S1", "S2", "S3", "S4"}
    everybody = scans.iloc[choose_scans(scans, sets, usable, (), count=99, **options)]  # type: ignore[arg-type]
    assert everybody["joint_id"].is_unique
    assert len(everybody) == 8
    assert everybody.loc[everybody["visit"] == 1, "joint_id"].tolist() == ["S1R"]
    again = choose_scans(scans, sets, usable, (), count=4, **options)  # type: ignore[arg-type]
    assert np.array_equal(rows_, again)
    named = choose_scans(scans, sets, usable, ("S2L1", "S0R0"), count=1, **options)  # type: ignore[arg-type]
    assert scans["scan_id"].iloc[named].tolist() == ["S2L1", "S0R0"]


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (("S9R0",), {}, "scans: no scan 'S9R0' in this sequence"),
        (("S2R0", "S2R0"), {}, "S2R0 is given twice"),
        (("S1R0",), {}, "S1R0 has no cell"),
        ((), {"count": 0}, "count: 0; accepted are 1 and more"),
        ((), {"on": "val"}, "no scan of the set 'val'"),
    ],
)
def test_scans_that_cannot_be_explained_are_refused(
    names: tuple[str, ...], changes: dict[str, object], message: str
) -> None:
    scans = frame()
    sets = pd.Series(["test"] * len(scans))
    usable = (scans["scan_id"] != "S1R0").to_numpy()
    options = {"on": "test", "count": 2, "seed": 0, **changes}
    with pytest.raises(InputError, match=message):
        choose_scans(scans, sets, usable, names, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mirrored", [False, True])
def test_voxels_are_written_where_the_patient_was(tmp_path: Path, mirrored: bool) -> None:
    affine = np.eye(4)
    # z runs from right to left, y downwards, x backwards.
    affine[:3, :3] = [[3, 0, 0], [0, 0, 1], [0, -1, 0]]
    affine[:3, 3] = [10, 20, 30]
    voxels = np.zeros(GRID, np.float32)
    voxels[1, 2, 5] = 0.5
    name = "S1:L:V00:DESS:0"
    scan = Scan(
        sequence="DESS",
        index=0,
        row={"scan_id": name, "mirrored": mirrored},
        affine=affine,
        echo_time_ms=None,
    )
    told = Explanation(pd.DataFrame(), pd.DataFrame(), voxels, voxels, {}, {})
    one = ScanAttribution(pd.Series({"scan_id": name}), told, None)
    _write_voxels(tmp_path / "a.nii.gz", scan, one)
    image = nibabel.load(tmp_path / "a.nii.gz")
    data = np.asanyarray(image.dataobj)
    assert data.dtype == np.float32
    (place,) = np.argwhere(data)
    z = GRID[0] - 1 - 1 if mirrored else 1
    ras = image.affine @ [*place, 1]
    np.testing.assert_allclose(ras[:3], [-(10 + 3 * z), -(20 + 5), 30 - 2])
    assert data.sum() == pytest.approx(0.5)


def test_slices_with_most_attribution_are_shown_and_none_beside_another() -> None:
    voxels = np.zeros((8, 2, 2), np.float32)
    voxels[:, 0, 0] = [0, 5, -6, 1, 0, 3, 2, 0]
    assert slices_shown(voxels, 2) == [2, 5]
    assert slices_shown(voxels[:1]) == [0]


def test_warnings_say_what_speaks_against_a_map() -> None:
    good = {
        "table_randomised_absolute": 0.1,
        "table_randomised_signed": 0.0,
        "voxel_randomised_absolute": 0.3,
        "voxel_randomised_signed": 0.0,
        "voxel_randomised_gradient": 0.2,
        "table_occlusion_correlation": 0.8,
        "voxel_occlusion_correlation": 0.8,
    }
    page = {"own_row": 0.5, "other_rows": 0.0, "tolerance": 0.05, "mean": good}
    page["scans"] = [{"table_complete": 1.0, "voxel_complete": 1.0}]
    assert warnings_of(page, 0.5) == []
    bad = dict.fromkeys(good, 0.9) | {"table_occlusion_correlation": 0.1}
    page |= {"own_row": 0.0, "mean": bad, "scans": [{"table_complete": 1.0, "voxel_complete": 0.0}]}
    told = "\n".join(warnings_of(page, 0.5))
    for words in (
        "nothing to be explained",
        "1 of 1 scans did not reach",
        "of table rows",
        "of voxels",
    ):
        assert words in told
    assert "same absolute values" in told
    assert "agrees little with integrated gradients of the tables" in told
