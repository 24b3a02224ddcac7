"""Fine-tuning: encoder and linear heads learn from a few labelled scans, then say the labels of others.

Heads first, then both (Kumar et al. 2022, arXiv:2202.10054), with the run's own augmentation. How many steps a
target is given is chosen on some of the labelled subjects, who are then learnt from as well in a second fit;
nothing is chosen by the scans that are predicted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from spinmark_models.encoders import ImageEncoder, build_encoder
from spinmark_models.export import load_encoder
from spinmark_training.config import FinetuneConfig, OptimConfig
from spinmark_training.embedding.plan import run_augment
from spinmark_training.embedding.vectors import evaluating
from spinmark_training.encoder_run import embedding_of
from spinmark_training.errors import InputError
from spinmark_training.objectives.label_heads import LabelHeads
from spinmark_training.probes.few_labels import FewLabels
from spinmark_training.sampling import random_stream
from spinmark_training.schedules import learning_rate_factor
from spinmark_training.sources import CohortLike, ScanSource, SplitLike, check_accelerator
from spinmark_training.start import refuse_stray_subjects
from spinmark_training.streams import Stream
from spinmark_training.views import plain_views, random_views

__all__ = ["Finetuner", "finetune"]

Rows = npt.NDArray[np.int64]
# What a seed's stream is divided into.
_ORDER, _VIEWS, _STEP, _WEIGHTS, _HELD = range(5)
_LR, _FRESH_LR = 3e-4, 1.5e-3


class Finetuner:
    """Fine-tunes one run's encoder again and again, each time from the same weights.

    Args:
        cohort: The cohort.
        split: The split; labels of its training subjects alone are learnt from.
        run: A run with one encoder; with `config.fresh` its architecture is all that is used.
        config: How to fine-tune.

    Raises:
        InputError: A setting is out of its range, the run has learnt from subjects who are held out now,
            or its encoder takes a larger grid than the scans have.
    """

    def __init__(
        self, cohort: CohortLike, split: SplitLike, run: Path, config: FinetuneConfig
    ) -> None:
        _check(config)
        if not config.fresh:
            refuse_stray_subjects("run", run, split)
        with torch.random.fork_rng(devices=[]):
            encoder, self._spec = load_encoder(run / "encoder")
        sequence = str(self._spec.extra["sequence"])
        self._run = run
        self._config = config
        self._shape = encoder.input_shape
        self._augment = run_augment(run)
        self._train = ScanSource(cohort, sequence, split, ("train",), cache_gb=config.cache_gb)
        self._all = ScanSource(cohort, sequence, None)
        cuda = config.accelerator != "cpu" and torch.cuda.is_available()
        self._device = torch.device("cuda" if cuda else "cpu")

    @property
    def scans(self) -> pd.DataFrame:
        """One row a scan of the run's sequence."""
        return self._all.scans

    def __call__(
        self,
        labels: pd.DataFrame,
        predict: Sequence[str],
        *,
        seed: int,
        classes: Mapping[str, Sequence[float]] | None = None,
    ) -> pd.DataFrame:
        """Learn from labelled scans and say the targets of others.

        Args:
            labels: Indexed by `scan_id`, a column a target, numbers; NaN where a target is not labelled.
                A scan that is not there has no label.
            predict: `scan_id` of the scans to predict.
            seed: Of the heads, the order, the views and, if fresh, the encoder.
            classes: Targets that are classes, and the values that they may take.

        Returns:
            Indexed by `scan_id`, a column a target: a number in its own unit; of two classes the
            probability of the higher one; of more that whose probability most exceeds its share
            of the labels.

        Raises:
            InputError: A scan is unknown, a labelled one is of no training subject, a target has no label, or
                the fit came to no numbers.
        """
        few = FewLabels.of(self._by_row(labels), classes or {})
        asked = self._rows_of(predict, "predict")
        if self._config.threads is not None:
            torch.set_num_threads(self._config.threads)
        steps = self._chosen_steps(few, seed)
        found = few.constants(len(asked))
        for step, said in self._fit(few, asked, seed, sorted(set(steps.values()))):
            for name in [name for name, best in steps.items() if best == step]:
                found[name] = said[name]
        if not np.isfinite(found.to_numpy()).all():
            raise InputError(
                f"lr: {self._config.lr}; the fine-tuned encoder gives values that are no numbers; accepted "
                "are lower rates"
            )
        found.index = pd.Index(list(predict), dtype=object, name="scan_id")
        return found

    def _rows_of(self, scan_ids: Sequence[str], field: str) -> Rows:
        found = pd.Index(self._all.scans["scan_id"]).get_indexer(pd.Index(list(scan_ids)))
        if (found < 0).any():
            unknown = np.asarray(list(scan_ids), dtype=object)[found < 0][0]
            raise InputError(
                f"{field}: no scan {unknown!r} of {self._all.sequence}; accepted are scans of the cohort"
            )
        return np.asarray(found, dtype=np.int64)

    def _by_row(self, labels: pd.DataFrame) -> pd.DataFrame:
        """Labels as rows of the source, of training subjects alone."""
        known = labels[labels.notna().any(axis=1)]
        rows = self._rows_of([str(name) for name in known.index], "labels")
        held_out = np.setdiff1d(rows, self._train.rows)
        if len(held_out):
            raise InputError(
                f"labels: scan {self._all.scans['scan_id'][held_out[0]]} is of no training subject "
                f"({len(held_out)} such scans); accepted are scans of the set train"
            )
        return known.set_axis(rows).reindex(np.arange(len(self._all.scans)))

    def _chosen_steps(self, few: FewLabels, seed: int) -> dict[str, int]:
        """The number of steps of each target that varies: that with the least error on held-out labels."""
        last = dict.fromkeys([*few.numbers, *few.named], self._config.steps)
        if not self._config.marks or not last:
            return last
        subjects = self._all.scans["subject_id"].to_numpy()
        held = held_out_rows(few.rows, subjects, self._config.held_share, seed)
        # Of a target that nobody else has a label of, nothing can be told.
        inner = few.without(held)
        if inner is None or not len(held):
            return last
        marks = np.linspace(0, self._config.steps, self._config.marks + 1).round().astype(int)
        errors = {
            step: few.errors(said, held)
            for step, said in self._fit(inner, held, seed, sorted({int(mark) for mark in marks}))
        }
        best = pd.DataFrame(errors).dropna().idxmin(axis=1).astype(int).to_dict()
        return {name: int(best.get(name, steps)) for name, steps in last.items()}

    def _fit(
        self, few: FewLabels, asked: Rows, seed: int, marks: Sequence[int]
    ) -> Iterator[tuple[int, pd.DataFrame]]:
        """Learn up to the last of some numbers of steps; yield what is said after each."""
        if not len(few.rows) or not marks:
            return
        encoder, heads = self._networks(few, seed)
        for step in self._steps(encoder, heads, few.rows, seed, last=marks[-1]):
            if step in marks:
                yield step, few.said(*self._say(encoder, heads, asked))

    def _networks(self, few: FewLabels, seed: int) -> tuple[ImageEncoder, LabelHeads]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_torch_seed(seed, _WEIGHTS, 0))
            if self._config.fresh:
                encoder = build_encoder(self._spec.config, self._shape)
            else:
                encoder = load_encoder(self._run / "encoder")[0]
            heads = LabelHeads(encoder.embedding_size, few.columns(), self._config.huber_delta)
        # A few labels cannot unlearn random weights in all directions of the embedding.
        nn.init.zeros_(heads.linear.weight)
        return encoder.to(self._device), heads.to(self._device)

    def _steps(
        self, encoder: ImageEncoder, heads: LabelHeads, rows: Rows, seed: int, *, last: int
    ) -> Iterator[int]:
        """Take steps and yield how many were taken, from 0; the encoder of a run keeps its statistics."""
        config = self._config
        alone = 0 if config.fresh else round(config.heads_first * config.steps)
        optimiser, schedule = _optimiser(encoder, heads, config, alone)
        embed = embedding_of(encoder)
        size = min(config.scans_per_batch, len(rows))
        yield 0
        for step in range(last):
            encoder.train()
            if not config.fresh:
                _keep_statistics(encoder)
            some = batch_rows(rows, size, step, seed)
            views = self._views(some, (seed, Stream.FINETUNE, _VIEWS, step))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_torch_seed(seed, _STEP, step))
                with torch.set_grad_enabled(step >= alone):
                    embedding = embed(views)
                loss, _ = heads.loss(embedding, torch.from_numpy(some).to(self._device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            yield step + 1

    def _views(self, rows: Rows, key: tuple[int, ...]) -> Tensor:
        views = random_views(
            self._train, rows, self._augment, self._spec.intensity, key=key, shape=self._shape
        )
        return views.to(self._device)

    def _say(
        self, encoder: ImageEncoder, heads: LabelHeads, rows: Rows
    ) -> tuple[Tensor, list[Tensor]]:
        """What the heads say of scans as they are; of larger scans than the encoder takes, of the middle."""
        numbers, logits = [], []
        size = self._config.batch_size
        with evaluating(encoder):
            for start in range(0, len(rows), size):
                some = rows[start : start + size]
                views = plain_views(self._all, some, self._spec.intensity, self._shape)
                said = heads(encoder(views.to(self._device)).embedding.float())
                numbers.append(said[0].cpu())
                logits.append([each.cpu() for each in said[1]])
        return torch.cat(numbers), [torch.cat(each) for each in zip(*logits, strict=True)]


def finetune(
    cohort: CohortLike,
    split: SplitLike,
    run: Path,
    labels: pd.DataFrame,
    predict: Sequence[str],
    config: FinetuneConfig,
    *,
    seed: int,
    classes: Mapping[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """Fine-tune a run's encoder once; the arguments are those of `Finetuner` and of its call."""
    return Finetuner(cohort, split, run, config)(labels, predict, seed=seed, classes=classes)


def batch_rows(rows: Rows, size: int, step: int, seed: int) -> Rows:
    """Return the labelled scans of a step: epoch after epoch, each in an order of its own.

    Args:
        rows: The labelled scans.
        size: Scans in a step, no more than there are.
        step: The step, from 0.
        seed: The seed.
    """
    epochs = range(step * size // len(rows), (step * size + size - 1) // len(rows) + 1)
    orders = [
        random_stream(seed, Stream.FINETUNE, _ORDER, epoch).permutation(rows) for epoch in epochs
    ]
    begin = step * size - epochs[0] * len(rows)
    return np.concatenate(orders)[begin : begin + size]


def held_out_rows(rows: Rows, subjects: npt.NDArray[np.object_], share: float, seed: int) -> Rows:
    """Return labelled scans of a share of their subjects, all scans of each.

    Args:
        rows: The labelled scans.
        subjects: The subject of each scan of the source.
        share: Share of the subjects, rounded.
        seed: The seed.
    """
    names = np.unique(subjects[rows].astype(str))
    order = random_stream(seed, Stream.FINETUNE, _HELD).permutation(names)
    return rows[np.isin(subjects[rows].astype(str), order[: round(share * len(names))])]


def _torch_seed(seed: int, what: int, step: int) -> int:
    return int(random_stream(seed, Stream.FINETUNE, what, step).integers(2**62))


def _keep_statistics(encoder: nn.Module) -> None:
    """Leave batch normalisations as the run left them: a few labelled scans say less of voxels than it saw."""
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _optimiser(
    encoder: ImageEncoder, heads: LabelHeads, config: FinetuneConfig, alone: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with a rate for the encoder, which waits while the heads learn alone, and one for the heads."""
    lr = config.lr if config.lr is not None else _FRESH_LR if config.fresh else _LR
    groups = [
        {
            "params": [p for p in network.parameters() if (p.ndim > 1) is decays],
            "lr": rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for network, rate in ((encoder, lr), (heads, config.head_lr))
        for decays in (True, False)
    ]
    factor = _factor(config, config.steps)
    later = _factor(config, config.steps - alone)
    encoder_factor = [lambda step: later(step - alone) if step >= alone else 0.0] * 2
    optimiser = torch.optim.AdamW(groups)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(
        optimiser, [*encoder_factor, factor, factor]
    )


def _factor(config: FinetuneConfig, steps: int) -> Callable[[int], float]:
    return learning_rate_factor(OptimConfig(steps=steps, warmup=config.warmup))


def _check(config: FinetuneConfig) -> None:
    """Check the numbers.

    Raises:
        InputError: One is out of its range.
    """
    checks = (
        ("steps", config.steps, config.steps >= 1, "1 and more"),
        ("scans_per_batch", config.scans_per_batch, config.scans_per_batch >= 2, "2 and more"),
        ("heads_first", config.heads_first, 0 <= config.heads_first < 1, "values in [0, 1)"),
        ("lr", config.lr, (config.lr or 1) > 0 and config.lr != 0, "numbers above 0"),
        ("head_lr", config.head_lr, config.head_lr > 0, "numbers above 0"),
        ("weight_decay", config.weight_decay, config.weight_decay >= 0, "0 and more"),
        ("marks", config.marks, config.marks >= 0, "0 and more"),
        ("held_share", config.held_share, 0 < config.held_share < 1, "values in (0, 1)"),
        ("warmup", config.warmup, 0 <= config.warmup <= 1, "values in [0, 1]"),
        ("huber_delta", config.huber_delta, config.huber_delta > 0, "numbers above 0, or .inf"),
        ("batch_size", config.batch_size, config.batch_size >= 1, "1 and more"),
        ("threads", config.threads, (config.threads or 1) >= 1, "1 and more"),
    )
    for name, value, good, accepted in checks:
        if not good:
            raise InputError(f"{name}: {value}; accepted are {accepted}")
    check_accelerator("accelerator", config.accelerator)
