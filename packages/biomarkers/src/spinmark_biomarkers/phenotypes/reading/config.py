"""Settings of a reader study; imports nothing heavy, so that a `--help` stays fast."""

from dataclasses import dataclass, field
from typing import Literal

SIGNS = (
    "marrow lesion",
    "cartilage loss",
    "meniscal damage",
    "effusion or synovitis",
    "osteophytes",
    "none",
    "other",
)


@dataclass(kw_only=True)
class ReadingConfig:
    """What readers are given.

    Args:
        prototypes: Joints nearest to the centre of a phenotype on its sheet.
        random: Joints of the phenotype drawn at random on its sheet.
        boundary: Joints on the border to another phenotype on its sheet.
        per_item: Joints in an item of the odd-one-out task: all but one are of one phenotype.
        odd_items: Items in which a phenotype has the majority, for each phenotype; 0 leaves the task out.
        controls: Items of joints drawn regardless of phenotype; who finds an odd one there sees something
            else than phenotypes.
        repeats: Items that come twice, which tells how consistent a reader is.
        people: Whose joints are shown: `test`, those of subjects whom nothing was fitted on, on whom
            alone a figure may be reported; `fitted`; or `all`, where test subjects are few.
        readers: Readers, each of whom gets forms.
        signs: Known signs that a sheet may show; `other` and `none` should be among them.
        axis: The array axis across which slices are cut.
        slices: Slices of every joint: a name, and the share of the extent at which it lies. The
            default is for sagittal knees.
        format: What sheets are written as.
        seed: Seed of everything random.
    """

    prototypes: int = 6
    random: int = 6
    boundary: int = 4
    per_item: int = 4
    odd_items: int = 8
    controls: int = 6
    repeats: int = 6
    people: Literal["all", "fitted", "test"] = "all"
    readers: int = 2
    signs: list[str] = field(default_factory=lambda: list(SIGNS))
    axis: Literal["z", "y", "x"] = "z"
    slices: dict[str, float] = field(
        default_factory=lambda: {"lateral": 0.27, "central": 0.5, "medial": 0.74}
    )
    format: Literal["pdf", "html"] = "pdf"
    seed: int = 0


@dataclass(kw_only=True)
class ScoreConfig:
    """How readings are scored.

    Args:
        bootstrap: Samples of sheets or items behind the intervals of agreement.
        level: Coverage of all intervals.
        seed: Seed of the samples.
    """

    bootstrap: int = 2000
    level: float = 0.95
    seed: int = 0
