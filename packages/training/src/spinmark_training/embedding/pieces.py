"""The files that embeddings in progress are kept in.

A piece is some scans under one encoder. Its name is a hash of all that its content follows from, so that a
file with that name is the piece that is wanted, whoever wrote it: any number of workers, jobs and earlier
calls share a folder.
"""

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_training.embedding.vectors import Vectors

# Raised when the same identity would give other numbers.
VERSION = 1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """Scans to be embedded by one encoder.

    Args:
        run: The run of the encoder.
        rows: Rows of the sequence, `(n,)`.
        name: What identifies the content.
    """

    run: Path
    rows: npt.NDArray[np.int64]
    name: str


def piece_name(identity: Mapping[str, Any], rows: npt.NDArray[np.int64]) -> str:
    """Name a piece by what it is made from.

    Args:
        identity: Hashes of encoder and cohort, and the settings that matter; JSON can hold it.
        rows: The rows.
    """
    digest = hashlib.sha256(json.dumps([VERSION, identity], sort_keys=True).encode())
    digest.update(np.asarray(rows, "<i8").tobytes())
    return digest.hexdigest()[:32]


def _path(folder: Path, piece: Piece) -> Path:
    return folder / f"{piece.name}.npz"


def is_there(folder: Path, piece: Piece) -> bool:
    """Whether a piece has been stored."""
    return _path(folder, piece).is_file()


def write_piece(folder: Path, piece: Piece, vectors: Vectors) -> None:
    """Store a piece, whole or not at all; two processes that write the same one do no harm."""
    folder.mkdir(parents=True, exist_ok=True)
    final = _path(folder, piece)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    with partial.open("wb") as stream:
        np.savez(stream, rows=piece.rows, plain=vectors.plain, views=vectors.views, bad=vectors.bad)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(final)


def read_piece(folder: Path, piece: Piece) -> Vectors | None:
    """Read a piece, or None where there is none; one that is damaged is removed."""
    path = _path(folder, piece)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            rows, plain, views, bad = (found[k] for k in ("rows", "plain", "views", "bad"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s is damaged (%s); these scans are embedded again", path, error)
        path.unlink(missing_ok=True)
        return None
    if not np.array_equal(rows, piece.rows):
        logger.warning("%s holds other scans; these scans are embedded again", path)
        path.unlink(missing_ok=True)
        return None
    return Vectors(plain, views, bad)
