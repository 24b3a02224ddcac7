"""A network as one ONNX file, written once onnxruntime has been seen to agree with torch."""

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spinmark_models.errors import InputError

TOLERANCE = 1e-3
"""Largest difference from torch that is accepted, in standard deviations of the embedding."""
BATCHES = (1, 2, 3)
"""Sizes of the batches that are compared."""
# What one file may hold; beyond, weights would have to lie in a second one.
_LIMIT_BYTES = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class OnnxCheck:
    """How well a file agrees with the network that it was made from.

    Attributes:
        difference: Largest absolute difference of a feature over `sd`.
        sd: Of the embedding: the root of the mean over features of their variance over the volumes.
        tolerance: The largest `difference` that was accepted.
        volumes: How many volumes were compared, in batches of `BATCHES`.
    """

    difference: float
    sd: float
    tolerance: float
    volumes: int


def library(name: str) -> Any:
    """Imports a library of the extra `onnx`.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"ONNX files need {error.name}, which is not installed: "
            "pip install 'spinmark-models[onnx]'."
        ) from error


class Graph(nn.Module):
    """What becomes a graph: a network, and how arrays pass it.

    Args:
        network: On the CPU, in evaluation mode.
        run: From the network and the inputs `(B, ...)` to the embedding `(B, E)`.
    """

    def __init__(self, network: nn.Module, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network = network
        self.run = run
        self.eval()

    def forward(self, *arrays: Tensor) -> Tensor:
        """Embeds a batch."""
        return self.run(self.network, *arrays)


def write_graph(
    path: Path,
    graph: Graph,
    inputs: Mapping[str, NDArray[Any]],
    *,
    words: str,
    metadata: Mapping[str, str],
    tolerance: float,
) -> OnnxCheck:
    """Writes a file whose output `embedding` has been compared with torch's.

    Args:
        path: The file; it is there whole or as it was before.
        graph: What to write; nothing of it is changed.
        inputs: By name, in the order that `graph` takes them: arrays `(sum(BATCHES), ...)` to compare on.
            The first axis of each is free in the file.
        words: The file's description of itself.
        metadata: Its metadata.
        tolerance: The largest difference accepted, in standard deviations of the embedding.

    Returns:
        How well the two agree.

    Raises:
        InputError: The extra is not installed, the network is too large for one file or gives everything
            one vector, or the two disagree; nothing is written then.
    """
    onnx = library("onnx")
    size = sum(p.numel() * p.element_size() for p in graph.state_dict().values())
    if size > _LIMIT_BYTES:
        raise InputError(
            f"the encoder has {size / 1e9:.1f} GB of weights; one ONNX file holds 2.1 GB at most."
        )
    # First: what cannot be compared is not worth the minutes that an export may take.
    expected, sd = _reference(graph, inputs)
    model = _exported(graph, inputs)
    _strip(model)
    model.doc_string = words
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    found = _run(content, inputs)
    worst = float(np.abs(found.astype(np.float64) - expected).max()) / sd
    if not worst <= tolerance:
        raise InputError(
            f"{path}: not written; onnxruntime and torch differ by {worst:.2g} standard deviations of "
            f"the embedding, and {tolerance:g} is accepted."
        )
    _write(Path(path), content)
    return OnnxCheck(difference=worst, sd=sd, tolerance=tolerance, volumes=len(found))


def _reference(graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], float]:
    with torch.inference_mode():
        expected = graph(*(torch.from_numpy(x) for x in inputs.values())).numpy()
    sd = float(np.sqrt(expected.astype(np.float64).var(axis=0).mean()))
    if not sd > 0:
        raise InputError(
            "the encoder gives every volume the same vector, or none; there is nothing to compare, and "
            "nothing to export."
        )
    return expected, sd


def _exported(graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Any:
    """Returns an `onnx.ModelProto`."""
    library("onnxscript")
    batch = {0: torch.export.Dim("batch")}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(torch.from_numpy(x[:2]) for x in inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=["embedding"],
            dynamic_shapes=((batch,) * len(inputs),),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself: deprecations inside torch, libraries that are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
            # Of several inputs, one names the axis that all share.
            warnings.filterwarnings("ignore", category=UserWarning, message=".*axis name: batch.*")
            yield
    finally:
        logger.setLevel(level)


def _strip(model: Any) -> None:
    """Takes out what tells of the machine: the exporter notes paths of source files at each node."""
    if model.functions:
        raise AssertionError("the file has functions, whose notes are not taken out")
    del model.metadata_props[:]
    _strip_graph(model.graph)


def _strip_graph(graph: Any) -> None:
    inside = (graph.node, graph.initializer, graph.value_info, graph.input, graph.output)
    for part in (graph, *(one for kind in inside for one in kind)):
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip_graph(attribute.g)


def _run(content: bytes, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Runs a file on batches of one and of several volumes."""
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    ends = np.cumsum(BATCHES)
    parts = []
    for start, end in zip(ends - BATCHES, ends, strict=True):
        batch = {name: x[start:end] for name, x in inputs.items()}
        parts.append(session.run(["embedding"], batch)[0])
    return np.concatenate(parts)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this process alone, so that two of them never write into one file.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
