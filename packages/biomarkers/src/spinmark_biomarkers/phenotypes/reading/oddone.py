"""Items of which one joint is of another phenotype, with controls and repeats.

The task (three alike and one that is not, or any other number) is a forced choice, so that chance is
known: one over the number of joints. It asks whether readers see what the clusterer found, without
asking them for words.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.phenotypes.reading.codes import place_letters
from spinmark_biomarkers.phenotypes.reading.config import ReadingConfig

Floats = npt.NDArray[np.float64]


@dataclass
class Pool:
    """Joints that items are drawn from, those of the least used subjects first.

    Args:
        scans: `scan_id`, `subject_id`, `label`, a row a joint.
        used: How often each subject was shown, by subject.
        rng: Source of chance, which settles ties.
    """

    scans: pd.DataFrame
    used: dict[str, int]
    rng: np.random.Generator

    def draw(self, count: int, label: int | None, apart: set[str]) -> list[str] | None:
        """Return scans of as many other subjects, or None if there are too few.

        Args:
            count: Scans.
            label: Their phenotype; None for any.
            apart: Subjects that are in already; those drawn are added.
        """
        rows = self.scans if label is None else self.scans[self.scans["label"] == label]
        rows = rows.iloc[self.rng.permutation(len(rows))]
        rows = rows[~rows["subject_id"].isin(apart)].drop_duplicates("subject_id")
        if len(rows) < count:
            return None
        order = np.argsort([self.used.get(one, 0) for one in rows["subject_id"]], kind="stable")
        chosen = rows.iloc[order[:count]]
        for subject in chosen["subject_id"]:
            self.used[subject] = self.used.get(subject, 0) + 1
            apart.add(subject)
        return [str(one) for one in chosen["scan_id"]]


def distances(x: Floats, labels: npt.NDArray[np.int64], k: int) -> Floats:
    """Return how far the phenotypes are apart, shape (k, k); small is difficult.

    Args:
        x: Embeddings, shape (n, feature).
        labels: Shape (n,).
        k: Phenotypes; one without members has NaN.

    Returns:
        Distance of the means over the root mean square distance of joints from their mean.
    """
    present = [c for c in range(k) if (labels == c).any()]
    means = np.full((k, x.shape[1]), np.nan)
    for c in present:
        means[c] = x[labels == c].mean(axis=0)
    within = np.sqrt(((x - means[labels]) ** 2).sum(axis=1).mean())
    apart = np.linalg.norm(means[:, None] - means, axis=2)
    return np.asarray(apart / within if within > 0 else apart, dtype=np.float64)


def make_items(
    pool: Pool, apart: Floats, config: ReadingConfig
) -> tuple[list[dict[str, object]], list[str]]:
    """Draw the items in the order in which they are shown, without codes.

    Each phenotype has the majority equally often, against each other one as equally as the number allows;
    the odd one stands at each place equally often. A repeat comes in the second half, in another order
    of its joints, and its first showing in the first.

    Args:
        pool: The joints.
        apart: Distances of the phenotypes, shape (k, k).
        config: Numbers of items.

    Returns:
        Rows with `type` (`phenotype`, `control`, `repeat`), `phenotype` and `odd_phenotype` (-1 in
        controls), `answer`, `distance`, `first` (place in the list of what a repeat repeats, or -1) and a
        scan_id a letter; and notes on what could not be made.
    """
    rng, letters = pool.rng, place_letters(config.per_item)
    items, notes = _of_phenotypes(pool, apart, config)
    for _ in range(config.controls if items else 0):
        scans = pool.draw(config.per_item, None, set())
        if scans is not None:
            items.append(_row("control", -1, -1, float("nan"), scans))
    answers = [letters[n % len(letters)] for n in range(len(items))]
    rng.shuffle(answers)
    for item, answer in zip(items, answers, strict=True):
        _place(item, answer, rng)
    items = [items[int(n)] for n in rng.permutation(len(items))]
    return _with_repeats(items, config, rng, notes), notes


def _of_phenotypes(
    pool: Pool, apart: Floats, config: ReadingConfig
) -> tuple[list[dict[str, object]], list[str]]:
    items: list[dict[str, object]] = []
    notes = []
    k = len(apart)
    for c in range(k):
        others = pool.rng.permutation([o for o in range(k) if o != c]).tolist()
        made = 0
        for n in range(config.odd_items if others else 0):
            for turn in range(len(others)):
                odd = int(others[(n + turn) % len(others)])
                seen: set[str] = set()
                before = dict(pool.used)
                one = pool.draw(1, odd, seen)
                rest = pool.draw(config.per_item - 1, c, seen) if one else None
                if one and rest:
                    items.append(_row("phenotype", c, odd, float(apart[c, odd]), one + rest))
                    made += 1
                    break
                pool.used = before
        if made < config.odd_items:
            people = pool.scans.loc[pool.scans["label"] == c, "subject_id"].nunique()
            notes.append(
                f"phenotype {c}: {made} of {config.odd_items} odd-one-out items, since it has {people} "
                f"subjects and an item takes {config.per_item - 1} of it and one of another phenotype"
            )
    return items, notes


def _row(
    kind: str, phenotype: int, odd: int, distance: float, scans: list[str]
) -> dict[str, object]:
    """The odd one is the first of the scans; of a control, any is."""
    return {
        "type": kind,
        "phenotype": phenotype,
        "odd_phenotype": odd,
        "distance": distance,
        "first": -1,
        "scans": scans,
    }


def _place(item: dict[str, object], answer: str, rng: np.random.Generator) -> None:
    """Put the odd one under its letter and the others, by chance, under theirs."""
    odd, *rest = list(item["scans"])  # type: ignore[call-overload]
    letters = place_letters(len(rest) + 1)
    item["answer"] = answer
    item[answer] = odd
    others = [letter for letter in letters if letter != answer]
    for letter, n in zip(others, rng.permutation(len(rest)), strict=True):
        item[letter] = rest[int(n)]


def _with_repeats(
    items: list[dict[str, object]],
    config: ReadingConfig,
    rng: np.random.Generator,
    notes: list[str],
) -> list[dict[str, object]]:
    half = (len(items) + 1) // 2
    usable = [n for n in range(half) if items[n]["type"] == "phenotype"]
    count = min(config.repeats, len(usable))
    if count < config.repeats and items:
        notes.append(f"repeats: {count} of {config.repeats}, since there are {len(items)} items")
    chosen = sorted(int(n) for n in rng.choice(usable, count, replace=False)) if count else []
    letters = place_letters(config.per_item)
    again = []
    for n in chosen:
        item = {**items[n], "type": "repeat", "first": n}
        moved = (letters.index(str(item["answer"])) + rng.integers(1, len(letters))) % len(letters)
        _place(item, letters[int(moved)], rng)
        again.append(item)
    # Two that followed each other would be recognised; the first half holds all first showings.
    late = [*items[half:], *again]
    return [*items[:half], *(late[int(n)] for n in rng.permutation(len(late)))]
