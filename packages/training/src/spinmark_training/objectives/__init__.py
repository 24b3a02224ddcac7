"""Objectives: what an encoder learns from, as parts that a configuration puts together.

- `base`: `Objective`, the interface; `Views`, `Scored`, `MomentumTeacher`.
- `settings`: what each objective can be told.
- `registry`: `build_objective`, every objective by its name.
- `chance`: the loss of an encoder that tells nothing apart, and the number of negatives.

Without memory:

- `two_views`: contrasts of two views; `feature_statistics`: statistics of features, without negatives.
- `labelled_rows`: a label, a number or a time of each row.
- `supervised`: a linear head for each of some variables; `label_heads` are the heads and their loss.
- `near_numbers`, `similar_tables`, `near_visits`: who is alike by degree; `likeness` is what they share.
- `two_sides`: first against second views, a head each.

With a slow teacher or another memory:

- `slow_teacher`: what they share; `predictive`, `self_distillation`: a student that follows its average.
- `momentum_contrast`, `instance_bank`: stored keys as negatives; `candidate_figures` counts them.
- `dino`, `swav`: classes and prototypes, smaller views; `prototype_head`.

Beside any of them:

- `terms`: further losses by weight; `spread_terms`, `nuisance_terms`; `term` is their interface.
"""

from spinmark_training.objectives.base import MomentumTeacher, Objective, Scored, Views
from spinmark_training.objectives.registry import OBJECTIVES, build_objective

__all__ = ["OBJECTIVES", "MomentumTeacher", "Objective", "Scored", "Views", "build_objective"]
