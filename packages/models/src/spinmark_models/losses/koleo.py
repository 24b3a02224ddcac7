"""KoLeo: a term that pushes each embedding away from its nearest neighbour.

Sablayrolles, Douze, Schmid, Jegou, "Spreading Vectors for Similarity Search", 2018,
arXiv:1806.03198: the Kozachenko-Leonenko estimator of entropy, less its constants. It is added to
another loss with a small weight.
"""

import torch
from torch import Tensor

from spinmark_models.losses.core.batch import batch_size
from spinmark_models.losses.core.checks import check_between, check_groups
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.kernel import PairRule
from spinmark_models.losses.core.pairs import rows_of_one_group
from spinmark_models.losses.core.precision import unit, without_autocast

_BLOCK_ROWS = 1024


@torch.no_grad()
def _nearest(
    rows_ND: Tensor, all_MD: Tensor, start: int, same: PairRule | None
) -> tuple[Tensor, Tensor]:
    """The index of each row's nearest other row, and whether there is one.

    `rows` are `all[start : start + N]`; pairs for which `same` holds are no neighbours.
    """
    found, exists = [], []
    for first in range(0, len(rows_ND), _BLOCK_ROWS):
        rows = slice(first, min(first + _BLOCK_ROWS, len(rows_ND)))
        cosine = rows_ND[rows] @ all_MD.T
        if same is not None:
            cosine.masked_fill_(same(rows), -torch.inf)
        itself = torch.arange(start + rows.start, start + rows.stop, device=cosine.device)
        highest, place = cosine.scatter_(1, itself[:, None], -torch.inf).max(dim=1)
        found.append(place)
        exists.append(highest > -torch.inf)
    return torch.cat(found), torch.cat(exists)


@without_autocast
def koleo(z_ND: Tensor, groups: Tensor | None = None, eps: float = 1e-8) -> Tensor:
    """Minus the mean log distance to the nearest other row on the unit sphere.

    Args:
        z_ND: Embeddings, one view of each joint; normalised here.
        groups: Integers `(N,)`; rows of the same group, such as the other knee of a person, are no
            neighbours. A negative one is no group.
        eps: Distances far below this one do not count as smaller still.

    Returns:
        A scalar; the lower, the more evenly the batch of all processes is spread. Equal rows give
        -log(eps) and no gradient; a row without any neighbour contributes 0.

    Raises:
        InputError: The whole batch has fewer than 2 rows, `groups` is not one value a row, or `eps`
            is out of (0, 1].
    """
    batch_size(z_ND, least=2)
    check_groups(groups, len(z_ND))
    check_between("eps", eps, 1e-18, 1)
    z = unit(z_ND)
    everyone, start = gather_rows(z)
    same = None if groups is None else rows_of_one_group(groups)
    nearest, exists = _nearest(z, everyone, start, same)
    # Along a dimension: an indexed row would be added up by threads in any order on the way back.
    neighbour = everyone.gather(0, nearest[:, None].expand_as(z))
    squared = (z - neighbour).square().sum(dim=1)
    return -((squared + eps**2).log() * exists).mean() / 2
