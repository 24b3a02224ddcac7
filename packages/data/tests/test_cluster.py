"""Tasks on Dask workers: the same results wherever they run, and what goes wrong told in one line."""

import os
import socket
from pathlib import Path

import pytest

from spinmark_data.cluster import open_client, run_tasks
from spinmark_data.cluster_config import ClusterConfig
from spinmark_data.errors import InputError
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.run import ingest

pytestmark = pytest.mark.multiproc


def run(items: list[str], workers: int = 2, **cluster: object) -> list[object]:
    """Evaluate expressions on workers, which import nothing of this file."""
    return sorted(
        run_tasks(
            eval,
            items,
            cluster=ClusterConfig(**cluster),  # type: ignore[arg-type]
            workers=workers,
            lost=lambda item: f"lost {item}",
        ),
        key=str,
    )


def test_one_worker_is_this_process_and_two_are_others() -> None:
    own = str(os.getpid())
    assert {str(pid) for pid in run(["__import__('os').getpid()"] * 3, 1)} == {own}
    assert own not in {str(pid) for pid in run(["__import__('os').getpid()"] * 8, 2)}


def test_what_a_task_raises_reaches_the_caller() -> None:
    with pytest.raises(OSError, match="no space"):
        run(["__import__('builtins').exec('raise OSError(28, \"no space\")')", "1"])


def test_a_task_that_kills_its_workers_is_named_and_the_others_go_on() -> None:
    import dask
    import distributed  # noqa: F401 - its defaults come with it

    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        found = run(["1 + 1", "__import__('os')._exit(3)", "2 + 1"])
    assert 3 in found
    assert "lost __import__('os')._exit(3)" in found


def test_a_scheduler_that_runs_already_gives_the_same_bytes(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a", "b"))
    outs = {}
    with open_client(ClusterConfig(), 2) as client:
        address = client.scheduler.address
        client.write_scheduler_file(tmp_path / "scheduler.json")
        for name, cluster in (
            ("here", ClusterConfig()),
            ("there", ClusterConfig(kind="scheduler", address=address)),
            (
                "file",
                ClusterConfig(kind="scheduler", scheduler_file=str(tmp_path / "scheduler.json")),
            ),
        ):
            config = IngestConfig(workers=1, table_map=tmp_path / "map.csv", cluster=cluster)
            ingest(release, tmp_path / name, config)
            outs[name] = {
                str(file.relative_to(tmp_path / name)): file.read_bytes()
                for file in (tmp_path / name).rglob("*")
                if file.is_file()
            }
        assert client.submit(eval, "1 + 1").result() == 2  # It is not ours to shut down.
    assert outs["here"] == outs["there"] == outs["file"]


def test_no_scheduler_and_no_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=f"cluster {address}: no scheduler answers"):
        run(["1"], kind="scheduler", address=address)
    with pytest.raises(InputError, match=r"needs cluster\.address or cluster\.scheduler_file"):
        run(["1"], kind="scheduler")
    with pytest.raises(InputError, match=r"nowhere\.json: there is no such file"):
        run(["1"], kind="scheduler", scheduler_file="nowhere.json")


# An object of dask-jobqueue that its own constructor refuses warns when it goes.
@pytest.mark.filterwarnings("ignore:unclosed cluster:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_slurm_jobs_are_what_the_options_say(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(InputError, match="needs sbatch"):
        run(["1"], kind="slurm")
    # A sbatch that keeps what it is given, and answers as SLURM does.
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/job-$$.sh\necho "Submitted batch job 7"\n')
    scancel = tmp_path / "scancel"
    scancel.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/cancelled\n")
    for command in (sbatch, scancel):
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    options = {"queue": "knees", "cores": 1, "memory": "2GB", "interface": "lo"}
    with open_client(ClusterConfig(kind="slurm", options=options), 2) as client:
        client.sync(lambda: __import__("asyncio").sleep(1))
    jobs = [path.read_text() for path in tmp_path.glob("job-*.sh")]
    assert len(jobs) == 2
    assert all("#SBATCH -p knees" in job and "--mem=2G" in job for job in jobs)
    assert (tmp_path / "cancelled").exists()
    with pytest.raises(InputError, match=r"cluster\.options \{'cores': 1\}"):
        run(["1"], kind="slurm", options={"cores": 1})
