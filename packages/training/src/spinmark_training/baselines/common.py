"""What the baselines share: which scans they are of, and what identifies them."""

import hashlib
import json

from spinmark_training.config import DataConfig
from spinmark_training.sources import CohortLike


def chosen_sequence(cohort: CohortLike, sequence: str | None) -> str:
    """Return the sequence that is meant: the one given, the only one of the cohort, or the default one."""
    if sequence is not None:
        return sequence
    only = cohort.sequences
    return only[0] if len(only) == 1 else DataConfig().sequence


def identity_hash(identity: list[object]) -> str:
    """Hash what a baseline follows from; its own bytes would follow from the machine's rounding as well."""
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
