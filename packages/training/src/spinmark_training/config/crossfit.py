"""How encoders are trained over the folds of a split."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class CrossfitConfig:
    """How encoders are trained over the folds of a split.

    Args:
        learn_from_test: Whether an encoder also learns from test subjects outside of its fold. No for a
            test set that every encoder must do without, such as a site that was left out.
        val_share: Share of the subjects that monitor the runs and anchor their spaces, where the split
            has no validation set, in (0, 1).
    """

    learn_from_test: bool = True
    val_share: float = 0.1
