"""The sequences of the OAI and the signal that each tissue gives in them.

Parameters of DESS and of the two turbo spin echoes are those of table 1 in PMC5871621, after the OAI's
protocol; of the T2 map, seven echoes from 10 to 70 ms at a repetition time of 2700 ms, no table was found
(architect's notes). Turbo spin echoes are taken as spin echoes at their effective echo time: stimulated
echoes and magnetisation transfer are left out. Signals are relative to the protons of fluid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spinmark_data.errors import InputError
from spinmark_data.phantom.relaxation import (
    CHEMICAL_SHIFT_HZ,
    DEPHASING_MS,
    FAT,
    FAT_SHARE,
    SECOND_ECHO,
    WATER,
    Tissue,
)
from spinmark_data.phantom.state import Grid

Floats = npt.NDArray[np.floating[Any]]

DESS = "SAG_3D_DESS"


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """How one series is taken.

    Args:
        name: As SeriesDescription begins.
        plane: Plane of its slices.
        kind: `dess` or `spin_echo`.
        tr_ms: Repetition time in ms.
        te_ms: Echo times in ms.
        flip_deg: Flip angle in degrees; 180 for spin echoes, as their headers say.
        fat: Whether fat is left, suppressed, or not excited.
        slice_mm: Thickness of a slice in millimetres.
        bandwidth_hz: Readout bandwidth of a voxel at the OAI's grid, in Hz.
        pixel_mm: Width of a voxel along the readout at the OAI's grid, in millimetres.
        train: Echo train length.
        noise: Factor on the scanner's noise, which is quoted for DESS. A real T2 map, whose slices are
            thick, has a quarter (docs/concepts/phantom-signal.md); the turbo spin echoes' is a guess.
        both_knees: Whether each knee has it; the T2 map is mostly of the right one.
        series_number: DICOM SeriesNumber of the right knee's first.
    """

    name: str
    plane: Literal["sagittal", "coronal"]
    kind: Literal["dess", "spin_echo"]
    tr_ms: float
    te_ms: tuple[float, ...]
    flip_deg: float
    fat: Literal["kept", "suppressed", "not excited"]
    slice_mm: float
    bandwidth_hz: float
    pixel_mm: float
    train: int
    noise: float
    both_knees: bool
    series_number: int

    @property
    def fat_shift_mm(self) -> float:
        """Displacement of fat along the readout, in millimetres."""
        return CHEMICAL_SHIFT_HZ / self.bandwidth_hz * self.pixel_mm


SEQUENCES: Mapping[str, Sequence] = {
    sequence.name: sequence
    for sequence in (
        Sequence(
            name=DESS,
            plane="sagittal",
            kind="dess",
            tr_ms=16.3,
            te_ms=(4.7,),
            flip_deg=25.0,
            fat="not excited",
            slice_mm=0.7,
            bandwidth_hz=185.0,
            pixel_mm=0.365,
            train=1,
            noise=1.0,
            both_knees=True,
            series_number=4,
        ),
        Sequence(
            name="COR_IW_TSE",
            plane="coronal",
            kind="spin_echo",
            tr_ms=3700.0,
            te_ms=(29.0,),
            flip_deg=180.0,
            fat="kept",
            slice_mm=3.0,
            bandwidth_hz=352.0,
            pixel_mm=0.365,
            train=7,
            noise=0.5,
            both_knees=True,
            series_number=6,
        ),
        Sequence(
            name="SAG_IW_TSE_FS",
            plane="sagittal",
            kind="spin_echo",
            tr_ms=3200.0,
            te_ms=(30.0,),
            flip_deg=180.0,
            fat="suppressed",
            slice_mm=3.0,
            bandwidth_hz=248.0,
            pixel_mm=0.357,
            train=5,
            noise=0.5,
            both_knees=True,
            series_number=8,
        ),
        Sequence(
            name="SAG_T2_MAP",
            plane="sagittal",
            kind="spin_echo",
            tr_ms=2700.0,
            te_ms=(10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0),
            flip_deg=180.0,
            fat="kept",
            slice_mm=3.0,
            bandwidth_hz=250.0,
            pixel_mm=0.313,
            train=7,
            noise=0.25,
            both_knees=False,
            series_number=10,
        ),
    )
}
"""What a phantom can be scanned with; `SEQUENCES[DESS]` is what it always is."""


def dess(tissue: Tissue, tr_ms: float, te_ms: float, flip_deg: float) -> tuple[float, float]:
    """Return both echoes of a double echo in the steady state.

    The steady state of a train of equal pulses with spoiling by a gradient, averaged over a whole turn of
    phase between them; the second echo is the one that comes before the next pulse. Form and symbols as
    in Sveinsson et al. 2017 (doi:10.1016/j.mri.2016.12.018); diffusion and T2* are left out.

    Args:
        tissue: Its relaxation times and density.
        tr_ms: Repetition time in ms.
        te_ms: Time from a pulse to the first echo, and from the second echo to the next pulse.
        flip_deg: Flip angle in degrees.

    Returns:
        Magnitudes of the first and of the second echo.
    """
    e1, e2 = np.exp(-tr_ms / tissue.t1_ms), np.exp(-tr_ms / tissue.t2_ms)
    turn = np.cos(np.deg2rad(flip_deg))
    v = (e1 - turn) / (1 - e1 * turn)
    r = np.sqrt((1 - e2**2) / (1 - (e2 * v) ** 2))
    whole = tissue.density * np.tan(np.deg2rad(flip_deg) / 2)
    first = whole * (1 - r * v) * np.exp(-te_ms / tissue.t2_ms)
    second = whole * (1 - r) * np.exp(te_ms / tissue.t2_ms)
    return float(first), float(second)


def spin_echo(tissue: Tissue, tr_ms: float, te_ms: float) -> float:
    """Return the signal of a spin echo of 90 and 180 degrees, `te_ms` much shorter than `tr_ms`."""
    recovered = 1 - np.exp(-tr_ms / tissue.t1_ms)
    return float(tissue.density * recovered * np.exp(-te_ms / tissue.t2_ms))


def pool_signal(sequence: Sequence, tissue: Tissue, name: str = "") -> Floats:
    """Signal of one pool at each echo; DESS's two echoes are added as the root of their squares.

    Args:
        sequence: The sequence.
        tissue: The pool.
        name: The tissue that it is part of; some lose more in gradient echoes (`relaxation`).
    """
    if sequence.kind == "spin_echo":
        return np.array([spin_echo(tissue, sequence.tr_ms, te) for te in sequence.te_ms])
    te = sequence.te_ms[0]
    first, second = dess(tissue, sequence.tr_ms, te, sequence.flip_deg)
    left = np.exp(-te / DEPHASING_MS[name]) if name in DEPHASING_MS else 1.0
    return np.array([left * np.hypot(first, second * SECOND_ECHO.get(name, 1.0))])


def water_and_fat(sequence: Sequence) -> dict[str, tuple[Floats, Floats]]:
    """Signal of each tissue's water and of its fat at each echo, fat as if nothing suppressed it."""
    found = {}
    for name, water in WATER.items():
        share = FAT_SHARE.get(name, 0.0)
        fat = share * pool_signal(sequence, FAT, name)
        found[name] = ((1 - share) * pool_signal(sequence, water, name), fat)
    return found


