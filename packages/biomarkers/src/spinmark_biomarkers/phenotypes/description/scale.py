"""Differences and odds ratios on one scale, so that they can be ranked and drawn together.

The logarithm of an odds ratio times the root of 3 over pi is about a standardised difference
(Chinn 2000). Cramer's V has no direction and stays out.
"""

import numpy as np
import pandas as pd

_ODDS = ("odds ratio", "odds ratio per SD")
_DIFFERENCES = ("standardised difference", "standardised slope")
COLUMNS = ("effect", "low", "high", "adjusted_effect", "adjusted_low", "adjusted_high")


def on_one_scale(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a direction, their effects and bounds as standardised differences.

    Args:
        frame: As `enrichment.describe_groups` or `describe_axis` returns it.
    """
    kept = frame[frame["effect_name"].isin([*_ODDS, *_DIFFERENCES])].copy()
    odds = kept["effect_name"].isin(_ODDS).to_numpy()
    for name in COLUMNS:
        values = kept[name].to_numpy(np.float64)
        logs = np.log(np.where(odds, values, 1.0)) * np.sqrt(3) / np.pi
        kept[name] = np.where(odds, logs, values)
    return kept


def foremost(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the rows with the largest effects, those that are found first.

    Args:
        frame: Rows of one phenotype or axis, on one scale.
        most: Rows, at most. Those with a false discovery rate of 5 % or less come first.
    """
    size = frame["effect"].abs().to_numpy(np.float64)
    known = np.isfinite(size) & np.isfinite(frame["p"].to_numpy(np.float64))
    found = known & (frame["q"].to_numpy(np.float64) <= 0.05)
    order = np.lexsort((frame["variable"].astype(str).to_numpy(), -size, ~found))
    return frame.iloc[[i for i in order if known[i]][:most]]
