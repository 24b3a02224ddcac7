import numpy as np
import pytest

from spinmark_data.phantom.signal import SCANNERS, bias_profiles, rician, tissue_signals


def test_rician_moments_are_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    background = rician(np.zeros(200_000, np.float32), 10.0, rng)
    assert background.mean() == pytest.approx(10 * np.sqrt(np.pi / 2), rel=0.01)
    signal = rician(np.full(200_000, 50.0, np.float32), 10.0, rng)
    # E[M^2] = A^2 + 2 sigma^2.
    assert np.mean(signal.astype(float) ** 2) == pytest.approx(50**2 + 2 * 10**2, rel=0.01)


def test_scanners_have_the_signal_to_noise_of_dess() -> None:
    assert len(SCANNERS) >= 4
    assert len({style.manufacturer for style in SCANNERS}) >= 2
    for style in SCANNERS:
        assert 15 <= 1 / style.noise <= 20
        found = tissue_signals(style)
        signals = {name: float(found.water[name][0] + found.fat[name][0]) for name in found.water}
        assert signals["fluid"] > signals["cartilage"] > signals["muscle"] > signals["marrow"]
        assert signals["marrow"] > signals["meniscus"] > signals["cortex"]


def test_no_bias_without_amplitude() -> None:
    profiles = bias_profiles((3, 4, 5), 0.0, np.random.default_rng(0))
    assert all(np.all(profile == 1.0) for profile in profiles)
