"""What the presets promise: how the demo differs from the default, what zero coupling leaves out."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from spinmark_data.phantom.config import PhantomConfig

PRESETS = Path(__file__).parents[3] / "configs" / "phantom"
PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "phantom-clinic.md"

if not PRESETS.is_dir():
    pytest.skip("the presets are not here", allow_module_level=True)


def preset(name):
    fields = yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    return PhantomConfig(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    )


def differing(one, other):
    return {
        field.name
        for field in dataclasses.fields(PhantomConfig)
        if getattr(one, field.name) != getattr(other, field.name)
    }


def test_the_demo_differs_from_the_default_as_its_page_says_and_no_further():
    found = differing(preset("demo"), preset("default"))
    assert found == {"name", "subjects", "event_share", "write_labels", "moaks_share"}
    if PAGE.is_file():
        text = PAGE.read_text(encoding="utf-8")
        for told in ("its size", "its enriched events", "no label maps", "no MOAKS readings"):
            assert told in text.split("`demo` differs by")[1][:200], told


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_bears_its_own_name(path):
    assert preset(path.stem).name == path.stem


def test_zero_coupling_has_no_table_that_reads_the_images():
    config = preset("zero-coupling")
    assert config.table_coupling == 0.0
    assert config.moaks_share == 0.0


def test_easy_and_nuisance_keep_every_machine():
    for name in ("easy", "nuisance"):
        config = preset(name)
        assert not config.scanner_upgrade
        assert config.scanner_changes == 0.0
