"""Batches of two random views of every joint of some training subjects, resumable mid-epoch."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule

from spinmark_models.config import IntensityRule
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.batch import Batch
from spinmark_training.config.data import DataConfig
from spinmark_training.errors import InputError
from spinmark_training.feed.crops import CropPlan, Shape, check_shape
from spinmark_training.feed.jobs import Job
from spinmark_training.feed.maker import ViewMaker
from spinmark_training.feed.supply import Supply, WorkerParts
from spinmark_training.sampling import Place, SubjectSampler, check_batch, slot_subjects, slots
from spinmark_training.sources import ScanSource

__all__ = ["Batch", "SubjectDataModule"]


class _Plan(NamedTuple):
    """A batch before anything is read."""

    job: Job
    subject: npt.NDArray[np.int64]
    after: Place


class _Stream(Iterable[Batch]):
    """The batches from the owner's place on, without end."""

    def __init__(self, owner: "SubjectDataModule") -> None:
        self._owner = owner

    def __iter__(self) -> Iterator[Batch]:
        return self._owner.start()


class SubjectDataModule(LightningDataModule):
    """Training subjects in batches; every batch is a function of seed and place alone.

    It is the same whatever the workers, the depth of the prefetch, the parts and the number of
    processes, of which each takes its share of the batch.

    Args:
        source: The training subjects' scans, and nobody else's.
        subjects_per_batch: Subjects in a full batch over all processes.
        cross_visit: Chance that a joint's second view is from another visit.
        augment: The random views.
        intensity: The intensity rule.
        seed: The run's seed.
        visits_per_joint: Visits of a joint in a batch, each an entry of its own.
        crop: Grid of the whole views; none takes the volume.
        margin: Voxels read around a crop on each side.
        local_views: Smaller views of each joint.
        local_shape: Their grid; half the whole views' along each axis by default.
        micro_batch: Joints in a part; none leaves a batch in one.
        workers: Processes that prepare batches; with 0 a thread of this one does.
        prefetch: Batches prepared ahead, by each worker where there are such; 0 for none, without workers.
        processes: Rank and number of processes; torch is asked by default.

    Raises:
        InputError: A setting is out of its range, or does not fit the scans.
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
        visits_per_joint: int = 1,
        crop: Shape | None = None,
        margin: Shape = (0, 0, 0),
        local_views: int = 0,
        local_shape: Shape | None = None,
        micro_batch: int | None = None,
        workers: int = 0,
        prefetch: int = 2,
        processes: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("data.workers", workers, 0),
            ("data.prefetch", prefetch, 0),
            ("trainer.micro_batch", micro_batch or 1, 1),
        ):
            if value < least:
                raise InputError(f"{name}: {value}; accepted are {least} and more")
        self._source = source
        self._size = subjects_per_batch
        self._seed = seed
        self._processes = processes
        self._micro_batch = micro_batch
        self._workers = workers
        self._prefetch = prefetch
        source.check_finite()
        scans = source.scans.iloc[source.rows]
        main = (scans["sequence"] == source.sequence).to_numpy()
        self._sampler = SubjectSampler(
            scans[main],
            cross_visit=cross_visit,
            seed=seed,
            visits_per_joint=visits_per_joint,
            further=scans[~main],
        )
        check_batch(len(self._sampler), subjects_per_batch)
        # Of a whole volume there is nothing to align.
        chunk = source.shape if crop is None else source.chunk
        plan = CropPlan.of(source.shape, crop, margin, chunk)
        view = source.shape if crop is None else crop
        halves = (max(1, view[0] // 2), max(1, view[1] // 2), max(1, view[2] // 2))
        small = check_shape("data.local_shape", local_shape or halves, plan.box)
        self._maker = ViewMaker(source, plan, view, small, local_views, augment, intensity, seed)
        self._running: Iterator[Batch] | None = None
        self.place = Place(0, 0)

    @classmethod
    def of(
        cls,
        source: ScanSource,
        config: DataConfig,
        *,
        augment: AugmentConfig,
        intensity: IntensityRule,
        seed: int,
        local_views: int = 0,
        micro_batch: int | None = None,
    ) -> Self:
        """Make one from a configuration.

        Args:
            source: The training subjects' scans, and nobody else's.
            config: What is drawn, and how it is fed.
            augment: The random views.
            intensity: The intensity rule.
            seed: The run's seed.
            local_views: Smaller views of each joint, which the objective knows.
            micro_batch: Joints in a part; none leaves a batch in one.

        Raises:
            InputError: A setting is out of its range, or does not fit the scans.
        """
        return cls(
            source,
            subjects_per_batch=config.subjects_per_batch,
            cross_visit=config.cross_visit,
            augment=augment,
            intensity=intensity,
            seed=seed,
            visits_per_joint=config.visits_per_joint,
            crop=config.crop,
            margin=config.margin,
            local_views=local_views,
            local_shape=config.local_shape,
            micro_batch=micro_batch,
            workers=config.workers,
            prefetch=config.prefetch,
        )

    @property
    def subjects(self) -> list[str]:
        """The subjects that batches are drawn from, by number."""
        return self._sampler.subjects

    @property
    def joints(self) -> list[str]:
        """Their joints, by number."""
        return self._sampler.joints

    @property
    def view_shape(self) -> Shape:
        """Grid of the whole views: what the encoder takes."""
        return self._maker.view

    def _rank_and_world(self) -> tuple[int, int]:
        if self._processes is not None:
            return self._processes
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _plans(self) -> Iterator[_Plan]:
        """What stands in the batches from the current place on, on this process."""
        rank, world = self._rank_and_world()
        n = len(self._sampler)
        check_batch(n, self._size, world)
        for slot in slots(n, self._size, self.place, world):
            chosen = slot_subjects(slot, n, seed=self._seed)
            draw = self._sampler.draw(chosen, slot.place.epoch).share(rank, world)
            rows = self._source.rows
            job = Job(
                epoch=slot.place.epoch,
                joints=slice(0, len(draw.first)),
                first=rows[draw.first],
                second=rows[draw.second],
                joint=draw.joint,
                ordinal=draw.ordinal,
            )
            yield _Plan(job, draw.subject, slot.after)

    def _batches(self) -> Iterator[Batch]:
        device = torch.device("cpu")
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
        with closing(Supply(self._maker, device, self._workers, self._prefetch)) as supply:
            if self._micro_batch is not None:
                for plan in self._plans():
                    parts = WorkerParts(supply, plan.job, self._micro_batch)
                    yield _batch(plan, parts, len(parts))
                return
            waiting: deque[_Plan] = deque()

            def jobs() -> Iterator[Job]:
                for plan in self._plans():
                    waiting.append(plan)
                    yield plan.job

            with closing(supply.run(jobs())) as results:
                for result in results:
                    yield _batch(waiting.popleft(), result, 1)

    def start(self) -> Iterator[Batch]:
        """Return the batches from the current place on; ends those of an earlier call."""
        self.close()
        self._running = self._batches()
        return self._running

    def close(self) -> None:
        """End the thread and the workers, if there are any; `start` starts them again."""
        running, self._running = self._running, None
        if running is not None:
            running.close()  # type: ignore[attr-defined]

    def train_dataloader(self) -> Iterable[Batch]:
        """Return the batches from the current place on, without end."""
        return _Stream(self)

    def teardown(self, stage: str) -> None:
        """End what runs beside the training."""
        self.close()

    def on_exception(self, exception: BaseException) -> None:
        """End what runs beside the training."""
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the place, for a checkpoint."""
        return {"epoch": self.place.epoch, "consumed": self.place.consumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Return to a place."""
        self.place = Place(int(state_dict["epoch"]), int(state_dict["consumed"]))


def _batch(plan: _Plan, cut: Any, parts: int) -> Batch:
    return Batch(
        first=torch.from_numpy(plan.job.first),
        second=torch.from_numpy(plan.job.second),
        subject=torch.from_numpy(plan.subject),
        joint=torch.from_numpy(plan.job.joint),
        after=plan.after,
        cut=cut,
        parts=parts,
    )
