"""The pieces of a plan, done by this process or by several."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spinmark_models.export import load_encoder
from spinmark_training.config import EmbedConfig
from spinmark_training.embedding.pieces import Piece, is_there, read_piece, write_piece
from spinmark_training.embedding.plan import run_augment
from spinmark_training.embedding.vectors import Embedder
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike, ScanSource

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

Progress = Callable[[int, int], None]
logger = logging.getLogger(__name__)


@dataclass
class Worker:
    """Does pieces one after another; the encoder of the last one stays loaded.

    Args:
        cohort: The cohort.
        sequence: The sequence.
        config: How to embed.
        folder: Where pieces are stored.
        device: Where to compute.
    """

    cohort: CohortLike
    sequence: str
    config: EmbedConfig
    folder: Path
    device: str

    def __post_init__(self) -> None:
        """Open the scans."""
        self._source = ScanSource(self.cohort, self.sequence, None)
        self._run: Path | None = None
        self._embedder: Embedder | None = None

    def __call__(self, piece: Piece) -> int:
        """Embed and store a piece, and return the number of its scans."""
        if self._embedder is None or self._run != piece.run:
            encoder, spec = load_encoder(piece.run / "encoder")
            views = run_augment(piece.run)
            self._embedder = Embedder(
                encoder, self._source, spec.intensity, self.config, views, self.device
            )
            self._run = piece.run
        write_piece(self.folder, piece, self._embedder(piece.rows))
        return len(piece.rows)


_worker: Worker | None = None


def _start(
    cohort: CohortLike,
    sequence: str,
    config: EmbedConfig,
    folder: Path,
    devices: "SimpleQueue[str]",
    threads: int,
) -> None:
    # A process pool has no other place for what its workers keep.
    global _worker
    torch.set_num_threads(threads)
    _worker = Worker(cohort, sequence, config, folder, devices.get())


def _do(piece: Piece) -> int:
    assert _worker is not None
    return _worker(piece)


def _devices(config: EmbedConfig) -> list[str]:
    """Name the device of each worker: the GPUs in turn, or the CPU."""
    cuda = config.accelerator == "gpu" or (
        config.accelerator == "auto" and torch.cuda.is_available()
    )
    if not cuda:
        return ["cpu"] * config.workers
    return [f"cuda:{i % torch.cuda.device_count()}" for i in range(config.workers)]


def _pool(
    cohort: CohortLike, sequence: str, config: EmbedConfig, folder: Path, todo: list[Piece]
) -> Iterator[int]:
    # Spawned: a forked process would share what torch and the reader of the store had opened.
    context = multiprocessing.get_context("spawn")
    devices: SimpleQueue[str] = context.SimpleQueue()
    names = _devices(config)
    for name in names:
        devices.put(name)
    share = max(1, (config.threads or os.cpu_count() or 1) // config.workers)
    with ProcessPoolExecutor(
        max_workers=config.workers,
        mp_context=context,
        initializer=_start,
        initargs=(cohort, sequence, config, folder, devices, share),
    ) as pool:
        futures = [pool.submit(_do, piece) for piece in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            left = sum(not is_there(folder, piece) for piece in todo)
            raise InputError(
                f"workers: one of {config.workers} processes died, for want of memory as a rule; {left} "
                "pieces are left: run the same command again, with fewer workers or smaller batches"
            ) from None
        finally:
            for future in futures:
                future.cancel()


def do_pieces(
    cohort: CohortLike,
    sequence: str,
    config: EmbedConfig,
    pieces: list[Piece],
    folder: Path,
    *,
    progress: Progress | None = None,
) -> int:
    """Embed the pieces that are not there yet.

    Args:
        cohort: The cohort.
        sequence: The sequence.
        config: How to embed, and by how many processes.
        pieces: The pieces.
        folder: Where they are stored.
        progress: Called with scans done and scans in all.

    Returns:
        The number of pieces that were there.

    Raises:
        InputError: A worker process died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [piece for piece in pieces if read_piece(folder, piece) is None]
    total = sum(len(piece.rows) for piece in pieces)
    scans = total - sum(len(piece.rows) for piece in todo)
    if config.workers > 1 and len(todo) > 1:
        done = _pool(cohort, sequence, config, folder, todo)
    else:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        worker = Worker(cohort, sequence, config, folder, _devices(config)[0])
        done = map(worker, todo)
    for count in done:
        scans += count
        if progress is not None:
            progress(scans, total)
    return len(pieces) - len(todo)
