"""Risks of named joints from fitted models, with names on every axis.

A `RiskPredictor` holds one fitted model a cause. Its `summary` gives the risk from the origin; with
`Given(landmark=2.0)` that of joints still free after two years; with `Given(landmark=2.0, outcomes=...)`
that of the same joints given what had become of the other knees by then.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.checks import named
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.design import Design
from spinmark_biomarkers.survival.hazards import Hazard
from spinmark_biomarkers.survival.prediction.follow_up import MIN_AT_RISK, extrapolated, free_at
from spinmark_biomarkers.survival.prediction.incidence import incidence_by_rows, time_lost
from spinmark_biomarkers.survival.prediction.other_joint import (
    OtherJoint,
    given_other_joint,
    partners_of,
)

QUANTILES = (0.025, 0.5, 0.975)

Designs = Mapping[str, Design]


class FittedModel(Protocol):
    """What a prediction needs of a fitted model; every estimator of `survival.models` has it."""

    names_: tuple[str, ...]

    def hazard(self, x: Floats, most: int | None = None) -> Hazard:
        """Draws of the hazard of rows of covariates, shape (n, p), at most so many."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a prediction is made under.

    Args:
        landmark: Years from the origin at which each joint is free of every cause.
        outcomes: What is known of people's joints; the risk is then conditioned on the other joint, as known
            by the landmark.
        partners: Joint -> other joint; by the subjects of `outcomes` by default.
    """

    landmark: float = 0.0
    outcomes: SurvivalData | None = None
    partners: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class RiskPredictor:
    """Absolute risks from one fitted model a cause.

    Args:
        models: Cause -> fitted model, the event first, with every cause that competes.
        follow_up: The rows that the event's model was fitted on; they say how far a prediction may reach.
        min_at_risk: A time that fewer of them reach is labelled an extrapolation.
        allow_extrapolation: False refuses such a time.
        draws: Posterior draws of each model that are used, evenly thinned.
    """

    models: Mapping[str, FittedModel]
    follow_up: SurvivalData
    min_at_risk: int = MIN_AT_RISK
    allow_extrapolation: bool = True
    draws: int = 200
    quantiles: Sequence[float] = field(default=QUANTILES)

    def __post_init__(self) -> None:
        """Check that causes compete.

        Raises:
            InputError: If there is one cause alone.
        """
        if len(self.models) < 2:
            raise InputError(
                f"models: {list(self.models)} alone; accepted is the event with every cause that competes, "
                "such as death: one cause alone gives no absolute risk"
            )

    @property
    def event(self) -> str:
        """The first cause, whose model has the frailty that joints share."""
        return next(iter(self.models))

    def hazards(
        self, designs: Designs, joints: Sequence[str], given: Given | None = None
    ) -> dict[str, Hazard]:
        """Draws of every cause's hazard for some joints.

        Args:
            designs: Cause -> ready design that holds the joints (and the other joints, if conditioned).
            joints: Which rows.
            given: Landmark and other joints.

        Returns:
            Cause -> hazard, the event's conditioned on the other joints where outcomes are given.

        Raises:
            InputError: For joints or columns that a design lacks, or joints not free at the landmark.
        """
        given = given or Given()
        found = {
            cause: model.hazard(covariates(designs, cause, model, joints), self.draws)
            for cause, model in self.models.items()
        }
        if given.outcomes is None:
            return found
        _check_free(joints, given.outcomes, given.landmark)
        pairs = given.partners if given.partners is not None else partners_of(given.outcomes)
        partners = [pairs.get(joint) for joint in joints]
        history = OtherJoint.of(given.outcomes, partners).known_by(given.landmark)
        # A joint without a partner stands in for it; its history is unknown, so nothing of it enters.
        rows = [p if p is not None else j for p, j in zip(partners, joints, strict=True)]
        model = self.models[self.event]
        other = model.hazard(covariates(designs, self.event, model, rows), self.draws)
        found[self.event] = given_other_joint(
            found[self.event], other, history, landmark=given.landmark
        )
        return found

    def _parts(
        self, designs: Designs, times: Floats, joints: Sequence[str], given: Given
    ) -> Iterator[tuple[slice, Floats]]:
        hazards = self.hazards(designs, joints, given)
        return incidence_by_rows(hazards, times, landmark=given.landmark)

    def _joints(self, designs: Designs, joints: Sequence[str] | None) -> list[str]:
        if joints is not None:
            return [str(j) for j in joints]
        return _design(designs, self.event).frame.index.astype(str).tolist()

    def coordinates(self, times: Floats, joints: Sequence[str], given: Given) -> dict[str, object]:
        """The names of what is predicted, and which times are extrapolations.

        Args:
            times: Years after the landmark.
            joints: Which rows.
            given: Landmark and other joints.

        Raises:
            InputError: For a time past the follow-up where that is not allowed.
        """
        beyond = extrapolated(
            self.follow_up, times, landmark=given.landmark, min_at_risk=self.min_at_risk,
            allow=self.allow_extrapolation,
        )  # fmt: skip
        return {
            "cause": np.array(list(self.models), dtype=object),
            "joint": np.array(joints, dtype=object),
            "time": times,
            "extrapolated": ("time", beyond),
        }

    def incidence(
        self,
        designs: Designs,
        times: npt.ArrayLike,
        *,
        joints: Sequence[str] | None = None,
        given: Given | None = None,
    ) -> xr.DataArray:
        """Cumulative incidence of every draw.

        Args:
            designs: Cause -> ready design.
            times: Rising years after the landmark.
            joints: Which rows; all of the event's design by default.
            given: Landmark and other joints; from the origin, the frailty integrated, by default.

        Returns:
            `incidence(cause, draw, joint, time)` with `extrapolated(time)`; `landmark_years` in `attrs`.

        Raises:
            InputError: For what `hazards` refuses, and a time past the follow-up where that is not allowed.
        """
        given, years, rows = given or Given(), _years(times), self._joints(designs, joints)
        coordinates = self.coordinates(years, rows, given)
        values = np.concatenate(
            [share for _, share in self._parts(designs, years, rows, given)], axis=2
        )
        return xr.DataArray(
            values, dims=("cause", "draw", "joint", "time"), coords=coordinates,
            name="incidence", attrs=_attributes(given),
        )  # fmt: skip

    def summary(
        self,
        designs: Designs,
        times: npt.ArrayLike,
        *,
        joints: Sequence[str] | None = None,
        given: Given | None = None,
    ) -> xr.Dataset:
        """Mean and quantiles over the draws, which are never held for all joints at once.

        Args:
            designs: Cause -> ready design.
            times: Rising years after the landmark.
            joints: Which rows; all of the event's design by default.
            given: Landmark and other joints.

        Returns:
            `mean(cause, joint, time)` and `quantiles(cause, joint, time, quantile)`.

        Raises:
            InputError: As `incidence`.
        """
        given, years, rows = given or Given(), _years(times), self._joints(designs, joints)
        coordinates = self.coordinates(years, rows, given)
        shape = (len(self.models), len(rows), len(years))
        mean, quantiles = np.empty(shape), np.empty((*shape, len(self.quantiles)))
        for at, share in self._parts(designs, years, rows, given):
            mean[:, at] = share.mean(axis=1)
            quantiles[:, at] = np.moveaxis(np.quantile(share, self.quantiles, axis=1), 0, -1)
        dims = ("cause", "joint", "time")
        return xr.Dataset(
            {"mean": (dims, mean), "quantiles": ((*dims, "quantile"), quantiles)},
            coords={**coordinates, "quantile": list(self.quantiles)},
            attrs=_attributes(given),
        )

    def time_lost(
        self,
        designs: Designs,
        horizon: float,
        *,
        joints: Sequence[str] | None = None,
        given: Given | None = None,
    ) -> xr.DataArray:
        """Expected years lost to each cause before a horizon, of every draw.

        Args:
            designs: Cause -> ready design.
            horizon: Years after the landmark.
            joints: Which rows; all of the event's design by default.
            given: Landmark and other joints.

        Returns:
            `time_lost(cause, draw, joint)`; the horizon less all of them is the time free. Coordinate
            `extrapolated` says whether the horizon lies past the follow-up.

        Raises:
            InputError: As `incidence`.
        """
        given, rows = given or Given(), self._joints(designs, joints)
        coordinates = self.coordinates(_years([horizon]), rows, given)
        lost = time_lost(self.hazards(designs, rows, given), horizon, landmark=given.landmark)
        array = xr.DataArray(
            lost[..., None], dims=("cause", "draw", "joint", "time"), coords=coordinates,
            name="time_lost", attrs=_attributes(given),
        )  # fmt: skip
        return array.isel(time=0)


def covariates(designs: Designs, cause: str, model: FittedModel, joints: Sequence[str]) -> Floats:
    """A model's columns of some joints, shape (n, p).

    Args:
        designs: Cause -> ready design.
        cause: Which design.
        model: Whose columns.
        joints: Which rows.

    Raises:
        InputError: For a cause, joints or columns that are not there.
    """
    frame = _design(designs, cause).frame
    absent = [name for name in model.names_ if name not in frame.columns]
    if absent:
        raise InputError(
            f"designs: {cause}: no column {absent[0]!r}; the model was fitted on {len(model.names_)} columns"
        )
    at = frame.index.astype(str).get_indexer(pd.Index([str(j) for j in joints]))
    if (at < 0).any():
        raise InputError(
            f"designs: {cause}: no row of {named(np.array(joints, dtype=object), at < 0)}; accepted are "
            "joints of the design"
        )
    return frame[list(model.names_)].to_numpy(dtype=float)[at]


def _design(designs: Designs, cause: str) -> Design:
    if cause not in designs:
        raise InputError(f"designs: none for {cause!r}; given are {sorted(designs)}")
    return designs[cause]


def _check_free(joints: Sequence[str], outcomes: SurvivalData, landmark: float) -> None:
    known = set(outcomes.ids.astype(str).tolist())
    free = set(free_at(outcomes, landmark).tolist())
    ended = np.array([j in known and j not in free for j in joints], dtype=bool)
    if ended.any():
        raise InputError(
            f"landmark: {landmark:g} years: {named(np.array(joints, dtype=object), ended)} not followed and "
            "free of any end until then; accepted are the joints of follow_up.free_at"
        )


def _years(times: npt.ArrayLike) -> Floats:
    return np.atleast_1d(np.asarray(times, dtype=np.float64))


def _attributes(given: Given) -> dict[str, object]:
    return {
        "landmark_years": given.landmark,
        "conditioned_on_other_joint": int(given.outcomes is not None),
    }
