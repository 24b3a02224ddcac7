"""Every public module of the libraries has its place in the reference."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["data", "models", "training", "biomarkers"])
def test_the_reference_lists_every_module(package: str) -> None:
    name = f"spinmark_{package}"
    source = ROOT / "packages" / package / "src"
    modules = set()
    for path in (source / name).rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            modules.add(".".join(parts))
    page = (ROOT / "docs" / "reference" / f"{package}.md").read_text(encoding="utf-8")
    listed = {line.removeprefix("::: ") for line in page.splitlines() if line.startswith(":::")}
    assert listed == modules, f"docs/reference/{package}.md and {source} differ"
