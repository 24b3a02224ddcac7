"""How well shapes are read after pretraining without labels: `nox -s bench -- adrenal`.

AdrenalMNIST3D (MedMNIST v2, Yang et al. 2023, doi:10.1038/s41597-022-01721-8; CC BY 4.0) holds 1,584
adrenal glands as binary shapes of 64 x 64 x 64 voxels of 1 mm, normal or with a mass. They are averaged to
16 x 16 x 16, written as a cohort without labels, and pretrained on the training examples by
`configs/pretrain/adrenal.yaml`. A logistic regression on the frozen, standardised embeddings is fitted
on the training labels; its penalty is chosen on validation; the area under the ROC curve is on test.

Beside it, in the same way: the encoder as it was initialised, principal components of the voxels, and four
hand-made measures of a shape. And the same encoder trained with the labels, with as many steps and the
same augmentation. The published figure is another network on 28 x 28 x 28 voxels.

With `--validation` the test labels are left alone: settings are chosen so. Dotted options override the
config. The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from spinmark.cli import parse
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.splits import Split, split_hash
from spinmark_models.encoders import build_encoder
from spinmark_training.baselines import voxel_pca
from spinmark_training.config import EmbedConfig, PretrainConfig
from spinmark_training.embed import embed
from spinmark_training.pretrain import pretrain
from spinmark_training.schedules import learning_rate_factor
from spinmark_training.sources import ScanSource
from spinmark_training.views import plain_views, random_views

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "adrenal64"
CONFIG = ROOT / "configs" / "pretrain" / "adrenal.yaml"
SEQUENCE = "SHAPE"
SETS = ("train", "val", "test")
# Voxels of 4 mm: what simple measures of thickness tell of a mass is hardly less than at 2 mm (an AUC of
# 0.817 against 0.824, cross-validated within train), for an eighth of the work.
BLOCK = 4
COMPONENTS = (64, 128, 256)
PENALTIES = tuple(float(c) for c in np.logspace(-5, 1, 13))
PUBLISHED = {"resnet18_3d_28": 0.827, "resnet18_acs_28": 0.839, "autosklearn_28": 0.828}

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class Examples(NamedTuple):
    """All examples, training ones first.

    Attributes:
        shapes: `(n, 64, 64, 64)` bool.
        labels: `(n,)`: 0 normal, 1 mass.
        sets: `(n,)`: train, val or test.
    """

    shapes: npt.NDArray[np.bool_]
    labels: Labels
    sets: npt.NDArray[np.str_]


def load(folder: Path, most: int | None = None) -> Examples:
    """Read the published file; with `most`, only that many examples of each set."""
    with np.load(folder / "adrenalmnist3d_64.npz") as file:
        parts = [
            (file[f"{name}_images"][:most] > 0, file[f"{name}_labels"][:most, 0], name)
            for name in SETS
        ]
    return Examples(
        shapes=np.concatenate([shapes for shapes, _, _ in parts]),
        labels=np.concatenate([labels for _, labels, _ in parts]).astype(np.int64),
        sets=np.concatenate([np.full(len(labels), name) for _, labels, name in parts]),
    )


def occupied(shapes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
    """Count the occupied voxels of each block: `(n, 16, 16, 16)`, 0 to 64."""
    n, *size = shapes.shape
    z, y, x = (length // BLOCK for length in size)
    blocks = shapes.reshape(n, z, BLOCK, y, BLOCK, x, BLOCK)
    counts: npt.NDArray[np.int16] = blocks.sum(axis=(2, 4, 6), dtype=np.int16)
    return counts


def as_cohort(folder: Path, examples: Examples) -> tuple[Cohort, Split]:
    """Write the shapes as a cohort that knows no labels, and their published split."""
    names = [f"{number:04d}" for number in range(len(examples.sets))]
    # The intensity rule looks at values above zero only: shifted by 1, empty space counts as well.
    scans = pd.DataFrame({"subject_id": names, "offset": 1.0})
    side = float(BLOCK)
    volumes = SequenceVolumes(
        volume=occupied(examples.shapes), scans=scans, spacing_mm=(side, side, side)
    )
    provenance = {"source": f"AdrenalMNIST3D, 64 x 64 x 64, averaged over {BLOCK} mm"}
    write_cohort(folder, volumes={SEQUENCE: volumes}, tables={}, provenance=provenance)
    frame = pd.DataFrame(
        {
            "subject_id": pd.Series(names, dtype=object),
            "set": pd.Series(examples.sets.tolist(), dtype=object),
            "fold": np.arange(len(names)) % 5,
        }
    )
    return Cohort.open(folder), Split(frame=frame, hash=split_hash(frame))


def shape_measures(shapes: npt.NDArray[np.bool_]) -> Floats:
    """Measure volume, surface, and largest and mean depth below the surface: `(n, 4)`."""
    rows = []
    for shape in shapes:
        depth = ndimage.distance_transform_edt(np.pad(shape, 1))
        inside = depth[depth > 0]
        surface = np.count_nonzero(inside <= 1)
        rows.append([np.log(inside.size), np.log(surface), inside.max(), inside.mean()])
    return np.array(rows)


def classifier(penalty: float) -> Pipeline:
    """A logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=5000))


