"""`spinmark distil` tells a run by what its teacher was told, and not by where that lies."""

from pathlib import Path

import pytest

from spinmark import artefacts
from spinmark.commands.distil import array_hashes
from spinmark.errors import InputError


def made(folder: Path, path: Path, steps: int) -> artefacts.Made:
    return artefacts.make(
        folder / "run",
        "run",
        lambda out: (out / "x").write_text("x"),
        config={"teacher": {"arrays": [str(path)], "steps": steps}},
        inputs=array_hashes([path]),
    )


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_other_numbers_under_the_same_path_are_another_input(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "reports"
    file = path if kind == "file" else path / "numbers"
    file.parent.mkdir(exist_ok=True)
    file.write_text("1")
    assert made(tmp_path, path, 1).fresh
    assert not made(tmp_path, path, 1).fresh
    # Of the settings of the teacher only the place is left out.
    with pytest.raises(InputError, match=r"teacher\.steps"):
        made(tmp_path, path, 2)
    file.write_text("two")
    with pytest.raises(InputError, match=r"input arrays\.0 reports"):
        made(tmp_path, path, 1)


def test_an_array_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        array_hashes([tmp_path / "none.csv"])
