"""How many keys of a slow teacher a row is contrasted with: those of a store, or those of the batch."""

import torch
from torch import Tensor

from spinmark_models.losses.core.batch import process_count
from spinmark_models.losses.core.gather import gather_rows
from spinmark_training.objectives.chance import candidates


def stored_negatives(subject: Tensor, owners: Tensor, ignore_same: bool) -> Tensor:
    """Return the number of stored keys that are negatives of each row, `(N,)` float64.

    Args:
        subject: The subject of each row `(N,)`.
        owners: Those of the stored keys `(K,)`, below 0 where there is none.
        ignore_same: Whether keys of the same subject are no negatives.
    """
    total = float(len(owners))
    count = torch.full(subject.shape, total, dtype=torch.float64, device=subject.device)
    if not ignore_same:
        return count
    same = (subject[:, None] == owners[None, :]) & (owners >= 0)[None, :]
    return count - same.sum(dim=1)


def stored_figures(count: Tensor, mixtures: int = 0) -> dict[str, Tensor]:
    """Return `chance` and `negatives` of a batch over all processes, without waiting for the device.

    What a store holds does not follow from the batch, so `negatives_expected` is `negatives` here.

    Args:
        count: Negatives of each of this process's rows `(N,)`.
        mixtures: Made-up negatives beside them, for rows that have any.
    """
    everyone, _ = gather_rows(count)
    made = torch.where(everyone > 0, everyone + mixtures, everyone)
    mean = everyone.mean()
    return {"chance": torch.log1p(made).mean(), "negatives": mean, "negatives_expected": mean}


def one_key_negatives(subject: Tensor, ignore_same: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the negatives of each joint where every other joint of the batch has one key.

    Args:
        subject: The subject of each of this process's joints `(N,)`.
        ignore_same: Whether keys of the same subject are no negatives.

    Returns:
        Their number for the joints of all processes, and the figures `negatives` and
        `negatives_expected`; the latter follows from this process's joints alone.
    """
    everyone = candidates(gather_rows(subject)[0], ignore_same) / 2
    own = candidates(subject, ignore_same).mean() / 2
    expected = own + (process_count() - 1) * len(subject)
    return everyone, {"negatives": everyone.mean(), "negatives_expected": expected}
