"""Turbo spin echoes, T2 maps and rescans, from the phantom's release into a cohort and back."""

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from spinmark_data.cohort.reader import Cohort
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.run import ingest
from spinmark_data.phantom.anatomy import CARTILAGES, LABELS
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.relaxation import WATER
from spinmark_data.phantom.sequences import SEQUENCES
from spinmark_data.phantom.write import write_phantom
from spinmark_data.preprocess.relaxometry import fit_t2

CONFIG = PhantomConfig(
    subjects=2,
    seed=3,
    visits=("V00",),
    follow_up_visits=("V00", "V01"),
    grid_shape=(12, 48, 54),
    spacing_mm=(7.2, 1.5, 1.5),
    sequences=tuple(SEQUENCES),
    sequence_spacing_mm={"SAG_T2_MAP": (3.0, 0.5, 0.5)},
    rescans=0.5,
    moaks_share=0.0,
    nuisance=0.5,
    motion_ghosting=0.2,
    wrap_around=0.2,
    fat_failure=0.2,
    workers=1,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, Cohort]:
    out = tmp_path_factory.mktemp("sequences")
    write_phantom(CONFIG, out)
    ingest(out / "release", out / "cohort", IngestConfig(workers=1))
    return out, pd.read_parquet(out / "truth" / "scans.parquet"), Cohort.open(out / "cohort")


def series(out: Path) -> Iterator[tuple[str, NDArray[np.uint16], list[float], pydicom.Dataset]]:
    """Every series as plain pydicom reads it: folder, `(echo, z, y, x)`, echo times, a header."""
    for folder in sorted((out / "release").glob("*/*/*/*/*")):
        if not folder.is_dir():
            continue
        files = [pydicom.dcmread(path) for path in folder.iterdir()]
        head = files[0]
        normal = np.cross(*np.reshape(np.array(head.ImageOrientationPatient, float), (2, 3)))
        # Sagittal slices run from right to left, coronal ones from front to back.
        along = normal * np.sign(normal[np.argmax(np.abs(normal))])
        echoes = sorted({float(one.EchoTime) for one in files})
        files.sort(
            key=lambda one: (
                float(one.EchoTime),
                float(np.dot(np.array(one.ImagePositionPatient, float), along)),
            )
        )
        voxels = np.stack([one.pixel_array for one in files])
        yield (
            folder.name,
            voxels.reshape(len(echoes), -1, *voxels.shape[1:]),
            echoes,
            head,
        )


def test_every_series_is_in_the_cohort_as_the_truth_names_it(
    made: tuple[Path, pd.DataFrame, Cohort],
) -> None:
    _, truth, cohort = made
    assert set(cohort.sequences) == set(SEQUENCES) == set(truth["sequence"])
    held = pd.concat([cohort.scans(name).assign(sequence=name) for name in cohort.sequences])
    assert sorted(held["scan_id"]) == sorted(truth["scan_id"])
    assert not (truth.loc[truth["laterality"] == "L", "sequence"] == "SAG_T2_MAP").any()
    both = truth.merge(held, on="scan_id", suffixes=("", "_held"), validate="one_to_one")
    for name in ("subject_id", "laterality", "visit", "sequence"):
        assert (both[name] == both[f"{name}_held"]).all()
    # The last series of a session is the primary one.
    repeated = both["repeat"] == 1
    assert repeated.any()
    assert (both.loc[repeated, "rank"] == 0).all()
    first = both[~repeated]
    again = set(both.loc[repeated, "scan_id"].str.rsplit(":", n=1).str[0])
    stem = first["scan_id"].str.rsplit(":", n=1).str[0]
    assert (first["rank"] == stem.isin(again).astype(int)).all()


def test_voxels_and_echo_times_are_those_of_the_files(
    made: tuple[Path, pd.DataFrame, Cohort],
) -> None:
    out, truth, cohort = made
    files = {number: rest for number, *rest in series(out)}
    assert len(files) == len(truth)
    compared = 0
    for sequence in cohort.sequences:
        images = cohort.images(sequence)
        names = images["scan_id"].to_numpy().astype(str)
        for k, name in enumerate(names):
            row = truth[truth["scan_id"] == name].iloc[0]
            here = [
                rest
                for rest in files.values()
                if rest[2].PatientID == row["subject_id"]
                and rest[2].SeriesDescription.startswith(sequence)
                and rest[2].SeriesDescription.endswith("RIGHT" if row.laterality == "R" else "LEFT")
                and (rest[2].SeriesTime > "120000") == bool(row["repeat"])
            ]
            assert len(here) == 1
            voxels, echoes, _ = here[0]
            assert echoes == list(SEQUENCES[sequence].te_ms)
            stored = images["volume"][k].to_numpy().astype(float)
            stored = stored * float(images["scale"][k]) + float(images["offset"][k])
            if row["laterality"] == "L":
                across = -1 if SEQUENCES[sequence].plane == "coronal" else -3
                stored = np.flip(stored, across)
            np.testing.assert_allclose(stored, voxels if len(echoes) > 1 else voxels[0], atol=1e-3)
            if len(echoes) > 1:
                np.testing.assert_allclose(images["echo_time_ms"][k].to_numpy(), echoes)
            compared += 1
    assert compared == len(truth)


def test_t2_of_the_cohort_is_the_truths(made: tuple[Path, pd.DataFrame, Cohort]) -> None:
    out, truth, cohort = made
    images = cohort.images("SAG_T2_MAP")
    clean = truth[(truth["artefact_ghosting"] == 0) & (truth["artefact_wrap"] == 0)]
    found: dict[str, list[float]] = {"cartilage": [], "muscle": []}
    for k, name in enumerate(images["scan_id"].to_numpy().astype(str)):
        if name not in set(clean["scan_id"]):
            continue
        path = out / "truth" / "labels" / f"{name.replace(':', '_')}.nii.gz"
        labels = np.asarray(nibabel.load(path).dataobj)
        echoes, times = images["volume"][k].to_numpy(), images["echo_time_ms"][k].to_numpy()
        codes = {"cartilage": [LABELS[name] for name in CARTILAGES], "muscle": [LABELS["muscle"]]}
        for tissue, of in codes.items():
            # Pure voxels, out of reach of their neighbours' partial volume and displaced fat.
            core = np.ones((3, 3, 5) if tissue == "cartilage" else (3, 5, 5))
            inner = binary_erosion(np.isin(labels, of), core)
            found[tissue] += list(fit_t2(echoes, times, mask=inner).t2_ms[inner])
    for tissue, values in found.items():
        assert len(values) > 20
        assert np.median(values) == pytest.approx(WATER[tissue].t2_ms, rel=0.08), tissue


def test_an_nda_package_of_several_sequences_gives_the_same_scans(
    made: tuple[Path, pd.DataFrame, Cohort], tmp_path: Path
) -> None:
    _, _, plain = made
    write_phantom(CONFIG.plain(layout="nda"), tmp_path)
    ingest(tmp_path / "release", tmp_path / "cohort", IngestConfig(workers=1))
    packed = Cohort.open(tmp_path / "cohort")
    assert set(packed.sequences) == set(plain.sequences) == set(SEQUENCES)
    key = ["subject_id", "laterality", "visit", "rank"]
    for sequence in plain.sequences:
        ours, theirs = (c.scans(sequence).sort_values(key) for c in (packed, plain))
        assert len(theirs)
        assert ours[key].values.tolist() == theirs[key].values.tolist()
        np.testing.assert_array_equal(
            packed.read(sequence, ours.index.to_numpy()),
            plain.read(sequence, theirs.index.to_numpy()),
            strict=True,
        )
