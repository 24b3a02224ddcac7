"""Is a representation healthy? Five numbers that need no labels."""

import math

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


def spread(x_ND: Tensor) -> Tensor:
    """The mean over features of the standard deviation of the unit-length rows, times sqrt(D).

    About 1 when the rows point in all directions alike, 0 when all point the same way. Chen, He,
    "Exploring Simple Siamese Representation Learning", 2020, arXiv:2011.10566, watch the same number
    without the factor for signs of collapse.

    Args:
        x_ND: Embeddings; normalised here.

    Raises:
        InputError: There are fewer than 2 rows.
    """
    _check_rows(x_ND, 2)
    unit = F.normalize(x_ND, dim=1)
    return unit.std(dim=0, correction=0).mean() * math.sqrt(unit.shape[1])


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


def lidar(x_NVD: Tensor, delta: float = 1e-4, epsilon: float = 1e-8) -> float:
    """The effective rank of what tells examples apart, against what tells views of one apart.

    Thilak, Huang, Saremi, Dinh, Goh, Nakkiran, Susskind, Littwin, "LiDAR: Sensing Linear Probing
    Performance in Joint Embedding SSL Architectures", 2023, arXiv:2312.04000. Each example is a
    class of its own, its views are the members. With the scatter of the examples' means `B` and
    the pooled scatter of views around them `W`, it is exp of the entropy of the eigenvalues of
    `(W + delta I)^(-1/2) B (W + delta I)^(-1/2)`, divided by their sum. Unlike RankMe it does not
    count directions in which only the augmentation moves an embedding.

    `delta` is in squared units of the embedding, so the figure is no longer free of scale where the
    views hardly differ. With fewer than about `D / (V - 1)` examples `W` has directions without
    any scatter, and there `delta` decides: compare runs at the same N, V and D only.

    Args:
        x_NVD: V views of each of N examples.
        delta: Added to the diagonal of the scatter within examples.
        epsilon: Added to each share of the sum before the entropy.

    Returns:
        A number of at least 1 and, up to `epsilon`, at most min(N - 1, D).

    Raises:
        InputError: There are fewer than 2 examples or views, a value is not finite, or `delta` is
            not above 0.
    """
    if x_NVD.ndim != 3 or min(x_NVD.shape[:2]) < 2 or x_NVD.shape[2] < 1:
        raise InputError(
            f"Embeddings have shape {tuple(x_NVD.shape)}; use (examples, views, features) with at "
            "least 2 examples of at least 2 views."
        )
    if not delta > 0:
        raise InputError(f"delta is {delta}; use a number above 0.")
    values = x_NVD.detach().double()
    if not bool(torch.isfinite(values).all()):
        raise InputError("Embeddings hold values that are not finite; LiDAR needs numbers.")
    n, views, width = values.shape
    means = values.mean(dim=1)
    apart = means - means.mean(dim=0)
    inside = (values - means[:, None]).reshape(n * views, width)
    within = inside.T @ inside / (n * (views - 1))
    scale, basis = torch.linalg.eigh(within + delta * torch.eye(width).to(values))
    # The singular values of (W^-1/2 apart) squared are the eigenvalues, none of them below 0.
    whitened = apart @ basis / scale.clamp_min(delta).sqrt()
    spread = torch.linalg.svdvals(whitened).square()
    if not float(spread.sum()) > 0:
        return 1.0
    p = spread / spread.sum() + epsilon
    return float(torch.exp(-torch.xlogy(p, p).sum()).clamp_min(1.0))
