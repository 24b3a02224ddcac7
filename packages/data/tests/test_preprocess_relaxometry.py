"""T2 against exact decays, the Cramer-Rao bound, SciPy on a real knee, and a cohort's maps."""

from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.scan_map import map_scans
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.dicom.series import load
from spinmark_data.ingest.geometry import mirror, reorient
from spinmark_data.preprocess.relaxometry import T2Fit, decay, fit_t2, log_linear, rayleigh_sigma
from spinmark_data.preprocess.t2_maps import t2_function, t2_row, write_t2_maps

KNEE = Path(__file__).parents[4] / "shared" / "data" / "knee-mese"
TIMES = 6.312 * np.arange(1, 9)
# The cohort's scans: tissue in air.
T2 = np.linspace(30, 90, 60).reshape(3, 4, 5)
TISSUE = (..., slice(1, 5), slice(1, 6))


def decays(t2: Any, s0: Any, constant: Any = 0.0, times: Any = TIMES) -> NDArray[np.float64]:
    t2, s0 = np.asarray(t2, dtype=float), np.asarray(s0, dtype=float)
    shape = (len(times),) + (1,) * t2.ndim
    return np.asarray(s0 * np.exp(-np.reshape(times, shape) / t2) + constant)


@pytest.mark.parametrize("constant", [False, True])
def test_exact_decays_come_back(constant: bool) -> None:
    rng = np.random.default_rng(0)
    t2, s0 = rng.uniform(4, 250, 4000), rng.uniform(20, 6000, 4000)
    level = rng.uniform(0, 0.3, 4000) * s0 if constant else np.zeros(4000)
    found = decay(decays(t2, s0, level), TIMES, constant=constant)
    assert np.abs(found[0] / t2 - 1).max() < 1e-6
    assert np.abs(found[1] / s0 - 1).max() < 1e-6
    assert np.abs(found[2] - level).max() < 1e-6 * 6000
    assert np.abs(found[3] - 1).max() < 1e-6
    assert found[4].all()


