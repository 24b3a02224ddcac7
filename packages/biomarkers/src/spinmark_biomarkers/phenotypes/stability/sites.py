"""Would the other sites have found the same phenotypes, and how common is each at each site?

For every site the clusterer is refitted without all people who were ever scanned there. The refit is
matched with the whole fit on the people it knows, and the two then label the site's scans.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Progress, subject_bootstrap
from spinmark_biomarkers.evaluation.clusters import match_labels
from spinmark_biomarkers.phenotypes.stability.agreement import agreement
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe

Floats = npt.NDArray[np.float64]
COLUMNS = ["site", "quantity", "phenotype", "value", "low", "high", "n", "n_subjects", "reason"]


def leave_one_site_out(
    x: Floats,
    labels: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    sites: npt.ArrayLike,
    recipe: Recipe,
    *,
    least: int = 10,
    draws: int = 200,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Refit without each site and compare the labels of its scans with those of the whole fit.

    Args:
        x: The fitted rows, shape (n, feature).
        labels: Their labels by the whole fit, shape (n,).
        subject_ids: Shape (n,).
        sites: The site of each row, shape (n,).
        recipe: How the whole was fitted.
        least: Subjects that a site needs; a smaller one has a row with the reason and no value.
        draws: Bootstrap samples of the site's subjects.
        progress: Called with (done, sites).

    Returns:
        Tidy rows: `site`, `quantity` (`ari`, `ami`, `share` of scans with the same label, `jaccard`),
        `phenotype` (missing for the whole), `value`, `low`, `high`, `n`, `n_subjects`, `reason`.

    Raises:
        InputError: There are fewer than two sites.
    """
    whole = np.asarray(labels, dtype=np.int64)
    people, places = np.asarray(subject_ids).astype(str), np.asarray(sites).astype(str)
    names, k = np.unique(places), max(recipe.k or 0, int(whole.max()) + 1)
    if names.size < 2:
        raise InputError(
            f"sites: {names.size} ({', '.join(names[:3])}); accepted are at least two to leave one out"
        )
    rows: list[dict[str, Any]] = []
    for number, site in enumerate(names):
        at_site = places == site
        rest = ~np.isin(people, people[at_site])
        here, others = len(np.unique(people[at_site])), len(np.unique(people[rest]))
        reason = ""
        if here < least:
            reason = f"{here} subjects, of {least} needed"
        elif others < 4 * k:
            reason = f"{others} subjects elsewhere, of {4 * k} needed"
        if reason:
            told: list[dict[str, Any]] = [
                {"quantity": "ari", "n": int(at_site.sum()), "n_subjects": here, "reason": reason}
            ]
        else:
            refit = recipe.fit(x[rest])
            found = refit.assign(x)[0]
            known = match_labels(whole[rest], found[rest], by="jaccard", k=k)
            # A cluster into which only the site's own scans fall has no match among the others.
            names_of = {c: known.get(c, k + c) for c in range(1 + int(found.max()))}
            one = agreement(
                whole[at_site],
                found[at_site],
                people[at_site],
                k=k,
                names=names_of,
                draws=draws,
                seed=recipe.seed,
            )
            told = [{**row, "reason": ""} for row in one.rows()]
        rows += [{"site": str(site), **row} for row in told]
        if progress is not None:
            progress(number + 1, names.size)
    return pd.DataFrame(rows).reindex(columns=COLUMNS).astype({"phenotype": "Int64"})


def site_frequencies(
    labels: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    sites: npt.ArrayLike,
    *,
    k: int,
    draws: int = 200,
    seed: int,
) -> pd.DataFrame:
    """Share of each phenotype among the scans of each site, with subject-bootstrap intervals.

    Args:
        labels: Labels in 0..k-1, shape (n,).
        subject_ids: Shape (n,).
        sites: Shape (n,).
        k: Number of phenotypes.
        draws: Bootstrap samples of the site's subjects.
        seed: Seed of the draws.

    Returns:
        `site`, `phenotype`, `value`, `low`, `high`, `n` (scans of the site), `n_subjects`.
    """
    codes, people = np.asarray(labels, dtype=np.int64), np.asarray(subject_ids).astype(str)
    places = np.asarray(sites).astype(str)
    rows = []
    for site in np.unique(places):
        at_site = places == site
        here, who = codes[at_site], people[at_site]
        for c in range(k):
            one = subject_bootstrap(
                lambda drawn, c=c, here=here: float((here[drawn] == c).mean()),  # type: ignore[misc]
                who,
                draws=draws,
                seed=seed,
            )
            rows.append(
                {
                    "site": str(site),
                    "phenotype": c,
                    "value": one.value,
                    "low": one.low,
                    "high": one.high,
                    "n": one.n,
                    "n_subjects": len(np.unique(who)),
                }
            )
    return pd.DataFrame(rows)
