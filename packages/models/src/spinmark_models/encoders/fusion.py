"""Several sequences of one joint become one embedding, whichever of them were acquired."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from spinmark_models.config import FusionConfig, Shape3
from spinmark_models.encoders.base import ImageEncoder
from spinmark_models.encoders.registry import build_encoder
from spinmark_models.errors import InputError


class FusionEncoder(nn.Module):
    """Embeds each sequence, puts a learned token where one is missing, and joins them linearly.

    Only volumes that are present pass an encoder, so that what stands in the place of a missing one
    changes nothing, not even the statistics of a batch normalisation.

    Args:
        config: The sequences and their encoders.
        input_shapes: Grid (z, y, x) of each sequence.

    Attributes:
        encoders: One a sequence, or one in all under the name `shared`.
        missing_SE: The token of each sequence.

    Raises:
        InputError: The configuration is impossible, or the grids do not fit it.
    """

    def __init__(self, config: FusionConfig, input_shapes: Mapping[str, Shape3]) -> None:
        super().__init__()
        names = tuple(config.sequences)
        if not names or len(set(names)) != len(names):
            raise InputError(f"fusion sequences are {names}; name each of 1 or more once.")
        if set(input_shapes) != set(names):
            raise InputError(
                f"grids are given for {sorted(input_shapes)}; the sequences are {sorted(names)}."
            )
        self.config = replace(config, sequences=names)
        self.input_shapes = {name: input_shapes[name] for name in names}
        self.encoders = nn.ModuleDict()
        if config.shared:
            self.encoders["shared"] = self._shared()
        else:
            for i, name in enumerate(names):
                self.encoders[_key(i)] = build_encoder(config.encoder, input_shapes[name])
        inside = self._encoder(0).embedding_size
        self.embedding_size = inside if config.embedding is None else config.embedding
        if self.embedding_size < 1:
            raise InputError(f"fusion embedding is {self.embedding_size}; use 1 or more.")
        self.missing_SE = nn.Parameter(torch.randn(len(names), inside) * inside**-0.5)
        self.join = nn.Linear(len(names) * inside, self.embedding_size)

    def _shared(self) -> ImageEncoder:
        grids = list(self.input_shapes.values())
        encoder = build_encoder(self.config.encoder, grids[0])
        if encoder.fixed_grid and len(set(grids)) > 1:
            raise InputError(
                f"{encoder.config.name} belongs to one grid, the sequences have {self.input_shapes}; "
                "use shared false or another encoder."
            )
        return encoder

    def _encoder(self, index: int) -> ImageEncoder:
        found = self.encoders["shared" if self.config.shared else _key(index)]
        assert isinstance(found, ImageEncoder)
        return found

    def forward(
        self, volumes: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Embeds a batch of joints.

        Args:
            volumes: `(B, in_channels, D, H, W)` of each sequence, normalised in intensity. A
                sequence that no joint of the batch has may be left out; rows of joints that lack
                one may hold anything.
            present: `(B,)` of each sequence, True where a joint has it. None, or a sequence left
                out, means all of those in `volumes`.

        Returns:
            `(B, embedding)`.

        Raises:
            InputError: A name is unknown, the shapes do not fit, or a joint has no sequence.
        """
        names = self.config.sequences
        present_BS = self._present(volumes, present or {})
        columns = []
        for i, name in enumerate(names):
            token = self.missing_SE[i].expand(len(present_BS), -1)
            rows = present_BS[:, i].nonzero()[:, 0]
            if len(rows):
                x = volumes[name]
                # Where all are present nothing is copied.
                shown = x if len(rows) == len(x) else x.index_select(0, rows)
                vectors = self._embed(i, shown)
                token = token.index_copy(0, rows, vectors.to(token.dtype))
            columns.append(token)
        fused: Tensor = self.join(torch.cat(columns, dim=1))
        return fused

    def _embed(self, index: int, x_BCDHW: Tensor) -> Tensor:
        try:
            vectors: Tensor = self._encoder(index)(x_BCDHW).embedding
        except InputError as error:
            raise InputError(f"{self.config.sequences[index]}: {error}") from error
        return vectors

    def _present(self, volumes: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        names = self.config.sequences
        unknown = sorted({*volumes, *present} - set(names))
        if unknown:
            raise InputError(f"Unknown sequence {unknown[0]!r}. Valid sequences are {list(names)}.")
        if not volumes:
            raise InputError(f"No volumes are given; each joint needs 1 or more of {list(names)}.")
        b = len(next(iter(volumes.values())))
        device = self.missing_SE.device
        columns = []
        for name in names:
            column = present.get(name)
            if column is None:
                column = torch.full((b,), name in volumes, device=device)
            rows = len(volumes[name]) if name in volumes else b
            if tuple(column.shape) != (b,) or column.dtype != torch.bool or rows != b:
                raise InputError(
                    f"{name}: {rows} volumes and presence {column.dtype} of shape "
                    f"{tuple(column.shape)}; use {b} volumes and torch.bool of shape ({b},)."
                )
            if name not in volumes and bool(column.any()):
                raise InputError(f"{name} is said to be present, and no volumes of it are given.")
            columns.append(column.to(device))
        present_BS = torch.stack(columns, dim=1)
        empty = (~present_BS.any(1)).nonzero()[:, 0].tolist()
        if empty:
            raise InputError(
                f"{len(empty)} of {b} joints have no sequence at all, the first in row {empty[0]}; "
                "leave them out."
            )
        return present_BS


def _key(index: int) -> str:
    # A module's name may hold no dot, a sequence's may.
    return f"sequence{index}"
