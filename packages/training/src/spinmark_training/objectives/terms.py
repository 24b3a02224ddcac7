"""Further losses beside an objective, such as one against a nuisance; `objective.terms` gives their weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spinmark_models.encoders import ImageEncoder
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Objective, Scored, Views
from spinmark_training.objectives.nuisance_terms import (
    Adversary,
    Independence,
    build_adversary,
    build_independence,
)
from spinmark_training.objectives.spread_terms import (
    AGREEMENTS,
    Agreement,
    Spread,
    build_agreement,
    build_spread,
)
from spinmark_training.objectives.term import Term, TermBuilder
from spinmark_training.side_information import SideInformation

__all__ = ["TERMS", "Adversary", "Agreement", "Independence", "Spread", "Term", "WithTerms"]

AGAINST_NUISANCE: dict[str, TermBuilder] = {
    "domain_adversarial": build_adversary,
    "conditional_independence": build_independence,
}

TERMS: dict[str, TermBuilder] = {
    "koleo": build_spread,
    **AGAINST_NUISANCE,
    **dict.fromkeys(AGREEMENTS, build_agreement),
}
"""Every term by its name."""


class WithTerms(Objective):
    """An objective and the weighted terms beside it.

    Args:
        objective: The objective.
        terms: The terms by name.
        weights: The weight of each.
    """

    def __init__(
        self, objective: Objective, terms: Mapping[str, Term], weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.objective = objective
        self.terms = nn.ModuleDict(dict(terms))
        self._weights = dict(weights)
        self.local_views = objective.local_views
        self.teacher_sees_local = objective.teacher_sees_local  # type: ignore[misc]
        told = [*objective.uses, *(name for term in terms.values() for name in term.uses)]
        self.uses = tuple(dict.fromkeys(told))
        # Past the registry of modules, or a checkpoint would hold the teacher twice.
        object.__setattr__(self, "teacher", objective.teacher)

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch; `loss_ssl` is the objective's own part, which `chance` belongs to."""
        scored: Scored = self.objective(student, slow, batch)
        figures: dict[str, Tensor | float] = {**scored.figures}
        figures.setdefault("loss_ssl", scored.loss.detach())
        loss = scored.loss
        for name, term in self.terms.items():
            value: Tensor = term(student, batch)
            figures[f"loss_{name}"] = value.detach()
            loss = loss + self._weights[name] * value
        return Scored(loss, figures, scored.projected)

    def before_step(self, progress: float) -> None:
        """Prepare the objective and every term."""
        self.objective.before_step(progress)
        for term in self.terms.values():
            if isinstance(term, Term):
                term.before_step(progress)

    @torch.no_grad()
    def after_step(self, encoder: ImageEncoder, step: int, steps: int) -> None:
        """Follow a step of the optimiser."""
        self.objective.after_step(encoder, step, steps)


def with_terms(
    objective: Objective, config: ObjectiveConfig, encoder: ImageEncoder, known: SideInformation
) -> Objective:
    """Add the terms of a configuration to an objective; the objective itself if there are none.

    Raises:
        InputError: A term is unknown, its weight is not above 0, what it needs is not there, or a
            setting has no term that uses it.
    """
    for name, weight in config.terms.items():
        if name not in TERMS:
            raise InputError(f"objective.terms: {name!r}; accepted are {sorted(TERMS)}")
        if not 0 < weight < float("inf"):
            raise InputError(f"objective.terms.{name}: {weight}; accepted are weights above 0")
    if config.severity is not None and not set(AGAINST_NUISANCE) & config.terms.keys():
        raise InputError(
            f"objective.severity: {config.severity!r}; only the terms "
            f"{' and '.join(AGAINST_NUISANCE)} use it"
        )
    if not config.terms:
        return objective
    terms = {name: TERMS[name](name, config, encoder, known) for name in config.terms}
    return WithTerms(objective, terms, config.terms)
