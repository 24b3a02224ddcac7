"""From a job to stored integers, and from those to views: the two halves of feeding.

The first half reads, the second computes. A worker or a thread does both for a step on the CPU; for a
step on a GPU it does the first alone, integers travel, and the views are cut on the device.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.parameters import AugmentParameters
from spinmark_training.batch import Cut
from spinmark_training.feed.crops import CropPlan, Shape
from spinmark_training.feed.draws import keyed_parameters
from spinmark_training.feed.jobs import Job
from spinmark_training.feed.keys import hashes, uniforms
from spinmark_training.sources import ScanSource
from spinmark_training.streams import Stream


@dataclass(frozen=True)
class Looks:
    """Views of one size: what each is cut from, and how.

    Args:
        source: Which of the samples, `(V,)` int64.
        parameters: The random changes, on the CPU.
    """

    source: Tensor
    parameters: AugmentParameters

    def __getstate__(self) -> dict[str, Any]:
        # As arrays: a worker would open a file of shared memory for every tensor.
        found = {name: t.numpy() for name, t in self.parameters.tensors().items()}
        return {"source": self.source.numpy(), "parameters": found}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = {name: torch.from_numpy(a) for name, a in state["parameters"].items()}
        object.__setattr__(self, "source", torch.from_numpy(state["source"]))
        object.__setattr__(self, "parameters", AugmentParameters(**tensors))


@dataclass(frozen=True)
class Samples:
    """What was read for the views of some joints.

    Args:
        joints: Which of the batch's joints.
        volumes: One box a scan, as stored, `(S, z, y, x)`.
        scale: Factors to [0, 1], `(S,)`.
        offset: Shifts to [0, 1], `(S,)`.
        whole: The two views of each joint.
        local: The smaller ones, if any.
    """

    joints: slice
    volumes: Tensor
    scale: Tensor
    offset: Tensor
    whole: Looks
    local: Looks | None

    def pin_memory(self, device: Any = None) -> "Samples":
        """Return the same with volumes in memory that a GPU can fetch by itself."""
        return replace(self, volumes=self.volumes.pin_memory())


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of joints; a function of the job alone.

    Args:
        source: The scans.
        plan: Which box of a scan is read.
        view: Grid of the whole views.
        local_shape: Grid of the smaller views.
        local_views: How many of them a joint has.
        augment: The random changes.
        intensity: The intensity rule.
        seed: The run's seed.
    """

    source: ScanSource
    plan: CropPlan
    view: Shape
    local_shape: Shape
    local_views: int
    augment: AugmentConfig
    intensity: IntensityRule
    seed: int

    def read(self, job: Job) -> Samples:
        """Read one box a scan, and draw what is to become of it.

        Args:
            job: The joints.
        """
        n = len(job.first)
        # A joint whose two views are of one scan has one sample, any other has two.
        second_of = np.arange(n)
        apart = np.flatnonzero(job.first != job.second)
        second_of[apart] = n + np.arange(len(apart))
        rows = np.concatenate([job.first, job.second[apart]])
        key = (self.seed, Stream.CROPS, job.epoch)
        # The same place at both visits.
        starts = self.plan.draw(uniforms(hashes(key, job.joint, job.ordinal), 3))
        starts = np.concatenate([starts, starts[apart]])
        scale, offset = self.source.unit_scale(rows, self.intensity)
        by_view = [np.arange(n), second_of]
        local = None
        if self.local_views:
            sources = [by_view[k % 2] for k in range(self.local_views)]
            local = self._looks(job, sources, 2, self.local_shape)
        return Samples(
            joints=job.joints,
            volumes=torch.from_numpy(self.source.boxes(rows, starts, self.plan.box)),
            scale=torch.from_numpy(scale),
            offset=torch.from_numpy(offset),
            whole=self._looks(job, by_view, 0, self.view),
            local=local,
        )

    def _looks(
        self, job: Job, sources: list[npt.NDArray[np.int64]], number: int, shape: Shape
    ) -> Looks:
        """Views `number`, `number + 1`, ... of each joint."""
        views = (number + np.arange(len(sources))).repeat(len(job.joint))
        columns = [np.tile(c, len(sources)) for c in (job.joint, job.ordinal)]
        key = (self.seed, Stream.VIEWS, job.epoch)
        parameters = keyed_parameters(hashes(key, *columns, views), self.augment)
        reach = np.array(self.plan.reach(shape))
        if reach.any():
            keys = hashes((self.seed, Stream.CENTRES, job.epoch), *columns, views)
            shift = (2 * uniforms(keys, 3) - 1) * reach * np.array(self.source.spacing_mm)
            parameters = replace(parameters, centre=torch.from_numpy(shift).float())
        return Looks(torch.from_numpy(np.concatenate(sources)), parameters)

    def cut(self, samples: Samples, device: torch.device) -> Cut:
        """Cut views from what was read; on a GPU nothing waits for it.

        Args:
            samples: What was read.
            device: Where the views are wanted.
        """
        volumes = samples.volumes.to(device, non_blocking=True)
        local = samples.local
        return Cut(
            samples.joints,
            self._cut(volumes, samples, samples.whole, self.view),
            None if local is None else self._cut(volumes, samples, local, self.local_shape),
        )

    def _cut(self, volumes: Tensor, samples: Samples, looks: Looks, shape: Shape) -> Tensor:
        return apply(
            volumes,
            looks.parameters,
            source=looks.source,
            shape=shape,
            scale=samples.scale,
            offset=samples.offset,
            mean=self.intensity.mean,
            sd=self.intensity.sd,
            spacing_mm=self.source.spacing_mm,
            fast=self.augment.fast,
        )
