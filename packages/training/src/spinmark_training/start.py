"""What a run starts from: fresh weights, another run, or a file of weights from elsewhere."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from spinmark_data.errors import InputError as DataInputError
from spinmark_models.config import IntensityRule
from spinmark_models.encoders import ImageEncoder, build_encoder
from spinmark_models.encoders.weights import PREFIXES, WeightReport, load_weights
from spinmark_models.errors import InputError as ModelInputError
from spinmark_models.export import load_encoder
from spinmark_training.checkpoints import newest_weights
from spinmark_training.config import RunConfig
from spinmark_training.errors import InputError
from spinmark_training.launch.processes import this_process
from spinmark_training.objectives import Objective
from spinmark_training.record import write_atomically
from spinmark_training.sources import ScanSource, SplitLike

logger = logging.getLogger(__name__)


def is_weights_file(path: Path) -> bool:
    """Whether a path names a file of weights, and not a run."""
    return path.suffix == ".safetensors"


def start_encoder(
    config: RunConfig, source: ScanSource, origin: Path | None, out: Path | None = None
) -> tuple[ImageEncoder, IntensityRule]:
    """Return the encoder that a run starts from, and its intensity rule.

    Args:
        config: Used when no run is continued; the weights follow from the seed.
        source: Tells the grid.
        origin: The run to continue, or a safetensors file whose fitting tensors are taken.
        out: Where `start.json` tells which tensors of a file matched.

    Raises:
        InputError: The run's encoder takes another grid, or the file has nothing that fits.
    """
    if origin is None or is_weights_file(origin):
        torch.manual_seed(config.seed)
        encoder = build_encoder(config.encoder, config.data.crop or source.shape)
        if origin is not None:
            report = load_foreign(encoder, origin)
            logger.info("%s", report)
            if out is not None and this_process(config.trainer).is_main:
                write_report(report, out)
        return encoder, config.intensity
    encoder, spec = load_encoder(origin / "encoder")
    shape = config.data.crop or source.shape
    if encoder.input_shape != shape:
        raise InputError(
            f"{origin}: its encoder takes the grid {encoder.input_shape}; views of {source.sequence} "
            f"have {shape}"
        )
    encoder.train()
    return encoder, spec.intensity


def load_foreign(encoder: ImageEncoder, path: Path) -> WeightReport:
    """Take what fits of a file of weights: 3D ones as they are, 2D kernels spread along z.

    Args:
        encoder: Changed in place; a layer that the file lacks keeps its values.
        path: A local safetensors file; the names that wrappers and published residual networks give
            are understood.

    Returns:
        Which tensors matched, were inflated, are missing or left over.

    Raises:
        InputError: It cannot be read, or nothing matches.
    """
    try:
        return load_weights(
            encoder, path, prefixes=PREFIXES, rename=True, inflate=True, sum_channels=True
        )
    except ModelInputError as error:
        raise InputError(f"weights to start from: {error}") from None


def write_report(report: WeightReport, out: Path) -> None:
    """Write `start.json`: the file's name and what became of each tensor.

    Args:
        report: What was taken.
        out: The run's folder, which is made.
    """
    out.mkdir(parents=True, exist_ok=True)
    content = dataclasses.asdict(report)
    # Where the file lay is nobody's business but its owner's.
    content["file"] = content.pop("path").name
    write_atomically(out / "start.json", json.dumps(content, indent=1) + "\n")


def load_objective(objective: Objective, run: Path) -> None:
    """Continue the heads of a run's objective, where its newest checkpoint holds the same ones."""
    found = newest_weights(run / "checkpoints", "objective.")
    if found is not None and _shapes(found) == _shapes(objective.state_dict()):
        objective.load_state_dict(found)
    else:
        logger.info("the heads start anew: %s holds none of this objective's shapes", run)


def inherited_uses(run: Path) -> tuple[str, ...]:
    """Return what the encoder of a run had learnt from beside voxels.

    Args:
        run: The run.
    """
    page = json.loads((run / "encoder" / "encoder.json").read_text())
    return tuple(map(str, page["extra"].get("uses", ())))


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def refuse_stray_subjects(field: str, run: Path, split: SplitLike) -> None:
    """Refuse to continue an encoder that has learnt from subjects who are held out now.

    Args:
        field: What named the run, for the message.
        run: The run.
        split: The split of now.

    Raises:
        InputError: A training subject of the run is none of the split, or the run has no split.
    """
    from spinmark_data.splits import read_split

    try:
        before = read_split(run).frame
    except DataInputError as error:
        raise InputError(f"{field}: {error}") from None
    frame = split.frame
    now = set(frame.loc[frame["set"] == "train", "subject_id"])
    stray = sorted(set(before.loc[before["set"] == "train", "subject_id"]) - now)
    if stray:
        raise InputError(
            f"{field}: {run} has learnt from subject {stray[0]}, no training subject of this split "
            f"({len(stray)} such); accepted is a run of the same split"
        )
