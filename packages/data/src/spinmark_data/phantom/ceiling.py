"""How well a perfect method could do on a phantom: from the image alone, the table alone, and both.

The image at its best shows the true latents at enrolment. The table at its best is an ideal regression on
everything the clinic notes at enrolment of both knees (no radiographic grades), fitted on a large cohort
of its own. Every figure is measured on a third cohort, so it holds for any method that sees as much.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinmark_data.phantom.clinic import clinic_visit
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.outcomes import TEN_YEARS, linear_predictor, simulate_outcomes
from spinmark_data.phantom.population import Floats, sample_population
from spinmark_data.phantom.state import LATENTS

_FIT_SEED, _TEST_SEED = 31_415_926, 27_182_818
_KNOTS = (0.25, 0.5, 0.75)
_PENALTY = 10.0


@dataclass(frozen=True, kw_only=True)
class _Cohort:
    """What a ceiling needs of a cohort, a row a knee."""

    latents: Floats
    table: Floats
    build: Floats
    phenotype: NDArray[np.int64]
    disease: Floats
    hazard: Floats
    hazard_with_frailty: Floats
    days: Floats
    event: NDArray[np.bool_]


def ceilings(config: PhantomConfig, people: int = 4000) -> dict[str, object]:
    """Work out the ceilings of a config.

    Args:
        config: Parameters of the cohort; its size, seed, visits and grid do not matter.
        people: People in each of the two cohorts that are made up, tables only. At 4,000 it takes some
            ten seconds, and the figures vary by about 0.01 (C-index) from one seed to another.

    Returns:
        `c_index` of replacement within ten years and `ari` of the first phenotype (None where there
        are none), each for `image`, `table` and `both`; `r2` of each latent for `table` (None where
        it does not vary; 1 for the image by definition). `c_index` also has `hazard` (the true one,
        without frailty) and `oracle` (with it).
    """
    fit = _simulate(config, people, _FIT_SEED)
    test = _simulate(config, people, _TEST_SEED)
    reader = _Regression(fit.table, np.c_[fit.latents, fit.disease])
    read, asked = reader.predict(fit.table), reader.predict(test.table)
    seen, held = _straight(fit.latents), _straight(test.latents)
    sources = {
        "image": (seen, held),
        "table": (read[:, :4], asked[:, :4]),
        # Whoever knows the latents learns little more from the table than what age and mass add to them.
        "both": (np.c_[seen, fit.build], np.c_[held, test.build]),
    }
    image = _Regression(fit.latents, fit.disease[:, None])
    both = _Regression(np.c_[fit.latents, fit.table], fit.disease[:, None])
    risks = {
        "image": image.predict(test.latents)[:, 0],
        "table": asked[:, 4],
        "both": both.predict(np.c_[test.latents, test.table])[:, 0],
        "hazard": test.hazard,
        "oracle": test.hazard_with_frailty,
    }
    return {
        "people": people,
        "c_index": _no_less_with_both(
            {name: concordance(risk, test.days, test.event) for name, risk in risks.items()}
        ),
        "ari": _no_less_with_both(
            {
                name: _ari(learnt, fit.phenotype, asked, test.phenotype)
                for name, (learnt, asked) in sources.items()
            }
        ),
        "r2": {name: _r2(test.latents[:, k], asked[:, k]) for k, name in enumerate(LATENTS)},
    }


def _no_less_with_both(figures: dict[str, float | None]) -> dict[str, float | None]:
    """Who has image and table may leave one aside: `both` is at least the better of the two."""
    known = [figures[name] for name in ("image", "table", "both")]
    best = max((value for value in known if value is not None), default=None)
    return {
        name: None if value is None else round(value, 3)
        for name, value in (figures | {"both": best}).items()
    }


def _straight(latents: Floats) -> Floats:
    """Undo the rounded corner at 0, so that a phenotype's latents have a normal law."""
    return np.asarray(np.log(np.expm1(6.0 * np.maximum(latents, 1e-3))) / 6.0)


