"""Every command line in the documentation is one that the command accepts."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spinmark import cli
from spinmark.__main__ import COMMANDS, module_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Parsed(Exception):
    """Raised when a command has read its options, before it does anything."""


def command_lines() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:^|\s)spinmark (\w[^#|]*)", line)
                if found:
                    yield str(page.relative_to(ROOT)), found.group(1).strip()


LINES = sorted(set(command_lines()))


def test_the_documentation_shows_every_command() -> None:
    shown = {line.split()[0] for _, line in LINES}
    assert set(COMMANDS) <= shown


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_documented_command_line_is_accepted(
    page: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *words = shlex.split(line)
    if "--help" in words:
        pytest.skip("help texts are tested with the command")
    parse = cli.parse

    def stop_after_parsing(*args: Any, **kwargs: Any) -> None:
        raise Parsed(parse(*args, **kwargs))

    monkeypatch.setattr(cli, "parse", stop_after_parsing)
    with pytest.raises(Parsed):
        importlib.import_module(module_of(name)).main(words)
