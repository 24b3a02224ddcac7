"""What each objective can be told, and its own value for it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError

T = TypeVar("T")

# What objectives have in common whose teacher is a moving average of the student.
_SLOW: Mapping[str, Any] = {"momentum": None}
_QUEUE: Mapping[str, Any] = {**_SLOW, "temperature": 0.2, "queue": 4096}
_PROTOTYPES: Mapping[str, Any] = {
    "temperature": 0.1,
    "freeze_prototypes": 0.01,
    "local_views": None,
}
_ANCHORED: Mapping[str, Any] = {
    **_SLOW,
    "consistency": 1.0,
    "contrast": 1.0,
    "contrast_temperature": 0.1,
}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    # Contrastive, two views.
    "nt_xent": {"temperature": 0.1},
    "decoupled": {"temperature": 0.1, "sigma": None},
    "debiased": {"temperature": 0.5, "tau_plus": 0.1},
    "hard_negative": {"temperature": 0.5, "tau_plus": 0.1, "beta": 1.0},
    "mochi": {"temperature": 0.2, "hardest": 64, "mixed": 32, "with_query": 16},
    "ring": {"temperature": 0.1, "inner": 0.01, "outer": 0.1},
    "semi_hard": {"margin": 0.2},
    # Two views, without negatives.
    "barlow_twins": {"redundancy": 5e-3},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    "w_mse": {"shrinkage": 1e-3},
    # What is known of each scan.
    "sup_con": {"temperature": 0.1, "labels": None},
    "rank_n_contrast": {"temperature": 2.0, "labels": ("AGE",)},
    "rank_n_contrast_censored": {"temperature": 2.0, "endpoint": "replacement"},
    "y_aware": {"temperature": 0.1, "labels": ("AGE",), "bandwidth": 0.25},
    "tabular_similarity": {
        "temperature": 0.1,
        "labels": ("demographic", "symptom", "function"),
        "top_k": None,
        "softness": 0.1,
    },
    "metadata_enhanced": {"temperature": 0.1, "window_days": 365.25},
    "supervised": {"labels": ("XRKL",), "huber_delta": 1.0},
    # Two sides, a head each.
    "clip": {"temperature": 0.1},
    "siglip": {"temperature": 0.1},
    # A slow teacher, a queue or a bank.
    "moco": _QUEUE,
    "mochi_queue": {**_QUEUE, "hardest": 64, "mixed": 32, "with_query": 16},
    "moco_v3": {**_SLOW, "temperature": 0.2, "predictor": 256},
    "instance_bank": {"temperature": 0.07, "bank_momentum": 0.5},
    "byol": {**_SLOW, "predictor": 256},
    "simsiam": {"predictor": 64},
    "dino": {
        **_SLOW,
        **_PROTOTYPES,
        "prototypes": 1024,
        "teacher_temperature": 0.07,
        "teacher_temperature_start": 0.04,
        "teacher_warmup": 0.3,
        "centre_momentum": 0.9,
    },
    "swav": {**_PROTOTYPES, "prototypes": 32, "epsilon": 0.05, "queue": 0},
    # Distillation by a slow teacher of the same kind.
    "cosine": {**_ANCHORED, "contrast": 0.0, "predictor": 256},
    "vid": {**_ANCHORED, "predictor": 256},
    "crd": {**_ANCHORED, "contrast": 0.0, "temperature": 0.07},
    "kd": {**_ANCHORED, "temperature": 4.0},
    "rkd_distance": {**_ANCHORED, "consistency": 25.0},
    "rkd_angle": {**_ANCHORED, "consistency": 50.0},
    "cka": _ANCHORED,
    "cka_debiased": _ANCHORED,
    # RKD's weights are the paper's; these bring two small losses to the size of the contrast.
    "pkt": {**_ANCHORED, "consistency": 10.0},
    "similarity_preserving": {**_ANCHORED, "consistency": 100.0},
}
"""The fields that each objective uses beside those of `COMMON`, with its own values. A value of None stays
None unless it is given."""

COMMON = ("name", "ignore_same_subject", "terms", "nuisance", "severity")


def given(value: T | None) -> T:
    """A field of a resolved configuration, which an objective that takes it never finds None.

    Raises:
        AssertionError: The objective reads a field that its line in `DEFAULTS` lacks.
    """
    if value is None:
        raise AssertionError("an objective reads a field that DEFAULTS does not list for it")
    return value


def resolve(config: ObjectiveConfig) -> ObjectiveConfig:
    """Fill in the objective's own values, and refuse fields that it does not use.

    Args:
        config: As given; None where the objective's own value is wanted.

    Raises:
        InputError: The name is unknown, or a field is not used by this objective.
    """
    if config.name not in DEFAULTS:
        raise InputError(f"objective.name: {config.name!r}; accepted are {sorted(DEFAULTS)}")
    own = DEFAULTS[config.name]
    for field in fields(config):
        if field.name in (*COMMON, *own):
            continue
        value = getattr(config, field.name)
        if value is not None:
            raise InputError(
                f"objective.{field.name}: {value!r}; {config.name} does not use it, it takes "
                f"{', '.join(sorted(own)) or 'nothing beside its name'}"
            )
    filled = replace(config, **{k: v for k, v in own.items() if getattr(config, k) is None})
    if filled.temperature is not None and not filled.temperature > 0:
        raise InputError(
            f"objective.temperature: {filled.temperature}; accepted are numbers above 0"
        )
    return filled
