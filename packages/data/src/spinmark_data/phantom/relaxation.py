"""Relaxation of the knee's tissues at 3 T: what the signal equations start from.

`T2_RANGES_MS` holds what was measured. T2 of cartilage and muscle is the mean, T2 of fat and marrow lies
within the range of Pai et al. 2008 (doi:10.1016/j.mri.2008.02.017), who measured ten people at 3 T. T2 and
T1 of the meniscus and T1 of cartilage follow one reader's maps (PMC7016502, figure 3). The other T1 and
all proton densities are round values without a source: they set contrasts, and nothing is fitted to them.
Oedema, synovitis and osteophytes are mixtures made up to look as they do on images.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """One pool of protons.

    Args:
        t1_ms: Longitudinal relaxation time in ms.
        t2_ms: Transverse relaxation time in ms.
        density: Protons that can be seen, relative to fluid.
    """

    t1_ms: float
    t2_ms: float
    density: float


CHEMICAL_SHIFT_HZ = 440.0
"""Fat turns more slowly than water by 3.4 to 3.5 millionths of 127.7 MHz."""

T2_RANGES_MS: Mapping[str, tuple[float, float]] = {
    "cartilage": (27.0, 45.0),
    "muscle": (27.0, 45.0),
    "fat": (41.0, 143.0),
    "marrow": (42.0, 160.0),
}
"""T2 at 3 T between which people and methods lie (Pai et al. 2008, doi:10.1016/j.mri.2008.02.017)."""

FAT = Tissue(t1_ms=370.0, t2_ms=125.0, density=1.0)

WATER: Mapping[str, Tissue] = {
    "air": Tissue(t1_ms=1000.0, t2_ms=50.0, density=0.0),
    "muscle": Tissue(t1_ms=1400.0, t2_ms=34.0, density=0.51),
    "cartilage": Tissue(t1_ms=1000.0, t2_ms=36.4, density=0.8),
    "meniscus": Tissue(t1_ms=600.0, t2_ms=14.6, density=0.16),
    "cortex": Tissue(t1_ms=250.0, t2_ms=2.0, density=0.3),
    "marrow": Tissue(t1_ms=1000.0, t2_ms=50.0, density=0.9),
    "fluid": Tissue(t1_ms=3600.0, t2_ms=700.0, density=1.0),
    "lesion": Tissue(t1_ms=1200.0, t2_ms=70.0, density=0.95),
    "osteophyte": Tissue(t1_ms=1000.0, t2_ms=50.0, density=0.9),
    "synovitis": Tissue(t1_ms=1800.0, t2_ms=120.0, density=0.95),
    "tendon": Tissue(t1_ms=600.0, t2_ms=4.0, density=0.5),
    "fat": Tissue(t1_ms=1000.0, t2_ms=50.0, density=0.9),
    "hoffa": Tissue(t1_ms=1000.0, t2_ms=50.0, density=0.9),
}
"""The water of each tissue."""

FAT_SHARE: Mapping[str, float] = {
    "fat": 0.95,
    "hoffa": 0.9,
    "marrow": 0.85,
    "osteophyte": 0.75,
    "lesion": 0.35,
}
"""Share of a tissue that is fat; none elsewhere."""

DEPHASING_MS: Mapping[str, float] = {"marrow": 6.0, "osteophyte": 6.0, "lesion": 10.0}
"""T2' in ms, by which gradient echoes lose signal among trabeculae; spin echoes do not. No source."""

SECOND_ECHO: Mapping[str, float] = {"fluid": 0.35, "synovitis": 0.6}
"""What diffusion in the spoiling gradient leaves of DESS's second echo. No source: chosen by eye."""
