import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PEER_OF = {
    "crop_vs_blosc2": "blosc2",
    "crop_vs_monai_cache": "monai",
    "crop_vs_niigz": None,
    "crop_vs_pread": None,
    "loader_vs_npy": None,
}


@pytest.mark.slow
def test_the_data_benchmark_runs_and_every_reader_gives_the_voxels(tmp_path: Path) -> None:
    small = ["--quick", "--volumes", "2", "--rounds", "2", "--crops", "2", "--work", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/data.py"), *small], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    absent = set(result["absent"])
    assert absent <= {"blosc2", "monai"}
    for key, peer in PEER_OF.items():
        assert (result[key] is None) == (peer in absent), key
        assert result[key] is None or result[key] > 0
    own = {f"spinmark {how}" for how in ("direct", "direct, to float32", "by zarr-python")}
    peers = {"nii.gz, nibabel", "npy, memory map"}
    if "monai" not in absent:
        peers.add("MONAI cache")
    if "blosc2" not in absent:
        peers |= {
            f"nnU-Net {rule} {kind}" for rule in ("2.8", "2.7") for kind in ("float32", "int16")
        }
    assert set(result["equal"]) == own | peers
    # The readers are checked against the rendered volume; so is what lies on the disk.
    rendered = np.load(tmp_path / "40x96x96/1.npy")
    assert rendered.dtype == np.int16
    assert np.array_equal(nibabel.load(tmp_path / "40x96x96/1.nii.gz").get_fdata().T, rendered)
    assert result["compression"]["npy, memory map"] > 0.99


@pytest.mark.slow
def test_the_losses_benchmark_runs_and_all_give_the_same() -> None:
    # A loss or a gradient that differs from spinmark's ends the run.
    small = ["--pairs", "64", "--small", "16", "--large", "128", "--batch", "16", "--rounds", "2"]
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/losses.py"), *small], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    absent = set(result["absent"])
    assert absent <= {"pytorch-metric-learning", "MONAI"}
    for key, peer in {
        "ntxent_speedup_vs_dense": None,
        "ntxent_memory_vs_dense": None,
        "ntxent_speedup_vs_pml": "pytorch-metric-learning",
        "ntxent_128_peak_mb": None,
        "rnc_speedup_vs_loop": None,
    }.items():
        assert (result[key] is None) == (peer in absent), key
        assert result[key] is None or result[key] > 0


@pytest.mark.slow
def test_the_batch_benchmark_runs_and_parts_have_the_gradient_of_the_whole() -> None:
    small = ["--joints", "16", "48", "--micro", "4", "--threads", "1"]
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/batch.py"), *small], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert 0 <= result["gradient_error"] < 1e-4
    assert result["peak_mb_48"] > 0


@pytest.mark.slow
def test_the_survival_benchmark_runs_and_peers_find_the_same() -> None:
    small = ["--rows", "400", "--columns", "4", "--draws", "150", "--rounds", "1"]
    small += ["--latent-rounds", "1", "--warm-runs", "1", "--sizes", "400", "--peer-draws", "2"]
    small += ["--large", "2000", "--fits", "2", "--short", "100"]
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/survival.py"), *small],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    result = json.loads(lines[-1])
    for key in (
        "frailty_cpu_seconds",
        "frailty_ess_rate_vs_poisson",
        "frailty_ess_rate_vs_latent",
        "large_wall_seconds",
    ):
        assert result[key] > 0, key
    assert result["divergences"] >= 0
    assert result["gradient_microseconds"]["400"] > 0
    assert (result["cindex_vs_sksurv"] is None) == (find_spec("sksurv") is None)
    tasks = {
        line.partition(": ")[0]: json.loads(line.partition(": ")[2])
        for line in lines
        if line.partition(": ")[2].startswith("{")
    }
    for difference in tasks["concordance"]["difference"].values():
        assert abs(difference) < 1e-12
    # One posterior by four ways of writing the likelihood: the means differ by Monte Carlo error.
    for name in ("poisson", "latent"):
        means = [runs[0]["mean_of_first"] for runs in tasks[name]["runs"].values()]
        assert max(means) - min(means) < 0.1, name
