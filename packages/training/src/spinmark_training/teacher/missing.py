"""How well a teacher does with cells that it is not shown."""

import torch
from torch import Tensor

from spinmark_data.features import ClinicalTable
from spinmark_models.clinical import TabularEncoder
from spinmark_training.teacher.inputs import arrays_of


@torch.no_grad()
def reconstruction(
    encoder: TabularEncoder, fitted: ClinicalTable, held_out: ClinicalTable, seed: int
) -> tuple[float, float]:
    """Return how badly hidden cells of held-out rows are reconstructed, and by a constant a column.

    Args:
        encoder: The encoder, in evaluation mode.
        fitted: The rows it was fitted on: their means and frequencies are the constants.
        held_out: Other rows.
        seed: Draws the hidden cells.

    Returns:
        The mean loss over hidden cells (Huber, or nats for categories) of the encoder, and that of
        predicting each column's mean or frequencies.
    """
    rows, train = (encoder.schema.encode(*arrays_of(table)) for table in (held_out, fitted))
    hidden = encoder.hide(rows, torch.Generator().manual_seed(seed))
    model = encoder.reconstruction_loss(rows, hidden_NP=hidden)
    clip = encoder.config.clip
    parts: list[Tensor] = []
    for j, categories in enumerate(encoder.schema.cardinalities):
        seen = train.observed[:, j]
        cells = hidden[:, j]
        if categories:
            share = torch.bincount(train.codes[seen, j], minlength=categories) / seen.sum()
            parts.append(-share.log()[rows.codes[cells, j]])
        else:
            mean = train.numbers[seen, j].clamp(-clip, clip).mean()
            target = rows.numbers[cells, j].clamp(-clip, clip)
            parts.append(
                torch.nn.functional.huber_loss(mean.expand_as(target), target, reduction="none")
            )
    constant = torch.cat(parts)
    return float(model), float(constant.mean()) if len(constant) else 0.0
