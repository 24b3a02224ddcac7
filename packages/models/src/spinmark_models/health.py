"""Is a representation healthy? Three numbers that need no labels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.errors import InputError


def _check_rows(x_ND: Tensor, least: int) -> None:
    if x_ND.ndim != 2 or x_ND.shape[0] < least:
        raise InputError(
            f"Embeddings have shape {tuple(x_ND.shape)}; use (examples, features) with at least "
            f"{least} example(s)."
        )


def alignment(x_ND: Tensor, y_ND: Tensor) -> Tensor:
    """The mean squared distance of partners on the unit sphere, in [0, 4]; small is good.

    Wang, Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", 2020, arXiv:2005.10242.

    Args:
        x_ND: Embeddings; normalised here.
        y_ND: Their partners.

    Raises:
        InputError: The shapes do not fit.
    """
    _check_rows(x_ND, 1)
    if x_ND.shape != y_ND.shape:
        raise InputError(f"Partners have shapes {tuple(x_ND.shape)} and {tuple(y_ND.shape)}.")
    apart = F.normalize(x_ND, dim=1) - F.normalize(y_ND, dim=1)
    return apart.square().sum(dim=1).mean()


def uniformity(x_ND: Tensor, t: float = 2.0) -> Tensor:
    """The log of the mean of exp(-t d^2) over pairs on the unit sphere; 0 when collapsed.

    Wang, Isola 2020, arXiv:2005.10242. The lower, the more evenly the sphere is used.

    Args:
        x_ND: Embeddings; normalised here.
        t: Sharpness of the kernel.

    Raises:
        InputError: There are fewer than 2 rows.
    """
    _check_rows(x_ND, 2)
    x = F.normalize(x_ND, dim=1)
    i, j = torch.triu_indices(len(x), len(x), offset=1, device=x.device)
    cosine = (x @ x.T)[i, j]
    exponent = -t * (2 - 2 * cosine).clamp_min(0)
    return torch.logsumexp(exponent, dim=0) - torch.log(torch.tensor(float(len(exponent))))


def rankme(x_ND: Tensor) -> float:
    """The effective rank: exp of the entropy of the normalised singular values.

    Garrido, Balestriero, Najman, LeCun, "RankMe: Assessing the Downstream Performance of
    Pretrained Self-Supervised Representations by Their Rank", 2022, arXiv:2210.02885. Compare it
    within one method only. Not centred, as in the paper.

    Args:
        x_ND: Embeddings.

    Returns:
        A number in [1, min(N, D)].

    Raises:
        InputError: There are no rows, or a value is not finite.
    """
    _check_rows(x_ND, 1)
    values = x_ND.detach().double()
    if not bool(torch.isfinite(values).all()):
        raise InputError("Embeddings hold values that are not finite; RankMe needs numbers.")
    singular = torch.linalg.svdvals(values)
    total = singular.sum()
    if not float(total) > 0:
        return 1.0
    p = singular / total
    return float(torch.exp(-torch.xlogy(p, p).sum()))
