"""The examples of the pages on survival run, in order, as they stand."""

import re
from pathlib import Path

import pytest

CONCEPTS = Path(__file__).parents[3] / "docs" / "concepts"
pytestmark = pytest.mark.skipif(not CONCEPTS.is_dir(), reason="needs the workspace's docs")


def run(page: str, last: str | None = None) -> dict[str, object]:
    """Run a page's examples, up to the one that holds `last` if that is given."""
    names: dict[str, object] = {}
    text = (CONCEPTS / page).read_text(encoding="utf-8")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1):
        if last is not None and last in block:
            break
        exec(compile(block, f"{page}, example {number}", "exec"), names)
    return names


def test_scores():
    names = run("survival-scores.md")
    gain = names["gain"].set_index("metric")["value"]  # type: ignore[attr-defined]
    assert gain["c_index_gain_over_one covariate"] > 0


def test_doubts(capsys):
    names = run("survival-doubts.md")
    low, high = names["fit"].interval()[0]  # type: ignore[attr-defined]
    assert low < 0.6 < high


def test_from_a_csv_to_a_design(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("survival.md", last="PiecewiseExponential")
    assert (tmp_path / "knees.csv").is_file()
    assert list(dict.fromkeys(names["design"].blocks.values())) == [  # type: ignore[attr-defined]
        "clinical", "structure", "embedding",
    ]  # fmt: skip


@pytest.mark.slow
def test_models(tmp_path, monkeypatch):
    """Compiling takes half a minute."""
    monkeypatch.chdir(tmp_path)
    names = run("survival-models.md")
    assert (tmp_path / "prior.png").stat().st_size > 10_000
    by_nuts = names["model"].posterior_["beta"].mean(("chain", "draw")).to_numpy()  # type: ignore[attr-defined]
    approximate = names["fit"].posterior_["beta"].mean(("chain", "draw")).to_numpy()  # type: ignore[attr-defined]
    # Other priors of the second block, so not the same to the digit.
    assert abs(by_nuts - approximate).max() < 0.15


def test_studies():
    event = run("survival-studies.md")["event"]
    assert event.shape[1] == 2  # type: ignore[attr-defined]
    assert (event[:, 1] > event[:, 0]).all()  # type: ignore[index]


@pytest.mark.slow
def test_from_a_csv_to_a_calibrated_risk(tmp_path, monkeypatch):
    """Compiling and fitting six models takes two minutes."""
    monkeypatch.chdir(tmp_path)
    names = run("survival.md")
    made, ten, tested = names["made"], names["ten"], names["tested"]
    truth, _ = made.incidence([10.0])  # type: ignore[attr-defined]
    true = dict(zip(made.data.ids, truth[:, 0], strict=True))  # type: ignore[attr-defined]
    error = ten.to_numpy() - [true[i] for i in tested.ids]  # type: ignore[attr-defined]
    assert abs(error.mean()) < 0.05
    gains = names["result"].increments.query("metric == 'auc' and model == 'clinical_kl_embedding'")  # type: ignore[attr-defined]
    assert (gains["low"] > 0).all()
    for picture in ("card", "calibration", "increments"):
        assert (tmp_path / f"survival-{picture}.png").stat().st_size > 10_000
