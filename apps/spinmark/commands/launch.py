"""`spinmark launch --script JOB -- pretrain ...`: a training command as a SLURM job."""

import importlib
from dataclasses import dataclass
from pathlib import Path

from spinmark import cli
from spinmark.files import write_whole
from spinmark.progress import done
from spinmark_training.config.launch import LaunchConfig


@dataclass(kw_only=True)
class Launch(LaunchConfig):
    """Write, and submit if asked to, the SLURM job of a training command, given after `--`.

    Args:
        script: Where to write the job's script.
        submit: Whether to hand it to sbatch.
    """

    script: Path
    submit: bool = False


# How a command names the run that it starts from.
_FROM = {"pretrain": "--init_from", "distil": "--from_run"}


def main(argv: list[str]) -> int:
    """Run the command."""
    own, command = _divided(argv)
    args = cli.parse("launch", Launch, own)
    from spinmark_training.launch.slurm import sbatch_script, submit

    script = sbatch_script(args, command)
    _check(command)
    write_whole(args.script.absolute(), script)
    if not args.submit:
        return done(f"{args.script}: a job of {args.nodes} node(s)", f"sbatch {args.script}")
    number = submit(args.script)
    return done(f"{args.script}: submitted as job {number}", f"squeue -j {number}")


def _divided(argv: list[str]) -> tuple[list[str], list[str]]:
    """The words before `--` and those after it."""
    if "--" not in argv:
        return argv, []
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


def _check(command: list[str]) -> None:
    """Read the training command's options now, and not after hours in a queue."""
    name, words = command[0], command[1:]
    module = importlib.import_module(f"spinmark.commands.{name}")
    cli.parse(name, getattr(module, name.title()), words, aliases={"--from": [_FROM[name]]})