def grid_of(sequence: Sequence, dess_grid: Grid, spacing_mm: tuple[float, ...] | None) -> Grid:
    """Sampling of a sequence: the field of view of the DESS, in its own plane and slices.

    Args:
        sequence: The sequence.
        dess_grid: The DESS's.
        spacing_mm: Spacing along `(z, y, x)` of the sequence's own array; by default slices as thick as
            the OAI's, or as the DESS's where those are thicker, and pixels as the DESS's.

    Raises:
        InputError: Fewer than 8 voxels are left along an axis.
    """
    if sequence.name == DESS:
        return dess_grid
    thick, dy, dx = dess_grid.spacing_mm
    given = spacing_mm or (max(sequence.slice_mm, thick), dy, dx)
    extent = [n * d for n, d in zip(dess_grid.shape, dess_grid.spacing_mm, strict=True)]
    if sequence.plane == "coronal":
        extent.reverse()
    nz, ny, nx = (round(e / d) for e, d in zip(extent, given, strict=True))
    if min(ny, nx) < 8 or nz < 2:
        raise InputError(
            f"sequence_spacing_mm leaves {nz} x {ny} x {nx} voxels of {sequence.name}; at least "
            "2 x 8 x 8 are needed."
        )
    dz, dy, dx = (float(d) for d in given)
    return Grid(shape=(nz, ny, nx), spacing_mm=(dz, dy, dx), plane=sequence.plane)
