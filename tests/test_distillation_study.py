"""The commands of the study of distillation are accepted, and each arm is what it says."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spinmark import cli
from spinmark.__main__ import module_of

ROOT = Path(__file__).parents[1]


class ParsedError(Exception):
    """Ends a command once its words are understood."""


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("distillation", "_distillation_report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("distillation")


def parsed(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Any:
    parse = cli.parse

    def stop_after_parsing(*args: Any, **kwargs: Any) -> None:
        raise ParsedError(parse(*args, **kwargs))

    with monkeypatch.context() as patch:
        patch.setattr(cli, "parse", stop_after_parsing)
        with pytest.raises(ParsedError) as caught:
            importlib.import_module(module_of(words[0])).main(list(words[1:]))
    return caught.value.args[0]


def test_every_command_of_the_study_is_accepted(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study.Study(tmp_path, 1000, 300, 2, 11)
    jobs = [*whole.made_up(), *whole.training(), *whole.embeddings(), *whole.baselines()]
    assert len({job.out for job in jobs}) == len({job.name for job in jobs}) == len(jobs)
    every = {job.out: parsed(job.words, monkeypatch) for job in jobs}
    told = {out.name: args for out, args in every.items() if out.parent.name != "embeddings"}
    first, second = told["self-supervised-100"], told["distilled-100"]
    assert first.init_from == second.from_run == tmp_path / "runs" / "first-0"
    assert first.optim.steps == second.optim.steps == 300
    assert told["supervised-kl-0"].optim.steps == 600
    assert told["missing-100"].teacher.missing == 0.5
    assert told["nuisance-101"].teacher.roles == ()
    assert told["shuffled-100"].shuffle_tables
    for share in study.COUPLINGS:
        assert told[f"phantom-{share:g}"].table_coupling == share
        assert told[f"coupling-{share:g}-100"].cohort == tmp_path / f"cohort-{share:g}"


def test_an_arm_differs_from_distilled_in_what_it_is_named_for(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study.Study(tmp_path, 1000, 300, 1, 11)
    told = {job.out.name: parsed(job.words, monkeypatch) for job in whole.training()}
    plain = vars(told["distilled-100"])
    changed = {
        arm: {name for name, value in vars(told[f"{arm}-100"]).items() if value != plain[name]}
        for arm in study.TAUGHT
    }
    assert changed["coupling-0"] == {"cohort", "out"}
    assert changed["shuffled"] == {"shuffle_tables", "out"}
    assert changed["parts"] == {"transfer", "out"}
    for arm in ("nuisance", "missing", "demographic", "without-symptom"):
        assert changed[arm] == {"teacher", "out"}


def test_few_arms_ask_for_few_cohorts(study: ModuleType, tmp_path: Path) -> None:
    few = study.Study(tmp_path, 1000, 300, 1, 11, ("shuffled",))
    assert [job.out.name for job in few.made_up()] == ["phantom-1", "cohort-1", "split"]
    few.training()
    assert set(few.runs) == {"first", "untrained", "self-supervised", "distilled", "shuffled"}
