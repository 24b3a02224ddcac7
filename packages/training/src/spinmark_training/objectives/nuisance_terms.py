"""Terms against a nuisance such as the site: the embedding says nothing of it, or nothing beyond severity."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.adversarial import (
    DomainClassifier,
    domain_adversarial,
    reversal_strength,
)
from spinmark_models.losses.independence import DomainGiven, conditional_independence
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Views
from spinmark_training.objectives.labelled_rows import both_rows
from spinmark_training.objectives.near_numbers import standardised
from spinmark_training.objectives.term import Term, too_few
from spinmark_training.side_information import SideInformation


class Condition(NamedTuple):
    """What a nuisance may go along with, one row a scan.

    Attributes:
        values: Codes `(scans,)` int64, -1 where unknown, or standardised numbers `(scans,)` float64, NaN
            where unknown.
        known: Where it is known, `(scans,)` bool.
        levels: Number of codes; 0 for numbers.
    """

    values: Tensor
    known: Tensor
    levels: int

    def columns(self) -> Tensor:
        """Return it for a classifier `(scans, G)` float32: one column a code, or the number; 0 if unknown."""
        if self.levels:
            return F.one_hot(self.values.clamp_min(0), self.levels) * self.known[:, None].float()
        return self.values.nan_to_num(0)[:, None].float()


def find_condition(name: str, known: SideInformation) -> Condition:
    """Look up the severity of each scan: grades and names as codes, a continuous variable as a number.

    Raises:
        InputError: No table has it, or no encoder may learn from it.
    """
    field = "objective.severity"
    (name,) = known.variables((name,), field, roles=False)
    if known.kind(name) == "continuous":
        values = standardised(known.numbers((name,), field))[:, 0]
        return Condition(values, values.isfinite(), 0)
    codes, levels = known.codes(name, field)
    return Condition(codes, codes >= 0, levels)


class Adversary(Term):
    """A classifier of the nuisance behind a reversed gradient (arXiv:1505.07818).

    Args:
        embedding: Length of the embedding.
        codes: The nuisance of each scan, `(scans,)`, -1 where unknown.
        domains: Number of codes.
        given: What the classifier may know besides, `(scans, G)`.
        uses: Names of nuisance and severity.
    """

    codes: Tensor
    given: Tensor

    def __init__(
        self,
        embedding: int,
        codes: Tensor,
        domains: int,
        given: Tensor | None,
        uses: tuple[str, ...],
    ) -> None:
        super().__init__()
        columns = codes.new_zeros((len(codes), 0), dtype=torch.float32) if given is None else given
        self.classifier = DomainClassifier(embedding + columns.shape[1], domains)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("given", columns, persistent=False)
        self.uses = uses
        self.strength = 0.0

    def before_step(self, progress: float) -> None:
        """Reverse the more strongly the longer the classifier has learnt."""
        self.strength = reversal_strength(progress)

    def forward(self, student: Views, batch: Batch) -> Tensor:
        """Return the classifier's cross-entropy over both views."""
        rows = both_rows(batch, student.whole.device)
        return domain_adversarial(
            student.whole,
            self.codes[rows],
            self.classifier,
            self.strength,
            given_NG=self.given[rows],
        )


class Independence(Term):
    """The dependence of embedding and nuisance, severity by severity (CIRCE, arXiv:2212.08645).

    Args:
        residual: What severity does not tell of the nuisance, `(scans, domains)`; 0 where unknown.
        given: Severity, `(scans,)`: codes or numbers without gaps; none for plain independence.
        bandwidth: Of the kernel of numbers.
        uses: Names of nuisance and severity.
    """

    residual: Tensor
    given: Tensor | None

    def __init__(
        self,
        residual: Tensor,
        given: Tensor | None,
        bandwidth: float | None,
        uses: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.register_buffer("residual", residual, persistent=False)
        self.register_buffer("given", given, persistent=False)
        self._bandwidth = bandwidth
        self.uses = uses

    def forward(self, student: Views, batch: Batch) -> Tensor:
        """Return the mean over the two views; 0 in a batch that is too small."""
        if too_few(batch.first[:, None]):
            return 0 * student.whole.sum()
        device = student.whole.device
        values = []
        for half, rows in zip(student.whole.chunk(2), (batch.first, batch.second), strict=True):
            here = rows.to(device)
            given = None if self.given is None else self.given[here]
            values.append(
                conditional_independence(
                    half, self.residual[here], given, given_bandwidth=self._bandwidth
                )
            )
        return torch.stack(values).mean()


def build_adversary(
    name: str, config: ObjectiveConfig, encoder: ImageEncoder, known: SideInformation
) -> Term:
    """Build the adversary; with `objective.severity` it may know that."""
    codes, domains = known.codes(config.nuisance, "objective.nuisance")
    if config.severity is None:
        return Adversary(encoder.embedding_size, codes, domains, None, (config.nuisance,))
    condition = find_condition(config.severity, known)
    return Adversary(
        encoder.embedding_size,
        torch.where(condition.known, codes, -1),
        domains,
        condition.columns(),
        (config.nuisance, config.severity),
    )


def build_independence(
    name: str, config: ObjectiveConfig, encoder: ImageEncoder, known: SideInformation
) -> Term:
    """Build independence of the nuisance, given `objective.severity` if there is one.

    Raises:
        InputError: No subject has both, or a variable cannot be used.
    """
    codes, domains = known.codes(config.nuisance, "objective.nuisance")
    if config.severity is None:
        one_hot = F.one_hot(codes.clamp_min(0), domains) * (codes >= 0)[:, None]
        return Independence(one_hot.float(), None, None, (config.nuisance,))
    condition = find_condition(config.severity, known)
    values = condition.values if condition.levels else condition.values.nan_to_num(0)
    both = condition.known & (codes >= 0)
    rows = one_row_a_subject(known.subjects(), both)
    if not len(rows):
        raise InputError(
            f"objective.severity: {config.severity} is known of no training scan whose "
            f"{config.nuisance} is; accepted are variables that overlap"
        )
    expected = DomainGiven(codes[rows], values[rows], domains)
    residual = expected.residual(torch.where(both, codes, -1), values)
    bandwidth = None if condition.levels else float(expected.bandwidth)
    return Independence(residual.float(), values, bandwidth, (config.nuisance, config.severity))


def one_row_a_subject(subject: Tensor, usable: Tensor) -> Tensor:
    """Return the first usable scan of each subject, `(subjects,)`.

    Args:
        subject: Number of each scan's subject, `(scans,)`; a negative one is nobody.
        usable: Which scans count, `(scans,)` bool.
    """
    seen: dict[int, int] = {}
    for row in torch.nonzero(usable & (subject >= 0))[:, 0].tolist():
        seen.setdefault(int(subject[row]), row)
    return torch.tensor(sorted(seen.values()), dtype=torch.int64)
