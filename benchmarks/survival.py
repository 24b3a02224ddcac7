"""How fast survival models are fitted and scored: `nox -s bench -- survival`.

Each task runs in a process of its own, with one thread a library; chains run side by side on `--cores`.
CPU time is that of the process and its children.

- `frailty`: 9,000 joints of 4,500 people, 32 covariates, shared gamma frailty integrated out, NUTS with
  two chains of 1,000 + 1,000. First with an empty compile cache (cold), then again (warm); each from the
  start of the interpreter to the posterior, imports and all.
- `poisson`, `latent`: effective draws a CPU-second of sampling, warm-up and all, the least over the
  coefficients, against the row-expanded Poisson model (both without frailty), and against one latent gamma
  frailty a person; the same data, priors, parametrisation, chains, draws and sampler (PyMC models compiled
  by nutpie), in turn. `indexed` is a Poisson model that multiplies covariates before it expands rows, which is
  cleverer than what is usually written.
- `gradient`: one evaluation of the log density and its gradient, from 1,000 to 60,000 rows.
- `concordance`: 200 subject bootstraps of Harrell's C; a peer is timed on a few resamples and scaled.
- `large`: 64 subject bootstraps of about 60,000 joint-visits with 32 covariates that change over time and a
  shared frailty, by `LaplacePiecewiseExponential`, on `--cores` processes; and one short run of NUTS on
  the same rows, scaled to 64.

With another interpreter: `/path/to/python3.12 benchmarks/survival.py`; `--tasks` runs some of them alone.
The last line is JSON; what was not run is null there.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import SurvivalData

Floats = NDArray[np.float64]
PIECES = 6
EFFECTS = (0.6, -0.4, 0.3, 0.2)
TASKS = ("frailty", "poisson", "latent", "gradient", "concordance", "large")
PACKAGES = ("pymc", "pytensor", "nutpie", "numba", "numpy", "arviz", "scikit-survival", "lifelines")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def cpu_seconds() -> float:
    """CPU time of this process and of the children that it has waited for."""
    both = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def joints(people: int, p: int, *, frailty: float = 0.8, seed: int = 0) -> SurvivalData:
    """Two joints a person, 1.2 % a year, followed for 6 to 10 years: some 1 in 9 has the event."""
    rng = np.random.default_rng(seed)
    n = 2 * people
    w = np.repeat(rng.gamma(1 / frailty, frailty, people), 2) if frailty else np.ones(n)
    own, shared = rng.normal(size=(n, p)), rng.normal(size=(people, p))
    x = (np.repeat(shared, 2, axis=0) + own) / np.sqrt(2)
    beta = np.zeros(p)
    beta[: len(EFFECTS)] = EFFECTS[:p]
    event = rng.exponential(1 / (0.012 * w * np.exp(x @ beta)))
    end = rng.uniform(6, 10, n)
    cause = (event <= end).astype(np.int64)
    time_ = np.minimum(event, end)
    subjects = np.repeat([f"s{k:05d}" for k in range(people)], 2).astype(object)
    return SurvivalData(
        ids=np.array([f"{s}:{'RL'[k % 2]}" for k, s in enumerate(subjects)], dtype=object),
        subject_ids=subjects, covariates=x, names=tuple(f"x{k}" for k in range(p)), lower=time_,
        upper=np.where(cause == 0, np.inf, time_), cause=cause, weight=np.ones(n),
    )  # fmt: skip


def visits(people: int, p: int, seed: int = 0) -> SurvivalData:
    """The same joints as (start, stop] rows of a year, each with covariates that moved a little."""
    data = joints(people, p, seed=seed)
    cuts = np.arange(7.0)
    row, k = np.nonzero(cuts < data.lower[:, None])
    last = (k == len(cuts) - 1) | (np.append(cuts, np.inf)[k + 1] >= data.lower[row])
    stop = np.where(last, data.lower[row], np.append(cuts, np.inf)[k + 1])
    event = last & data.event[row]
    moved = 0.3 * np.random.default_rng(seed + 1).normal(size=(len(row), p))
    return SurvivalData(
        ids=data.ids[row], subject_ids=data.subject_ids[row],
        covariates=data.covariates[row] + moved, names=data.names, lower=stop,
        upper=np.where(event, stop, np.inf), cause=event.astype(np.int64),
        weight=np.ones(len(row)), start=cuts[k],
    )  # fmt: skip


def ess_of_beta(posterior: Any) -> float:
    """Least bulk effective sample size over the coefficients."""
    from spinmark_biomarkers.survival import _compat

    return float(np.min(_compat.rhat_and_ess(posterior[["beta"]])[1]["beta"]))


def model(sampler: SamplerConfig, *, frailty: bool) -> Any:
    """The piecewise-exponential model with its default priors."""
    from spinmark_biomarkers.survival.models import PiecewiseExponential

    return PiecewiseExponential(
        intervals=PIECES, frailty="gamma" if frailty else "none", sampler=sampler
    )


def frailty_task(args: argparse.Namespace) -> dict[str, Any]:
    """One fit from the start of this process."""
    data = joints(args.rows // 2, args.columns)
    sampler = SamplerConfig(tune=args.draws, draws=args.draws, cores=args.cores)
    fitted = model(sampler, frailty=True).fit(data)
    used = cpu_seconds()
    found = fitted.diagnostics_
    posterior = fitted.posterior_
    return {
        "cpu_seconds": round(used, 2),
        "events": int(data.event.sum()),
        "divergences": found.divergences,
        "rhat": round(found.rhat, 4),
        "ess": round(found.ess),
        "ess_beta": round(ess_of_beta(posterior)),
        "frailty_variance": round(float(posterior["frailty_variance"].mean()), 3),
        "beta": [round(float(b), 3) for b in posterior["beta"].mean(("chain", "draw"))[:4]],
    }


class Ours:
    """A model of spinmark, compiled once and sampled often."""

    def __init__(self, data: SurvivalData, sampler: SamplerConfig, *, frailty: bool) -> None:
        # What `fit` does before it samples.
        self.spec, self.arrays = model(sampler, frailty=frailty)._prepare(data, None)
        self.sample(SamplerConfig(tune=10, draws=10, cores=1))

    def sample(self, sampler: SamplerConfig) -> tuple[Any, int]:
        """Draws and the number of divergences."""
        from spinmark_biomarkers.survival.engines import sample

        posterior, steps = sample(self.spec, self.arrays, sampler)
        return posterior, int(steps["diverging"].sum())


class Peer:
    """A PyMC model compiled by nutpie, with the priors of ours and in the same parametrisation."""

    def __init__(self, data: SurvivalData, ours: Ours, kind: str) -> None:
        from spinmark_biomarkers.survival import _compat

        _compat.import_quietly()
        import nutpie
        import pymc as pm
        import pytensor.tensor as pt

        from spinmark_biomarkers.survival.likelihoods import exposure, interval_breaks
        from spinmark_biomarkers.survival.priors import Normal, RandomWalk

        own = ours.arrays
        breaks = interval_breaks(data, PIECES)
        years = exposure(data.lower, breaks) - exposure(data.start, breaks)
        row, piece = np.nonzero(years > 0)
        offset = np.log(years[row, piece])
        counts = np.zeros(years.shape, dtype=np.int64)
        ends = np.clip(np.searchsorted(breaks, data.lower, side="left") - 1, 0, None)
        counts[np.flatnonzero(data.event), ends[data.event]] = 1
        y = counts[row, piece]
        x = np.pad(data.covariates, ((0, 0), (0, ours.spec.width - data.covariates.shape[1])))
        with pm.Model() as built:
            prior = {
                name.removeprefix("prior_"): pt.as_tensor(value)
                for name, value in own.items()
                if name.startswith("prior_")
            }
            walk = {k: pt.as_tensor(own[k]) for k in RandomWalk().arrays(breaks, 0.0)}
            beta = Normal().build(prior, ours.spec.width, ours.spec.slots, "")
            beta = pm.Deterministic("beta", beta)
            log_hazard = pm.Deterministic("log_hazard", RandomWalk().build(walk, PIECES))
            if kind == "poisson":
                wide = pm.Data("wide", x[row])
                pm.Poisson("y", pt.exp(wide @ beta + log_hazard[piece] + offset), observed=y)
            elif kind == "indexed":
                eta = pm.Data("x", x) @ beta
                pm.Poisson("y", pt.exp(eta[row] + log_hazard[piece] + offset), observed=y)
            else:
                code, people = data.subject_code, len(data.subjects)
                theta = pm.HalfNormal("frailty_variance", 1.0)
                w = pm.Gamma("w", 1 / theta, 1 / theta, shape=people)
                # The same sufficient statistics as ours, so that only the frailties differ.
                gathered = pt.exp(pm.Data("x", x) @ beta) * (
                    pm.Data("years", years) @ pt.exp(log_hazard)
                )
                seen = np.bincount(code, data.event, people)
                value = pt.sum((data.event @ x) * beta) + pt.sum(seen * pt.log(w))
                value += pt.sum(np.bincount(piece, y, PIECES) * log_hazard)
                pm.Potential("likelihood", value - pt.sum(w[code] * gathered))
        names = ["beta", "log_hazard", *(["frailty_variance"] if kind == "latent" else [])]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Cannot cache compiled function")
            self.compiled = nutpie.compile_pymc_model(built, var_names=names)
        self.sample(SamplerConfig(tune=10, draws=10, cores=1))

    def sample(self, sampler: SamplerConfig) -> tuple[Any, int]:
        """Draws and the number of divergences."""
        import nutpie

        from spinmark_biomarkers.survival import _compat

        trace = nutpie.sample(
            self.compiled, draws=sampler.draws, tune=sampler.tune, chains=sampler.chains,
            cores=sampler.cores, seed=sampler.seed, target_accept=sampler.target_accept,
            save_warmup=False, progress_bar=False,
        )  # fmt: skip
        posterior, steps = _compat.groups(trace)
        return posterior, int(steps["diverging"].sum())


def race_task(args: argparse.Namespace, kinds: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Effective draws a second of spinmark and of peers, in turn."""
    frailty = kinds == ("latent",)
    data = joints(args.rows // 2, args.columns, frailty=0.8 if frailty else 0.0)
    config = {"tune": args.draws, "draws": args.draws, "cores": args.cores}
    runners: dict[str, Any] = {"spinmark": Ours(data, SamplerConfig(), frailty=frailty)}
    runners |= {kind: Peer(data, runners["spinmark"], kind) for kind in kinds}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in runners}
    for seed in range(rounds):
        for name, runner in runners.items():
            cpu, wall = cpu_seconds(), time.perf_counter()
            posterior, divergences = runner.sample(SamplerConfig(seed=seed, **config))
            cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
            ess = ess_of_beta(posterior)
            found[name].append(
                {
                    "ess": round(ess),
                    "cpu_seconds": round(cpu, 2),
                    "wall_seconds": round(wall, 2),
                    "per_cpu_second": round(ess / cpu, 2),
                    "divergences": divergences,
                    "mean_of_first": round(float(posterior["beta"][..., 0].mean()), 3),
                }
            )
            if frailty:
                variance = posterior[["frailty_variance"]].rename(frailty_variance="beta")
                found[name][-1]["ess_variance"] = round(ess_of_beta(variance))
    return {"runs": found, "least": "over the coefficients"}


