"""How well a perfect method could do on a phantom: from the image alone, the table alone, and both.

The image at its best shows the true latents of both knees at enrolment, and the limb's size and fat; the
phenotype that they tell is Bayes' choice by the law they were drawn from (`posterior`). The
table at its best is read by `ideal_reader`, from everything the clinic notes at enrolment of both knees (no
readings of images), learnt on a large cohort of its own. Every figure is measured on a third cohort, so
it holds for any method that sees as much. Site and machine are left out: what learns them may do
better where they tell something.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinmark_data.phantom.clinic import clinic_visit
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.ideal_reader import Regression, TableReader, other_knee
from spinmark_data.phantom.outcomes import TEN_YEARS, linear_predictor, simulate_outcomes
from spinmark_data.phantom.population import Floats, sample_population, shift_of_latents
from spinmark_data.phantom.posterior import phenotype_chances
from spinmark_data.phantom.state import LATENTS

_FIT_SEED, _TEST_SEED = 31_415_926, 27_182_818


@dataclass(frozen=True, kw_only=True)
class _Cohort:
    """What a ceiling needs of a cohort, a row a knee; a row a person in `build` and `shift`."""

    latents: Floats
    image: Floats
    build: Floats
    shift: Floats
    table: Floats
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
            fifteen seconds, and the figures vary by about 0.01 (C-index) from one seed to another.

    Returns:
        `c_index` of replacement within ten years and `ari` of the first phenotype (None where there
        are none), each for `image`, `table` and `both`; `r2` of each latent for `table` (None where
        it does not vary; 1 for the image by definition). `c_index` also has `hazard` (the true one,
        without frailty) and `oracle` (with it).
    """
    fit = _simulate(config, people, _FIT_SEED)
    test = _simulate(config, people, _TEST_SEED)
    reader = TableReader(fit.table, fit.latents, fit.disease, fit.phenotype)
    latents, risk = reader.read(test.table)

    def foretold(learn: Floats, held: Floats) -> Floats:
        return Regression(learn, fit.disease[:, None]).predict(held)[:, 0]

    risks = {
        "image": foretold(fit.image, test.image),
        "table": risk,
        "both": foretold(np.c_[fit.image, fit.table], np.c_[test.image, test.table]),
        "hazard": test.hazard,
        "oracle": test.hazard_with_frailty,
    }
    kinds: dict[str, float | None] = dict.fromkeys(("image", "table", "both"))
    if reader.kinds is not None:
        guesses = _phenotypes(fit, test, config) | {"table": reader.kinds.predict(test.table)}
        kinds = {name: adjusted_rand(test.phenotype, guess) for name, guess in guesses.items()}
    return {
        "people": people,
        "c_index": _no_less_with_both(
            {name: concordance(score, test.days, test.event) for name, score in risks.items()}
        ),
        "ari": _no_less_with_both(kinds),
        "r2": {name: _r2(test.latents[:, k], latents[:, k]) for k, name in enumerate(LATENTS)},
    }


def _no_less_with_both(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Who has image and table may leave one aside: `both` is at least the better of the two."""
    known = [figures[name] for name in ("image", "table", "both")]
    best = max((value for value in known if value is not None), default=None)
    return {
        name: None if value is None else round(value, 3)
        for name, value in {**figures, "both": best}.items()
    }


def _phenotypes(fit: _Cohort, test: _Cohort, config: PhantomConfig) -> dict[str, NDArray[np.int64]]:
    """Bayes' choice from the latents alone, and with the age, mass and sex that a table tells."""
    # Of these an image shows what size and fat tell.
    told, shown = (np.c_[np.ones(len(one.build)), one.build] for one in (fit, test))
    weights = np.linalg.lstsq(told, fit.shift, rcond=None)[0]
    doubt = np.cov((fit.shift - told @ weights).T)
    known = {"image": (shown @ weights, doubt), "both": (test.shift, np.zeros((4, 4)))}
    return {
        name: phenotype_chances(test.latents, shift, doubt, config).argmax(axis=1)
        for name, (shift, doubt) in known.items()
    }


def _simulate(config: PhantomConfig, people: int, seed: int) -> _Cohort:
    """Make a cohort of tables; everyone is followed for ten years or to death."""
    made = config.plain(
        subjects=people,
        seed=seed,
        visits=("V00",),
        follow_up_visits=("V00", "V12"),
        sequences=config.sequences[:1],
        late_entry=0.0,
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
    whole = np.c_[persons.to_numpy(float), population.subjects["sex"]].repeat(2, axis=0)
    replaced = outcomes.joints["replacement_days"].to_numpy()
    death = outcomes.subjects["death_days"].to_numpy().repeat(2)
    persons_ = population.subjects
    sex = persons_["sex"].to_numpy()
    # Less what `sample_population` adds for men.
    mass = (persons_["bmi"].to_numpy() - 0.3 * (sex == 1) - 28.6) / 4.8
    build = persons_[["size", "fat_mm"]].to_numpy(float)
    return _Cohort(
        latents=population.latents,
        image=np.c_[population.latents, other_knee(population.latents), build.repeat(2, axis=0)],
        build=build,
        shift=shift_of_latents((persons_["age"].to_numpy() - 61.0) / 9.0, mass, sex),
        table=np.c_[own, other_knee(own), whole],
        phenotype=population.joints["phenotype"].to_numpy(),
        disease=linear_predictor(population, pain),
        hazard=outcomes.joints["log_hazard_ratio"].to_numpy(),
        hazard_with_frailty=outcomes.joints["log_hazard_ratio_conditional"].to_numpy(),
        days=np.minimum(np.minimum(replaced, death), TEN_YEARS),
        event=replaced <= TEN_YEARS,
    )


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
    """Share of variance explained; 0 where the mean is as good, for that is known to everyone."""
    if truth.std() == 0:
        return None
    return round(max(0.0, float(1.0 - np.mean((truth - predicted) ** 2) / truth.var())), 3)


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
