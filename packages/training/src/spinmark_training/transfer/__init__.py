"""How a clinical teacher's knowledge reaches the image encoder.

- `base`: what every term between image and table is.
- `contrast`, `near_tables`: an image finds its table row, and a row its image.
- `match`: embeddings are held to a teacher's latents.
- `soft_targets`: heads say what the teacher expects of symptoms.
- `registry`: every term by its name.

The teacher:

- `tables`: the rows behind scans; `teachers`: a frozen one, and one that learns along.
- `slow`: image and clinical encoder learn from each other's moving average.

Together:

- `alignment`: the heads in whose space images and tables are compared, kept with a run.
- `parts`: an embedding of which the table explains a part.
- `balance`: losses brought to one size by their gradients.
- `transfer`: the weighted sum; `build`: from a configuration to it.
"""

from spinmark_training.transfer.alignment import Alignment, load_alignment, save_alignment
from spinmark_training.transfer.base import SpaceTerm, Taught, TransferTerm
from spinmark_training.transfer.build import (
    FittedTeacher,
    build_transfer,
    check_transfer,
    needs_rows,
)
from spinmark_training.transfer.registry import TRANSFERS
from spinmark_training.transfer.tables import ScanTables, scan_tables
from spinmark_training.transfer.teachers import FrozenRows, LearningRows, Standard
from spinmark_training.transfer.transfer import Transfer

__all__ = [
    "TRANSFERS",
    "Alignment",
    "FittedTeacher",
    "FrozenRows",
    "LearningRows",
    "ScanTables",
    "SpaceTerm",
    "Standard",
    "Taught",
    "Transfer",
    "TransferTerm",
    "build_transfer",
    "check_transfer",
    "load_alignment",
    "needs_rows",
    "save_alignment",
    "scan_tables",
]
