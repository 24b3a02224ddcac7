"""Why a cell is missing: the words of a table, and their codes."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_models.errors import InputError

logger = logging.getLogger(__name__)


def as_words(
    reasons_NP: NDArray[Any] | Sequence[Sequence[Any]] | None, shape: tuple[int, int]
) -> NDArray[np.str_]:
    """A table of reasons as text.

    Args:
        reasons_NP: Text where a reason is known, and anything else (None, NaN, an empty text) where
            not; None for no reasons at all.
        shape: Rows and columns of the table they belong to.

    Returns:
        The text, empty where no reason is known.

    Raises:
        InputError: The shape is another.
    """
    if reasons_NP is None:
        return np.full(shape, "")
    reasons = np.asarray(reasons_NP, dtype=object)
    if reasons.shape != shape:
        raise InputError(
            f"The reasons have shape {reasons.shape} and the table {shape}; they must be the same."
        )
    words = np.frompyfunc(lambda cell: cell if isinstance(cell, str) else "", 1, 1)(reasons)
    return np.asarray(words, dtype=np.str_)


def known_reasons(words_NP: NDArray[np.str_], missing_NP: NDArray[np.bool_]) -> tuple[str, ...]:
    """The reasons that missing cells have, sorted; those beside an observed value do not count."""
    return tuple(str(word) for word in np.unique(words_NP[missing_NP]) if word)


def reason_codes(words_NP: NDArray[np.str_], known: Sequence[str]) -> NDArray[np.int64]:
    """The place of each reason among the known ones, from 1; 0 for none and for an unknown one.

    Reasons that are not known are told in the log.
    """
    codes = np.zeros(words_NP.shape, np.int64)
    for code, reason in enumerate(known, 1):
        codes[words_NP == reason] = code
    strange = np.unique(words_NP[(codes == 0) & (words_NP != "")]).tolist()
    if strange and known:
        logger.warning(
            "Reasons %s for missing cells were never seen in training; taken as missing for no known "
            "reason. Known: %s",
            strange,
            list(known),
        )
    return codes
