"""What is measured of a reader study, each as rows of one tidy table."""

import numpy as np
import pandas as pd
from scipy import stats

from spinmark_biomarkers.evaluation.agreement import Level, alpha_interval
from spinmark_biomarkers.evaluation.bootstrap import Interval
from spinmark_biomarkers.phenotypes.reading.accuracy import crossed_share, exact_interval
from spinmark_biomarkers.phenotypes.reading.alike import named_alike
from spinmark_biomarkers.phenotypes.reading.config import ScoreConfig
from spinmark_biomarkers.phenotypes.reading.forms import NAME, ODD, SHEET
from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan

Line = dict[str, object]
COLUMNS = (
    "metric", "subset", "phenotype", "reader", "interval", "value", "low", "high", "chance", "p", "n",
    "unanswered",
)  # fmt: skip
# What is compared between readers, and what a difference means.
AGREEMENT: dict[str, Level] = {
    "known sign": "nominal",
    "confidence": "ordinal",
    "artefact suspected": "nominal",
    "related to disease": "nominal",
    "known pattern": "nominal",
}
CROSSED, THESE, EXACT, UNITS = "readers and items", "items", "exact", "resampled sheets"


def _line(
    metric: str,
    interval: Interval,
    holds: str,
    *,
    subset: str = "all",
    phenotype: int | None = None,
    reader: str = "all",
    chance: float = float("nan"),
    p: float = float("nan"),
    unanswered: int = 0,
) -> Line:
    return {
        "metric": metric, "subset": subset, "phenotype": phenotype, "reader": reader, "interval": holds,
        "value": interval.value, "low": interval.low, "high": interval.high, "chance": chance, "p": p,
        "n": interval.n, "unanswered": unanswered,
    }  # fmt: skip


def wide(readings: pd.DataFrame, part: str, question: str, codes: list[str]) -> pd.DataFrame:
    """Answers as reader x code; "" where there is none."""
    own = readings[(readings["part"] == part) & (readings["question"] == question)]
    return own.pivot(index="reader", columns="code", values="answer").reindex(
        columns=codes, fill_value=""
    )


def _right(plan: ReadingPlan, readings: pd.DataFrame) -> pd.DataFrame:
    """1 right, 0 wrong, NaN not answered, as reader x item."""
    items = plan.items
    said = wide(readings, ODD, "odd one", list(items["code"]))
    right = (said == items.set_index("code")["answer"]).astype(np.float64)
    return right.where(said != "")


def odd_one_out(plan: ReadingPlan, readings: pd.DataFrame, config: ScoreConfig) -> list[Line]:
    """Accuracy of the odd-one-out task: of all, by phenotype, of near and distant ones, of controls.

    An item that came twice counts by its first showing.
    """
    items = plan.items
    if items.empty:
        return []
    right, chance = _right(plan, readings), 1 / len(plan.letters)
    shown = items[items["type"] == "phenotype"]
    middle = shown["distance"].median()
    subsets: list[tuple[str, int | None, pd.Series]] = [
        ("all", None, shown["code"]),
        ("near phenotypes", None, shown.loc[shown["distance"] < middle, "code"]),
        ("distant phenotypes", None, shown.loc[shown["distance"] >= middle, "code"]),
        ("controls", None, items.loc[items["type"] == "control", "code"]),
    ]
    for subset, role in (("majority", "phenotype"), ("odd one", "odd_phenotype")):
        subsets += [
            (subset, int(c), shown.loc[shown[role] == c, "code"])
            for c in sorted(shown[role].unique())
        ]
    rows = []
    for subset, phenotype, codes in subsets:
        part = right[list(codes)]
        if part.shape[1] == 0:
            continue
        found = crossed_share(part.to_numpy(), level=config.level)
        missing = int(part.isna().to_numpy().sum())
        for holds, interval in ((CROSSED, found.others), (THESE, found.these)):
            rows.append(
                _line(
                    "odd_one_out_accuracy", interval, holds, subset=subset, phenotype=phenotype,
                    chance=chance, unanswered=missing,
                )
            )  # fmt: skip
        if phenotype is None and subset in ("all", "controls"):
            rows += _each_reader("odd_one_out_accuracy", subset, part, chance, config.level)
    return rows


