"""A command that runs as several processes: one makes the artefact and speaks, the others help."""

from typing import Protocol

from spinmark.errors import InputError
from spinmark_training.config import TrainerConfig
from spinmark_training.launch.processes import this_process


class TrainArgs(Protocol):
    """What a training command is told."""

    trainer: TrainerConfig


def is_main(args: TrainArgs) -> bool:
    """Whether this is the process of a run that writes its files and speaks."""
    return this_process(args.trainer).is_main


def refuse_several(args: TrainArgs) -> None:
    """Refuse several processes where one walks over the folds.

    Raises:
        InputError: There are several.
    """
    world = this_process(args.trainer).world
    if world > 1:
        raise InputError(
            f"fold: 'all' with {world} processes; accepted are one process, or a job of {world} for each "
            "fold: --fold 0, --fold 1 and so on"
        )
