"""Which series an ingest takes, and under which names; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path

from spinmark_data.errors import InputError


@dataclass(kw_only=True)
class SelectionConfig:
    """What is taken of a release.

    Args:
        sequences: Names of the sequences to take, such as SAG_3D_DESS; by default all but the OAI's
            radiographs, localizers, reformats and thigh images.
        visits: Names of the visits to take, such as V00; all by default.
        subjects: Identifiers of the people to take, or a text file with one a line; all by default.
        limit: At most so many series, the first by name; all by default.
        pseudonymise: A file that holds the site's secret key; every identifier of a person is then
            replaced by a code that only whoever has the key can make again.
    """

    sequences: list[str] | None = None
    visits: list[str] | None = None
    subjects: list[str] | Path | None = None
    limit: int | None = None
    pseudonymise: Path | None = None


def _in_the_open() -> InputError:
    return InputError(
        "subjects is a list, which the cohort's run.json would show; with pseudonymise give a text "
        "file with one identifier a line."
    )


def chosen_subjects(config: SelectionConfig) -> frozenset[str] | None:
    """The people that a configuration names; None for everyone.

    Raises:
        InputError: The text file is absent, or names nobody; or people who are to be pseudonymised
            are listed in the configuration, which is kept.
    """
    given = config.subjects
    if given is None:
        return None
    if isinstance(given, list):
        if config.pseudonymise is not None:
            raise _in_the_open()
        return frozenset(str(name) for name in given)
    text = str(given)
    if config.pseudonymise is not None and text.startswith("["):
        raise _in_the_open()
    if text.startswith("["):
        # A list of numbers on the command line: read as text, which keeps leading zeros.
        names = [name.strip().strip("'\"") for name in text.strip("[]").split(",")]
    else:
        try:
            names = [line.strip() for line in given.read_text(encoding="utf-8-sig").splitlines()]
        except FileNotFoundError:
            raise InputError(
                f"subjects {given} does not exist; give a list such as '[a, b]', or a text file "
                "with one identifier a line."
            ) from None
        except (OSError, UnicodeDecodeError):
            raise InputError(f"subjects {given} cannot be read; a text file is needed.") from None
    found = frozenset(name for name in names if name)
    if not found:
        raise InputError(f"subjects {given} names nobody; one identifier a line is needed.")
    return found


def check_limit(limit: int | None) -> None:
    """Refuse a limit that takes nothing.

    Raises:
        InputError: The limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; a whole number of at least 1 is accepted.")