def auc(labels: Labels, scores: Floats) -> float:
    """The area under the ROC curve."""
    return float(roc_auc_score(labels, scores))


def probe(features: Floats, examples: Examples) -> tuple[dict[str, float], Floats]:
    """Fit on train, choose the penalty on validation.

    Returns:
        The penalty, its validation AUC and its AUC by cross-validation within train, and the scores of
        the test examples.
    """
    x = {name: features[examples.sets == name] for name in SETS}
    y = {name: examples.labels[examples.sets == name] for name in SETS}
    fitted = {c: classifier(c).fit(x["train"], y["train"]) for c in PENALTIES}
    found = {c: auc(y["val"], model.decision_function(x["val"])) for c, model in fitted.items()}
    best = max(PENALTIES, key=lambda c: found[c])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    inner = cross_val_score(classifier(best), x["train"], y["train"], cv=folds, scoring="roc_auc")
    figures = {"penalty": best, "val": found[best], "cross_validated": float(inner.mean())}
    return figures, np.asarray(fitted[best].decision_function(x["test"]))


def train_with_labels(
    cohort: Cohort, split: Split, examples: Examples, config: PretrainConfig
) -> Floats:
    """Train the same encoder by cross-entropy on the training labels; return all scores `(n,)`."""
    torch.set_num_threads(config.trainer.threads or torch.get_num_threads())
    source = ScanSource(cohort, SEQUENCE, split, ("train",), config.data.cache_gb)
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.encoder, source.shape)
    network = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(encoder.embedding_size, 1)})
    optim = config.optim
    adam = torch.optim.AdamW(network.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, learning_rate_factor(optim))
    rng = np.random.default_rng(config.seed)
    order: list[int] = []
    for step in range(optim.steps):
        if len(order) < config.data.subjects_per_batch:
            order = rng.permutation(source.rows).tolist()
        rows = np.array([order.pop() for _ in range(config.data.subjects_per_batch)])
        key = (config.seed, step)
        views = random_views(source, rows, config.augment, config.intensity, key=key)
        logits = network["head"](encoder(views).embedding)[:, 0]
        wanted = torch.from_numpy(examples.labels[rows]).float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    network.eval()
    every = ScanSource(cohort, SEQUENCE, None)
    scores = []
    with torch.inference_mode():
        for rows in np.array_split(every.rows, max(1, len(every.rows) // 64)):
            embedding = encoder(plain_views(every, rows, config.intensity)).embedding
            scores.append(network["head"](embedding)[:, 0].double().numpy())
    return np.concatenate(scores)


def bootstrap(labels: Labels, scores: Sequence[Floats], draws: int = 2000) -> Floats:
    """Mean AUC over seeds in samples of the test subjects with replacement, `(draws,)`.

    The same subjects are drawn at each call, so that two arms can be compared draw by draw.
    """
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=draws)
    above, below = times[:, labels == 1], times[:, labels == 0]
    won = np.mean([_won(each[labels == 1], each[labels == 0]) for each in scores], axis=0)
    pairs = above.sum(axis=1) * below.sum(axis=1)
    both = pairs > 0
    found: Floats = ((above @ won) * below).sum(axis=1)[both] / pairs[both]
    return found


def _won(above: Floats, below: Floats) -> Floats:
    """Which mass is scored above which normal shape, `(masses, normals)`; a tie counts half."""
    gap = above[:, None] - below[None]
    won: Floats = (gap > 0) + 0.5 * (gap == 0)
    return won


class Arm:
    """One way to score shapes, over seeds."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples
        self._test = examples.labels[examples.sets == "test"]
        self.scores: list[Floats] = []
        self.probes: list[dict[str, float]] = []
        self.seconds: list[float] = []

    def add(self, features: Floats) -> None:
        """Probe features `(n, k)`; one column of scores is taken as it is."""
        examples = self._examples
        if features.ndim == 1:
            val = examples.sets == "val"
            figures = {"val": auc(examples.labels[val], features[val])}
            scores = features[examples.sets == "test"]
        else:
            figures, scores = probe(features, examples)
        self.scores.append(scores)
        self.probes.append(figures)

    def on_test(self) -> dict[str, Any]:
        """The test AUC: mean, range over seeds, 95 % interval over subjects."""
        each = [auc(self._test, scores) for scores in self.scores]
        low, high = np.percentile(bootstrap(self._test, self.scores), [2.5, 97.5])
        return {
            "mean": round(float(np.mean(each)), 4),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "seeds": [round(value, 4) for value in each],
        }

    def against(self, other: "Arm") -> list[float]:
        """The 95 % interval over subjects of the difference in mean AUC to another arm."""
        gap = bootstrap(self._test, self.scores) - bootstrap(self._test, other.scores)
        return [round(float(end), 4) for end in np.percentile(gap, [2.5, 97.5])]


def configured(path: Path, seed: int, words: Sequence[str]) -> PretrainConfig:
    """Read the configuration as the command does."""
    return parse("pretrain", PretrainConfig, ["--config", str(path), *words, "--seed", str(seed)])


def vectors(cohort: Cohort, run: Path, threads: int | None) -> Floats:
    """Embed every scan by a run, in the order of the cohort."""
    return np.asarray(embed(cohort, run, EmbedConfig(threads=threads))["embedding"], np.float64)


def measure(
    work: Path, examples: Examples, args: argparse.Namespace, words: Sequence[str]
) -> dict[str, Arm]:
    """Train and probe every arm that is asked for."""
    cohort, split = as_cohort(work / "cohort", examples)
    arms = {name: Arm(examples) for name in args.arms}
    for seed in range(args.seeds):
        config = configured(args.config, seed, words)
        for name in [n for n in ("ssl", "untrained", "supervised") if n in arms]:
            began = time.process_time()
            if name == "supervised":
                arms[name].add(train_with_labels(cohort, split, examples, config))
            else:
                run = work / f"{name}-{seed}"
                extra = ["--optim.steps", "0"] if name == "untrained" else []
                pretrain(cohort, split, configured(args.config, seed, [*words, *extra]), run)
                arms[name].add(vectors(cohort, run, config.trainer.threads))
            arms[name].seconds.append(time.process_time() - began)
            print(f"{name}, seed {seed}: {rounded(arms[name].probes[-1])}", flush=True)
    for name in [n for n in arms if n.startswith("pca_")]:
        data = voxel_pca(cohort, split, components=int(name.removeprefix("pca_")))
        arms[name].add(np.asarray(data["embedding"], np.float64))
    if "measures" in arms:
        arms["measures"].add(shape_measures(examples.shapes))
    return arms


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Four digits."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def main() -> None:
    """Train, probe, print."""
    every = ["ssl", "untrained", *(f"pca_{k}" for k in COMPONENTS), "measures", "supervised"]
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the npz file")
    parser.add_argument("--config", type=Path, default=CONFIG, help="the pretraining")
    parser.add_argument("--seeds", type=int, default=3, help="encoders of each kind")
    parser.add_argument("--arms", nargs="+", choices=every, default=every, help="what is measured")
    parser.add_argument("--most", type=int, help="only so many examples of each set")
    parser.add_argument("--work", type=Path, help="keep cohort and runs in this new folder")
    parser.add_argument("--validation", action="store_true", help="leave the test labels alone")
    args, words = parser.parse_known_args()
    examples = load(args.data, args.most)
    with tempfile.TemporaryDirectory() as folder:
        arms = measure(args.work or Path(folder), examples, args, words)
    result: dict[str, Any] = {
        "validation": {name: [rounded(p) for p in arm.probes] for name, arm in arms.items()},
        "cpu_seconds": {name: [round(s) for s in arm.seconds] for name, arm in arms.items()},
    }
    if not args.validation:
        result["test_auc"] = {name: arm.on_test() for name, arm in arms.items()}
        result["ssl_minus"] = {
            name: arms["ssl"].against(arm) for name, arm in arms.items() if name != "ssl"
        }
        result["chance"] = 0.5
        result["published"] = PUBLISHED
    print(json.dumps(result))


if __name__ == "__main__":
    main()
