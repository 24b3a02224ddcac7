"""A whole run: pretraining or distillation."""

from dataclasses import dataclass, field
from pathlib import Path

from spinmark_models.config import EncoderConfig, IntensityRule, ProjectionConfig
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config.data import DataConfig
from spinmark_training.config.monitor import MonitorConfig
from spinmark_training.config.objective import ObjectiveConfig
from spinmark_training.config.optim import OptimConfig
from spinmark_training.config.teacher import TeacherConfig
from spinmark_training.config.trainer import TrainerConfig
from spinmark_training.config.transfer import TransferConfig


@dataclass(kw_only=True)
class RunConfig:
    """What pretraining and distillation have in common.

    Args:
        seed: Fixes the weights, the order of subjects and every augmentation.
        data: The scans.
        encoder: The image encoder; a run that is continued keeps its own.
        projection: The head between the embedding and the objective.
        intensity: The rule that makes intensities comparable; stored with the encoder.
        augment: The random views.
        objective: The self-supervised objective.
        optim: The optimiser.
        trainer: The device and the bookkeeping.
        monitor: The measurements along the way.
    """

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    intensity: IntensityRule = field(default_factory=IntensityRule)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)


@dataclass(kw_only=True)
class PretrainConfig(RunConfig):
    """Self-supervised pretraining.

    Args:
        seed: Fixes the weights, the order of subjects and every augmentation.
        data: The scans.
        encoder: The image encoder; a run that is continued keeps its own.
        projection: The head between the embedding and the objective.
        intensity: The rule that makes intensities comparable; stored with the encoder.
        augment: The random views.
        objective: The self-supervised objective.
        optim: The optimiser.
        trainer: The device and the bookkeeping.
        monitor: The measurements along the way.
        init_from: A run whose encoder and heads are continued, or a safetensors file from elsewhere, whose
            tensors are taken where they fit, 2D kernels spread along z.
    """

    init_from: Path | None = None


@dataclass(kw_only=True)
class DistilConfig(RunConfig):
    """Distillation of a clinical teacher into the image encoder.

    Args:
        seed: Fixes the weights, the order of subjects and every augmentation.
        data: The scans.
        encoder: The image encoder; a run that is continued keeps its own.
        projection: The head between the embedding and the objectives.
        intensity: The rule that makes intensities comparable; a run that is continued keeps its own.
        augment: The random views.
        objective: The self-supervised objective.
        optim: The optimiser.
        trainer: The device and the bookkeeping.
        monitor: The measurements along the way.
        teacher: The clinical encoder.
        ssl_weight: Weight of the self-supervised objective.
        transfer: The terms between image and table.
        shuffle_tables: Give every training subject another's table: a control that must not help.
    """

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    ssl_weight: float = 1.0
    transfer: TransferConfig = field(default_factory=TransferConfig)
    shuffle_tables: bool = False
