"""A fitted teacher: what it makes of table rows, and its files."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from spinmark_data.features import ClinicalTable
from spinmark_models.clinical import TabularEncoder
from spinmark_models.errors import InputError as ModelInputError
from spinmark_models.export import load_clinical, save_clinical
from spinmark_models.tables import EncodedTable
from spinmark_training.config import TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike, SplitLike
from spinmark_training.teacher.inputs import encode_table, teacher_table
from spinmark_training.teacher.readout import Readout, load_readout, save_readout

# What of its configuration says what a teacher sees.
_SEEN = ("roles", "leave_out", "add", "arrays", "reasons", "missing", "visits")
# Rows that go through the encoder at a time.
_CHUNK = 4096


@dataclass(frozen=True)
class Teacher:
    """A fitted clinical encoder and what it was fitted on.

    Attributes:
        encoder: The encoder, in evaluation mode.
        subjects: The subjects whose rows it was fitted on, sorted.
        mean: Mean of each latent over those rows, `(L,)` float64.
        sd: Their standard deviation, `(L,)` float64; 1 where a latent does not vary.
        config: What it sees; of the rest only what `fit_teacher` was given.
        seed: The seed it was fitted with; decides which cells `config.missing` takes away.
        readout: From its latents back to the cells, at any share of missing ones; none in teachers of
            earlier releases.
    """

    encoder: TabularEncoder
    subjects: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]
    config: TeacherConfig = field(default_factory=TeacherConfig)
    seed: int = 0
    readout: Readout | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the variables it takes."""
        return tuple(self.config.roles)

    def rows(self, table: ClinicalTable) -> EncodedTable:
        """Turn what it sees into tensors, a row a scan."""
        return encode_table(self.encoder.schema, table)

    @torch.no_grad()
    def raw_latents(self, rows: EncodedTable, hidden: Tensor | None = None) -> Tensor:
        """Embed encoded rows as they are `(N, L)` float32, cells hidden where asked."""
        parts = [
            self.encoder(
                rows.rows(slice(i, i + _CHUNK)), None if hidden is None else hidden[i : i + _CHUNK]
            )
            for i in range(0, len(rows.numbers), _CHUNK)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self.encoder.embedding_size)

    def latents(self, table: ClinicalTable) -> npt.NDArray[np.float32]:
        """Embed rows and standardise them: `(N, L)`."""
        raw = self.raw_latents(self.rows(table)).numpy()
        return ((raw - self.mean) / self.sd).astype(np.float32)

    def soft_targets(self, rows: EncodedTable) -> dict[str, Tensor]:
        """Predict every variable from what the rows show, for heads that are taught softly.

        Args:
            rows: Encoded rows.

        Returns:
            By variable: the mean `(N,)` of a number, in the schema's standardised units, or the
            probabilities `(N, C)` of the categories in the order of the schema.

        Raises:
            InputError: An earlier release wrote the teacher, or its encoder has learnt since.
        """
        if self.readout is None:
            raise InputError(
                "teacher: an earlier release wrote it, without a readout; fit it again with `spinmark distil`"
            )
        self.readout.check(self.encoder)
        with torch.no_grad():
            return self.readout.predictions(self.raw_latents(rows))

    def predict(self, table: ClinicalTable) -> dict[str, npt.NDArray[np.float64]]:
        """Predict every variable from what the rows show.

        Args:
            table: Rows.

        Returns:
            By variable: the mean `(N,)` of a number in the variable's own unit, or the probabilities
            `(N, C)` of the categories, `encoder.schema.categories`.

        Raises:
            InputError: An earlier release wrote the teacher, or a column is absent.
        """
        schema = self.encoder.schema
        found: dict[str, npt.NDArray[np.float64]] = {}
        soft = self.soft_targets(self.rows(table))
        for name, centre, scale, categories in zip(
            schema.names, schema.centres, schema.scales, schema.categories, strict=True
        ):
            values = soft[name].double().numpy()
            found[name] = values if categories else values * scale + centre
        return found


def check_subjects(teacher: Teacher, split: SplitLike) -> None:
    """Refuse a teacher that has seen others than the training subjects of a split.

    Raises:
        InputError: It has.
    """
    frame = split.frame
    train = set(frame.loc[frame["set"] == "train", "subject_id"])
    stray = sorted(set(teacher.subjects) - train)
    if stray:
        raise InputError(
            f"teacher: fitted on subject {stray[0]}, no training subject of this split ({len(stray)} "
            "such); accepted is a teacher fitted on training subjects alone"
        )


def teacher_latents(
    teacher: Teacher, cohort: CohortLike, split: SplitLike, scans: pd.DataFrame
) -> npt.NDArray[np.float32]:
    """Return what the teacher makes of each scan's table row.

    Args:
        teacher: The teacher.
        cohort: The cohort.
        split: The split that whatever learns from the latents is fitted with.
        scans: One row a scan, in the order of the store.

    Returns:
        `(scans, L)`, standardised on the rows the teacher was fitted on.

    Raises:
        InputError: The teacher was fitted on others than training subjects, or a variable is absent.
    """
    check_subjects(teacher, split)
    try:
        return teacher.latents(teacher_table(cohort, scans, teacher.config, teacher.seed, split))
    except ModelInputError as error:
        raise InputError(f"teacher: {error}") from None


def save_teacher(folder: Path, teacher: Teacher, facts: dict[str, Any] | None = None) -> None:
    """Write the encoder, the readout and `teacher.json`.

    Args:
        folder: Made if absent.
        teacher: The teacher.
        facts: Anything else worth keeping that JSON can hold.
    """
    save_clinical(folder, teacher.encoder)
    if teacher.readout is not None:
        save_readout(folder, teacher.readout)
    settings = asdict(teacher.config)
    page = {
        **(facts or {}),
        **{name: settings[name] for name in _SEEN},
        "arrays": [str(path) for path in teacher.config.arrays],
        "seed": teacher.seed,
        "subjects": list(teacher.subjects),
        "latent_mean": teacher.mean.tolist(),
        "latent_sd": teacher.sd.tolist(),
    }
    (folder / "teacher.json").write_text(json.dumps(page, indent=2) + "\n")


def load_teacher(folder: Path) -> Teacher:
    """Read what `save_teacher` wrote.

    Raises:
        InputError: A file is absent or damaged.
    """
    try:
        page = json.loads((folder / "teacher.json").read_text())
        encoder = load_clinical(folder)
        return Teacher(
            encoder=encoder,
            subjects=tuple(page["subjects"]),
            mean=np.asarray(page["latent_mean"], np.float64),
            sd=np.asarray(page["latent_sd"], np.float64),
            config=_config(page, encoder),
            seed=int(page.get("seed", 0)),
            readout=load_readout(folder, encoder),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'teacher.json'}: {error}; make the run again with `spinmark distil`"
        ) from error


def _config(page: dict[str, Any], encoder: TabularEncoder) -> TeacherConfig:
    known = {f.name for f in fields(TeacherConfig)}
    seen = {name: page[name] for name in _SEEN if name in page and name in known}
    seen = {name: tuple(v) if isinstance(v, list) else v for name, v in seen.items()}
    seen["roles"] = tuple(page["roles"])
    seen["arrays"] = tuple(Path(path) for path in seen.get("arrays", ()))
    return TeacherConfig(**seen, encoder=encoder.config, scaling=_scaling(encoder.schema.scaling))


def _scaling(name: str) -> Any:
    return name
