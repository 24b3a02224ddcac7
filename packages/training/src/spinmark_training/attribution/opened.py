"""A distilled run, opened for attribution: encoder, teacher and what compares them."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import read_split
from spinmark_models.config import IntensityRule
from spinmark_models.export import EncoderSpec, load_encoder
from spinmark_models.tables import EncodedTable
from spinmark_training.attribution.cells import described
from spinmark_training.attribution.similarity import Heads, RidgeHeads, Similarity, similarity_of
from spinmark_training.attribution.volumes import VolumeBaseline
from spinmark_training.attribution.windows import Embedding, embedding_for
from spinmark_training.config import AttributionConfig
from spinmark_training.crossfit import read_crossfit
from spinmark_training.errors import InputError
from spinmark_training.sources import ScanSource, SplitLike, check_accelerator, scan_sets
from spinmark_training.teacher import Teacher, load_teacher
from spinmark_training.teacher.inputs import teacher_table
from spinmark_training.transfer.alignment import load_alignment
from spinmark_training.views import plain_views

logger = logging.getLogger(__name__)
# Scans that a ridge regression is fitted on, where a run has no heads.
_MOST_FITTED = 1000
_ALPHAS = np.logspace(-2, 6, 17)


@dataclass(frozen=True)
class OpenedRun:
    """What attribution needs of a run and of the cohort.

    Attributes:
        similarity: What the run makes of scans and rows.
        source: All scans of its sequence.
        sets: The set of each.
        rows: The table row of each.
        variables: The teacher's variables: `variable`, `label`, `role`, `group`.
        intensity: The encoder's intensity rule.
        baseline: Where the path of a volume begins.
        device: Where to compute.
    """

    similarity: Similarity
    source: ScanSource
    sets: pd.Series
    rows: EncodedTable
    variables: pd.DataFrame
    intensity: IntensityRule
    baseline: VolumeBaseline
    device: torch.device


def check_config(config: AttributionConfig) -> None:
    """Check the numbers that no other part checks.

    Raises:
        InputError: One is out of its range.
    """
    least = {"most_steps": 16, "randomised": 0, "batch_size": 1, "seed": 0}
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise InputError(f"{name}: {getattr(config, name)}; accepted are {lowest} and more")
    if not 0 < config.tolerance < 1:
        raise InputError(f"tolerance: {config.tolerance}; accepted are values in (0, 1)")
    if config.threads is not None and config.threads < 1:
        raise InputError(f"threads: {config.threads}; accepted are 1 and more")
    check_accelerator("accelerator", config.accelerator)


def open_run(cohort: Cohort, run: Path, config: AttributionConfig) -> OpenedRun:
    """Open a distilled run.

    Args:
        cohort: The cohort.
        run: The run, with a teacher.
        config: How similarity is attributed.

    Raises:
        InputError: The run is cross-fitted or has no teacher, its files do not fit each other, or the
            scans are on a grid that its encoder does not take.
    """
    check_config(config)
    if (crossfit := read_crossfit(run)) is not None:
        one = crossfit.runs[min(crossfit.runs)]
        raise InputError(f"{run}: is cross-fitted; accepted is the run of one fold, such as {one}")
    if not (run / "teacher" / "teacher.json").is_file():
        raise InputError(
            f"{run}: has no teacher, so that no table row can be compared with a scan; accepted is a run of "
            "`spinmark distil`"
        )
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    cuda = config.accelerator == "gpu" or (
        config.accelerator == "auto" and torch.cuda.is_available()
    )
    device = torch.device("cuda" if cuda else "cpu")
    encoder, spec = load_encoder(run / "encoder")
    sequence = str(spec.extra["sequence"])
    split = read_split(run)
    source = ScanSource(cohort, sequence, None)
    train = ScanSource(cohort, sequence, split, ("train",))
    teacher = load_teacher(run / "teacher")
    table = teacher_table(cohort, source.scans, teacher.config, teacher.seed, split)
    embedding = embedding_for(encoder.to(device).eval(), source, device, config.windows)
    heads = _heads(run, embedding, teacher, cohort, split, train, spec, config)
    baseline = VolumeBaseline(
        config.voxel_baseline,
        train,
        spec.intensity,
        most=config.baseline_scans,
        seed=config.seed,
        blur_mm=config.blur_mm,
    )
    return OpenedRun(
        similarity=similarity_of(teacher, embedding, heads, device),
        source=source,
        sets=scan_sets(source.scans, split)["set"],
        rows=teacher.rows(table).to(device),
        variables=described(teacher.encoder.schema, table.dictionary),
        intensity=spec.intensity,
        baseline=baseline,
        device=device,
    )


def _heads(
    run: Path,
    embedding: Embedding,
    teacher: Teacher,
    cohort: Cohort,
    split: SplitLike,
    train: ScanSource,
    spec: EncoderSpec,
    config: AttributionConfig,
) -> Heads:
    found = load_alignment(run)
    # Of an embedding in parts the heads take the table part, which comes first.
    parts = spec.extra.get("parts") or {"table": (0, embedding.encoder.embedding_size)}
    widths = (int(parts["table"][1]), len(teacher.mean))
    if found is not None:
        if found.widths != widths:
            raise InputError(
                f"{run / 'alignment'}: takes embeddings and latents of lengths {found.widths}, the run's are "
                f"{widths}; make the run again with `spinmark distil`"
            )
        return found
    logger.info(
        "%s: compares images and tables in no common space; a ridge regression maps one", run
    )
    rows = np.random.default_rng(config.seed).permutation(train.rows)[:_MOST_FITTED]
    rows = np.sort(rows)
    scans = train.scans.iloc[rows]
    x = embed_scans(embedding, train, rows, spec.intensity, config.batch_size)
    table = teacher_table(cohort, scans, teacher.config, teacher.seed, split)
    return fit_ridge_heads(x, teacher.latents(table), scans["subject_id"].to_numpy(str))


@torch.no_grad()
def embed_scans(
    embedding: Embedding,
    source: ScanSource,
    rows: npt.NDArray[np.int64],
    intensity: IntensityRule,
    batch_size: int,
) -> npt.NDArray[np.float32]:
    """Embed scans as attribution sees them: `(n, E)`."""
    device = next(embedding.encoder.parameters()).device
    parts = [
        embedding(plain_views(source, rows[i : i + batch_size], intensity).to(device)).cpu().numpy()
        for i in range(0, len(rows), batch_size)
    ]
    return np.concatenate(parts)


def fit_ridge_heads(
    embedding: npt.NDArray[np.float32],
    latent: npt.NDArray[np.float32],
    subjects: npt.NDArray[np.str_],
) -> RidgeHeads:
    """Map embeddings linearly onto latents, the penalty chosen on held-out people.

    Args:
        embedding: Of training scans `(n, E)`.
        latent: Of their rows, standardised `(n, L)`.
        subjects: Whose they are `(n,)`.

    Raises:
        InputError: There are fewer than two people.
    """
    people = len(np.unique(subjects))
    if people < 2:
        raise InputError(f"split: {people} training subject with scans; accepted are 2 and more")
    x = embedding.astype(np.float64)
    mean, sd = x.mean(0), x.std(0)
    sd = np.where(sd > 1e-12, sd, 1.0)
    folds = GroupKFold(min(5, people)).split(x, groups=subjects)
    with threadpool_limits(limits=1):
        ridge = RidgeCV(alphas=_ALPHAS, cv=list(folds)).fit((x - mean) / sd, latent)
    weight = np.atleast_2d(ridge.coef_) / sd
    bias = np.atleast_1d(ridge.intercept_) - weight @ mean
    return RidgeHeads(
        torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias.astype(np.float32))
    )
