"""Out of a cohort and into one, as a user does it."""

import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import zarr

from spinmark.commands import export, import_zarr
from spinmark.errors import InputError, UsageError, one_line
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort

ROOT = Path(__file__).parents[1]
SHAPE = (4, 6, 5)
VOXELS = np.random.default_rng(8).integers(0, 3000, (3, *SHAPE)).astype(np.int16)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    scans = pd.DataFrame(
        {
            "subject_id": ["1000001", "1000001", "1000002"],
            "laterality": ["R", "L", "R"],
            "mirrored": [False, True, False],
            "days": 0.0,
        }
    )
    given = SequenceVolumes(volume=VOXELS, scans=scans, spacing_mm=(0.7, 0.4, 0.4))
    write_cohort(tmp_path / "cohort", volumes={"SAG_3D_DESS": given}, tables={}, provenance={})
    return tmp_path / "cohort"


def test_each_format(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, count in [("nifti", 3), ("bids", 3), ("ome-zarr", 3)]:
        words = ["--cohort", str(cohort), "--to", form, "--out", str(tmp_path / form)]
        assert export.main(words) == 0
        assert f"{tmp_path / form}: {count} images as {form}" in capsys.readouterr().out
    left: Any = nibabel.load(tmp_path / "nifti" / "1000001_L_V00_SAG_3D_DESS_0.nii.gz")
    assert np.array_equal(np.asarray(left.dataobj.get_unscaled()), VOXELS[1, ::-1].T)
    assert (tmp_path / "bids" / "dataset_description.json").is_file()
    image = zarr.open_group(tmp_path / "ome-zarr" / "1000002_R_V00_SAG_3D_DESS_0.ome.zarr")
    assert "ome" in image.attrs


ECHOES_MS = np.array([10.0, 20.0, 30.0, 40.0, 50.0])


@pytest.fixture
def echoes(tmp_path: Path) -> Path:
    """A cohort with a left and a right knee of 35 and 60 ms, and a sequence without echoes."""
    t2 = np.array([35.0, 60.0])[:, None, None, None, None]
    decay = 3000 * np.exp(-ECHOES_MS[None, :, None, None, None] / t2)
    signal = np.zeros((2, 5, *SHAPE))
    signal[..., 1:3, 1:5, 1:4] = decay
    scans = pd.DataFrame(
        {
            "subject_id": ["1000001", "1000002"],
            "laterality": ["R", "L"],
            "mirrored": [False, True],
        }
    )
    shared = {"scans": scans, "spacing_mm": (3.0, 0.4, 0.4)}
    volumes = {
        "SAG_T2_MAP": SequenceVolumes(
            volume=np.rint(signal).astype(np.int16),
            echo_time_ms=np.stack([ECHOES_MS] * 2),
            **shared,
        ),
        "SAG_3D_DESS": SequenceVolumes(volume=VOXELS[:2], **shared),
    }
    write_cohort(tmp_path / "echoes", volumes=volumes, tables={}, provenance={})
    return tmp_path / "echoes"


def test_t2_maps(echoes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t2"
    words = ["--cohort", str(echoes), "--to", "t2map", "--out", str(out)]
    assert export.main([*words, "--subjects", '["1000002"]']) == 0
    assert f"{out}: 1 T2 maps in ms, as many R2 maps, and t2.tsv" in capsys.readouterr().out
    assert export.main([*words, "--workers", "1"]) == 0
    assert f"{out}: 2 T2 maps" in capsys.readouterr().out
    table = pd.read_csv(out / "t2.tsv", sep="\t", dtype={"subject_id": str})
    assert table["subject_id"].tolist() == ["1000001", "1000002"]
    assert table["t2_p50_ms"].tolist() == pytest.approx([35, 60], rel=0.01)
    left: Any = nibabel.load(out / "1000002_L_V00_SAG_T2_MAP_0_T2map.nii.gz")
    # The knee fills slices 1 and 2 of the mirrored order, which are 2 and 1 of the scanner's.
    assert np.nanmedian(np.asarray(left.dataobj)) == pytest.approx(60, rel=0.01)
    with pytest.raises(ValueError, match="another floor"):
        export.main([*words, "--floor", "constant"])
    other = [*words[:-1], str(tmp_path / "fewer"), "--sequences", "[SAG_T2_MAP]", "--skip_first"]
    assert export.main([*other, "--floor", "constant"]) == 0
    fewer = pd.read_csv(tmp_path / "fewer" / "t2.tsv", sep="\t")
    assert fewer["t2_p50_ms"].tolist() == pytest.approx([35, 60], rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "t2map", "--sequences", "[SAG_3D_DESS]"], "'SAG_3D_DESS' has no echo times"),
        (["--to", "t2map", "--sequences", "[x]"], "Unknown sequence 'x'"),
        (["--to", "t2map", "--undo_mirror", "false"], "T2 maps lie as acquired, never mirrored"),
        (["--to", "t2map", "--body_part", "KNEE"], "are for --to bids, not t2map"),
        (["--to", "nifti", "--skip_first"], "are for --to t2map, not nifti"),
        (["--to", "bids", "--floor", "constant"], "are for --to t2map, not bids"),
        (["--to", "t2map", "--floor", "noise"], "noise"),
    ],
)
def test_refusals_of_t2_maps(echoes: Path, tmp_path: Path, words: list[str], message: str) -> None:
    test_refusals(echoes, tmp_path, words, message)


