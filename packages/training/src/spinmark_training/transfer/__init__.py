"""How a clinical teacher's knowledge reaches the image encoder.

- `base`: what every term between image and table is.
- `contrast`: an image finds its table row, and a row its image.
- `match`: embeddings are held to a frozen teacher's latents.
- `alignment`: the heads in whose space images and tables are compared, kept with a run.
- `registry`: every term by its name.
- `transfer`: the weighted sum.
"""

from spinmark_training.transfer.alignment import Alignment, load_alignment, save_alignment
from spinmark_training.transfer.base import Taught, TransferTerm
from spinmark_training.transfer.registry import TRANSFERS
from spinmark_training.transfer.transfer import FrozenRows, Transfer, build_transfer

__all__ = [
    "TRANSFERS",
    "Alignment",
    "FrozenRows",
    "Taught",
    "Transfer",
    "TransferTerm",
    "build_transfer",
    "load_alignment",
    "save_alignment",
]
