"""What is measured along the way, and where it is shown."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class MonitorConfig:
    """What is measured during the run on validation subjects, and never trained on.

    Args:
        every: Steps between two measurements; 0 measures only at the end.
        variables: Table variables that probes read from the embedding: numbers by ridge regression and
            nearest neighbours, classes by a linear classifier and nearest neighbours.
        leakage: A nominal variable that should be hard to read; none probes no leakage.
        max_scans: Most scans embedded for a measurement, training and validation each.
        lidar_scans: Validation joints of which several views are embedded, for LiDAR, alignment and
            uniformity; 0 leaves them out.
        lidar_views: Views of each of them, 2 or more.
        loggers: Where the figures go beside `metrics.csv`; each is an extra of spinmark-training.
        experiment: The name under which W&B (project) and MLflow (experiment) file the run.
        online: Let W&B and MLflow send figures to the server that their own environment variables name;
            else they write into the run's folder alone.
    """

    every: int = 50
    variables: tuple[str, ...] = ("XRKL", "WOMKP", "SEX")
    leakage: str | None = "SITE"
    max_scans: int = 160
    lidar_scans: int = 24
    lidar_views: int = 8
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    experiment: str = "spinmark"
    online: bool = False