def test_a_part_of_it(cohort: Path, tmp_path: Path) -> None:
    words = ["--cohort", str(cohort), "--to", "bids", "--out", str(tmp_path / "b")]
    words += ["--subjects", '["1000002"]', "--sequences", "[SAG_3D_DESS]", "--body_part", "KNEE"]
    assert export.main([*words, "--suffixes.SAG_3D_DESS", "T1w"]) == 0
    (image,) = (tmp_path / "b").rglob("*.nii.gz")
    assert image.name == "sub-1000002_ses-V00_acq-SAG3DDESSR_run-1_T1w.nii.gz"
    sidecar = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["BodyPart"] == "KNEE"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "bids", "--undo_mirror", "false"], "never mirrored"),
        (["--to", "nifti", "--body_part", "KNEE"], "are for --to bids, not nifti"),
        (["--to", "dicom"], "dicom"),
        (["--subjects", "[1000002]"], r"subjects is \[1000002\]; accepted: list\[str\] or null"),
        (["--subjects", "[x]"], r"Subjects \['x'\] have no scan"),
        (["--sequences", "[x]"], r"Unknown sequences \['x'\]"),
    ],
)
def test_refusals(cohort: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        export.main(["--cohort", str(cohort), "--out", str(tmp_path / "o"), *words])
    line = one_line(caught.value)
    assert line is not None
    assert "\n" not in line
    assert not (tmp_path / "o").exists()


def test_an_array_becomes_a_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = VOXELS.astype(np.float32) / 3
    zarr.create_array(tmp_path / "v.zarr", data=data, chunks=(1, *SHAPE))
    (tmp_path / "s.csv").write_text("subject_id,laterality,pain\n007,R,1\n007,L,2\n008,,3\n")
    words = ["--store", str(tmp_path / "v.zarr"), "--scans", str(tmp_path / "s.csv")]
    words += ["--sequence", "SAG", "--out", str(tmp_path / "c")]
    with pytest.raises(UsageError, match="--spacing_mm is missing"):
        import_zarr.main(words)
    words += ["--spacing_mm", "[0.7, 0.4, 0.4]", "--mirror_left", "true"]
    assert import_zarr.main(words) == 0
    told = capsys.readouterr().out
    assert "3 scans of SAG, 1 of 1 left ones mirrored; left out: scan table, column pain" in told
    cohort = Cohort.open(tmp_path / "c")
    scans, stored = cohort.scans("SAG"), cohort.read("SAG", np.arange(3))
    assert scans["subject_id"].tolist() == ["007", "007", "008"]
    for index, original in enumerate([data[0], data[1, ::-1], data[2]]):
        error = stored[index] * scans["scale"][index] + scans["offset"][index] - original
        assert np.abs(error).max() <= scans["scale"][index] / 2 * (1 + 1e-9)
    record = json.loads((tmp_path / "c" / "run.json").read_text())
    assert record["schema"] == "spinmark/cohort"
    assert import_zarr.main(words) == 0
    assert "whole already" in capsys.readouterr().out
    (tmp_path / "s.csv").write_text("subject_id,laterality\n007,R\n007,L\n009,\n")
    with pytest.raises(InputError, match="differs in input scans"):
        import_zarr.main(words)


def test_a_refused_array_leaves_nothing(tmp_path: Path) -> None:
    data = VOXELS.astype(np.float64)
    data[2, 0, 0, 0] = np.nan
    zarr.create_array(tmp_path / "v.zarr", data=data, chunks=(1, *SHAPE))
    (tmp_path / "s.csv").write_text("subject_id\na\nb\nc\n")
    words = ["--store", str(tmp_path / "v.zarr"), "--scans", str(tmp_path / "s.csv")]
    words += ["--sequence", "SAG", "--out", str(tmp_path / "c"), "--spacing_mm", "[1, 1, 1]"]
    with pytest.raises(ValueError, match=r"Scan c::V00:SAG:0 \(row 2\)"):
        import_zarr.main(words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv", "v.zarr"]


def test_the_snippets_of_the_page_run(
    cohort: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(cohort.parent)
    text = (ROOT / "docs" / "tasks" / "export.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(block, names)
    assert len(names["files"]) == 3
    assert "1000001:L:V00:SAG_3D_DESS:0" in capsys.readouterr().out
