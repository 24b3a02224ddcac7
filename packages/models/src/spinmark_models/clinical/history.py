"""Earlier visits of a row: a recurrent unit goes through them in the order of time."""

import torch
from torch import Tensor, nn


class History(nn.Module):
    """From what each visit says alone to what the visits up to the last one say.

    A gated recurrent unit (Cho et al. 2014, arXiv:1406.1078) takes each visit's embedding and how many
    years it lies before the last visit; its state is added to the last visit's embedding by a linear map.

    Args:
        latent: Length of an embedding.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(latent + 1, latent)
        self.out = nn.Linear(latent, latent)

    def forward(self, visits_NVL: Tensor, years_NV: Tensor, said_NV: Tensor) -> Tensor:
        """Returns `(N, latent)`.

        Args:
            visits_NVL: What each visit says alone, the oldest first.
            years_NV: How long before the last visit.
            said_NV: Whether anything is known of the visit; one of which nothing is known changes nothing.
        """
        state = torch.zeros_like(visits_NVL[:, 0])
        last = visits_NVL.shape[1] - 1
        for v in range(last + 1):
            step = torch.cat([visits_NVL[:, v], years_NV[:, v, None]], dim=1)
            moved = self.cell(step, state)
            # The last visit is that of the row, even where it says nothing.
            state = moved if v == last else torch.where(said_NV[:, v, None], moved, state)
        result: Tensor = visits_NVL[:, -1] + self.out(state)
        return result
