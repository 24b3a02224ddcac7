"""The line in the space of components along which speed is measured."""

import re

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.trajectories.motion import Smoothed
from spinmark_biomarkers.phenotypes.trajectories.paths import Floats, Paths

ACCEPTED = "change, component:N, phenotypes:A-B"
_COMPONENT = re.compile(r"component:(\d+)")
_PAIR = re.compile(r"phenotypes:(\d+)-(\d+)")


def along(direction: npt.ArrayLike) -> Floats:
    """Check a direction and scale it to length 1.

    Args:
        direction: Shape (component,).

    Raises:
        InputError: It is not finite, or zero.
    """
    given = np.asarray(direction, dtype=np.float64)
    length = float(np.linalg.norm(given))
    if given.ndim != 1 or not np.isfinite(length) or length == 0:
        raise InputError(
            f"direction: shape {given.shape}, length {length}; accepted is one finite vector that is not zero"
        )
    return np.asarray(given / length)


def check_direction(name: str, *, with_phenotypes: bool) -> None:
    """Refuse the name of a direction before anything long is done.

    Args:
        name: As `choose_direction`.
        with_phenotypes: Whether phenotypes are given.

    Raises:
        InputError: The name is none of those accepted, or needs phenotypes.
    """
    if name != "change" and not _COMPONENT.fullmatch(name) and not _PAIR.fullmatch(name):
        raise InputError(f"direction: '{name}'; accepted are {ACCEPTED}")
    if _PAIR.fullmatch(name) and not with_phenotypes:
        raise InputError(f"direction: {name} without phenotypes; accepted with --phenotypes DIR")


def principal_change(paths: Paths, smoothed: list[Smoothed]) -> Floats:
    """The direction in which joints move the most, on average forwards.

    First principal axis of the denoised movements a year about zero (not about their mean: what all
    joints share is movement too), of training and validation joints.

    Args:
        paths: The paths.
        smoothed: Their denoised components.

    Raises:
        InputError: Nothing moves.
    """
    level = np.stack([one.level for one in smoothed], axis=2)
    rows = np.flatnonzero(paths.fitted)
    last = paths.joints["visits"].to_numpy()[rows] - 1
    span = paths.years[rows, last] - paths.years[rows, 0]
    velocity = (level[rows, last] - level[rows, 0]) / span[:, None]
    if not np.abs(velocity).max() > 0:
        raise InputError(
            "direction: no joint moves, so there is no direction of change; accepted are "
            "component:N and phenotypes:A-B"
        )
    axis = np.linalg.eigh(velocity.T @ velocity)[1][:, -1]
    mean = float(velocity.mean(axis=0) @ axis)
    sign = np.sign(mean) if mean != 0 else np.sign(axis[np.abs(axis).argmax()])
    return np.asarray(axis * sign)


def choose_direction(
    name: str,
    paths: Paths,
    smoothed: list[Smoothed],
    *,
    phenotype: npt.NDArray[np.int64] | None = None,
) -> Floats:
    """Turn the name of a direction into a unit vector of components.

    Args:
        name: "change", "component:N" (from 1) or "phenotypes:A-B".
        paths: The paths.
        smoothed: Their denoised components.
        phenotype: Phenotype of each joint at its first visit, -1 unknown, shape (joint,).

    Raises:
        InputError: The name is none of these, or names what is not there.
    """
    check_direction(name, with_phenotypes=phenotype is not None)
    count = paths.points.shape[2]
    if name == "change":
        return principal_change(paths, smoothed)
    component = _COMPONENT.fullmatch(name)
    if component:
        number = int(component.group(1))
        if not 1 <= number <= count:
            raise InputError(f"direction: {name}; accepted are component:1 to component:{count}")
        return np.asarray(np.eye(count)[number - 1])
    pair = _PAIR.fullmatch(name)
    if pair is None or phenotype is None:
        raise InputError(f"direction: '{name}'; accepted are {ACCEPTED}")
    first = paths.points[:, 0]
    ends = []
    for label in map(int, pair.groups()):
        members = (phenotype == label) & paths.fitted
        if not members.any():
            known = sorted(set(phenotype[(phenotype >= 0) & paths.fitted].tolist()))
            raise InputError(
                f"direction: {name}, but no fitted joint begins in phenotype {label}; accepted are {known}"
            )
        ends.append(first[members].mean(axis=0))
    return along(ends[1] - ends[0])
