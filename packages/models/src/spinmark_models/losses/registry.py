"""Every loss by its name. Adding one is its file, its test and its line here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from spinmark_models.errors import InputError

Family = Literal[
    "contrastive",
    "positives",
    "cross-modal",
    "negative-free",
    "distillation",
    "nuisance",
    "tabular",
]


@dataclass(frozen=True)
class LossEntry:
    """A loss of the library.

    Args:
        family: Which page of the documentation describes it.
        path: `module:function` below `spinmark_models.losses`.
        takes: What it is given: `views` (two views of each example, row by row), `rows` (embeddings
            and labels), `sides` (two kinds of views), `student` (a student's and a teacher's rows),
            `outputs` (what a student's and a teacher's head say), `codes` (embeddings and codes
            of a nuisance), or `cells` (what is said of each cell of a table).
        paper: Where it comes from.
    """

    family: Family
    path: str
    takes: Literal["views", "rows", "sides", "student", "outputs", "codes", "cells"]
    paper: str

    def load(self) -> Callable[..., Any]:
        """The function itself; imports its module."""
        module, name = self.path.split(":")
        found: Callable[..., Any] = getattr(import_module(f"spinmark_models.losses.{module}"), name)
        return found


LOSSES: dict[str, LossEntry] = {
    # Contrastive, two views.
    "nt_xent": LossEntry("contrastive", "nt_xent:nt_xent", "views", "arXiv:2002.05709"),
    "decoupled": LossEntry("contrastive", "decoupled:decoupled", "views", "arXiv:2110.06848"),
    "debiased": LossEntry("contrastive", "debiased:debiased", "views", "arXiv:2007.00224"),
    "hard_negative": LossEntry(
        "contrastive", "hard_negative:hard_negative", "views", "arXiv:2010.04592"
    ),
    "mochi": LossEntry("contrastive", "mochi:mochi", "views", "arXiv:2010.01028"),
    "ring": LossEntry("contrastive", "ring:ring", "views", "arXiv:2010.02037"),
    "semi_hard": LossEntry("contrastive", "semi_hard:semi_hard", "views", "arXiv:1503.03832"),
    # Contrastive, a view and keys of a slow encoder: with a queue; both views, without.
    "moco": LossEntry("contrastive", "moco:moco", "views", "arXiv:2003.04297"),
    "moco_v3": LossEntry("contrastive", "moco:moco_v3", "views", "arXiv:2104.02057"),
    # Contrastive, rows and a slot of a memory bank for each example.
    "instance_bank": LossEntry(
        "contrastive", "instance_bank:instance_bank", "rows", "arXiv:1805.01978"
    ),
    # Contrastive, rows with labels.
    "sup_con": LossEntry("positives", "sup_con:sup_con", "rows", "arXiv:2004.11362"),
    "rank_n_contrast": LossEntry(
        "positives", "rank_n_contrast:rank_n_contrast", "rows", "arXiv:2210.01189"
    ),
    "rank_n_contrast_censored": LossEntry(
        "positives", "rank_n_contrast:rank_n_contrast_censored", "rows", "after arXiv:2210.01189"
    ),
    # Contrastive, two views and what is known of each example.
    "y_aware": LossEntry("positives", "y_aware:y_aware", "views", "arXiv:2106.08808"),
    "tabular_similarity": LossEntry(
        "positives", "tabular_similarity:tabular_similarity", "views", "after arXiv:2503.14998"
    ),
    "metadata_enhanced": LossEntry(
        "positives", "metadata:metadata_enhanced", "views", "arXiv:2208.02529"
    ),
    # Between two kinds of views.
    "clip": LossEntry("cross-modal", "clip:clip_loss", "sides", "arXiv:2103.00020, 2303.14080"),
    "siglip": LossEntry("cross-modal", "siglip:siglip", "sides", "arXiv:2303.15343"),
    # Without negatives.
    "byol": LossEntry("negative-free", "byol:byol", "outputs", "arXiv:2006.07733"),
    "simsiam": LossEntry("negative-free", "simsiam:simsiam", "outputs", "arXiv:2011.10566"),
    "barlow_twins": LossEntry(
        "negative-free", "barlow_twins:barlow_twins", "views", "arXiv:2103.03230"
    ),
    "vicreg": LossEntry("negative-free", "vicreg:vicreg", "views", "arXiv:2105.04906"),
    "w_mse": LossEntry("negative-free", "w_mse:w_mse", "views", "arXiv:2007.06346"),
    "swav": LossEntry("negative-free", "swav:swav", "outputs", "arXiv:2006.09882"),
    "dino": LossEntry("negative-free", "dino:dino", "outputs", "arXiv:2104.14294"),
    "koleo": LossEntry("negative-free", "koleo:koleo", "rows", "arXiv:1806.03198"),
    # Distillation.
    "cosine": LossEntry("distillation", "regression:cosine_regression", "student", "2006.07733"),
    "rkd_distance": LossEntry(
        "distillation", "relational:relational_distance", "student", "arXiv:1904.05068"
    ),
    "rkd_angle": LossEntry(
        "distillation", "relational_angle:relational_angle", "student", "arXiv:1904.05068"
    ),
    "kd": LossEntry("distillation", "kd:kd", "outputs", "arXiv:1503.02531"),
    "crd": LossEntry("distillation", "crd:crd", "student", "arXiv:1910.10699"),
    "cka": LossEntry("distillation", "cka:cka_loss", "student", "arXiv:1905.00414"),
    "cka_debiased": LossEntry(
        "distillation", "cka:debiased_cka_loss", "student", "arXiv:2010.15327"
    ),
    "pkt": LossEntry("distillation", "pkt:pkt", "student", "arXiv:1803.10837"),
    "similarity_preserving": LossEntry(
        "distillation",
        "similarity_preserving:similarity_preserving",
        "student",
        "arXiv:1907.09682",
    ),
    "vid": LossEntry("distillation", "vid:vid", "student", "arXiv:1904.05835"),
    # Nuisance.
    "domain_adversarial": LossEntry(
        "nuisance", "adversarial:domain_adversarial", "codes", "arXiv:1505.07818"
    ),
    "conditional_independence": LossEntry(
        "nuisance", "independence:conditional_independence", "codes", "arXiv:2212.08645"
    ),
    # Of tables.
    "vime": LossEntry("tabular", "vime:vime", "cells", "NeurIPS 2020"),
}


def get_loss(name: str) -> Callable[..., Any]:
    """The loss of a name.

    Raises:
        InputError: There is none; the message lists those that there are.
    """
    if name not in LOSSES:
        raise InputError(f"Unknown loss {name!r}. Valid losses are {sorted(LOSSES)}.")
    return LOSSES[name].load()
