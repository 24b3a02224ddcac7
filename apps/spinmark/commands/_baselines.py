"""What `spinmark embed` makes without an encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spinmark.errors import UsageError
from spinmark.progress import progress

if TYPE_CHECKING:
    import xarray as xr

    from spinmark_data.cohort.reader import Cohort

# Those that are fitted on the training subjects of a split.
FITTED = ("voxel_pca", "radiomics")


class Asked(Protocol):
    """The options that ask for a baseline."""

    @property
    def sequence(self) -> str | None:
        """The image sequence."""

    @property
    def voxel_pca(self) -> int | None:
        """Components."""

    @property
    def radiomics(self) -> bool:
        """Whether radiomics is asked for."""

    @property
    def teacher(self) -> Path | None:
        """A distilled run."""

    @property
    def split(self) -> Path | None:
        """The split."""


def chosen(args: Asked) -> str | None:
    """Return the baseline that is asked for, or none.

    Raises:
        UsageError: More than one is.
    """
    given = {
        "voxel_pca": args.voxel_pca is not None,
        "radiomics": args.radiomics,
        "teacher": args.teacher is not None,
    }
    names = [name for name, asked in given.items() if asked]
    if len(names) > 1:
        raise UsageError(f"--{names[0]} and --{names[1]}: give one of them, each makes embeddings")
    return names[0] if names else None


def labels_hash(cohort: Path) -> str:
    """Return the hash of the label maps of a cohort, which can be added to it later; empty without any."""
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.labels.store import LabelSet, read_sets

    opened = Cohort.open(cohort)
    return LabelSet.open(opened).hash if "labels" in read_sets(opened.folder) else ""


def vectors(args: Asked, cohort: "Cohort") -> "xr.Dataset":
    """Make the embeddings of the baseline that is asked for.

    Args:
        args: The options, one baseline among them.
        cohort: The cohort.
    """
    from spinmark.designs import check_shapes
    from spinmark_data.splits import read_split
    from spinmark_training import baselines

    if args.teacher is not None:
        return baselines.teacher_embeddings(cohort, args.teacher, sequence=args.sequence)
    assert args.split is not None
    split = read_split(args.split)
    if args.voxel_pca is not None:
        return baselines.voxel_pca(cohort, split, components=args.voxel_pca, sequence=args.sequence)
    with progress("embed: scans") as bar:
        found = baselines.radiomics(cohort, split, sequence=args.sequence, progress=bar)
    check_shapes(cohort, map(str, found["feature_name"].values), split.subjects("test"))
    return found
