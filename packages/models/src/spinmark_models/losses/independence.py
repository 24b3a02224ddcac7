"""A penalty on what an embedding says of the site beyond severity.

CIRCE: Pogodin, Deka, Li, Sutherland, Veitch, Gretton, "Efficient Conditionally Invariant
Representation Learning", 2022, arXiv:2212.08645. What the site is expected to be for a severity is
fitted once, before training. What is left of the site, its residual, has no relation with severity by
construction; if the embedding does not know the site but through severity, it has none with the
embedding either. So far the estimator is unbiased in a batch of any size, also where no two
people of a batch share a site and a grade.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.batch import batch_size
from spinmark_models.losses.core.checks import check_groups, check_rows, check_same_rows
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.hsic import (
    LEAST_ROWS,
    centred_product,
    gaussian_kernel,
    median_bandwidth,
    u_centred,
)
from spinmark_models.losses.core.precision import exact, without_autocast

_RIDGES = torch.logspace(-3, 3, 13, dtype=torch.float64)


def same_or_near(given: Tensor, other: Tensor, bandwidth: float | Tensor | None) -> Tensor:
    """The kernel of what is given: 1 for equal grades, or a Gaussian of the distance of numbers.

    Args:
        given: Integers `(N,)`, or numbers `(N,)` or `(N, G)`.
        other: The same of M other examples.
        bandwidth: Of the Gaussian; the median distance of `other` if none is given.

    Returns:
        The kernel `(N, M)`; float64 for integers.

    Raises:
        InputError: Integers are not one a row.
    """
    if not given.is_floating_point():
        if given.ndim != 1:
            raise InputError(f"given has shape {tuple(given.shape)}; grades are one a row.")
        return (given[:, None] == other[None, :]).to(torch.float64)
    x, y = (g[:, None] if g.ndim == 1 else g for g in (given, other))
    width = median_bandwidth(y) if bandwidth is None else bandwidth
    return gaussian_kernel(x, width, y)


class DomainGiven(nn.Module):
    """Which site a subject is from, as far as severity tells: kernel ridge regression, fitted once.

    The ridge is the one with the least leave-one-out error, so give one row a subject, and training
    subjects only. It keeps the severities of those subjects: do not publish it with an encoder.

    Args:
        codes: The site of each training subject `(M,)`, integers from 0.
        given: Severity: integers `(M,)` for grades, or numbers `(M,)` or `(M, G)`.
        domains: Number of sites.
        bandwidth: Of the Gaussian kernel of numbers; their median distance if none is given.

    Raises:
        InputError: Shapes do not fit, or a code is not from 0 to `domains - 1`.
    """

    given: Tensor
    weights: Tensor
    share: Tensor
    bandwidth: Tensor

    def __init__(
        self, codes: Tensor, given: Tensor, domains: int, bandwidth: float | None = None
    ) -> None:
        super().__init__()
        if codes.ndim != 1 or len(codes) != len(given) or not len(codes):
            raise InputError(
                f"codes and given have shapes {tuple(codes.shape)} and {tuple(given.shape)}; use "
                "(subjects,) and equally many."
            )
        if int(codes.min()) < 0 or int(codes.max()) >= domains:
            raise InputError(
                f"codes run from {int(codes.min())} to {int(codes.max())}; use 0 to {domains - 1}."
            )
        self.domains = domains
        if given.is_floating_point():
            given = given.to(torch.float64)
            columns = given[:, None] if given.ndim == 1 else given
            width = median_bandwidth(columns) if bandwidth is None else torch.tensor(bandwidth)
        else:
            width = torch.tensor(1.0)
        site = F.one_hot(codes, domains).to(torch.float64)
        self.register_buffer("given", given)
        self.register_buffer("bandwidth", width.to(torch.float64))
        self.register_buffer("share", site.mean(dim=0))
        kernel = same_or_near(given, given, self.bandwidth)
        self.register_buffer("weights", _ridge_weights(kernel, site - self.share))

    def forward(self, given: Tensor) -> Tensor:
        """The expected site `(N, domains)` for severities; close to probabilities, in float64."""
        if given.is_floating_point():
            given = given.to(torch.float64)
        kernel = same_or_near(given, self.given, self.bandwidth)
        expected: Tensor = self.share + kernel @ self.weights
        return expected

    def residual(self, codes_N: Tensor, given: Tensor) -> Tensor:
        """What severity does not tell of the site, `(N, domains)`.

        Args:
            codes_N: Sites, integers; a negative one is unknown, and its residual is 0.
            given: Severities of the same examples.

        Raises:
            InputError: There is not one code for each example, or a code is too large.
        """
        check_groups(codes_N, len(given), "codes")
        if int(codes_N.max()) >= self.domains:
            raise InputError(f"codes reach {int(codes_N.max())}; use at most {self.domains - 1}.")
        known = (codes_N >= 0)[:, None]
        site = F.one_hot(codes_N.clamp_min(0), self.domains)
        residual: Tensor = (site - self(given)) * known
        return residual


def _ridge_weights(kernel_MM: Tensor, target_MC: Tensor) -> Tensor:
    """Weights of kernel ridge regression with the least squared leave-one-out error."""
    values, vectors = torch.linalg.eigh(kernel_MM)
    values = values.clamp_min(0)
    turned = vectors.T @ target_MC
    best, least = torch.zeros_like(target_MC), torch.inf
    for ridge in _RIDGES.to(kernel_MM.device):
        weights = vectors @ (turned / (values + ridge)[:, None])
        # The leave-one-out error is the weight over the diagonal of (K + ridge)^-1.
        inverse_diagonal = (vectors.square() / (values + ridge)).sum(dim=1)
        error = float((weights / inverse_diagonal[:, None]).square().sum())
        if error < least:
            best, least = weights, error
    return best


@without_autocast
def conditional_independence(
    z_ND: Tensor,
    residual_NC: Tensor,
    given: Tensor | None = None,
    *,
    bandwidth: float | None = None,
    given_bandwidth: float | Tensor | None = None,
) -> Tensor:
    """The unbiased HSIC of embeddings with residuals of the site, severity by severity.

    `HSIC(k(z, z'), k(y, y') r . r')`: 0 on average exactly if the embedding does not know the site
    beyond severity, provided that the residuals have mean 0 for each severity. Memory grows with
    the square of the whole batch.

    Args:
        z_ND: Embeddings, compared by a Gaussian kernel.
        residual_NC: What severity does not tell of the site, from `DomainGiven.residual`; or one-hot
            sites, for independence without a condition.
        given: Severity: integers `(N,)` for grades, or numbers `(N,)` or `(N, G)`; none for
            independence without a condition.
        bandwidth: Of the embeddings' kernel. If none is given, the median distance in the batch,
            taken as a constant by the gradient.
        given_bandwidth: Of the kernel of numbers, such as `DomainGiven.bandwidth`; the median
            distance in the batch if none is given.

    Returns:
        A scalar around 0, at times below it. A site that is plain to see gives a thousandth to a hundredth,
        so its weight beside another loss is of the order of a hundred.

    Raises:
        InputError: Shapes do not fit, the bandwidth is not above 0, or the whole batch has fewer
            than 4 rows.
    """
    check_rows(z_ND)
    check_same_rows(z_ND, residual_NC)
    batch_size(z_ND, least=LEAST_ROWS)
    if bandwidth is not None and not bandwidth > 0:
        raise InputError(f"bandwidth is {bandwidth}; it must be above 0.")
    z, _ = gather_rows(exact(z_ND))
    residual, _ = gather_rows(residual_NC.detach().to(z.dtype))
    site = residual @ residual.T
    if given is not None:
        if len(given) != len(z_ND):
            raise InputError(f"given has {len(given)} example(s); use {len(z_ND)}.")
        condition, _ = gather_rows(given)
        site = site * same_or_near(condition, condition, given_bandwidth).to(z.dtype)
    width = median_bandwidth(z) if bandwidth is None else bandwidth
    return centred_product(u_centred(gaussian_kernel(z, width)), u_centred(site))
