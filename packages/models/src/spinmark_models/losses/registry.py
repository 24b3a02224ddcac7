"""Every loss by its name. Adding one is its file, its test and its line here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from spinmark_models.errors import InputError

Family = Literal["contrastive", "cross-modal", "negative-free", "distillation", "nuisance"]


@dataclass(frozen=True)
class LossEntry:
    """A loss of the library.

    Args:
        family: Which page of the documentation describes it.
        path: `module:function` below `spinmark_models.losses`.
        takes: What it is given: `views` (two views of each example, row by row), `rows` (embeddings
            and labels), `sides` (two kinds of views), `student` (a student's and a teacher's rows),
            `outputs` (what a student's and a teacher's head say), or `codes` (embeddings and codes
            of a nuisance).
        paper: Where it comes from.
    """

    family: Family
    path: str
    takes: Literal["views", "rows", "sides", "student", "outputs", "codes"]
    paper: str

    def load(self) -> Callable[..., Any]:
        """The function itself; imports its module."""
        module, name = self.path.split(":")
        found: Callable[..., Any] = getattr(import_module(f"spinmark_models.losses.{module}"), name)
        return found


LOSSES: dict[str, LossEntry] = {
    # Contrastive, two views.
    "nt_xent": LossEntry("contrastive", "nt_xent:nt_xent", "views", "arXiv:2002.05709"),
    # Contrastive, rows with labels.
    "sup_con": LossEntry("contrastive", "sup_con:sup_con", "rows", "arXiv:2004.11362"),
    # Between two kinds of views.
    "clip": LossEntry("cross-modal", "clip:clip_loss", "sides", "arXiv:2103.00020, 2303.14080"),
    # Without negatives.
    # Distillation.
    "cosine": LossEntry("distillation", "regression:cosine_regression", "student", "2006.07733"),
    "rkd_distance": LossEntry(
        "distillation", "relational:relational_distance", "student", "arXiv:1904.05068"
    ),
    # Nuisance.
}


def get_loss(name: str) -> Callable[..., Any]:
    """The loss of a name.

    Raises:
        InputError: There is none; the message lists those that there are.
    """
    if name not in LOSSES:
        raise InputError(f"Unknown loss {name!r}. Valid losses are {sorted(LOSSES)}.")
    return LOSSES[name].load()
