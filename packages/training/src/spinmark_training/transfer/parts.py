"""An embedding in two parts: what the table explains, and what the image alone says.

The first features learn from the table. Two penalties keep the parts apart, and each moves one of them:
the image part is to say nothing of the teacher's latent, and the table part nothing of what stands in the
image part. So what a table knows gathers in the one part, and what it does not in the other. If the
image part had to shun the table part instead, the latter could keep what both of them see.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spinmark_models.losses.core.batch import batch_mean, batch_size, centred, sum_processes
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.hsic import (
    LEAST_ROWS,
    centred_product,
    gaussian_kernel,
    median_bandwidth,
    u_centred,
)
from spinmark_models.losses.core.precision import exact, without_autocast
from spinmark_models.losses.independence import conditional_independence
from spinmark_training.batch import Batch
from spinmark_training.config.transfer import PartsConfig
from spinmark_training.errors import InputError
from spinmark_training.side_information import SideInformation

FIELD = "transfer.parts"
PENALTIES = ("orthogonal", "hsic", "conditional")
# Ranges that a continuous variable is cut into, equally many scans in each.
_FIFTHS = 5
_SMALL = 1e-6


@without_autocast
def cross_correlation(x_ND: Tensor, y_NE: Tensor) -> Tensor:
    """Return the mean of the squared correlations of all pairs of features, in [0, 1].

    Args:
        x_ND: Rows.
        y_NE: Rows of the same examples, of any width.

    Returns:
        A scalar of the whole batch; about 1 / (N - 1) for N rows that are independent.
    """
    x, y = (_standardised(exact(z)) for z in (x_ND, y_NE))
    return (sum_processes(x.T @ y) / batch_size(x)).square().mean()


def _standardised(x_ND: Tensor) -> Tensor:
    apart = centred(x_ND)
    return apart * (batch_mean(apart.square()) + _SMALL).rsqrt()


@without_autocast
def hsic(x_ND: Tensor, y_NE: Tensor) -> Tensor:
    """Return the unbiased HSIC of two sets of features under Gaussian kernels of the median distance.

    Args:
        x_ND: Rows.
        y_NE: Rows of the same examples, of any width.

    Returns:
        A scalar of the whole batch around 0 for independent features, at times below it.
    """
    x, y = (gather_rows(exact(z))[0] for z in (x_ND, y_NE))
    first, second = (u_centred(gaussian_kernel(z, median_bandwidth(z))) for z in (x, y))
    return centred_product(first, second)


Dependence = Callable[[Tensor, Tensor], Tensor]
_PAIRED: dict[str, Dependence] = {"orthogonal": cross_correlation, "hsic": hsic}


class Strata(nn.Module):
    """What the teacher's latent says beyond a variable: its residual within each stratum.

    Args:
        latents: `(scans, L)`, NaN where nobody may learn.
        codes: `(scans,)`, the stratum of each scan, -1 where unknown.
    """

    residual: Tensor
    codes: Tensor

    def __init__(self, latents: Tensor, codes: Tensor) -> None:
        super().__init__()
        usable = (codes >= 0) & latents.isfinite().all(dim=1)
        residual = torch.zeros_like(latents)
        for code in range(int(codes.max()) + 1):
            here = usable & (codes == code)
            if not here.any():
                continue
            residual[here] = latents[here] - latents[here].mean(dim=0)
        self.register_buffer("residual", residual, persistent=False)
        self.register_buffer("codes", codes, persistent=False)

    def forward(self, image: Tensor, scans: Tensor) -> Tensor:
        """Return the dependence of embeddings `(N, D)` on the residuals, stratum by stratum."""
        return conditional_independence(image, self.residual[scans], self.codes[scans])


def strata_of(name: str, known: SideInformation) -> Tensor:
    """Return the stratum of each scan by a variable, `(scans,)` int64, -1 where unknown.

    Args:
        name: The variable; a continuous one is cut into fifths.
        known: What is known of the scans.

    Raises:
        InputError: No table has it, or no encoder may learn from it.
    """
    field = f"{FIELD}.given"
    (name,) = known.variables((name,), field, roles=False)
    if known.kind(name) != "continuous":
        return known.codes(name, field)[0]
    values = known.numbers((name,), field)[:, 0]
    seen = values[values.isfinite()]
    edges = seen.quantile(torch.arange(1, _FIFTHS).double() / _FIFTHS)
    return torch.where(values.isfinite(), torch.searchsorted(edges, values, right=True), -1)


class PartPenalties(nn.Module):
    """The penalties that keep the parts apart.

    Args:
        table: Features of the table part.
        names: Keys of `PENALTIES`.
        strata: For `conditional`.
    """

    def __init__(self, table: int, names: tuple[str, ...], strata: Strata | None) -> None:
        super().__init__()
        self._table, self._names = table, names
        self.strata = strata

    def forward(self, embedding: Tensor, target: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return each penalty, the mean over the two views; 0 for a batch that is too small.

        Args:
            embedding: `(2N, E)`.
            target: The teacher's latents, `(2N, L)`.
            batch: Whose scans they are.
        """
        if batch_size(embedding[: len(batch)]) < LEAST_ROWS:
            return dict.fromkeys(self._names, 0 * embedding.sum())
        views = []
        for rows, latent, scans in zip(
            embedding.chunk(2), target.chunk(2), (batch.first, batch.second), strict=True
        ):
            table, image = rows[:, : self._table], rows[:, self._table :]
            found = {
                name: measure(image, latent.detach()) + measure(image.detach(), table)
                for name, measure in _PAIRED.items()
                if name in self._names
            }
            if self.strata is not None:
                apart = hsic(image.detach(), table)
                found["conditional"] = self.strata(image, scans) + apart
            views.append(found)
        return {name: (views[0][name] + views[1][name]) / 2 for name in self._names}


def check_parts(config: PartsConfig, features: int, *, frozen: bool) -> None:
    """Refuse parts that cannot be.

    Args:
        config: The parts.
        features: Length of an embedding.
        frozen: Whether the teacher's latents stay as they are.

    Raises:
        InputError: A number is out of its range, a penalty is unknown, or what it needs is not there.
    """
    if not 1 <= config.table < features:
        raise InputError(
            f"{FIELD}.table: {config.table}; accepted are 1 to {features - 1}, as the embedding has "
            f"{features} features"
        )
    for name, weight in config.terms.items():
        if name not in PENALTIES:
            raise InputError(f"{FIELD}.terms: {name!r}; accepted are {sorted(PENALTIES)}")
        if not 0 <= weight < float("inf"):
            raise InputError(f"{FIELD}.terms.{name}: {weight}; accepted are 0 and more")
    conditional = "conditional" in config.terms
    if conditional != (config.given is not None):
        raise InputError(
            f"{FIELD}.given: {config.given!r}; the penalty conditional needs a variable, and no other "
            "uses one"
        )
    if conditional and not frozen:
        raise InputError(
            f"{FIELD}.terms: 'conditional' with a teacher that learns along, whose latents move; accepted "
            "are orthogonal and hsic, or transfer.teacher frozen"
        )
