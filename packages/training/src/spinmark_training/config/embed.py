"""How scans become vectors."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class EmbedConfig:
    """How scans become vectors.

    Args:
        sequence: The image sequence; none takes that of the run.
        batch_size: Scans at a time; the result does not depend on it beyond rounding.
        accelerator: The device; `auto` takes a GPU when there is one.
        threads: CPU threads of torch; none leaves them as they are.
    """

    sequence: str | None = None
    batch_size: int = 32
    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    threads: int | None = None
