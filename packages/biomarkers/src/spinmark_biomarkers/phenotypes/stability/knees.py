"""Do a person's two knees have one phenotype more often than chance?

Knees of a person share genes, weight and habits, and also site, scanner and day. So agreement beyond chance is
expected of a phenotype that means something, and is no proof of it: the comparison within sites takes away
what the site alone would make. Chance-corrected agreement is Cohen's kappa (1960) of the right with the
left knee.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Knees:
    """Concordance of right and left.

    Args:
        observed: Share of people whose knees have one label.
        expected: That share if knees were independent, with the frequencies of each side.
        kappa: (observed - expected) / (1 - expected); NaN where all knees have one label.
        p: Permutation p of the observed share; left knees change owners.
        expected_within: As `expected`, but independent within each stratum (site); None without strata.
        p_within: As `p`, left knees changing owners within their stratum.
        table: People by label of the right knee (rows) and of the left (columns), shape (k, k).
        phenotypes: A row a phenotype: `phenotype`, `both` (interval: of knees with it, the share whose
            fellow has it too), `expected` (the same under independence), `n` (people with it in either knee).
        people: Number of people with both knees.
    """

    observed: Interval
    expected: float
    kappa: Interval
    p: float
    expected_within: float | None
    p_within: float | None
    table: Ints
    phenotypes: list[dict[str, Any]]
    people: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "people": self.people,
            "observed": self.observed.to_dict(),
            "expected": self.expected,
            "kappa": self.kappa.to_dict(),
            "p": self.p,
            "expected_within": self.expected_within,
            "p_within": self.p_within,
            "table": self.table.tolist(),
            "phenotypes": [{**row, "both": row["both"].to_dict()} for row in self.phenotypes],
        }


def knee_concordance(
    labels: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    laterality: npt.ArrayLike,
    *,
    strata: npt.ArrayLike | None = None,
    permutations: int = 2000,
    draws: int = 200,
    seed: int,
) -> Knees:
    """Compare the labels of right and left knees of the same people.

    Args:
        labels: Labels from 0, one row a knee, shape (n,).
        subject_ids: Shape (n,).
        laterality: "R" or "L"; rows of neither are left out, shape (n,).
        strata: What knees are compared within as well, such as the site, shape (n,); that of the right knee
            counts.
        permutations: Permutations behind each p value, which cannot be below 1 / (permutations + 1).
        draws: Bootstrap samples of people.
        seed: Seed of permutations and draws.

    Raises:
        InputError: Nobody has both knees, a knee stands twice, or permutations is below 19.
    """
    if permutations < 19:
        raise InputError(f"permutations: {permutations}; accepted is at least 19")
    right, left, stratum, people = _pairs(labels, subject_ids, laterality, strata)
    k = int(max(right.max(), left.max())) + 1
    table = np.zeros((k, k), dtype=np.int64)
    np.add.at(table, (right, left), 1)

    def kappa(rows: Rows) -> float:
        return _kappa(right[rows], left[rows], k)

    none = np.zeros(len(right), np.int64)
    order = np.random.default_rng([seed, 0])
    within = np.random.default_rng([seed, 1])
    return Knees(
        observed=subject_bootstrap(
            lambda rows: float((right[rows] == left[rows]).mean()), people, draws=draws, seed=seed
        ),
        expected=_expected(right, left, none, k),
        kappa=subject_bootstrap(kappa, people, draws=draws, seed=seed),
        p=_permuted(right, left, none, permutations, order),
        expected_within=None if strata is None else _expected(right, left, stratum, k),
        p_within=None if strata is None else _permuted(right, left, stratum, permutations, within),
        table=table,
        phenotypes=_by_phenotype(right, left, people, k, draws, seed),
        people=len(right),
    )


def _pairs(
    labels: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    laterality: npt.ArrayLike,
    strata: npt.ArrayLike | None,
) -> tuple[Ints, Ints, Ints, npt.NDArray[Any]]:
    """Labels of right and left, the stratum as a number, and the person, a row a person."""
    frame = pd.DataFrame(
        {
            "label": np.asarray(labels, dtype=np.int64),
            "person": np.asarray(subject_ids).astype(str),
            "side": np.asarray(laterality).astype(str),
            "stratum": "" if strata is None else np.asarray(strata).astype(str),
        }
    )
    frame = frame[frame["side"].isin(["R", "L"])]
    twice = frame[frame.duplicated(["person", "side"])]
    if len(twice):
        one = f"{twice['person'].iloc[0]}:{twice['side'].iloc[0]}"
        raise InputError(f"knees: {one} stands more than once; accepted is one scan a knee")
    sides = frame.set_index("person")
    right, left = (sides[sides["side"] == side].add_suffix(f"_{side.lower()}") for side in "RL")
    both = right.join(left, how="inner").sort_index()
    if both.empty:
        raise InputError("knees: nobody has both; accepted are people with a right and a left knee")
    stratum = np.unique(both["stratum_r"].to_numpy(), return_inverse=True)[1]
    return (
        both["label_r"].to_numpy(np.int64),
        both["label_l"].to_numpy(np.int64),
        stratum.astype(np.int64),
        both.index.to_numpy(),
    )


def _expected(right: Ints, left: Ints, stratum: Ints, k: int) -> float:
    total = 0.0
    for one in np.unique(stratum):
        inside = stratum == one
        shares = (np.bincount(side[inside], minlength=k) / inside.sum() for side in (right, left))
        total += float(inside.sum() * np.prod(list(shares), axis=0).sum())
    return total / len(right)


def _kappa(right: Ints, left: Ints, k: int) -> float:
    expected = _expected(right, left, np.zeros(len(right), np.int64), k)
    # Where one label has all knees, agreement is certain and says nothing.
    if 1 - expected < 1e-12:
        return float("nan")
    return float(((right == left).mean() - expected) / (1 - expected))


def _permuted(
    right: Ints, left: Ints, stratum: Ints, permutations: int, rng: np.random.Generator
) -> float:
    observed = int((right == left).sum())
    members = [np.flatnonzero(stratum == one) for one in np.unique(stratum)]
    moved, reached = left.copy(), 0
    for _ in range(permutations):
        for rows in members:
            moved[rows] = left[rng.permutation(rows)]
        reached += int((right == moved).sum()) >= observed
    return (1 + reached) / (1 + permutations)


def _by_phenotype(
    right: Ints, left: Ints, people: npt.NDArray[Any], k: int, draws: int, seed: int
) -> list[dict[str, Any]]:
    rows = []
    for c in range(k):
        one, two = right == c, left == c

        def both(rows: Rows, one: Bools = one, two: Bools = two) -> float:
            knees = int(one[rows].sum() + two[rows].sum())
            return 2 * float((one[rows] & two[rows]).sum()) / knees if knees else float("nan")

        knees = float(one.mean() + two.mean())
        rows.append(
            {
                "phenotype": c,
                "both": subject_bootstrap(both, people, draws=draws, seed=seed),
                "expected": 2 * float(one.mean() * two.mean()) / knees if knees else None,
                "n": int((one | two).sum()),
            }
        )
    return rows
