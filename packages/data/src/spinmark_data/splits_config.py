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
        forward_column: A numeric column of the subjects that tells who enrolled later (the cohort
            holds no dates), such as `CHRTHLF`, the half of the OAI. With `forward_after`.
        forward_after: Subjects with a value of `forward_column` above this form the test set, all
            others being divided into train and val.
        forward_day: Train and validate on scans before this day since enrolment, test on those from it
            on. A subject still belongs to one set, so that test scans are of other people.
        forward_visit: The same by visit, such as `V03`, in place of a day.
        forward_same_subjects: Let later scans of training and validation subjects be test scans too.
            They are marked as seen, since an encoder fitted on a person knows that person.
        manifests: Also write which subjects each fold holds out, and the test-retest pairs.
    """

    train: float = 0.6
    val: float = 0.15
    test: float = 0.25
    folds: int = 5
    seed: int = 0
    stratify: tuple[str, ...] = ("SITE", "event")
    leave_out_site: str | None = None
    forward_column: str | None = None
    forward_after: float | None = None
    forward_day: float | None = None
    forward_visit: str | None = None
    forward_same_subjects: bool = False
    manifests: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: A share is outside 0 to 1, the shares do not sum to 1, train is 0, folds is
                below 2, or the forward options do not go together.
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
        self._check_forward()

    @property
    def forward(self) -> bool:
        """Whether scans are divided by time."""
        return self.forward_day is not None or self.forward_visit is not None

    def _check_forward(self) -> None:
        if (self.forward_column is None) != (self.forward_after is None):
            raise InputError("forward_column and forward_after go together; give both or none.")
        if self.forward_column is not None and self.leave_out_site is not None:
            raise InputError("forward_column and leave_out_site both make the test set; give one.")
        if self.forward_day is not None and self.forward_visit is not None:
            raise InputError("forward_day and forward_visit say the same; give one.")
        if self.forward_same_subjects and not self.forward:
            raise InputError("forward_same_subjects needs forward_day or forward_visit.")
