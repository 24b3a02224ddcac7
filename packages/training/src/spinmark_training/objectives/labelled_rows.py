"""Objectives of rows with labels: a class, a number whose order matters, or a time to an endpoint."""

from collections.abc import Callable

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.batch import process_count
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.rank_n_contrast import rank_n_contrast, rank_n_contrast_censored
from spinmark_models.losses.sup_con import sup_con
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.chance import collapsed
from spinmark_training.objectives.settings import given
from spinmark_training.objectives.two_views import Figures, TwoViewObjective
from spinmark_training.side_information import SideInformation


def both_rows(batch: Batch, device: torch.device) -> Tensor:
    """Return the scan behind each view, `(2N,)`, first views and then second."""
    return torch.cat([batch.first, batch.second]).to(device)


RowLoss = Callable[..., Tensor]
"""From rows `(R, D)` and the labels of their scans, `(R,)` each, to a scalar."""


class LabelledRows(TwoViewObjective):
    """Every view is a row that carries the label of its own scan.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        loss: Called with the rows and their labels.
        labels: One or more labels a scan, `(scans,)` each.
        uses: What the labels are.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        loss: RowLoss,
        labels: tuple[Tensor, ...],
        uses: tuple[str, ...],
    ) -> None:
        super().__init__(encoder, projection)
        self._loss = loss
        self._count = len(labels)
        self.uses = uses
        for number, label in enumerate(labels):
            self.register_buffer(f"label{number}", label, persistent=False)

    def labels(self, batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
        """Return the labels of a batch's views, `(2N,)` each."""
        rows = both_rows(batch, device)
        return tuple(self.get_buffer(f"label{number}")[rows] for number in range(self._count))

    def compare(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Return the loss, and that of an encoder that tells nothing apart."""
        rows, labels = torch.cat([first, second]), self.labels(batch, first.device)
        loss = self._loss(rows, *labels)
        return loss, {"chance": collapsed(lambda same: self._loss(same, *labels), rows)}


class SupervisedContrast(LabelledRows):
    """SupCon (arXiv:2004.11362): rows of one label are positives, by default those of one joint.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        labels: The label of each scan, `(scans,)` int64, -1 where unknown.
        temperature: Divides the cosines.
        ignore_same_subject: Whether rows of a subject with other labels are no negatives.
        uses: What the label is.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        labels: Tensor,
        temperature: float,
        *,
        ignore_same_subject: bool,
        uses: tuple[str, ...],
    ) -> None:
        super().__init__(encoder, projection, sup_con, (labels,), uses)
        self._temperature = temperature
        self._ignore = ignore_same_subject

    def compare(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Return the loss; its chance level and `floor`, between which it moves; and the negatives."""
        rows, (labels,) = torch.cat([first, second]), self.labels(batch, first.device)
        subjects = batch.subject.to(first.device).repeat(2) if self._ignore else None

        def loss(z: Tensor) -> Tensor:
            return sup_con(z, labels, self._temperature, subjects=subjects)

        figures = {
            "chance": collapsed(loss, rows),
            "floor": class_floor(labels),
            **negative_figures(labels, subjects),
        }
        return loss(rows), figures


def negative_figures(labels: Tensor, subjects: Tensor | None) -> dict[str, Tensor]:
    """Return how many rows of other labels a row is contrasted with, and how many are expected.

    Args:
        labels: The label of each of this process's rows, `(R,)`; a negative one is none, and like no
            other.
        subjects: Rows of one subject with other labels do not count.

    Returns:
        `negatives`, the mean over all processes; `negatives_expected` is from this process's rows alone, as
        if labels were spread alike over the others.
    """
    everyone, _ = gather_rows(labels)
    people = None if subjects is None else gather_rows(subjects)[0]
    own, strangers = _mean_negatives(labels, subjects)
    found, _ = _mean_negatives(everyone, people)
    elsewhere = (process_count() - 1) * len(labels) * own / strangers.clamp_min(1)
    return {"negatives": found, "negatives_expected": own + elsewhere}


def _mean_negatives(labels: Tensor, subjects: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return how many rows of other labels a row has, and how many that it could have had; means."""
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    known = itself if subjects is None else subjects[:, None] == subjects[None, :]
    same = (labels[:, None] == labels[None, :]) & (labels >= 0)
    # A row is no negative of itself, labelled or not.
    counts = [(~rows).sum(dim=1).double().mean() for rows in (same | known | itself, known)]
    return counts[0], counts[1]


def class_floor(labels: Tensor) -> Tensor:
    """Return the least that SupCon can come to over all processes: the mean log of a row's positives.

    Args:
        labels: The label of each row, `(R,)`; a negative one is none.
    """
    everyone, _ = gather_rows(labels)
    same = (everyone[:, None] == everyone[None, :]) & (everyone >= 0)
    positives = (same.sum(dim=1) - 1).clamp_min(0).double()
    anchors = (positives > 0).sum().clamp_min(1)
    return positives.clamp_min(1).log().sum() / anchors


def build_supervised(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build SupCon over joints or over a variable of classes."""
    uses = known.variables(config.labels) if config.labels else ()
    if len(uses) > 1:
        raise InputError(f"objective.labels: {list(uses)}; sup_con takes one variable")
    if uses and known.kind(uses[0]) == "continuous":
        raise InputError(
            f"objective.labels: {uses[0]} is continuous; sup_con takes a nominal, ordinal or binary "
            "variable, rank_n_contrast or y_aware a continuous one"
        )
    labels = known.codes(uses[0])[0] if uses else known.joints()
    return SupervisedContrast(
        encoder,
        projection,
        labels,
        given(config.temperature),
        ignore_same_subject=config.ignore_same_subject,
        uses=uses,
    )


def build_ranked(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build Rank-N-Contrast over a number, or over the times to an endpoint."""
    temperature = given(config.temperature)
    if config.name == "rank_n_contrast_censored":
        endpoint = given(config.endpoint)

        def censored(rows: Tensor, *labels: Tensor) -> Tensor:
            return rank_n_contrast_censored(rows, labels[0], labels[1], temperature)

        time, event = known.survival(endpoint)
        return LabelledRows(encoder, projection, censored, (time, event), (f"outcome:{endpoint}",))

    def ranked(rows: Tensor, *labels: Tensor) -> Tensor:
        return rank_n_contrast(rows, labels[0], temperature)

    uses = known.variables(given(config.labels))
    if len(uses) != 1 or known.kind(uses[0]) == "nominal":
        raise InputError(
            f"objective.labels: {list(uses)}; rank_n_contrast takes one continuous, ordinal or binary "
            "variable"
        )
    return LabelledRows(encoder, projection, ranked, (known.numbers(uses)[:, 0],), uses)
