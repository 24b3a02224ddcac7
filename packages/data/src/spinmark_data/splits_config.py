"""The parameters of a split; light, so that a command's help stays quick."""

from dataclasses import dataclass

from spinmark_data.errors import InputError

SETS = ("train", "val", "test")


@dataclass(kw_only=True)
class SplitConfig:
    """How to divide the subjects of a cohort.

    Args:
        train: Share of the subjects in the training set.
        val: Share in the validation set.
        test: Share in the test set.
        folds: Number of folds for cross-fitting, over all subjects.
        seed: Seeds the order of the subjects.
        stratify: What to spread evenly over the sets: columns of the subjects table, and `event`
            for whether any joint of a subject had the event. `SITE` and `event` are passed over
            where a cohort has none.
        leave_out_site: A value of SITE whose subjects form the test set, all others being divided
            into train and val.
    """

    train: float = 0.6
    val: float = 0.15
    test: float = 0.25
    folds: int = 5
    seed: int = 0
    stratify: tuple[str, ...] = ("SITE", "event")
    leave_out_site: str | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: A share is outside 0 to 1, the shares do not sum to 1, train is 0, or folds
                is below 2.
        """
        for name in SETS:
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise InputError(f"{name}={share}: a share lies between 0 and 1.")
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise InputError(f"train + val + test = {total:g}: the three shares must sum to 1.")
        if self.train == 0:
            raise InputError("train=0: the training set needs a share above 0.")
        if self.folds < 2:
            raise InputError(f"folds={self.folds}: cross-fitting needs at least 2.")
