import math
from typing import Any

import pytest

from spinmark_training.doctor import examine

HEALTHY = {
    "step": 10.0,
    "loss_ssl": 2.0,
    "chance": 4.84,
    "loss": 2.0,
    "alignment": 0.8,
    "rankme": 40.0,
    "knn_SITE": 0.3,
    "knn_SITE_chance": 0.28,
}


def verdicts(**changes: float) -> dict[str, Any]:
    report = examine([HEALTHY | changes], width=128, leakage="SITE")
    found = {f["check"]: f["verdict"] for f in report["findings"]}
    return found | {"healthy": report["healthy"]}


def test_a_healthy_run_is_called_so() -> None:
    assert set(verdicts().values()) == {"ok", True}


@pytest.mark.parametrize(
    ("changes", "check", "verdict"),
    [
        ({"loss_ssl": 4.8}, "loss", "failure"),
        ({"rankme": 1.5}, "rank", "failure"),
        ({"rankme": 5.0}, "rank", "warning"),
        ({"loss": math.nan}, "finite", "failure"),
        ({"alignment": 1e-6}, "views", "failure"),
        ({"knn_SITE": 0.95}, "leakage", "note"),
    ],
)
def test_each_ailment_is_named(changes: dict[str, float], check: str, verdict: str) -> None:
    found = verdicts(**changes)
    assert found[check] == verdict
    assert found["healthy"] == (verdict != "failure")


def test_an_untrained_encoder_is_no_failure() -> None:
    report = examine([{"step": 0, "rankme": 30.0}], width=128, leakage=None)
    assert report["healthy"]
