"""What training can be told, in dataclasses that load without torch, one file a topic."""

from spinmark_training.config.attribution import AttributionConfig
from spinmark_training.config.crossfit import CrossfitConfig
from spinmark_training.config.data import DataConfig
from spinmark_training.config.embed import AlignConfig, EmbedConfig, ViewsConfig, WindowConfig
from spinmark_training.config.finetune import FinetuneConfig
from spinmark_training.config.monitor import MonitorConfig
from spinmark_training.config.objective import ObjectiveConfig
from spinmark_training.config.optim import OptimConfig
from spinmark_training.config.runs import DistilConfig, PretrainConfig, RunConfig
from spinmark_training.config.teacher import TeacherConfig
from spinmark_training.config.trainer import TrainerConfig
from spinmark_training.config.transfer import PartsConfig, TransferConfig

__all__ = [
    "AlignConfig",
    "AttributionConfig",
    "CrossfitConfig",
    "DataConfig",
    "DistilConfig",
    "EmbedConfig",
    "FinetuneConfig",
    "MonitorConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PartsConfig",
    "PretrainConfig",
    "RunConfig",
    "TeacherConfig",
    "TrainerConfig",
    "TransferConfig",
    "ViewsConfig",
    "WindowConfig",
]
