"""A grey picture in characters: half blocks where a terminal has colours, ASCII elsewhere."""

import os
from collections.abc import Mapping
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from spinmark_data.inspect.picture import resample

Mode = Literal["truecolor", "256", "ascii"]
# From dark to light, for light letters on a dark ground.
RAMP = " .:-=+*#%@"
# xterm's grey ramp: entries 232 to 255 have levels 8, 18, ..., 238; 16 is black, 231 is white.
_GREYS = np.array([0, *range(8, 248, 10), 255])
_CODES = np.array([16, *range(232, 256), 231])
_RESET = "\x1b[0m"
_HALF = "▀"


def capability(stream: TextIO, environ: Mapping[str, str] | None = None) -> Mode:
    """What pictures a stream can show.

    Args:
        stream: Where the picture goes.
        environ: `TERM`, `COLORTERM` and `NO_COLOR` (https://no-color.org); the process's by default.

    Returns:
        "truecolor" or "256" on a terminal that says so and takes Unicode, else "ascii".
    """
    given = os.environ if environ is None else environ
    term = given.get("TERM", "")
    if not stream.isatty() or given.get("NO_COLOR") or term in ("", "dumb"):
        return "ascii"
    try:
        _HALF.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "ascii"
    if given.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return "truecolor"
    return "256" if "256color" in term else "ascii"


def render(picture: NDArray[np.uint8], *, columns: int, mode: Mode = "ascii") -> str:
    """A picture in lines of at most `columns` characters, without a newline at the end.

    It is never enlarged. A half block holds two square pixels, one above the other; a letter stands
    for a pixel twice as high as wide.

    Args:
        picture: `(height, width)`.
        columns: The terminal's width.
        mode: As `capability` says.
    """
    height, width = picture.shape
    across = max(1, min(columns, width))
    scale = across / width
    if mode == "ascii":
        down = max(1, round(height * scale / 2))
        return _ascii(resample(picture, (down, across)))
    down = max(1, round(height * scale))
    grey = np.rint(resample(picture, (down, across))).astype(np.int64)
    return _half_blocks(grey, mode)


def _ascii(grey: NDArray[np.float64]) -> str:
    level = np.minimum(grey / 256 * len(RAMP), len(RAMP) - 1).astype(np.int64)
    return "\n".join("".join(RAMP[n] for n in row).rstrip() for row in level)


def _half_blocks(grey: NDArray[np.int64], mode: Mode) -> str:
    if grey.shape[0] % 2:
        grey = np.vstack([grey, np.zeros((1, grey.shape[1]), dtype=np.int64)])
    if mode == "256":
        middles = (_GREYS[1:] + _GREYS[:-1]) / 2
        grey = _CODES[np.searchsorted(middles, grey)]
    return "\n".join(
        _line(upper.tolist(), lower.tolist(), mode)
        for upper, lower in zip(grey[::2], grey[1::2], strict=True)
    )


def _line(upper: list[int], lower: list[int], mode: Mode) -> str:
    """One line of half blocks; a colour is named only where it changes."""
    parts: list[str] = []
    before: tuple[int, int] | None = None
    for pair in zip(upper, lower, strict=True):
        if pair != before:
            parts.append(_colour(*pair, mode))
            before = pair
        parts.append(_HALF)
    return "".join(parts) + _RESET


def _colour(upper: int, lower: int, mode: Mode) -> str:
    if mode == "256":
        return f"\x1b[38;5;{upper};48;5;{lower}m"
    return f"\x1b[38;2;{upper};{upper};{upper};48;2;{lower};{lower};{lower}m"
