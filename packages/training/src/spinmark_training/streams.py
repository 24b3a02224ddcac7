"""The streams of random numbers of a run: each number once, so that no two of them coincide.

A key begins with the run's seed and one of these; what else it holds says which batch, joint or view.
"""

from enum import IntEnum


class Stream(IntEnum):
    """What random numbers are drawn for."""

    ORDER = 1
    """The order of the subjects in an epoch."""
    VISITS = 2
    """Which visits of a joint the views are of."""
    SHUFFLE = 3
    """Whose table a subject is given in the control of distillation."""
    STEP = 4
    """What is random within a step, such as dropout."""
    CROPS = 5
    """Which box of a scan is read."""
    VIEWS = 6
    """How a view is changed."""
    CENTRES = 7
    """Where in the box a view lies."""
    SEQUENCES = 8
    """Which further sequence the second view is of."""
    MEASURED = 9
    """The views of measurements along the way."""
    FINETUNE = 10
    """The order and the views of labelled scans, and what is random within a step of fine-tuning."""