def test_the_start_is_exact_without_noise_and_passes_over_signals_of_zero() -> None:
    signal = decays([10.0, 60.0, 200.0], [100.0, 900.0, 30.0])
    assert np.allclose(1 / log_linear(signal, TIMES), [10.0, 60.0, 200.0])
    signal[5:] = 0
    assert np.allclose(1 / log_linear(signal, TIMES), [10.0, 60.0, 200.0])
    weights = signal[:5, 1] ** 2
    noisy = signal[:5, 1] * [1.02, 0.97, 1.01, 0.95, 1.04]
    slope, _ = np.polyfit(TIMES[:5], np.log(noisy), 1, w=noisy)
    assert log_linear(noisy[:, None], TIMES[:5])[0] == pytest.approx(-slope)
    assert weights.size == 5


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("t2", [15.0, 40.0, 90.0])
def test_the_spread_meets_the_cramer_rao_bound(t2: float, constant: bool) -> None:
    """Gaussian noise at high signal: no unbiased fit spreads less, and least squares reaches it."""
    sigma, s0, count = 2.0, 2000.0, 20000
    times = 10.0 * np.arange(1, 13)
    rng = np.random.default_rng(1)
    signal = decays(np.full(count, t2), s0, times=times) + rng.normal(0, sigma, (12, count))
    found = decay(signal, times, constant=constant)[0]
    shape = np.exp(-times / t2)
    jacobian = np.stack([shape, s0 * times / t2**2 * shape, np.ones(12)], axis=1)
    jacobian = jacobian if constant else jacobian[:, :2]
    bound = sigma * np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[1, 1])
    assert found.std() == pytest.approx(bound, rel=0.03)
    assert abs(found.mean() - t2) < 6 * bound / np.sqrt(count) + 3 * bound**2 / t2


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(0.01, 100), stretch=st.floats(0.3, 3), seed=st.integers(0, 1000))
def test_units_scale_through(factor: float, stretch: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    signal = decays(rng.uniform(10, 120, 40), 1000.0) + rng.normal(0, 10, (8, 40))
    one = decay(signal, TIMES, constant=False)
    other = decay(signal * factor, TIMES * stretch, constant=False)
    assert np.allclose(other[0], one[0] * stretch, rtol=1e-5)
    assert np.allclose(other[1], one[1] * factor, rtol=1e-5)
    assert np.allclose(other[3], one[3], atol=1e-6)


def test_noise_lifts_late_echoes_and_what_is_done_about_it() -> None:
    """A T2 much shorter than the train: the magnitude's floor lengthens a plain fit."""
    rng = np.random.default_rng(2)
    sigma, t2, shape = 20.0, 12.0, (8, 20, 30, 30)
    clean = np.broadcast_to(decays(t2, 600.0)[:, None, None, None], shape)
    noise = rng.normal(0, sigma, (2, *shape))
    seen = np.hypot(clean + noise[0], noise[1])
    air = np.hypot(*rng.normal(0, sigma, (2, 5000)))
    estimate = rayleigh_sigma(air)
    assert estimate == pytest.approx(sigma, rel=0.03)
    mask = np.ones(shape[1:], bool)
    plain = np.nanmedian(fit_t2(seen, TIMES, mask=mask).t2_ms)
    freed = np.nanmedian(fit_t2(seen, TIMES, mask=mask, noise_sigma=estimate).t2_ms)
    floored = np.nanmedian(fit_t2(seen, TIMES, mask=mask, floor="constant").t2_ms)
    assert plain > 1.05 * t2
    assert abs(freed / t2 - 1) < 0.05
    # The floor is no constant: it grows as the signal falls, and a fitted one takes too much.
    assert -0.12 < floored / t2 - 1 < 0


def test_the_first_echo_can_be_left_out() -> None:
    signal = decays(np.full((2, 3), 50.0), 1000.0)
    signal[0] *= 0.8  # Without stimulated echoes it is too low.
    mask = np.ones((2, 3), bool)
    assert np.allclose(fit_t2(signal, TIMES, skip_first=True, mask=mask).t2_ms, 50.0)
    assert not np.allclose(fit_t2(signal, TIMES, mask=mask).t2_ms, 50.0, rtol=0.05)


def test_voxels_without_a_decay_are_implausible_and_nothing_fails() -> None:
    rng = np.random.default_rng(3)
    kinds = {
        "air": np.zeros(8),
        "flat": np.full(8, 500.0),
        "rising": np.linspace(100, 800, 8),
        "one echo": np.array([500.0, *np.zeros(7)]),
        "noise": np.abs(rng.normal(0, 50, 8)),
        "long": decays(900.0, 400.0),
        "good": decays(45.0, 400.0),
    }
    signal = np.stack(list(kinds.values()), axis=1)
    for floor in ("none", "constant"):
        fit = fit_t2(signal, TIMES, mask=np.ones(7, bool), floor=floor, skip_first=True)  # type: ignore[arg-type]
        assert dict(zip(kinds, fit.plausible.tolist(), strict=True))["good"]
        assert fit.plausible.sum() <= 2
        assert not fit.plausible[:4].any()
        assert np.isfinite(fit.t2_ms).all()
    masked = fit_t2(signal, TIMES, mask=np.arange(7) == 6)
    assert np.isnan(masked.t2_ms[:6]).all()
    assert masked.t2_ms[6] == pytest.approx(45.0)
    assert masked.plausible.tolist() == [False] * 6 + [True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"echo_time_ms": [1.0, 2.0]}, "2 echo times for 8 echoes"),
        ({"echo_time_ms": TIMES[::-1]}, "they must rise"),
        ({"floor": "rice"}, "Unknown floor 'rice'"),
        ({"mask": np.ones((4, 4), bool)}, "mask of shape \\(4, 4\\)"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    given = {"echo_time_ms": TIMES, **options}
    with pytest.raises(InputError, match=message):
        fit_t2(np.ones((8, 2, 2)), **given)


def test_too_few_echoes_are_refused() -> None:
    with pytest.raises(InputError, match="3 echoes are left to fit; the model needs at least 4"):
        fit_t2(np.ones((4, 2)), TIMES[:4], skip_first=True, floor="constant")
    with pytest.raises(InputError, match="No voxel of air"):
        rayleigh_sigma(np.array([]))


@cache
def knee() -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    if not KNEE.is_dir():
        pytest.skip("the real series is not beside the checkout")
    volume, _, _ = load(sorted(KNEE.iterdir()))
    voxels, affine = reorient(volume.voxels, volume.affine)
    return voxels, affine, np.array(volume.echo_time_ms)


@pytest.mark.parametrize("constant", [False, True])
def test_a_real_knee_agrees_with_an_independent_fit(constant: bool) -> None:
    voxels, _, times = knee()
    few = voxels[:, 8:16:4]
    fit = fit_t2(few, times, floor="constant" if constant else "none")
    where = np.argwhere(fit.plausible)
    where = where[np.random.default_rng(4).choice(len(where), 300, replace=False)]

    def model(t: Any, s0: float, t2: float, level: float = 0.0) -> Any:
        return s0 * np.exp(-t / t2) + level

    differences = []
    for place in where:
        signal = few[(slice(None), *place)].astype(float)
        start = [signal[0], 40.0, 0.0] if constant else [signal[0], 40.0]
        found, _ = curve_fit(model, times, signal, p0=start, maxfev=5000)
        differences.append(abs(fit.t2_ms[tuple(place)] / found[1] - 1))
    assert np.median(differences) < 1e-4
    assert np.mean(np.array(differences) < 0.01) >= 0.99


def test_a_real_knee_has_the_t2_of_its_tissues() -> None:
    voxels, _, times = knee()
    fit = fit_t2(voxels[:, 8:10], times)
    assert fit.plausible.sum() > 0.95 * np.isfinite(fit.t2_ms).sum()
    # Muscle at 3 T has 30 to 40 ms; a block of it lies behind the femur's shaft in slice 12.
    one = fit_t2(voxels[:, 12:13], times)
    muscle = one.t2_ms[0, 100:125, 180:200]
    assert 25 < np.median(muscle) < 45


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    path = tmp_path_factory.mktemp("t2") / "cohort"
    one = np.zeros((8, 3, 6, 7), np.int16)
    one[TISSUE] = np.rint(decays(T2, 20000.0))
    affine = np.eye(4)
    affine[:3, :3] = [[3.0, 0, 0], [0, 0, 0.6], [0, -0.6, 0]]
    scans = pd.DataFrame(
        {
            "subject_id": ["1000001", "1000001"],
            "laterality": ["R", "L"],
            "mirrored": [False, True],
            "scale": [0.5, 0.25],
        }
    )
    given = SequenceVolumes(
        volume=np.stack([one, mirror(one, affine)]),
        scans=scans,
        affine=np.stack([affine, affine]),
        echo_time_ms=np.stack([TIMES, TIMES]),
    )
    flat = SequenceVolumes(volume=one[:1], scans=scans[:1])
    write_cohort(path, volumes={"T2_MAP": given, "DESS": flat}, tables={}, provenance={})
    return Cohort.open(path)


def test_maps_of_a_cohort_are_files_that_lie_where_the_patient_was(
    cohort: Cohort, tmp_path: Path
) -> None:
    files = write_t2_maps(cohort, "T2_MAP", tmp_path / "out")
    assert [file.name for file in files] == [
        "1000001_R_V00_T2_MAP_0_T2map.nii.gz",
        "1000001_L_V00_T2_MAP_0_T2map.nii.gz",
    ]
    for file in files:
        image: Any = nibabel.load(file)
        found = np.asarray(image.dataobj).transpose()
        assert np.abs(found[TISSUE] / T2 - 1).max() < 1e-3
        assert np.isfinite(found).sum() == T2.size
        assert image.affine[:3, 2].tolist() == [-3.0, 0.0, 0.0]
        r2: Any = nibabel.load(file.with_name(file.name.replace("T2map", "R2map")))
        assert np.nanmin(np.asarray(r2.dataobj)) > 0.999
    times = {file: file.stat().st_mtime_ns for file in files}
    assert write_t2_maps(cohort, "T2_MAP", tmp_path / "out") == files
    assert {file: file.stat().st_mtime_ns for file in files} == times
    assert (tmp_path / "out" / "scans.tsv").read_text().count("1000001:") >= 2
    with pytest.raises(InputError, match="another skip_first"):
        write_t2_maps(cohort, "T2_MAP", tmp_path / "out", skip_first=True)


def test_the_table_of_numbers_is_of_the_same_fits_and_stays_whole(
    cohort: Cohort, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_t2_maps(cohort, "T2_MAP", out, workers=2)
    text = (out / "t2.tsv").read_text()
    table = pd.read_csv(out / "t2.tsv", sep="\t", dtype={"subject_id": str})
    assert table["scan_id"].tolist() == ["1000001:R:V00:T2_MAP:0", "1000001:L:V00:T2_MAP:0"]
    assert table["sequence"].tolist() == ["T2_MAP"] * 2
    # From the files that were written, by nibabel.
    for row in table.itertuples():
        t2, r2 = (
            np.asarray(nibabel.load(out / str(row.filename).replace("T2map", kind)).dataobj)
            for kind in ("T2map", "R2map")
        )
        low, middle, high = np.nanpercentile(t2, (5, 50, 95))
        assert [row.t2_p5_ms, row.t2_p50_ms, row.t2_p95_ms] == pytest.approx([low, middle, high])
        assert row.t2_r2 == pytest.approx(np.nanmedian(r2))
        assert row.t2_plausible == pytest.approx(np.isfinite(t2).sum() / np.isfinite(r2).sum())
    # A call that was cut short before the second scan was whole, and the next one.
    names = [str(name) for name in table["filename"]]
    stamps = {path: (out / path).stat().st_mtime_ns for path in names}
    (out / "t2.tsv").unlink()
    (out / names[1].replace(".nii.gz", ".json")).unlink()
    write_t2_maps(cohort, None, out)
    assert (out / "t2.tsv").read_text() == text
    assert (out / names[0]).stat().st_mtime_ns == stamps[names[0]]
    assert (out / names[1]).stat().st_mtime_ns != stamps[names[1]]


def test_numbers_of_each_scan_through_scan_map(cohort: Cohort) -> None:
    frame = map_scans(cohort, "T2_MAP", t2_function(cohort, "T2_MAP"))
    assert np.allclose(frame["t2_p50_ms"], np.median(T2), rtol=1e-3)
    assert np.allclose(frame["t2_p5_ms"], np.percentile(T2, 5), rtol=1e-3)
    assert (frame["t2_plausible"] == 1).all()
    assert (frame["t2_r2"] > 0.999).all()


def test_one_echo_makes_no_map(cohort: Cohort, tmp_path: Path) -> None:
    for chosen in ("DESS", ["T2_MAP", "DESS"]):
        with pytest.raises(InputError, match="'DESS' has no echo times"):
            write_t2_maps(cohort, chosen, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    bare = tmp_path / "bare"
    volume = SequenceVolumes(
        volume=np.zeros((1, 4, 5, 6), np.int16), scans=pd.DataFrame({"subject_id": ["1000001"]})
    )
    write_cohort(bare, volumes={"DESS": volume}, tables={}, provenance={})
    with pytest.raises(InputError, match=r"No sequence .* there are \['DESS'\]"):
        write_t2_maps(Cohort.open(bare), None, tmp_path / "out")
    few = SequenceVolumes(
        volume=np.full((1, 3, 4, 5, 6), 9, np.int16),
        scans=pd.DataFrame({"subject_id": ["1000001"]}),
        echo_time_ms=np.array([[10.0, 20.0, 30.0]]),
    )
    write_cohort(tmp_path / "few", volumes={"T2": few}, tables={}, provenance={})
    with pytest.raises(InputError, match="Scan 1000001::V00:T2:0: 3 echoes are left to fit"):
        write_t2_maps(Cohort.open(tmp_path / "few"), "T2", tmp_path / "o", floor="constant")
    with pytest.raises(InputError, match="Unknown sequence 'X'"):
        t2_function(cohort, "X")


def test_a_scan_without_any_fit_has_no_numbers() -> None:
    nothing = np.full((2, 2), np.nan, np.float32)
    fit = T2Fit(
        t2_ms=nothing, s0=nothing, constant=nothing, r2=nothing, plausible=np.zeros((2, 2), bool)
    )
    assert all(np.isnan(value) for value in t2_row(fit).values())
