"""SupCon: contrast where all examples of a label are positives.

Khosla et al., "Supervised Contrastive Learning", 2020, arXiv:2004.11362; the form with the sum over
positives outside the logarithm, without the factor temperature / base temperature.
"""

import math

import torch
from torch import Tensor

from spinmark_models.losses.core.batch import process_count
from spinmark_models.losses.core.checks import check_groups, check_rows, check_temperature
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.info_nce import weighted
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.pairs import rows_of_one_group
from spinmark_models.losses.core.precision import unit


def sup_con_chance(n: int) -> float:
    """The loss of an encoder that maps all `n` rows to one point, if no rows are ignored: ln(n - 1)."""
    return math.log(n - 1)


def sup_con(
    z_ND: Tensor,
    labels_N: Tensor,
    temperature: float = 0.1,
    *,
    subjects: Tensor | None = None,
) -> Tensor:
    """The mean over anchors of the mean over their positives of the cross-entropy.

    Args:
        z_ND: Embeddings; normalised here. Several views of an example are several rows.
        labels_N: Integers; equal ones are positives of each other, a negative one is no label.
        temperature: Divides the cosines.
        subjects: Integers `(N,)`; rows of one subject with different labels ignore each other. A
            negative one is no subject.

    Returns:
        A scalar. Anchors without a positive are left out of the mean; 0 if there is no other anchor.

    Raises:
        InputError: The shapes do not fit or the temperature is not positive.
    """
    check_rows(z_ND)
    check_temperature(temperature)
    check_groups(labels_N, len(z_ND), "labels")
    check_groups(subjects, len(z_ND), "subjects")
    z = unit(z_ND)
    keys, start = gather_rows(z)
    labels, _ = gather_rows(labels_N)
    same_subject = None if subjects is None else rows_of_one_group(subjects)
    columns = torch.arange(len(keys), device=z.device)
    # The weight of one positive among many has more digits than short floats.
    exact = torch.promote_types(z.dtype, torch.float32)

    def others(rows: slice) -> Tensor:
        itself = columns[start : start + len(z)][rows]
        return columns[None, :] != itself[:, None]

    def same_label(rows: slice) -> Tensor:
        own = labels_N[rows, None]
        return (own == labels[None, :]) & (own >= 0) & others(rows)

    def positives(rows: slice) -> Tensor:
        same = same_label(rows).to(exact)
        return same / same.sum(dim=1, keepdim=True).clamp_min(1)

    def candidates(rows: slice) -> Tensor:
        kept = others(rows)
        if same_subject is not None:
            kept &= ~same_subject(rows) | same_label(rows)
        return kept

    # How often each label occurs says which anchors have a positive, without any N x N.
    _, place, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    often = counts[place] > 1
    anchors = (often & (labels >= 0)).sum()
    # Every process returns the mean of its own rows' share, which averages to the whole's mean.
    share = process_count() / anchors.clamp_min(1).to(exact)
    row_weight = share.expand(len(z))
    return contrast(z, keys, weighted(positives, candidates, row_weight), scale=1 / temperature)
