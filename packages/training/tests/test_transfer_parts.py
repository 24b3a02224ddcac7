"""An embedding in two parts: the penalties, and that they put each latent where it belongs."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from spinmark_models.losses.core.hsic import median_bandwidth
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_training.config import PartsConfig
from spinmark_training.embedding.table import with_parts
from spinmark_training.errors import InputError
from spinmark_training.side_information import SideInformation
from spinmark_training.transfer import FittedTeacher, FrozenRows, Transfer
from spinmark_training.transfer.match import Regression
from spinmark_training.transfer.parts import (
    PartPenalties,
    Strata,
    cross_correlation,
    hsic,
    strata_of,
)

from .embedded_batch import WIDTH, batch_of, embeddings, joint_batch
from .tabled_world import SEQUENCE, write_tabled
from .taught_world import fitted_teacher, transfer_of

World = tuple[FittedTeacher, SideInformation]
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> World:
    return fitted_teacher(write_tabled(tmp_path_factory.mktemp("t") / "cohort"), SEQUENCE)


def test_the_squared_correlations_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 4))
    y[:, 0] += 2 * x[:, 1]
    expected = (np.corrcoef(x.T, y.T)[:3, 3:] ** 2).mean()
    found = cross_correlation(torch.from_numpy(x), torch.from_numpy(y))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    scaled = cross_correlation(torch.from_numpy(5 * x - 3), torch.from_numpy(y))
    assert float(scaled) == pytest.approx(expected, rel=1e-5)


def hsic_by_hand(x: Floats, y: Floats) -> float:
    """The unbiased estimator of Song et al. 2012 (equation 5 of their paper), loop by loop in sums."""
    n = len(x)
    kernels = []
    for z in (x, y):
        apart = ((z[:, None] - z[None]) ** 2).sum(-1)
        width = float(median_bandwidth(torch.from_numpy(z)))
        k = np.exp(-apart / (2 * width**2))
        np.fill_diagonal(k, 0)
        kernels.append(k)
    a, b = kernels
    first = np.trace(a @ b)
    second = a.sum() * b.sum() / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (a @ b).sum()
    return float((first + second - third) / (n * (n - 3)))


def test_hsic_is_the_unbiased_one() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(25, 2))
    y = np.concatenate([x[:, :1] ** 2, rng.normal(size=(25, 2))], axis=1)
    found = float(hsic(torch.from_numpy(x), torch.from_numpy(y)))
    assert found == pytest.approx(hsic_by_hand(x, y), rel=1e-9)
    # A square has no correlation with its root, and all dependence.
    wide = rng.normal(size=(400, 1))
    wide, square = np.concatenate([wide, -wide]), np.concatenate([wide, -wide]) ** 2
    pair = torch.from_numpy(wide), torch.from_numpy(square)
    assert float(cross_correlation(*pair)) < 1e-6
    assert float(hsic(*pair)) > 0.01


@pytest.mark.parametrize("name", ["orthogonal", "hsic", "conditional"])
def test_the_image_part_shuns_the_latent_and_the_table_part_the_image_part(
    taught: World, name: str
) -> None:
    given = "SEX" if name == "conditional" else None
    parts = PartsConfig(table=3, terms={name: 1.0}, given=given)
    transfer = transfer_of(taught, terms={"clip": 1.0}, parts=parts)
    batch = joint_batch(taught[1])
    z = embeddings(batch).whole
    target = transfer.rows(batch).target

    def gradient(latent: Tensor) -> Tensor:
        found = transfer.penalties(z, latent, batch)
        assert set(found) == {name}
        return torch.autograd.grad(found[name], z)[0]

    if name == "conditional":
        # Its latents are those of the start, in which here there is nothing.
        transfer.penalties.strata.residual.zero_()
    alone = gradient(torch.zeros_like(target))
    assert alone[:, 3:].abs().max() < 1e-9
    assert alone[:, :3].abs().max() > 1e-5
    if name != "conditional":
        told = gradient(target)
        assert torch.equal(told[:, :3], alone[:, :3])
        assert told[:, 3:].abs().max() > 1e-5


def test_terms_see_the_table_part_alone(taught: World) -> None:
    parts = PartsConfig(table=3, terms={})
    terms = {"clip": 1.0, "rkd_distance": 1.0, "vid": 1.0, "soft_targets": 1.0}
    transfer = transfer_of(taught, terms=terms, parts=parts)
    batch = joint_batch(taught[1])
    z = embeddings(batch).whole
    loss, _ = transfer(torch.zeros(()), z, batch)
    (gradient,) = torch.autograd.grad(loss, z)
    assert (gradient[:, 3:] == 0).all()
    assert (gradient[:, :3] != 0).any()


def test_a_batch_that_is_too_small_is_not_penalised() -> None:
    penalties = PartPenalties(3, ("orthogonal", "hsic"), None)
    batch = batch_of([0, 1, 2], [0, 1, 2], [0, 1, 2])
    z = embeddings(batch).whole
    found = penalties(z, torch.randn(6, 2), batch)
    assert all(value.item() == 0 for value in found.values())


def test_residuals_have_no_mean_in_any_stratum() -> None:
    rng = np.random.default_rng(2)
    codes = torch.from_numpy(rng.integers(-1, 4, 60))
    latents = torch.from_numpy(rng.normal(size=(60, 3))).float() + codes[:, None]
    latents[:5] = torch.nan
    strata = Strata(latents, codes)
    usable = (codes >= 0) & latents.isfinite().all(1)
    assert (strata.residual[~usable] == 0).all()
    for code in range(4):
        here = usable & (codes == code)
        assert strata.residual[here].mean(0).abs().max() < 1e-6


def test_strata_are_codes_or_fifths(taught: World) -> None:
    known = taught[1]
    seen = known.subjects() >= 0
    age = strata_of("AGE", known)
    assert sorted(age[seen].unique().tolist()) == [0, 1, 2, 3, 4]
    counts = torch.bincount(age[seen])
    assert counts.max() - counts.min() <= 0.4 * counts.float().mean()
    values = known.numbers(("AGE",))[:, 0]
    lows = [float(values[age == k].min()) for k in range(5)]
    assert lows == sorted(lows)
    assert (age[~seen] == -1).all()
    assert torch.equal(strata_of("SEX", known), known.codes("SEX")[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": WIDTH}, "transfer.parts.table: 8; accepted are 1 to 7"),
        ({"table": 0}, "transfer.parts.table: 0"),
        ({"table": 3, "terms": {"far": 1.0}}, "transfer.parts.terms: 'far'; accepted are"),
        ({"table": 3, "terms": {"hsic": -1.0}}, "transfer.parts.terms.hsic: -1.0"),
        ({"table": 3, "terms": {"conditional": 1.0}}, "transfer.parts.given: None"),
        ({"table": 3, "given": "AGE"}, "transfer.parts.given: 'AGE'"),
        (
            {"table": 3, "terms": {"conditional": 1.0}, "given": "SITE"},
            "transfer.parts.given: SITE has the role administrative",
        ),
    ],
)
def test_parts_that_cannot_be_are_refused(
    taught: World, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        transfer_of(taught, terms={"clip": 1.0}, parts=PartsConfig(**changes))  # type: ignore[arg-type]


def test_the_conditional_penalty_needs_latents_that_stay(taught: World) -> None:
    parts = PartsConfig(table=3, terms={"conditional": 1.0}, given="AGE")
    with pytest.raises(InputError, match="whose latents move; accepted are orthogonal and hsic"):
        transfer_of(taught, terms={"clip": 1.0}, teacher="joint", parts=parts)


def test_features_say_which_part_they_belong_to() -> None:
    data = xr.Dataset({"embedding": (("scan", "feature"), np.zeros((2, 5), np.float32))})
    found = with_parts(data, {"table": (0, 2), "image": (2, 5)})
    assert found["part"].dims == ("feature",)
    assert found["part"].to_numpy().tolist() == ["table"] * 2 + ["image"] * 3
    for wrong in ({"table": (0, 2), "image": (2, 4)}, {"table": (0, 3), "image": (2, 5)}):
        with pytest.raises(
            InputError, match=r"encoder.json: parts .*; the embedding has 5 features"
        ):
            with_parts(data, wrong)


# Of 400 made-up joints, three numbers are in the table and three are not; a scan shows all of them, mixed and
# bent, with something of its own in each view.
JOINTS, SHOWN = 400, 24


def r2(features: Floats, latents: Floats) -> float:
    """Of a ridge regression on the first half of the joints, on the second."""
    half = JOINTS // 2
    x = np.concatenate([features, np.ones((JOINTS, 1))], axis=1)
    a, b = x[:half], x[half:]
    weights = np.linalg.solve(a.T @ a + 0.3 * np.eye(x.shape[1]), a.T @ latents[:half])
    rest = ((latents[half:] - b @ weights) ** 2).sum()
    return float(1 - rest / ((latents[half:] - latents[:half].mean(0)) ** 2).sum())


def trained(penalties: dict[str, float]) -> dict[str, float]:
    """Train a small encoder in parts, and read both kinds of latents from both parts."""
    rng = np.random.default_rng(3)
    told, untold = rng.normal(size=(JOINTS, 3)), rng.normal(size=(JOINTS, 3))
    mix = rng.normal(size=(6, SHOWN)) / 2
    shown = np.tanh(np.concatenate([told, untold], axis=1) @ mix)
    scans = torch.from_numpy(shown).float()
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(SHOWN, 64), nn.ReLU(), nn.Linear(64, 16), nn.BatchNorm1d(16))
    head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
    parts = PartsConfig(table=8, terms=penalties)
    transfer = Transfer(
        FrozenRows(torch.from_numpy(told).float()),
        {"cosine": Regression(8, 3)},
        {"cosine": 2.0},
        1.0,
        None,
        penalties=PartPenalties(8, tuple(penalties), None),
        parts=parts,
    )
    learning = [*encoder.parameters(), *head.parameters(), *transfer.parameters()]
    optimizer = torch.optim.Adam(learning, 3e-3)
    for _ in range(300):
        joints = torch.from_numpy(rng.choice(JOINTS // 2, 64, replace=False))
        views = scans[joints].repeat(2, 1)
        z = encoder(views + 0.15 * torch.randn_like(views))
        batch = batch_of(joints.tolist(), joints.tolist(), joints.tolist())
        loss, _ = transfer(nt_xent(*head(z).chunk(2), 0.2), z, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        z = encoder.eval()(scans).double().numpy()
    return {
        f"{name} in {part}": r2(z[:, where], latent)
        for name, latent in (("told", told), ("untold", untold))
        for part, where in (("table", slice(8)), ("image", slice(8, 16)))
    }


@pytest.fixture(scope="module")
def free() -> dict[str, float]:
    return trained({})


@pytest.mark.parametrize(("name", "weight"), [("orthogonal", 5.0), ("hsic", 30.0)])
def test_each_latent_is_read_from_the_part_that_it_belongs_to(
    name: str, weight: float, free: dict[str, float]
) -> None:
    found = trained({name: weight})
    for which, home, other in (("told", "table", "image"), ("untold", "image", "table")):
        assert found[f"{which} in {home}"] > 0.8
        assert free[f"{which} in {other}"] > 0.5
        assert found[f"{which} in {other}"] < 0.1