def _simulate(config: PhantomConfig, people: int, seed: int) -> _Cohort:
    """Make a cohort of tables; everyone is followed for ten years or to death."""
    made = config.plain(
        subjects=people,
        seed=seed,
        visits=("V00",),
        follow_up_visits=("V00", "V12"),
        sequences=config.sequences[:1],
        rescans=0.0,
        dropout_per_year=0.0,
        replaced_at_baseline=0.0,
        workers=1,
    )
    population = sample_population(made)
    persons, knees = clinic_visit(population, population.latents, "V00", made)
    pain = knees["WOMKP"].to_numpy()
    outcomes = simulate_outcomes(population, pain, made)
    own = knees.to_numpy(float)
    other = own.reshape(people, 2, -1)[:, ::-1].reshape(own.shape)
    whole = np.c_[persons.to_numpy(float), population.subjects["sex"]].repeat(2, axis=0)
    replaced = outcomes.joints["replacement_days"].to_numpy()
    death = outcomes.subjects["death_days"].to_numpy().repeat(2)
    return _Cohort(
        latents=population.latents,
        table=np.c_[own, other, whole],
        build=persons[["AGE", "BMI"]].to_numpy(float).repeat(2, axis=0),
        phenotype=population.joints["phenotype"].to_numpy(),
        disease=linear_predictor(population, pain),
        hazard=outcomes.joints["log_hazard_ratio"].to_numpy(),
        hazard_with_frailty=outcomes.joints["log_hazard_ratio_conditional"].to_numpy(),
        days=np.minimum(np.minimum(replaced, death), TEN_YEARS),
        event=replaced <= TEN_YEARS,
    )


class _Regression:
    """Ridge regression on straight lines and linear splines of each input."""

    def __init__(self, x: Floats, y: Floats):
        self._mean, self._deviation = x.mean(axis=0), x.std(axis=0)
        self._knots = np.quantile(self._scaled(x), _KNOTS, axis=0)
        basis = self._basis(x)
        gram = basis.T @ basis + _PENALTY * np.eye(basis.shape[1])
        self._offset = y.mean(axis=0)
        self._weights = np.linalg.solve(gram, basis.T @ (y - self._offset))

    def _scaled(self, x: Floats) -> Floats:
        return np.asarray((x - self._mean) / np.where(self._deviation > 0, self._deviation, 1.0))

    def _basis(self, x: Floats) -> Floats:
        scaled = self._scaled(x)
        bent = [np.maximum(scaled - knot, 0.0) for knot in self._knots]
        return np.concatenate([np.ones((len(x), 1)), scaled, *bent], axis=1)

    def predict(self, x: Floats) -> Floats:
        """Predict every target, `(n, targets)`."""
        return np.asarray(self._basis(x) @ self._weights + self._offset)


def concordance(risk: Floats, days: Floats, event: NDArray[np.bool_]) -> float:
    """Harrell's concordance: of the pairs whose order is known, the share that the risk orders so.

    Args:
        risk: Higher means sooner, `(n,)`.
        days: Time of the event or of censoring, `(n,)`.
        event: Whether the event was seen, `(n,)`.

    Returns:
        0 to 1, ties of the risk counted half; NaN without a pair.
    """
    right, pairs = 0.0, 0
    for i in np.flatnonzero(event):
        later = (days > days[i]) | ((days == days[i]) & ~event)
        right += float((risk[later] < risk[i]).sum()) + 0.5 * float((risk[later] == risk[i]).sum())
        pairs += int(later.sum())
    return right / pairs if pairs else float("nan")


def _r2(truth: Floats, predicted: Floats) -> float | None:
    """Share of variance explained."""
    if truth.std() == 0:
        return None
    return round(float(1.0 - np.mean((truth - predicted) ** 2) / truth.var()), 3)


def _ari(
    fit: Floats, labels: NDArray[np.int64], test: Floats, truth: NDArray[np.int64]
) -> float | None:
    """Adjusted Rand index of Bayes' rule, with a normal law for each phenotype learnt from labels."""
    if not labels.any():
        return None
    scores = []
    for phenotype in np.unique(labels):
        mine = fit[labels == phenotype]
        centred = test - mine.mean(axis=0)
        covariance = np.cov(mine.T) + 1e-6 * np.eye(fit.shape[1])
        distance = (centred @ np.linalg.inv(covariance) * centred).sum(axis=1)
        scores.append(np.log(len(mine)) - 0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * distance)
    found = np.unique(labels)[np.argmax(scores, axis=0)]
    return adjusted_rand(truth, found)


def adjusted_rand(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Adjusted Rand index of two labelings (Hubert and Arabie 1985, doi:10.1007/BF01908075).

    Args:
        first: Labels `(n,)`.
        second: Labels `(n,)`.
    """
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)

    def pairs(counts: Floats) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together = pairs(table)
    rows, columns = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / (len(first) * (len(first) - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)
