"""Who is a positive among two views of a batch, when a pair's likeness is known.

Rules about examples become rules about views: both views of an example carry its weight, the view
itself counts for nothing, and its partner, the same example seen twice, is a positive of weight 1
whatever else is known.
"""

import torch
from torch import Tensor

from spinmark_models.losses.core.info_nce import weighted
from spinmark_models.losses.core.kernel import PairRule, contrast
from spinmark_models.losses.core.pairs import Views


def contrast_positives(
    views: Views, weight: PairRule, ignore: PairRule | None, temperature: float
) -> Tensor:
    """The mean over views of the cross-entropy of their positives, each row's weights summing to 1.

    Args:
        views: The batch, over all processes.
        weight: Weights `(R, 2T)` of the other views as positives, 0 where one is a negative.
        ignore: True where a view is neither; the partner counts in any case.
        temperature: Divides the cosines.

    Returns:
        A scalar: the mean over this process's views.
    """

    def candidates(rows: slice) -> Tensor:
        size = (len(views.itself[rows]), len(views.keys))
        device = views.keys.device
        kept = (
            torch.ones(size, dtype=torch.bool, device=device) if ignore is None else ~ignore(rows)
        )
        kept.scatter_(1, views.partner[rows, None], True)
        return kept.scatter_(1, views.itself[rows, None], False)

    def positives(rows: slice) -> Tensor:
        given = weight(rows).to(exact) * candidates(rows)
        given.scatter_(1, views.partner[rows, None], 1)
        return given.div_(given.sum(dim=1, keepdim=True))

    n = len(views.queries)
    exact = torch.promote_types(views.queries.dtype, torch.float32)
    row_weight = torch.full((n,), 1 / n, dtype=exact, device=views.queries.device)
    row_loss = weighted(positives, candidates, row_weight)
    return contrast(views.queries, views.keys, row_loss, scale=1 / temperature)
