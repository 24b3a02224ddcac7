"""Principal components of bone shape, fitted on training subjects.

A bone is described by its signed distance on a coarse grid in the frame of the knee, cut off at some
millimetres, so that no correspondence of surfaces is needed (Leventon et al. 2000,
doi:10.1109/CVPR.2000.855835). Scores are in standard deviations of the subjects that it was fitted on.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from spinmark_data.errors import InputError
from spinmark_data.labels.box import box_about
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.frame import KneeFrame, knee_frame
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.knee import PLATES
from spinmark_data.morphometry.surface import distances, smooth, surface
from spinmark_data.morphometry.thickness import cover

# Of the fields below; modes of another version score no field of this one.
SHAPE_VERSION = 1
LEAST_KNEES = 3

# Millimetres medial, inferior and posterior of the knee's origin that a field of view holds.
_EXTENT: Mapping[str, tuple[tuple[float, float], ...]] = {
    "femur": ((-42, 42), (-40, 6), (-38, 38)),
    "tibia": ((-42, 42), (-10, 28), (-28, 34)),
    "patella": ((-30, 30), (-60, 0), (-62, -18)),
}
_STEP_MM = 4.0
_CUT_MM = 6.0
# Knees, or points, that are float64 at a time while modes are fitted.
_BLOCK = 256


def shape_field(
    joint: Joint,
    bone: str,
    config: MorphometryConfig | None = None,
    frame: KneeFrame | None = None,
) -> NDArray[np.float32]:
    """Signed distances to a bone in mm, negative inside, on the grid of its kind.

    The knee is brought into its own frame, but not scaled: size is part of shape.

    Args:
        joint: The label map as a right knee.
        bone: `femur`, `tibia` or `patella`.
        config: Settings.
        frame: The knee's frame, where it is known already. Both tibial cartilages give it; where one
            is absent the axes of LPS stand in, which makes the field no match for others.

    Returns:
        `(n,)`, the same points of the frame for each knee.

    Raises:
        InputError: An unknown bone, or the label map does not hold it.
    """
    config = config or MorphometryConfig()
    if bone not in _EXTENT:
        raise InputError(f"Unknown bone '{bone}'. Valid bones are {sorted(_EXTENT)}.")
    code = joint.codes.get(bone)
    if code is None or not (joint.labels == code).any():
        raise InputError(f"The label map holds no {bone}.")
    if frame is None:
        plates = {name: cover(joint, *PLATES[name], config) for name in ("MT", "LT")}
        frame = knee_frame({name: found for name, found in plates.items() if found is not None})
    lines = [np.arange(low, high + _STEP_MM / 2, _STEP_MM) for low, high in _EXTENT[bone]]
    at = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    part = joint.cut(box_about(joint.labels, joint.affine, 2 * _CUT_MM, codes=[code]))
    return _signed(part, bone, at @ frame.axes + frame.origin, config.smoothing_mm)


def _signed(
    part: Joint, bone: str, points: NDArray[np.float64], smoothing_mm: float
) -> NDArray[np.float32]:
    """Distance of points `(n, 3)` from a bone's surface, negative inside, cut off.

    From the triangles and not from voxel centres, which lie half a voxel beside the surface: another
    half along each axis of a grid of oblong voxels.
    """
    to_index, shape = np.linalg.inv(part.affine), np.array(part.labels.shape)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    # Past the field of view the bone goes on as at its edge.
    held = np.clip(index, 0, shape - 1) @ part.affine[:3, :3].T + part.affine[:3, 3]
    field = smooth(part.mask(bone), part.affine, smoothing_mm)
    away = distances(surface(field), held, _CUT_MM)
    return np.where(field.at(held) > 0.5, -away, away).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ShapeModel:
    """The mean shape of training subjects and how they differ from it.

    Args:
        bone: Which bone.
        mean: `(n,)`.
        modes: `(k, n)`, orthonormal.
        spread: `(k,)`, standard deviation of each component among the training knees.
        explained: `(k,)`, share of the variance.
        subjects: Whom it was fitted on.
    """

    bone: str
    mean: NDArray[np.float64]
    modes: NDArray[np.float64]
    spread: NDArray[np.float64]
    explained: NDArray[np.float64]
    subjects: frozenset[str]

    @classmethod
    def fit(
        cls,
        bone: str,
        fields: NDArray[Any],
        subject_ids: Sequence[str],
        training: Collection[str],
        components: int = 5,
    ) -> "ShapeModel":
        """Fit on the knees of training subjects alone.

        Args:
            bone: Which bone.
            fields: `(knee, n)`, of `shape_field`.
            subject_ids: Whose each knee is.
            training: The subjects that may be learnt from; a split's training set.
            components: How many components to keep at most; 1 or more.

        Raises:
            InputError: Fewer than three knees are of training subjects.
        """
        wanted = set(training)
        chosen = np.array([subject in wanted for subject in subject_ids], bool)
        if chosen.sum() < LEAST_KNEES:
            raise InputError(
                f"{int(chosen.sum())} knees of training subjects; at least {LEAST_KNEES} are needed."
            )
        known = np.asarray(fields)[chosen]
        mean = known.mean(axis=0, dtype=np.float64)
        variance, modes, whole = _components(known, mean, components)
        # A component's sign is arbitrary; the largest weight is made positive.
        largest = np.abs(modes).argmax(axis=1)
        modes = modes * np.sign(modes[np.arange(len(modes)), largest])[:, None]
        return cls(
            bone=bone,
            mean=mean,
            modes=modes,
            spread=np.sqrt(variance),
            explained=variance / max(whole, 1e-300),
            subjects=frozenset(str(s) for s, c in zip(subject_ids, chosen, strict=True) if c),
        )

    def transform(self, fields: NDArray[Any]) -> NDArray[np.float64]:
        """Scores `(knee, k)` in standard deviations of the training knees; NaN where a field is.

        Each knee by itself, so that its scores are the same to the last bit whoever else is scored.
        """
        fields = np.asarray(fields)
        scores = np.full((len(fields), len(self.spread)), np.nan)
        for row in np.flatnonzero(np.isfinite(fields[:, 0])) if fields.size else ():
            scores[row] = self.modes @ (fields[row] - self.mean) / self.spread
        return scores

    @property
    def variables(self) -> list[str]:
        """The scores' names, such as `SHAPE_FEMUR_1`."""
        return [f"SHAPE_{self.bone.upper()}_{i + 1}" for i in range(len(self.spread))]

    def to_bytes(self) -> bytes:
        """The model as a NumPy archive, without pickles."""
        content = BytesIO()
        np.savez_compressed(
            content,
            bone=np.array(self.bone),
            mean=self.mean,
            modes=self.modes,
            spread=self.spread,
            explained=self.explained,
            subjects=np.array(sorted(self.subjects)),
        )
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "ShapeModel":
        """The model that `to_bytes` wrote."""
        with np.load(BytesIO(content), allow_pickle=False) as found:
            arrays = {
                name: np.asarray(found[name]) for name in ("mean", "modes", "spread", "explained")
            }
            subjects = frozenset(str(s) for s in found["subjects"])
            return cls(bone=str(found["bone"]), subjects=subjects, **arrays)


def _components(
    known: NDArray[Any], mean: NDArray[np.float64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Variances `(k,)`, unit modes `(k, n)` and the whole variance of fields `(knee, n)`.

    From the smaller of the two products of the centred fields with themselves, summed over blocks, so
    that only one block at a time is float64.
    """
    knees, points = known.shape
    few = knees <= points
    product = np.zeros((min(knees, points),) * 2)
    for start in range(0, points if few else knees, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = known[:, part] - mean[part] if few else (known[part] - mean).T
        product += block @ block.T
    size = len(product)
    asked = [max(0, size - most), size - 1]
    values, vectors = eigh(product, subset_by_index=asked)
    # Rounding leaves about 1e-16 of the largest where there is nothing.
    kept = np.flatnonzero(values > 1e-12 * max(values[-1], 1e-12))[::-1]
    values, modes = values[kept], vectors[:, kept].T
    if few:
        modes = (
            np.concatenate(
                [
                    modes @ (known[:, at : at + _BLOCK] - mean[at : at + _BLOCK])
                    for at in range(0, points, _BLOCK)
                ],
                axis=1,
            )
            / np.sqrt(values)[:, None]
        )
    return values / (knees - 1), np.asarray(modes), float(np.trace(product)) / (knees - 1)