def _each_reader(
    metric: str, subset: str, part: pd.DataFrame, chance: float, level: float
) -> list[Line]:
    rows = []
    for reader, answers in part.iterrows():
        given = answers.dropna()
        count, n = int(given.sum()), len(given)
        p = stats.binomtest(count, n, chance, alternative="greater").pvalue if n else np.nan
        rows.append(
            _line(
                metric, exact_interval(count, n, level=level), EXACT, subset=subset, reader=str(reader),
                chance=chance, p=float(p), unanswered=int(answers.isna().sum()),
            )
        )  # fmt: skip
    return rows


def consistency(plan: ReadingPlan, readings: pd.DataFrame, config: ScoreConfig) -> list[Line]:
    """Whether a reader points to the same joint when an item comes again, in another order."""
    items = plan.items.set_index("code")
    again = items[items["type"] == "repeat"]
    if again.empty:
        return []
    said = wide(readings, ODD, "odd one", list(items.index))
    same = pd.DataFrame(index=said.index, columns=list(again.index), dtype=np.float64)
    for code, first in again["repeats"].items():
        for reader in said.index:
            letters = str(said.at[reader, code]), str(said.at[reader, first])
            if all(letters):
                pair = str(items.at[code, letters[0]]), str(items.at[first, letters[1]])
                same.at[reader, code] = float(pair[0] == pair[1])
    chance = 1 / len(plan.letters)
    found = crossed_share(same.to_numpy(), level=config.level)
    missing = int(same.isna().to_numpy().sum())
    rows = [
        _line("consistency", interval, holds, subset="repeats", chance=chance, unanswered=missing)
        for holds, interval in ((CROSSED, found.others), (THESE, found.these))
    ]
    return rows + _each_reader("consistency", "repeats", same, chance, config.level)


def agreement(plan: ReadingPlan, readings: pd.DataFrame, config: ScoreConfig) -> list[Line]:
    """Krippendorff's alpha of every question with a list, and the share that is named alike."""
    codes = list(dict.fromkeys(plan.sheets["code"]))
    rows = []
    for question, level in AGREEMENT.items():
        part = NAME if question == "known pattern" else SHEET
        said = wide(readings, part, question, codes)
        if len(said) < 2 or not codes:
            continue
        ratings = said.to_numpy(dtype=object)
        if level != "nominal":
            ratings = np.array([[float(one) if one else np.nan for one in row] for row in ratings])
        found = alpha_interval(
            ratings, level=level, units=codes, draws=config.bootstrap, seed=config.seed,
            coverage=config.level,
        )  # fmt: skip
        missing = int((said == "").to_numpy().sum())
        rows.append(_line("alpha", found, UNITS, subset=question, chance=0.0, unanswered=missing))
    items = list(plan.items["code"])
    said = wide(readings, ODD, "odd one", items)
    if len(said) >= 2 and items:
        found = alpha_interval(
            said.to_numpy(dtype=object), units=items, draws=config.bootstrap, seed=config.seed,
            coverage=config.level,
        )  # fmt: skip
        missing = int((said == "").to_numpy().sum())
        rows.append(
            _line(
                "alpha", found, "resampled items", subset="odd one", chance=0.0, unanswered=missing
            )
        )
    signs = wide(readings, SHEET, "known sign", codes)
    if len(signs) >= 2 and codes:
        alike = named_alike(
            signs.to_numpy(dtype=object),
            draws=config.bootstrap,
            level=config.level,
            seed=config.seed,
        )
        share = Interval(
            value=alike.share.value, low=alike.share.low, high=alike.share.high, n=alike.pairs
        )
        missing = int((signs == "").to_numpy().sum())
        rows.append(_line("named_alike", share, UNITS, chance=alike.chance, unanswered=missing))
    return rows


def shares(plan: ReadingPlan, readings: pd.DataFrame, config: ScoreConfig) -> list[Line]:
    """Suspicions, disease and confidence over all sheets."""
    codes = list(dict.fromkeys(plan.sheets["code"]))
    rows = []
    for metric, question in (
        ("artefact_suspected", "artefact suspected"),
        ("disease_related", "related to disease"),
    ):
        said = wide(readings, SHEET, question, codes)
        if said.empty or not codes:
            continue
        yes = (said == "yes").astype(np.float64).where(said != "")
        found = crossed_share(yes.to_numpy(), level=config.level)
        missing = int(yes.isna().to_numpy().sum())
        for holds, interval in ((CROSSED, found.others), (THESE, found.these)):
            rows.append(_line(metric, interval, holds, unanswered=missing))
    return rows
