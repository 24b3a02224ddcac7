import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from spinmark_training.config.launch import LaunchConfig
from spinmark_training.errors import InputError
from spinmark_training.launch.slurm import job_number, requeue, sbatch_script, submit

COMMAND = ["pretrain", "--cohort", "/data/my cohort", "--split", "split", "--out", "run"]
JOB = {"SLURM_JOB_ID": "812", "SLURM_PROCID": "0"}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Programs of the scheduler's names that note their words and answer as told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name: str, *, says: str = "", complains: str = "", status: int = 0) -> Path:
        noted = tmp_path / f"{name}.txt"
        lines = ["#!/bin/sh", f'echo "$@" >> {noted}', f"echo '{says}'"]
        lines += [f"echo '{complains}' >&2", f"exit {status}"]
        program = folder / name
        program.write_text("\n".join(lines) + "\n")
        program.chmod(0o755)
        return noted

    return make


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.split("\n") if line[:7] == "#SBATCH"]


def test_a_script_asks_for_what_the_configuration_says() -> None:
    config = LaunchConfig(
        nodes=2,
        gpus=4,
        cpus=12,
        memory="200G",
        time="1-12:00:00",
        partition="gpu",
        account="knees",
        setup=("module load cuda", "source venv/bin/activate"),
        options=("--qos=long",),
    )
    script = sbatch_script(config, COMMAND)
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    assert options(script) == [
        "--job-name=spinmark-pretrain",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--cpus-per-task=12",
        "--time=1-12:00:00",
        "--signal=USR1@90",
        "--requeue",
        "--output=spinmark-%j.log",
        "--open-mode=append",
        "--mem=200G",
        "--partition=gpu",
        "--account=knees",
        "--gpus-per-node=4",
        "--qos=long",
    ]
    assert "\nmodule load cuda\nsource venv/bin/activate\n" in script
    (line,) = (line for line in script.split("\n") if line.strip().startswith("srun "))
    words = shlex.split(line)
    assert words[:3] == ["srun", "--kill-on-bad-exit=1", "spinmark"]
    assert words[3 : 3 + len(COMMAND)] == COMMAND
    assert words[3 + len(COMMAND) :] == [
        "--trainer.accelerator=gpu",
        "--trainer.devices=4",
        "--trainer.num_nodes=2",
        "--trainer.cluster=slurm",
    ]


def test_a_script_for_cpus_asks_for_no_gpu() -> None:
    script = sbatch_script(
        LaunchConfig(gpus=0, processes=3, requeue=False), ["distil", "--out", "x"]
    )
    assert "--ntasks-per-node=3" in options(script)
    assert "--no-requeue" in options(script)
    assert not [option for option in options(script) if "gpu" in option]
    assert "--trainer.accelerator=cpu --trainer.devices=3" in script


@pytest.mark.parametrize(
    ("statuses", "starts", "status"),
    [([0], 1, 0), ([75], 1, 75), ([1], 1, 1), ([137, 0], 2, 0), ([137, 137, 137], 3, 137)],
)
def test_the_script_goes_on_after_a_kill_and_only_then(
    tmp_path: Path, stand_in: Any, statuses: list[int], starts: int, status: int
) -> None:
    noted = stand_in("srun")
    answers = tmp_path / "answers"
    answers.write_text("\n".join(map(str, statuses)) + "\n")
    program = tmp_path / "bin" / "srun"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {noted}\nexit $(sed -n "$(wc -l < {noted})p" {answers})\n'
    )
    script = tmp_path / "job.sbatch"
    script.write_text(sbatch_script(LaunchConfig(restarts=2), COMMAND))
    assert subprocess.run(["bash", str(script)], check=False).returncode == status
    assert len(noted.read_text().splitlines()) == starts


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("nodes", 0, "1 and more"),
        ("gpus", -1, "0 and more"),
        ("cpus", 0, "1 and more"),
        ("restarts", -1, "0 and more"),
        ("time", "tomorrow", "12:00:00"),
        ("partition", "gpu; rm", "text without blanks"),
        ("options", ("--qos=a\n#SBATCH --x",), "text without blanks"),
    ],
)
def test_a_setting_out_of_its_range_is_named(field: str, value: object, accepted: str) -> None:
    with pytest.raises(InputError, match=rf"^{field}: .*accepted (is|are) .*{accepted}"):
        sbatch_script(LaunchConfig(**{field: value}), COMMAND)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [[], ["embed", "--out", "x"]])
def test_only_training_is_launched(command: list[str]) -> None:
    with pytest.raises(InputError, match="accepted are pretrain and distil"):
        sbatch_script(LaunchConfig(), command)


def test_a_script_is_submitted(tmp_path: Path, stand_in: Any) -> None:
    noted = stand_in("sbatch", says="4711;cluster")
    assert submit(tmp_path / "job.sbatch") == "4711"
    assert noted.read_text() == f"--parsable {tmp_path}/job.sbatch\n"


def test_a_refusal_is_passed_on(tmp_path: Path, stand_in: Any) -> None:
    stand_in("sbatch", complains="sbatch: error: invalid partition", status=1)
    with pytest.raises(InputError, match=r"sbatch refused .*invalid partition"):
        submit(tmp_path / "job.sbatch")


def test_without_a_scheduler_the_script_is_there_to_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"sbatch is not on this machine; copy .*job\.sbatch"):
        submit(tmp_path / "job.sbatch")
    assert not requeue(JOB)


def test_a_job_is_queued_again_by_its_number(stand_in: Any) -> None:
    noted = stand_in("scontrol")
    assert not requeue({})
    assert not requeue({"SLURM_JOB_ID": "812"})  # a shell inside a job, no step of it
    assert requeue(JOB)
    assert requeue(JOB | {"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"})
    assert noted.read_text() == "requeue 812\nrequeue 9_3\n"
    assert job_number({}) is None


def test_a_requeue_that_is_refused_is_told(stand_in: Any, caplog: pytest.LogCaptureFixture) -> None:
    stand_in("scontrol", complains="Requeue not allowed", status=1)
    assert not requeue(JOB)
    assert "job 812 is not queued again: Requeue not allowed" in caplog.text
