"""Signal equations against simulations that share no code with them, and their limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.phantom import artefacts
from spinmark_data.phantom.config import SEQUENCE_NAMES, PhantomConfig
from spinmark_data.phantom.relaxation import FAT, T2_RANGES_MS, WATER, Tissue
from spinmark_data.phantom.sequences import (
    DESS,
    SEQUENCES,
    dess,
    grid_of,
    pool_signal,
    spin_echo,
    water_and_fat,
)
from spinmark_data.phantom.signal import SCANNERS, blur, tissue_signals
from spinmark_data.phantom.state import Grid


def epg_dess(t1: float, t2: float, tr: float, te: float, flip: float) -> tuple[float, float]:
    """Both echoes by an extended phase graph of 1500 pulses, in float64."""
    orders, a = 120, np.deg2rad(flip)
    c, s = np.cos(a / 2) ** 2, np.sin(a / 2) ** 2
    pulse = np.array(
        [
            [c, s, -1j * np.sin(a)],
            [s, c, 1j * np.sin(a)],
            [-0.5j * np.sin(a), 0.5j * np.sin(a), np.cos(a)],
        ]
    )
    e1, e2 = np.exp(-tr / t1), np.exp(-tr / t2)
    state = np.zeros((3, orders), complex)
    state[2, 0] = 1.0
    first = second = 0.0
    for _ in range(1500):
        state = pulse @ state
        first = abs(state[0, 0]) * np.exp(-te / t2)
        state[:2] *= e2
        state[2] *= e1
        state[2, 0] += 1 - e1
        state[0, 1:] = state[0, :-1].copy()
        state[1, :-1] = state[1, 1:].copy()
        state[1, -1] = 0
        state[0, 0] = np.conj(state[1, 0])
        second = abs(state[1, 0]) * np.exp(te / t2)
    return first, second


@settings(max_examples=25, deadline=None)
@given(
    t1=st.floats(300, 3600),
    share=st.floats(0.02, 0.4),
    flip=st.floats(10, 70),
)
def test_dess_is_the_extended_phase_graph(t1: float, share: float, flip: float) -> None:
    t2 = min(t1 * share, 120.0)
    found = dess(Tissue(t1_ms=t1, t2_ms=t2, density=0.7), 16.3, 4.7, flip)
    expected = epg_dess(t1, t2, 16.3, 4.7, flip)
    # 1500 pulses of 16.3 ms leave a little of the way to the steady state for the longest T1.
    np.testing.assert_allclose(found, 0.7 * np.array(expected), rtol=0.01, atol=1e-4)


def test_limits_of_dess() -> None:
    short = Tissue(t1_ms=1000.0, t2_ms=0.5, density=1.0)
    first, second = dess(short, 16.3, 4.7, 25.0)
    # Without transverse magnetisation left, the first echo is that of a spoiled gradient echo.
    e1, a = np.exp(-16.3 / 1000), np.deg2rad(25)
    ernst = np.sin(a) * (1 - e1) / (1 - e1 * np.cos(a)) * np.exp(-4.7 / 0.5)
    assert first == pytest.approx(ernst, rel=1e-6)
    assert second < 1e-8
    # Without relaxation the two echoes have the same size.
    same = dess(Tissue(t1_ms=1e9, t2_ms=1e8, density=1.0), 16.3, 4.7, 25.0)
    assert same[0] == pytest.approx(same[1], rel=0.01)


def bloch_spin_echo(tissue: Tissue, tr: float, te: float) -> float:
    """Magnitude at the echo of many spins of all frequencies, turned by matrices, in float64."""
    turns = np.linspace(0, 2 * np.pi, 64, endpoint=False)

    def wait(m: np.ndarray, ms: float, angle: np.ndarray) -> np.ndarray:
        e1, e2 = np.exp(-ms / tissue.t1_ms), np.exp(-ms / tissue.t2_ms)
        x = e2 * (np.cos(angle) * m[0] - np.sin(angle) * m[1])
        y = e2 * (np.sin(angle) * m[0] + np.cos(angle) * m[1])
        return np.stack([x, y, 1 + (m[2] - 1) * e1])

    m = np.tile(np.array([[0.0], [0.0], [1.0]]), (1, 64))
    echo = 0.0
    for _ in range(30):
        m[:2] = 0  # spoiled before each excitation
        m = np.stack([m[2], m[1], -m[0]])  # 90 degrees about y
        m = wait(m, te / 2, turns)
        m = np.stack([m[0], -m[1], -m[2]])  # 180 degrees about x
        m = wait(m, te / 2, turns)
        echo = float(np.hypot(*m[:2].mean(axis=1)))
        m = wait(m, tr - te, turns)
    return tissue.density * echo


@pytest.mark.parametrize("name", ["cartilage", "muscle", "fluid", "meniscus"])
def test_spin_echo_is_the_blochs_where_the_echo_is_early(name: str) -> None:
    tissue = WATER[name]
    found = spin_echo(tissue, 3700.0, 29.0)
    # The equation neglects what recovers, upside down, around the inverting pulse.
    assert found == pytest.approx(bloch_spin_echo(tissue, 3700.0, 29.0), rel=0.02)


def test_limits_of_the_spin_echo() -> None:
    still = Tissue(t1_ms=1e-3, t2_ms=1e12, density=0.4)
    assert spin_echo(still, 3000.0, 30.0) == pytest.approx(0.4)
    assert spin_echo(Tissue(t1_ms=1e12, t2_ms=50.0, density=1.0), 3000.0, 30.0) < 1e-6


def test_echoes_of_the_t2_map_decay_with_t2() -> None:
    sequence = SEQUENCES["SAG_T2_MAP"]
    for name in ("cartilage", "muscle"):
        signal = pool_signal(sequence, WATER[name])
        slope = np.polyfit(sequence.te_ms, np.log(signal), 1)[0]
        assert -1 / slope == pytest.approx(WATER[name].t2_ms)


def test_relaxation_lies_within_what_was_measured() -> None:
    for name, (low, high) in T2_RANGES_MS.items():
        tissue = WATER[name] if name in ("cartilage", "muscle") else FAT
        assert low <= tissue.t2_ms <= high, name
    for tissue in WATER.values():
        assert tissue.t2_ms < tissue.t1_ms
        assert 0 <= tissue.density <= 1


def test_contrasts_of_the_sequences() -> None:
    for style in SCANNERS:
        looks = {}
        for name in SEQUENCES:
            found = tissue_signals(style, 1.0, name)
            looks[name] = {t: float(found.water[t][0] + found.fat[t][0]) for t in found.water}
        plain, without = looks["COR_IW_TSE"], looks["SAG_IW_TSE_FS"]
        assert plain["marrow"] > plain["cartilage"] > plain["muscle"] > plain["meniscus"]
        assert without["fluid"] > without["cartilage"] > without["marrow"]
        assert without["lesion"] > 1.5 * without["marrow"]
        assert looks[DESS]["fluid"] > looks[DESS]["cartilage"] > looks[DESS]["fat"]
    assert set(SEQUENCES) == set(SEQUENCE_NAMES)
    assert set(water_and_fat(SEQUENCES[DESS])) >= set(WATER)


def test_at_least_three_vendors() -> None:
    assert len({style.manufacturer for style in SCANNERS}) >= 3


def test_blur_is_scipys() -> None:
    from scipy.ndimage import gaussian_filter1d

    volume = np.random.default_rng(0).random((2, 17, 19)).astype(np.float32)
    for sigma in ((0.3, 0.8), (1.7, 0.0)):
        expected = volume.astype(np.float64)
        for axis, s in zip((1, 2), sigma, strict=True):
            if s:
                expected = gaussian_filter1d(expected, s, axis=axis, mode="nearest", truncate=3.0)
        np.testing.assert_allclose(blur(volume, sigma), expected, atol=1e-5)


def test_grids_keep_the_field_of_view() -> None:
    main = Grid(shape=(160, 384, 384), spacing_mm=(0.7, 0.365, 0.365))
    coronal = grid_of(SEQUENCES["COR_IW_TSE"], main, None)
    assert coronal.plane == "coronal"
    assert coronal.spacing_mm == (3.0, 0.365, 0.365)
    for one, other in zip(coronal.shape, (384 * 0.365 / 3, 384, 160 * 0.7 / 0.365), strict=True):
        assert one == pytest.approx(other, abs=0.51)
    assert grid_of(SEQUENCES[DESS], main, None) is main
    with pytest.raises(InputError, match="SAG_T2_MAP"):
        grid_of(SEQUENCES["SAG_T2_MAP"], main, (3.0, 30.0, 30.0))


def test_nothing_goes_wrong_without_rates_and_often_with() -> None:
    quiet = PhantomConfig()
    assert all(artefacts.draw(s, DESS, quiet) == artefacts.NONE for s in range(20))
    bad = PhantomConfig(motion_ghosting=0.5, wrap_around=0.25, fat_failure=1.0)
    drawn = [artefacts.draw(s, DESS, bad) for s in range(400)]
    assert np.mean([one.ghosting > 0 for one in drawn]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([one.wrap > 0 for one in drawn]) == pytest.approx(0.25, abs=0.08)
    assert all(one.fat_failure > 0 for one in drawn)
    assert all(artefacts.draw(s, "COR_IW_TSE", bad).fat_failure == 0 for s in range(50))
    assert artefacts.draw(3, DESS, PhantomConfig(nuisance=0, wrap_around=1)) == artefacts.NONE


def test_folding_and_ghosts_keep_what_they_should() -> None:
    image = np.random.default_rng(1).random((2, 20, 6)).astype(np.float32)
    ghosted = artefacts.ghost(image, artefacts.Artefacts(ghosting=0.1, ghosts=4))
    assert ghosted.sum() == pytest.approx(image.sum(), rel=1e-5)
    assert artefacts.fold(image, 0) is image
    wide = np.zeros((1, 16, 3), np.float32)
    wide[:, 1] = 1.0  # beyond the upper end, one row before it
    folded = artefacts.fold(wide, 2)
    # It comes back at the lower end, as far from it.
    assert folded.shape == (1, 12, 3)
    assert np.flatnonzero(folded[0, :, 0]).tolist() == [11]
    moved = artefacts.shift_fat(np.eye(8, dtype=np.float32), 1.25)
    assert moved[0, 1] == pytest.approx(0.75)
    assert moved[0, 2] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sequences": ("SAG_3D_DESS", "AX_T1")}, "AX_T1"),
        ({"sequences": ("COR_IW_TSE",)}, "begins with"),
        ({"rescans": 1.5}, "rescans"),
        ({"sequence_spacing_mm": {"SAG_3D_DESS": (1.0, 1.0, 1.0)}}, "SAG_3D_DESS"),
        ({"rescans": 0.1, "subjects": 50_000}, "28000"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        PhantomConfig(**change)  # type: ignore[arg-type]
