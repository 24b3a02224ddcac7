"""Batches of two random views of every joint of some training subjects, resumable mid-epoch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from spinmark_models.config import IntensityRule
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.batch import Batch, Cut
from spinmark_training.errors import InputError
from spinmark_training.sampling import Place, SubjectSampler, epoch_batches
from spinmark_training.sources import ScanSource
from spinmark_training.views import random_views


class _Stream(IterableDataset[Batch]):
    """The batches from a place on, without end."""

    def __init__(self, owner: "SubjectDataModule") -> None:
        self._owner = owner

    def __iter__(self) -> Iterator[Batch]:
        place = self._owner.place
        while True:
            batches = self._owner.batches(place.epoch)
            for number in range(place.consumed, len(batches)):
                last = number + 1 == len(batches)
                after = Place(place.epoch + 1, 0) if last else Place(place.epoch, number + 1)
                yield self._owner.batch(Place(place.epoch, number), after)
            place = Place(place.epoch + 1, 0)


class SubjectDataModule(LightningDataModule):
    """Training subjects in batches; every batch is a function of seed and place alone.

    Args:
        source: The training subjects' scans, and nobody else's.
        subjects_per_batch: Subjects in a batch over all processes, at most.
        cross_visit: Chance that a joint's second view is from another visit.
        augment: The random views.
        intensity: The intensity rule.
        seed: The run's seed.

    Raises:
        InputError: A batch would hold a subject alone, who has no negatives.
    """

    def __init__(
        self,
        source: ScanSource,
        *,
        subjects_per_batch: int,
        cross_visit: float,
        augment: AugmentConfig,
        intensity: IntensityRule,
        seed: int,
    ) -> None:
        super().__init__()
        self._source = source
        self._size = subjects_per_batch
        self._augment = augment
        self._intensity = intensity
        self._seed = seed
        scans = source.scans.iloc[source.rows]
        self._sampler = SubjectSampler(scans, cross_visit=cross_visit, seed=seed)
        self.place = Place(0, 0)
        smallest = min(len(batch) for batch in self.batches(0)) if subjects_per_batch > 0 else 0
        if smallest < 2:
            raise InputError(
                f"data.subjects_per_batch: {subjects_per_batch} of {len(self._sampler)} training "
                "subjects leaves a batch with fewer than 2, between whom nothing can be contrasted; "
                "use another size, or more subjects"
            )

    @property
    def subjects(self) -> list[str]:
        """The subjects that batches are drawn from."""
        return self._sampler.subjects

    def batches(self, epoch: int) -> list[Any]:
        """Return the subjects of each batch of an epoch on this process."""
        rank, world = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        return epoch_batches(
            len(self._sampler), self._size, seed=self._seed, epoch=epoch, rank=rank, world=world
        )

    def batch(self, place: Place, after: Place) -> Batch:
        """Make the batch at a place.

        Args:
            place: Epoch and number of the batch within it.
            after: The place that follows.
        """
        draw = self._sampler.draw(self.batches(place.epoch)[place.consumed], place.epoch)
        first, second = self._source.rows[draw.first], self._source.rows[draw.second]
        views = random_views(
            self._source,
            np.concatenate([first, second]),
            self._augment,
            self._intensity,
            key=(self._seed, place.epoch, place.consumed),
        )
        return Batch(
            cut=lambda part, device: Cut(slice(0, len(first)), views.to(device), None),
            first=torch.from_numpy(first),
            second=torch.from_numpy(second),
            subject=torch.from_numpy(draw.subject),
            after=after,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the batches from the current place on, without end."""
        # In-process: the volumes are in memory, and workers would copy every batch once more.
        return DataLoader(_Stream(self), batch_size=None)

    def state_dict(self) -> dict[str, Any]:
        """Return the place, for a checkpoint."""
        return {"epoch": self.place.epoch, "consumed": self.place.consumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Return to a place."""
        self.place = Place(int(state_dict["epoch"]), int(state_dict["consumed"]))
