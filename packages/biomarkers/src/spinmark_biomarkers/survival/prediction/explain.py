"""Why a joint's risk is what it is: what each block of covariates adds.

- On the log hazard a block adds the sum of coefficient times distance from the reference: exact and
  additive, for each cause of its own.
- On the absolute risk at a horizon, where causes compete and nothing is additive, a block's part is its
  Shapley value: the mean of what the risk changes when the block takes the joint's values in place of the
  reference's, over all orders in which the blocks may do so. The parts add to the joint's risk less the
  reference's, in every draw.

The reference is the mean of the covariates of the cohort: one made-up joint, of average everything. A
part says what the model makes of the values. It does not say that changing them would change the risk.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.design import Design
from spinmark_biomarkers.survival.hazards import Hazard
from spinmark_biomarkers.survival.prediction.incidence import incidence
from spinmark_biomarkers.survival.prediction.other_joint import ConditionedHazard
from spinmark_biomarkers.survival.prediction.predictor import (
    Given,
    RiskPredictor,
    covariates,
)
from spinmark_biomarkers.survival.prediction.shapley import coalitions, shapley_values

OTHER_JOINT = "other joint"
_UNNAMED = "covariates"


def explain(
    predictor: RiskPredictor,
    designs: Mapping[str, Design],
    horizon: float,
    *,
    joints: Sequence[str],
    given: Given | None = None,
    reference: Sequence[str] | None = None,
) -> xr.Dataset:
    """Contributions of the blocks, and of single covariates, to the risk of some joints.

    Args:
        predictor: Fitted models.
        designs: Cause -> ready design, its columns in blocks.
        horizon: Years after the landmark.
        joints: Joints to explain; what is returned grows with joints times covariates times draws.
        given: Landmark and other joints; what the other joint tells is then a block of its own.
        reference: Joints whose mean covariates stand for the average; all of the design by default.

    Returns:
        For every draw: `risk(draw, joint)` and `reference_risk(draw, joint)` of the event by the horizon,
        `risk_contribution(draw, joint, block)`, which adds to their difference,
        `log_hazard(cause, draw, joint, block)`, NaN for the other joint, whose part is no constant factor,
        and `log_hazard_of_covariate(draw, joint, covariate)` of the event, with `block_of(covariate)`.

    Raises:
        InputError: For more than 8 blocks, a horizon past the follow-up where that is refused, or what
            `RiskPredictor.hazards` refuses.
    """
    given, names = given or Given(), [str(j) for j in joints]
    times = np.array([float(horizon)])
    coordinates = predictor.coordinates(times, names, given)
    hazards = predictor.hazards(designs, names, given)
    blocks = _blocks(predictor, designs)
    moved: dict[str, Floats] = {}
    middle: dict[str, Floats] = {}
    single: Floats = np.empty(0)
    for cause, model in predictor.models.items():
        x = covariates(designs, cause, model, names)
        everyone = reference if reference is not None else designs[cause].frame.index
        mean = covariates(designs, cause, model, [str(j) for j in everyone]).mean(axis=0)
        # One column at a time away from the reference: what a model makes of a column need not be linear.
        n, p = x.shape
        rows = np.tile(mean, (1 + n * p, 1))
        rows[1 + np.arange(n * p), np.tile(np.arange(p), n)] = x.ravel()
        linear = model.hazard(rows, predictor.draws).linear
        middle[cause] = linear[:, :1]
        each = (linear[:, 1:] - linear[:, :1]).reshape(len(linear), n, p)
        _check_additive(hazards[cause].linear, middle[cause] + each.sum(axis=2), cause)
        of = np.array(
            [designs[cause].blocks.get(name, _UNNAMED) for name in model.names_], dtype=object
        )
        moved[cause] = np.stack([each[..., of == b].sum(axis=2) for b in blocks], axis=-1)
        if cause == predictor.event:
            single, columns, column_blocks = each, list(model.names_), of
    players = [*blocks, OTHER_JOINT] if given.outcomes is not None else blocks
    worth = np.stack(
        [
            incidence(_of_coalition(hazards, middle, moved, c), times, landmark=given.landmark)[
                0, :, :, 0
            ]
            for c in coalitions(len(players))
        ]
    )
    values = np.moveaxis(shapley_values(worth), 0, -1)
    return xr.Dataset(
        {
            "risk": (("draw", "joint"), worth[-1]),
            "reference_risk": (("draw", "joint"), worth[0]),
            "risk_contribution": (("draw", "joint", "block"), values),
            "log_hazard": (
                ("cause", "draw", "joint", "block"),
                np.stack([_padded(moved[c], len(players)) for c in predictor.models]),
            ),
            "log_hazard_of_covariate": (("draw", "joint", "covariate"), single),
        },
        coords={
            "cause": coordinates["cause"],
            "joint": coordinates["joint"],
            "block": np.array(players, dtype=object),
            "covariate": np.array(columns, dtype=object),
            "block_of": ("covariate", column_blocks),
        },
        attrs={
            "horizon_years": float(horizon),
            "landmark_years": given.landmark,
            "event": predictor.event,
            "extrapolated": int(_only(coordinates["extrapolated"])),
        },
    )


def top_covariates(explanation: xr.Dataset, joint: str, block: str, *, most: int = 5) -> xr.Dataset:
    """The covariates of a block that move a joint's log hazard most.

    Args:
        explanation: From `explain`.
        joint: Which joint.
        block: Which block.
        most: How many at most.

    Returns:
        `mean`, `low` and `high` (95 % of the draws) of each covariate's part of the log hazard, the largest
        mean first by size.

    Raises:
        InputError: For a joint or block that is not there.
    """
    one = of_joint(explanation, joint)["log_hazard_of_covariate"]
    inside = explanation["block_of"].to_numpy() == block
    if not inside.any():
        found = sorted(set(explanation["block_of"].to_numpy().tolist()))
        raise InputError(f"block: {block!r} has no covariates; accepted are {found}")
    one = one.isel(covariate=np.flatnonzero(inside))
    mean = one.mean("draw").to_numpy()
    order = np.lexsort((one["covariate"].to_numpy().astype(str), -np.abs(mean)))[:most]
    low, high = np.quantile(one.to_numpy(), [0.025, 0.975], axis=0)
    return xr.Dataset(
        {
            name: ("covariate", v[order])
            for name, v in (("mean", mean), ("low", low), ("high", high))
        },
        coords={"covariate": one["covariate"].to_numpy()[order]},
    )


def of_joint(explanation: xr.Dataset, joint: str) -> xr.Dataset:
    """One joint of an explanation.

    Args:
        explanation: From `explain`.
        joint: Which joint.

    Raises:
        InputError: If it is not there.
    """
    joints = explanation["joint"].to_numpy().tolist()
    if joint not in joints:
        raise InputError(f"joint: {joint!r}; explained are {joints[:5]}")
    return explanation.isel(joint=joints.index(joint))


def _blocks(predictor: RiskPredictor, designs: Mapping[str, Design]) -> list[str]:
    found: dict[str, None] = {}
    for cause, model in predictor.models.items():
        if cause in designs:
            for name in model.names_:
                found.setdefault(designs[cause].blocks.get(name, _UNNAMED))
    return list(found)


def _of_coalition(
    hazards: Mapping[str, Hazard],
    middle: Mapping[str, Floats],
    moved: Mapping[str, Floats],
    members: npt.NDArray[np.bool_],
) -> dict[str, Hazard]:
    found: dict[str, Hazard] = {}
    for cause, hazard in hazards.items():
        blocks = moved[cause].shape[-1]
        linear = middle[cause] + moved[cause][..., members[:blocks]].sum(axis=-1)
        if isinstance(hazard, ConditionedHazard) and not members[blocks]:
            hazard = hazard.own
        found[cause] = hazard.with_linear(linear)
    return found


def _check_additive(whole: Floats, parts: Floats, cause: str) -> None:
    if not np.allclose(whole, parts, rtol=1e-6, atol=1e-6):
        raise InputError(
            f"models: {cause}: its linear predictor is not a sum over covariates; accepted are models "
            "without interactions"
        )


def _padded(values: Floats, size: int) -> Floats:
    pad = size - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, pad)], constant_values=np.nan)


def _only(coordinate: object) -> bool:
    assert isinstance(coordinate, tuple)
    return bool(coordinate[1][0])
