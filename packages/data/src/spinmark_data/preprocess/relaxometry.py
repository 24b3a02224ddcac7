"""T2 from several echoes: a weighted log-linear start, then non-linear least squares.

The model is `s0 * exp(-te / t2)`, with a constant added if asked for. Its amplitude and constant are
linear, so for any rate `1 / t2` they are known in closed form, and one number a voxel is left to
search (variable projection: Golub and Pereyra 1973, doi:10.1137/0710036; the step without the
smaller term: Kaufman 1975, doi:10.1007/BF01932995). All voxels of a block are searched at once.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.preprocess.intensity import tissue_mask

Floats = NDArray[np.float64]
# Voxels searched at once: their echoes fit in cache.
_BLOCK = 16384
_STEPS = 60
_TOLERANCE = 1e-9
# Rates in 1/ms between which the search stays: T2 from 0.1 ms, or a twentieth of the first echo
# time, where amplitudes would leave float32, to 20 s.
_SLOWEST, _FASTEST, _DECAYED = 5e-5, 10.0, 20.0


@dataclass(frozen=True, kw_only=True)
class T2Fit:
    """Maps of one fit, each `(z, y, x)` or of whatever shape the voxels had.

    Args:
        t2_ms: T2 in ms; NaN where nothing was fitted.
        s0: Signal at time 0 without the constant; NaN where nothing was fitted.
        constant: The constant; 0 where the model has none.
        r2: Share of the echoes' variance that the fit explains; NaN where nothing was fitted.
        plausible: Fitted, converged, T2 and R2 within the bounds given.
    """

    t2_ms: NDArray[np.float32]
    s0: NDArray[np.float32]
    constant: NDArray[np.float32]
    r2: NDArray[np.float32]
    plausible: NDArray[np.bool_]


def fit_t2(
    echoes: NDArray[Any],
    echo_time_ms: NDArray[Any],
    *,
    skip_first: bool = False,
    floor: Literal["none", "constant"] = "none",
    noise_sigma: float = 0.0,
    mask: NDArray[np.bool_] | None = None,
    t2_range_ms: tuple[float, float] = (1.0, 500.0),
    least_r2: float = 0.7,
) -> T2Fit:
    """Fit a decay to every voxel of a multi-echo series.

    Args:
        echoes: `(echo, ...)`, finite magnitudes.
        echo_time_ms: `(echo,)`, rising.
        skip_first: Leave out the first echo, which lacks the stimulated echoes of the later ones.
        floor: `constant` adds one to the model, which needs four echoes.
        noise_sigma: Noise of the real and of the imaginary channel, as `rayleigh_sigma` finds it;
            above 0, magnitudes are freed of its bias by `sqrt(max(s^2 - 2 sigma^2, 0))` (Gudbjartsson
            and Patz 1995, doi:10.1002/mrm.1910340618, on the mean of the square).
        mask: Voxels to fit, of the shape of one echo; those that are not air in the first echo if
            none is given.
        t2_range_ms: Bounds of a plausible T2.
        least_r2: Bound of a plausible fit.

    Returns:
        The maps.

    Raises:
        InputError: Too few echoes, or times that do not fit them or do not rise.
    """
    times = _check(echoes, np.asarray(echo_time_ms, dtype=np.float64), skip_first, floor)
    where = tissue_mask(echoes[0]) if mask is None else mask
    if where.shape != echoes.shape[1:]:
        raise InputError(f"A mask of shape {where.shape} for echoes of shape {echoes.shape[1:]}.")
    used = echoes[1:] if skip_first else echoes
    (places,) = np.nonzero(where.reshape(-1))
    flat = used.reshape(len(times), -1)
    maps = np.full((5, where.size), np.nan, np.float32)
    for start in range(0, len(places), _BLOCK):
        here = places[start : start + _BLOCK]
        signal = flat[:, here].astype(np.float64)
        if noise_sigma > 0:
            signal = np.sqrt(np.maximum(signal**2 - 2 * noise_sigma**2, 0))
        maps[:, here] = decay(signal, times, constant=floor == "constant")
    t2, s0, constant, r2, settled = maps.reshape(5, *where.shape)
    low, high = t2_range_ms
    with np.errstate(invalid="ignore"):
        plausible = (t2 >= low) & (t2 <= high) & (r2 >= least_r2) & (s0 > 0) & (settled == 1)
    return T2Fit(t2_ms=t2, s0=s0, constant=constant, r2=r2, plausible=plausible)


def _check(echoes: NDArray[Any], times: Floats, skip_first: bool, floor: str) -> Floats:
    if floor not in ("none", "constant"):
        raise InputError(f"Unknown floor '{floor}'. Valid floors are none and constant.")
    if times.ndim != 1 or echoes.ndim < 1 or len(times) != len(echoes):
        raise InputError(
            f"{times.size} echo times for {echoes.shape[0] if echoes.ndim else 0} echoes."
        )
    if not (np.isfinite(times).all() and (times >= 0).all() and (np.diff(times) > 0).all()):
        raise InputError(f"Echo times {times.tolist()} ms; they must rise from 0 or above.")
    kept = times[1:] if skip_first else times
    least = 4 if floor == "constant" else 2
    if len(kept) < least:
        raise InputError(f"{len(kept)} echoes are left to fit; the model needs at least {least}.")
    return kept


def rayleigh_sigma(air: NDArray[Any]) -> float:
    """Noise of one channel from magnitudes in air, `sqrt(mean(s^2) / 2)`.

    Args:
        air: Voxels of a single coil without signal; at least one.

    Raises:
        InputError: There is none.
    """
    if air.size == 0:
        raise InputError("No voxel of air to take the noise from.")
    return float(np.sqrt(np.mean(air.astype(np.float64) ** 2) / 2))


def log_linear(signal: Floats, times: Floats) -> Floats:
    """Rates in 1/ms from a line through the logarithms, weighted by the squared signal.

    The weights are the inverse variances of the logarithms. Signals of 0 or less weigh nothing.

    Args:
        signal: `(echo, voxel)`.
        times: `(echo,)` in ms.
    """
    weight = np.where(signal > 0, signal, 0.0) ** 2
    logs = np.log(np.where(signal > 0, signal, 1.0))
    total = np.maximum(weight.sum(axis=0), 1e-300)
    away = times[:, None] - times @ weight / total
    spread = (weight * away**2).sum(axis=0)
    slope = (weight * away * logs).sum(axis=0)
    # Only one echo with signal: no slope. A middle T2 is where the search starts then.
    rate: Floats = np.divide(-slope, spread, out=np.full_like(slope, 1 / 40), where=spread > 1e-300)
    return np.clip(rate, 1 / 3000, 2.0)


def decay(signal: Floats, times: Floats, *, constant: bool) -> Floats:
    """Least-squares decays.

    Args:
        signal: `(echo, voxel)`.
        times: `(echo,)` in ms.
        constant: Whether one is added to the model.

    Returns:
        `(5, voxel)`: T2 in ms, amplitude, constant, R2, and whether the search settled.
    """
    # With a constant, what is left after the means are taken off has the same solution.
    middle = signal.mean(axis=0)
    target = signal - middle if constant else signal
    rate = log_linear(target - target.min(axis=0) if constant else signal, times)
    error, _, _ = _project(target, times, rate, constant)
    fastest = min(_FASTEST, _DECAYED / max(float(times[0]), 1e-3))
    damping = np.ones_like(rate)
    settled = np.zeros(rate.shape, bool)
    for _ in range(_STEPS):
        (live,) = np.nonzero(~settled)
        if not live.size:
            break
        old, data = rate[live], target[:, live]
        step = _step(data, times, old, constant)
        new = np.clip(old * (1 + np.clip(damping[live] * step, -0.5, 1.0)), _SLOWEST, fastest)
        after, _, _ = _project(data, times, new, constant)
        better = after <= error[live]
        # A step that does not help is halved; one that does lets the next be longer again.
        damping[live] = np.where(better, np.minimum(damping[live] * 2, 1.0), damping[live] / 4)
        settled[live] = np.abs(new - old) <= _TOLERANCE * old
        took = live[better]
        rate[took], error[took] = new[better], after[better]
    error, amplitude, shape = _project(target, times, rate, constant)
    level = middle - amplitude * shape if constant else np.zeros_like(rate)
    variance = ((signal - middle) ** 2).sum(axis=0)
    r2 = 1 - np.divide(error, variance, out=np.ones_like(error), where=variance > 0)
    inside = (rate > _SLOWEST) & (rate < fastest)
    return np.stack([1 / rate, amplitude, level, r2, settled & inside])


def _basis(times: Floats, rate: Floats, constant: bool) -> tuple[Floats, Floats, Floats]:
    """`exp(-rate t)` and `t exp(-rate t)`, less their means if asked, and the first one's mean."""
    shape = np.exp(-times[:, None] * rate)
    lean = times[:, None] * shape
    mean = shape.mean(axis=0)
    return (shape - mean, lean - lean.mean(axis=0), mean) if constant else (shape, lean, mean)


def _project(
    target: Floats, times: Floats, rate: Floats, constant: bool
) -> tuple[Floats, Floats, Floats]:
    """Squared error and amplitude of the best decay at given rates, and the mean of its shape."""
    shape, _, mean = _basis(times, rate, constant)
    amplitude = (shape * target).sum(axis=0) / np.maximum((shape**2).sum(axis=0), 1e-300)
    return ((target - amplitude * shape) ** 2).sum(axis=0), amplitude, mean


def _step(target: Floats, times: Floats, rate: Floats, constant: bool) -> Floats:
    """The Gauss-Newton step of each rate, as a share of it."""
    shape, lean, _ = _basis(times, rate, constant)
    power = np.maximum((shape**2).sum(axis=0), 1e-300)
    amplitude = (shape * target).sum(axis=0) / power
    rest = target - amplitude * shape
    # The model falls by amplitude * t * exp(-rate t) as the rate grows, less what amplitude takes up.
    free = lean - (shape * lean).sum(axis=0) / power * shape
    slope = amplitude * (rest * free).sum(axis=0)
    curve = amplitude**2 * (free**2).sum(axis=0)
    step: Floats = np.divide(-slope, curve, out=np.zeros_like(slope), where=curve > 1e-300)
    return step / rate
