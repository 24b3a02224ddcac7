"""The presets that ship with the command, and the files in configs/, are the same and all valid."""

import importlib
from dataclasses import MISSING, fields, is_dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from spinmark import cli
from spinmark.__main__ import COMMANDS, module_of

CONFIGS = Path(__file__).parents[1] / "configs"
PRESETS = Path(str(files("spinmark") / "presets"))
NAMES = sorted(str(path.relative_to(PRESETS)) for path in PRESETS.rglob("*.yaml"))


def test_configs_and_packaged_presets_are_one() -> None:
    copies = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
    assert copies == NAMES
    assert all((CONFIGS / name).read_bytes() == (PRESETS / name).read_bytes() for name in NAMES)


def test_every_command_has_a_demo_preset() -> None:
    assert {name.split("/")[0] for name in NAMES if name.endswith("/demo.yaml")} == set(
        COMMANDS
    ) - {"demo"}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_parsed_and_instantiated(name: str) -> None:
    command, _, file = name.partition("/")
    module = importlib.import_module(module_of(command))
    (config_class,) = (
        item
        for item in vars(module).values()
        if is_dataclass(item) and isinstance(item, type) and item.__module__ == module.__name__
    )
    required = [
        f"--{field.name}=x"
        for field in fields(config_class)
        if field.default is MISSING and field.default_factory is MISSING
    ]
    config = cli.parse(command, config_class, [f"--preset={file[:-5]}", *required])
    assert isinstance(config, config_class)
