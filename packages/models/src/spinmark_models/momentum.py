"""A teacher that is the moving average of its student.

Grill et al., "Bootstrap Your Own Latent", 2020, arXiv:2006.07733: the average gets slower as
training goes on, by a cosine from 0.996 to 1.
"""

import copy
import math

import torch
from torch import nn

from spinmark_models.errors import InputError


def teacher_momentum(step: int, steps: int, base: float = 0.996, final: float = 1.0) -> float:
    """The share of the teacher that is kept at a step: `base` at step 0, `final` at the end.

    Examples:
        >>> [round(teacher_momentum(step, 100), 4) for step in (0, 50, 100)]
        [0.996, 0.998, 1.0]

    Args:
        step: From 0 to `steps`.
        steps: Number of steps in the run, at least 1.
        base: The share at the start, in [0, 1].
        final: The share at the end, in [0, 1].

    Raises:
        InputError: A number is out of its range.
    """
    if steps < 1 or not 0 <= step <= steps:
        raise InputError(f"step is {step} of {steps}; use a step from 0 to the number of steps.")
    for name, value in (("base", base), ("final", final)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} momentum is {value}; use a number from 0 to 1.")
    return final - (final - base) * (math.cos(math.pi * step / steps) + 1) / 2


def make_teacher(student: nn.Module) -> nn.Module:
    """A copy of a student that takes no gradient. Its mode (training or not) is the student's."""
    teacher = copy.deepcopy(student)
    teacher.requires_grad_(False)
    return teacher


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Moves a teacher towards its student, in place: `momentum * teacher + (1 - momentum) * student`.

    Parameters and floating-point buffers are averaged alike, so the running statistics of a batch
    normalisation belong to the weights beside them. Other buffers, such as counters, are copied.
    Keep both in float32: a step of 1 - 0.999 is lost in bfloat16.

    Args:
        teacher: Changed in place.
        student: A module with the same parameters and buffers.
        momentum: The share of the teacher that is kept, in [0, 1].

    Raises:
        InputError: The momentum is out of its range, or the two differ in names or shapes.
    """
    if not 0 <= momentum <= 1:
        raise InputError(f"momentum is {momentum}; use a number from 0 to 1.")
    old, new = (
        {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for module in (teacher, student)
    )
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new or old[name].shape != new[name].shape:
            raise InputError(f"Teacher and student differ at {name!r}; both must be of one kind.")
    for name, kept in old.items():
        if kept.is_floating_point():
            kept.lerp_(new[name].to(kept.dtype), 1 - momentum)
        else:
            kept.copy_(new[name])