def gradient_task(args: argparse.Namespace) -> dict[str, Any]:
    """Microseconds of one log density with its gradient, with frailty."""
    from spinmark_biomarkers.survival import _compat
    from spinmark_biomarkers.survival.engines import compiled, forms

    found = {}
    for rows in args.sizes:
        fit = model(SamplerConfig(), frailty=True)
        spec, arrays = fit._prepare(joints(rows // 2, args.columns), None)
        function = compiled(spec, forms(arrays))
        ready = function.with_data(**{k: arrays[k] for k in _compat.shared_names(function)})
        kinds = [ctypes.c_uint64, *[ctypes.c_void_p] * 4]
        call = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(ready.compiled_logp_func.address)
        x = np.random.default_rng(0).normal(size=ready.n_dim) * 0.1
        out, value = np.zeros_like(x), np.zeros(1)
        where = [v.ctypes.data for v in (x, out, value, ready.user_data)]
        times = []
        for _ in range(200):
            start = time.perf_counter()
            if call(ready.n_dim, *where) != 0:
                raise SystemExit("The compiled function failed.")
            times.append(time.perf_counter() - start)
        found[str(rows)] = round(1e6 * statistics.median(times))
    return {"microseconds": found}


def concordance_task(args: argparse.Namespace) -> dict[str, Any]:
    """Two hundred subject bootstraps of Harrell's C, and the peers on a few resamples."""
    from spinmark_biomarkers.evaluation.bootstrap import subject_resamples
    from spinmark_biomarkers.evaluation.concordance import concordance_interval

    data = joints(args.rows // 2, 4)
    risk = data.covariates @ np.array(EFFECTS)
    t, e, ids = data.time, data.event, data.subject_ids
    resamples = list(subject_resamples(ids, draws=args.peer_draws, seed=1))
    concordance_interval(t[:40], e[:40], risk[:40], ids[:40], draws=2)
    peers: dict[str, Any] = {}
    if find_spec("sksurv"):
        from sksurv.metrics import concordance_index_censored

        peers["scikit-survival"] = lambda r: concordance_index_censored(e[r], t[r], risk[r])[0]
    if find_spec("lifelines"):
        from lifelines.utils import concordance_index

        peers["lifelines"] = lambda r: concordance_index(t[r], -risk[r], e[r])
    ours: list[tuple[float, float]] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    everybody = np.arange(len(t))
    for rows in resamples:
        cpu, wall = time.process_time(), time.perf_counter()
        interval = concordance_interval(t, e, risk, ids, draws=200, seed=0)
        ours.append((time.process_time() - cpu, time.perf_counter() - wall))
        for name, peer in peers.items():
            cpu = time.process_time()
            peer(rows)
            theirs[name].append(time.process_time() - cpu)
    differences = {name: float(peer(everybody) - interval.value) for name, peer in peers.items()}
    cpu, wall = (statistics.median(column) for column in zip(*ours, strict=True))
    return {
        "cpu_seconds": round(cpu, 3),
        "wall_seconds": round(wall, 3),
        "interval": [round(v, 4) for v in (interval.value, interval.low, interval.high)],
        "peer_cpu_seconds_for_200": {
            k: round(200 * statistics.median(v), 2) for k, v in theirs.items()
        },
        "times_spinmark": {
            k: round(200 * statistics.median(v) / cpu, 1) for k, v in theirs.items()
        },
        "difference": differences,
    }


_LARGE: dict[str, Any] = {}


def _begin(people: int, columns: int, fits: int) -> None:
    from spinmark_biomarkers.evaluation.bootstrap import subject_resamples

    data = visits(people, columns)
    _LARGE["data"] = data
    _LARGE["resamples"] = list(subject_resamples(data.subject_ids, draws=fits, seed=0))


def _large_fit(draw: int) -> dict[str, Any]:
    from spinmark_biomarkers.survival.laplace import LaplacePiecewiseExponential

    cpu = time.process_time()
    data = _LARGE["data"].with_rows(_LARGE["resamples"][draw])
    fit = LaplacePiecewiseExponential(intervals=PIECES, seed=draw).fit(data)
    return {
        "cpu": time.process_time() - cpu,
        "k": max(fit.diagnostics_.k, fit.diagnostics_.scale_k),
        "rows": len(data.ids),
        "beta": fit.posterior_["beta"].mean(("chain", "draw")).to_numpy(),
    }


def large_task(args: argparse.Namespace) -> dict[str, Any]:
    """Sixty-four fits of subject bootstraps, from the start of the processes to the last posterior."""
    from spinmark_biomarkers.survival.laplace import LaplacePiecewiseExponential

    people = round(args.large / 13.3)
    wall = time.perf_counter()
    with ProcessPoolExecutor(
        args.cores, multiprocessing.get_context("spawn"), _begin, (people, args.columns, args.fits)
    ) as pool:
        fits = list(pool.map(_large_fit, range(args.fits)))
    wall = time.perf_counter() - wall
    data = visits(people, args.columns)
    nearby = LaplacePiecewiseExponential(intervals=PIECES).fit(data)
    short = SamplerConfig(tune=args.short, draws=args.short, cores=args.cores)
    ours = Ours(data, short, frailty=True)
    nuts = time.perf_counter()
    posterior, divergences = ours.sample(short)
    nuts = time.perf_counter() - nuts
    beta = posterior["beta"].to_numpy().reshape(-1, ours.spec.width)[:, : args.columns]
    other = nearby.posterior_["beta"].to_numpy()[0]
    apart = np.abs(other.mean(axis=0) - beta.mean(axis=0)) / beta.std(axis=0)
    return {
        "rows": len(data.ids),
        "events": int(data.event.sum()),
        "fits": args.fits,
        "laplace_wall_seconds": round(wall, 1),
        "laplace_cpu_seconds_each": round(statistics.median(f["cpu"] for f in fits), 2),
        "largest_k": round(max(f["k"] for f in fits), 2),
        "nuts_short_wall_seconds_each": round(nuts, 1),
        "nuts_short_ess": round(ess_of_beta(posterior)),
        "nuts_short_divergences": divergences,
        "nuts_wall_seconds_scaled": round(nuts * args.fits, 0),
        "means_apart_in_sd": [round(float(v), 3) for v in (np.median(apart), apart.max())],
        "sd_ratio": [
            round(float(v), 3)
            for v in np.quantile(other.std(axis=0) / beta.std(axis=0), [0, 0.5, 1])
        ],
    }


def run_task(args: argparse.Namespace) -> dict[str, Any]:
    """Run the task of this process."""
    warnings.simplefilter("ignore")
    name = args.one
    if name == "poisson":
        return race_task(args, ("poisson", "indexed"), args.rounds)
    if name == "latent":
        return race_task(args, ("latent",), args.latent_rounds)
    tasks = {
        "frailty": frailty_task,
        "gradient": gradient_task,
        "concordance": concordance_task,
        "large": large_task,
    }
    return tasks[name](args)


def apart(task: str, cache: str | None = None) -> dict[str, Any]:
    """Run one task in a fresh process, with one thread a library; `cache` holds what is compiled."""
    words = [sys.executable, __file__, *sys.argv[1:], "--one", task]
    env = os.environ | dict.fromkeys(THREADS, "1")
    if cache is not None:
        env |= {"PYTENSOR_FLAGS": f"base_compiledir={cache}", "NUMBA_CACHE_DIR": f"{cache}/numba"}
    wall = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["process_wall_seconds"] = round(time.perf_counter() - wall, 1)
    print(f"{task}: {json.dumps(found)}", flush=True)
    return found


def rate(found: dict[str, Any], peer: str) -> float:
    """Median over rounds of spinmark's effective draws a CPU-second over the peer's."""
    pairs = zip(found["runs"]["spinmark"], found["runs"][peer], strict=True)
    return statistics.median(a["per_cpu_second"] / b["per_cpu_second"] for a, b in pairs)


def conditions() -> str:
    """Machine and versions."""

    def installed(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"no {name}"

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(installed(name) for name in PACKAGES)
    return (
        f"{cpu or platform.machine()}, {os.cpu_count()} cores, load {load}; Python "
        f"{platform.python_version()}; {packages}; one thread a library"
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rows", type=int, default=9000, help="joints")
    parser.add_argument("--columns", type=int, default=32, help="covariates")
    parser.add_argument(
        "--draws", type=int, default=1000, help="of a chain, and as many to warm up"
    )
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="against Poisson")
    parser.add_argument("--latent-rounds", type=int, default=2, help="against latent frailties")
    parser.add_argument("--warm-runs", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 9000, 27000, 60000])
    parser.add_argument(
        "--peer-draws", type=int, default=3, help="resamples that peers are timed on"
    )
    parser.add_argument("--large", type=int, default=60_000, help="joint-visits")
    parser.add_argument("--fits", type=int, default=64)
    parser.add_argument("--short", type=int, default=300, help="draws of the short run of NUTS")
    parser.add_argument("--one", choices=TASKS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print tables, and end with a line of JSON."""
    args = parse()
    if args.one is not None:
        print(json.dumps(run_task(args)))
        return
    print(conditions(), flush=True)
    result: dict[str, Any] = dict.fromkeys(
        (
            "frailty_cpu_seconds", "frailty_ess_rate_vs_poisson", "frailty_ess_rate_vs_latent",
            "divergences", "cindex_vs_sksurv", "large_wall_seconds",
        )
    )  # fmt: skip
    divergences: list[int] = []
    if "frailty" in args.tasks:
        with tempfile.TemporaryDirectory() as cache:
            cold = apart("frailty", cache)
            warm = [apart("frailty", cache) for _ in range(args.warm_runs)]
        result["frailty_cpu_seconds"] = statistics.median(w["cpu_seconds"] for w in warm)
        result["frailty_cpu_seconds_cold"] = cold["cpu_seconds"]
        divergences += [run["divergences"] for run in (cold, *warm)]
    for name, key in (("poisson", "poisson"), ("latent", "latent")):
        if name in args.tasks:
            found = apart(name)
            result[f"frailty_ess_rate_vs_{key}"] = round(rate(found, name), 1)
            divergences += [run["divergences"] for run in found["runs"]["spinmark"]]
            if name == "poisson":
                result["ess_rate_vs_indexed_poisson"] = round(rate(found, "indexed"), 1)
    if "gradient" in args.tasks:
        result["gradient_microseconds"] = apart("gradient")["microseconds"]
    if "concordance" in args.tasks:
        scored = apart("concordance")
        result["cindex_vs_sksurv"] = scored["times_spinmark"].get("scikit-survival")
        result["cindex_wall_seconds"] = scored["wall_seconds"]
    if "large" in args.tasks:
        large = apart("large")
        result["large_wall_seconds"] = large["laplace_wall_seconds"]
        result["large_nuts_wall_seconds_scaled"] = large["nuts_wall_seconds_scaled"]
    if divergences:
        result["divergences"] = sum(divergences)
    print(conditions())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
