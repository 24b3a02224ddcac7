"""Refuse a number that cannot be, by its name and its bounds."""

import math

from spinmark_data.errors import InputError


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside of its bounds.

    Args:
        name: What the message calls it.
        value: The number.
        low: The lowest accepted.
        high: The highest accepted.

    Raises:
        InputError: It is not finite, or out of bounds.
    """
    if not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"{name} is {value}; it must lie between {low} and {high}.")
