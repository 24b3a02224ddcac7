"""Where the figures go beside `metrics.csv`: TensorBoard, Weights & Biases, MLflow.

Each is imported only when it is asked for and writes into the run's folder; W&B and MLflow send
nothing to a server unless told to. What is written are numbers by column name and a random
name of the run: no subject, no path of a cohort, no command line, no user and no machine.
"""

import importlib
import json
import logging
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from spinmark_training.config import MonitorConfig
from spinmark_training.errors import InputError

logger = logging.getLogger(__name__)

_BOOKS = ("step", "epoch")  # of a row, and no figures


class MetricsLogger(Protocol):
    """Something that shows the figures of a run."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""

    def close(self) -> None:
        """Write what is still held back."""


class TensorBoardLogger:
    """Event files for TensorBoard.

    Args:
        folder: Where they are written.
        first: The step that comes next; later ones of an interrupted run are hidden.
    """

    def __init__(self, folder: Path, first: int = 0) -> None:
        with _missing("tensorboard"), _quiet():
            tensorboard = importlib.import_module("torch.utils.tensorboard")
            self._writer: Any = tensorboard.SummaryWriter(str(folder), purge_step=first or None)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases, offline unless told otherwise.

    Args:
        folder: Where its files are written.
        project: The project that it is filed under.
        name: The run's random name; the same one goes on with a run.
        online: Send it to the server.
    """

    def __init__(self, folder: Path, project: str, name: str, online: bool = False) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        with _missing("wandb"), _quiet():
            wandb = importlib.import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        wanted: dict[str, Any] = {
            "mode": "online" if online else "offline",
            "silent": True,
            "console": "off",
            # The command line holds paths; machine and user are nobody's business.
            "x_disable_meta": True,
            "x_disable_machine_info": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
            "disable_git": True,
            "disable_code": True,
            "disable_job_creation": True,
            "save_code": False,
            "host": "",
            "username": "",
            "email": "",
            "program": "",
        }
        known = {k: v for k, v in wanted.items() if k in wandb.Settings.model_fields}
        with _quiet():
            self._run: Any = wandb.init(
                project=project,
                dir=str(folder),
                id=name,
                name=name,
                resume="allow",
                settings=wandb.Settings(**known),
            )
            # Its own count of calls is no step of ours, least of all after a restart.
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        self._run.log({"step": step, **figures})

    def close(self) -> None:
        """Write what is still held back."""
        with _quiet():
            self._run.finish()


class MlflowLogger:
    """A run of MLflow in a database file of the run's folder, or on a server.

    Args:
        folder: Where the database is written.
        experiment: The experiment that it is filed under.
        name: The run's random name; the same one goes on with a run.
        online: Use the server that `MLFLOW_TRACKING_URI` names.

    Raises:
        InputError: `online` without that variable.
    """

    def __init__(self, folder: Path, experiment: str, name: str, online: bool = False) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        uri: str | None = None
        if online and not os.environ.get("MLFLOW_TRACKING_URI"):
            raise InputError(
                "monitor.online: true, but MLFLOW_TRACKING_URI names no server; set it, or use false"
            )
        if not online:
            folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        with _missing("mlflow"), _quiet():
            mlflow = importlib.import_module("mlflow")
            entities = importlib.import_module("mlflow.entities")
            importlib.import_module("sqlalchemy")  # the small mlflow comes without
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            logging.getLogger("alembic").setLevel(logging.WARNING)
            self._metric: Any = entities.Metric
            # The client, and not `mlflow.start_run`, which notes the script, the user and the commit.
            self._client: Any = mlflow.MlflowClient(tracking_uri=uri)
            self._run = self._find(experiment, name, uri is not None)

    def _find(self, experiment: str, name: str, local: bool) -> str:
        found = self._client.get_experiment_by_name(experiment)
        # No file is ever logged; a name instead of the default keeps the working folder's path out.
        where = {"artifact_location": "mlflow-artifacts:/none"} if local else {}
        number = (
            found.experiment_id if found else self._client.create_experiment(experiment, **where)
        )
        runs = self._client.search_runs([number], f"attributes.run_name = '{name}'", max_results=1)
        run = runs[0] if runs else self._client.create_run(number, run_name=name)
        return str(run.info.run_id)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        now = int(time.time() * 1000)
        metrics = [self._metric(k, float(v), now, step) for k, v in figures.items()]
        with _quiet():
            self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Write what is still held back."""
        with _quiet():
            self._client.set_terminated(self._run)


class Loggers:
    """Several loggers as one; one that fails is given up with a warning, and the run goes on.

    Args:
        parts: The loggers by name.
    """

    def __init__(self, parts: Mapping[str, MetricsLogger]) -> None:
        self._parts = dict(parts)

    def _each(self, do: Callable[[MetricsLogger], None]) -> None:
        for name, part in list(self._parts.items()):
            try:
                do(part)
            except Exception as error:  # a full disk or a lost server must not end days of training
                logger.warning("logger %s is given up: %s; metrics.csv goes on", name, error)
                del self._parts[name]

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step; `step` and `epoch` among them are left out."""
        kept = {k: float(v) for k, v in figures.items() if k not in _BOOKS}
        self._each(lambda part: part.log(step, kept))

    def close(self) -> None:
        """Close all."""
        self._each(lambda part: part.close())
        self._parts.clear()


def open_loggers(config: MonitorConfig, out: Path, *, first: int = 0) -> Loggers:
    """Open the loggers that are asked for, in `out/logs`; call on one process of a run alone.

    Args:
        config: Names them.
        out: The run's folder.
        first: The step that comes next; above 0 a run is gone on with, under the name it had.

    Raises:
        InputError: A package is missing, or a server has no name.
    """
    folder = out / "logs"
    parts: dict[str, MetricsLogger] = {}
    for kind in dict.fromkeys(config.loggers):
        if kind == "tensorboard":
            parts[kind] = TensorBoardLogger(folder / kind, first)
        else:
            make = WandbLogger if kind == "wandb" else MlflowLogger
            parts[kind] = make(folder / kind, config.experiment, _name(folder), config.online)
    return Loggers(parts)


def _name(folder: Path) -> str:
    """Return the run's name outside: random, and kept for a restart."""
    path = folder / "name.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": secrets.token_hex(6)}) + "\n")
    return str(json.loads(path.read_text())["name"])


@contextmanager
def _missing(package: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"monitor.loggers: {package!r} needs a package that is not installed ({error.name}); "
            f"install spinmark-training[{package}], or leave it out"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what these packages say of their own dependencies out of the run's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
