"""Random codes of letters, which tell nothing of what they stand for."""

import numpy as np

from spinmark_biomarkers.errors import InputError

# Without vowels there are no words; I, O, Q and S are taken for 1, 0, O and 5.
LETTERS = "BCDFGHJKLMNPRTVWXZ"
LENGTH = 3


def random_codes(count: int, rng: np.random.Generator) -> list[str]:
    """Draw codes of three letters, all of them different.

    Args:
        count: How many.
        rng: Source of chance.

    Raises:
        InputError: There are not so many codes.
    """
    most = len(LETTERS) ** LENGTH
    if not 0 <= count <= most:
        raise InputError(f"codes: {count} are needed; accepted are at most {most}")
    numbers = rng.choice(most, size=count, replace=False)
    return [
        "".join(LETTERS[int(n) // len(LETTERS) ** digit % len(LETTERS)] for digit in range(LENGTH))
        for n in numbers
    ]


def place_letters(count: int) -> str:
    """Return the letters of the joints of an item: A, B, C, ..."""
    return "ABCDEFGH"[:count]
