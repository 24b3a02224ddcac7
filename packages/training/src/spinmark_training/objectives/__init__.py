"""Objectives: what an encoder learns from, as parts that a configuration puts together.

- `base`: `Objective`, the interface; `Views`, `Scored`, `MomentumTeacher`.
- `settings`: what each objective can be told.
- `registry`: `build_objective`, every objective by its name.
- `two_views`: contrasts of two views.
- `chance`: the loss of an encoder that tells nothing apart.
"""

from spinmark_training.objectives.base import MomentumTeacher, Objective, Scored, Views
from spinmark_training.objectives.registry import OBJECTIVES, build_objective

__all__ = ["OBJECTIVES", "MomentumTeacher", "Objective", "Scored", "Views", "build_objective"]
