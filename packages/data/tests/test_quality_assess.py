"""A cohort with known faults: each is found, and stands before the sound scans."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import mirror
from spinmark_data.quality.assess import Assessment, assess
from spinmark_data.quality.config import QualityConfig
from spinmark_data.quality.pictures import mid_planes

PEOPLE = 14
SHAPE = (8, 64, 64)
# Row of the scan table of each fault.
NOISY, SOFT, COPY, OTHER_SIDE, BLANK, DRIFTING = 2, 5, 9, 12, 15, 18


def limb(rng: np.random.Generator) -> np.ndarray:
    """A bright limb with structures of its own, and noise of 15."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    image = np.where(np.hypot(y, x) < 0.7, 800.0, 0)
    for _ in range(12):
        cz, cy, cx = rng.uniform(-0.45, 0.45, 3)
        radius = rng.uniform(0.1, 0.3)
        image[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(200, 1400)
    return image


def seen(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    real, imaginary = rng.normal(0, sigma, (2, *image.shape))
    return np.hypot(image + real, imaginary)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    rng = np.random.default_rng(0)
    clean = [limb(rng) for _ in range(2 * PEOPLE)]
    clean[SOFT] = ndimage.gaussian_filter(clean[SOFT], (0, 2, 2))
    clean[DRIFTING] *= np.exp(np.linspace(0, 1, SHAPE[0]))[:, None, None]
    volumes = [seen(image, 80 if n == NOISY else 15, rng) for n, image in enumerate(clean)]
    volumes[COPY] = volumes[COPY - 3]
    # Left joints are stored mirrored: the same acquisition under the other side.
    volumes[OTHER_SIDE] = volumes[OTHER_SIDE + 1][::-1] + rng.normal(0, 3, SHAPE)
    volumes[BLANK] = np.zeros(SHAPE)
    scans = pd.DataFrame(
        {
            "subject_id": [str(1000001 + n // 2) for n in range(2 * PEOPLE)],
            "laterality": ["R", "L"] * PEOPLE, "mirrored": [False, True] * PEOPLE,
            "site": "A", "scanner": ["one", "one", "two", "two"] * (PEOPLE // 2),
        }
    )  # fmt: skip
    whole = np.rint(np.stack(volumes)).clip(0).astype(np.uint16)
    echoes = np.stack([whole[:3], whole[:3] // 2, whole[:3] // 3], axis=1)
    echoes[1] = echoes[1, [0, 2, 1]]
    times = np.array([[10.0, 20, 30]] * 3)
    sequences = {
        "SAG": SequenceVolumes(volume=whole, scans=scans, spacing_mm=(3.0, 1.0, 1.0)),
        "T2": SequenceVolumes(
            volume=echoes, scans=scans.head(3), spacing_mm=(3.0, 1.0, 1.0), echo_time_ms=times
        ),
    }
    path = tmp_path_factory.mktemp("quality") / "c"
    write_cohort(path, volumes=sequences, tables={}, provenance={})
    return Cohort.open(path)


@pytest.fixture(scope="module")
def found(cohort: Cohort) -> Assessment:
    seen_: list[tuple[int, int]] = []
    assessed = assess(cohort, QualityConfig(), progress=lambda *n: seen_.append(n))
    assert seen_[-1] == (2 * PEOPLE + 3, 2 * PEOPLE + 3)
    assert [done for done, _ in seen_] == list(range(1, 2 * PEOPLE + 4))
    return assessed


def flags(found: Assessment, sequence: str) -> dict[int, set[str]]:
    rows = found.scans[(found.scans["sequence"] == sequence) & found.scans["flagged"]]
    return {row.index: set(row.flags.split(";")) for row in rows.itertuples(index=False)}


def test_every_fault_is_flagged_for_what_it_is(found: Assessment) -> None:
    flagged = flags(found, "SAG")
    assert {"snr low", "noise high"} <= flagged[NOISY]
    assert "gradient_entropy high" in flagged[SOFT]
    sharpness = found.scans[found.scans["sequence"] == "SAG"].set_index("index")["z_sharpness"]
    assert sharpness.idxmin() == SOFT
    assert "slice_drift high" in flagged[DRIFTING]
    assert flagged[BLANK] == {"blank"}
    assert all("copies" in flagged[n] for n in (COPY, COPY - 3, OTHER_SIDE, OTHER_SIDE + 1))
    # Of 20 sound scans with a dozen metrics each, next to none.
    faults = {NOISY, SOFT, COPY, COPY - 3, OTHER_SIDE, OTHER_SIDE + 1, BLANK, DRIFTING}
    assert len(set(flagged) - faults) <= 2


def test_the_worst_come_first_and_every_scan_once(cohort: Cohort, found: Assessment) -> None:
    scans = found.scans
    assert scans["place"].tolist() == list(range(1, len(scans) + 1))
    assert (scans["score"].diff().dropna() <= 0).all()
    every = [s for name in cohort.sequences for s in cohort.scans(name)["scan_id"]]
    assert sorted(scans["scan_id"]) == sorted(every)
    assert scans.iloc[0]["flags"] == "blank"


def test_copies_are_told_with_what_differs(cohort: Cohort, found: Assessment) -> None:
    ids = cohort.scans("SAG")["scan_id"]
    wrong = found.duplicates[found.duplicates["verdict"] == "error"]
    told = {
        frozenset((row.scan_id_a, row.scan_id_b)): (row.kind, row.relation)
        for row in wrong.itertuples()
        if ":SAG:" in row.scan_id_a and ":SAG:" in row.scan_id_b
    }
    assert told[frozenset((ids[COPY], ids[COPY - 3]))][1] == "subject"
    assert told[frozenset((ids[OTHER_SIDE], ids[OTHER_SIDE + 1]))] == ("near", "side")
    assert len(told) == 2
    # The first echo of T2 is the image of SAG: the same visit of the same joint, for information.
    same = found.duplicates[found.duplicates["verdict"] == "information"]
    assert len(same) == 3


@pytest.mark.parametrize("across", [0, 1, 2])  # Sagittal, coronal, axial.
def test_copies_are_found_whatever_way_the_slices_run(across: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(across)
    columns = {0: [0, 2, 1], 1: [1, 2, 0], 2: [2, 1, 0]}[across]
    cosines = np.diag([1.0, 1.0, -1.0])[:, columns]
    affine = np.eye(4)
    affine[:3, :3] = cosines * [3.0, 1.0, 1.0]
    acquired = [np.rint(limb(rng)).astype(np.int16) for _ in range(4)]
    right_left = columns.index(0)
    stored = [
        acquired[0], mirror(acquired[0], affine),  # One file, said to be of either side.
        acquired[1], mirror(np.flip(acquired[1], right_left), affine),  # One of them turned over.
        acquired[2], mirror(acquired[3], affine),
    ]  # fmt: skip
    scans = pd.DataFrame(
        {
            "subject_id": ["1000001", "1000001", "1000002", "1000002", "1000003", "1000003"],
            "laterality": ["R", "L"] * 3, "mirrored": [False, True] * 3,
        }
    )  # fmt: skip
    given = SequenceVolumes(
        volume=np.stack(stored), scans=scans, spacing_mm=(3.0, 1.0, 1.0),
        affine=np.stack([affine] * 6),
    )  # fmt: skip
    write_cohort(tmp_path / "c", volumes={"IW": given}, tables={}, provenance={})
    found = assess(Cohort.open(tmp_path / "c"), QualityConfig())
    told = {row.scan_id_a[:7]: (row.kind, row.relation) for row in found.duplicates.itertuples()}
    assert told == {"1000001": ("exact", "side"), "1000002": ("mirrored", "side")}
    assert "right_left" not in found.scans


def test_echoes_in_a_wrong_order_are_flagged(found: Assessment) -> None:
    flagged = flags(found, "T2")
    assert flagged[1] == {"echoes_wrong"}
    assert 0 not in flagged


def test_the_order_of_work_changes_nothing(cohort: Cohort, found: Assessment) -> None:
    again = assess(cohort, QualityConfig(), scheduler="synchronous")
    pd.testing.assert_frame_equal(again.scans, found.scans)


def test_a_damaged_scan_is_flagged_and_the_others_go_on(cohort: Cohort, tmp_path: Path) -> None:
    scans = pd.DataFrame({"subject_id": [str(1000001 + n) for n in range(5)]})
    whole = np.random.default_rng(0).integers(0, 99, (5, 4, 16, 16)).astype(np.int16)
    given = {"SAG": SequenceVolumes(volume=whole, scans=scans)}
    write_cohort(tmp_path / "c", volumes=given, tables={}, provenance={})
    (shard,) = (tmp_path / "c").glob("images.zarr/SAG/volume/c/3/0/0/0")
    shard.write_bytes(shard.read_bytes()[:-9])
    rows = assess(Cohort.open(tmp_path / "c"), QualityConfig()).scans
    assert len(rows) == 5
    assert rows.iloc[0]["flags"] == "unreadable"
    assert rows.iloc[0]["index"] == 3
    assert (rows["error"] != "").sum() == 1


def test_an_unknown_or_empty_sequence_is_refused(cohort: Cohort) -> None:
    with pytest.raises(InputError, match=r"Unknown sequence 'COR'"):
        assess(cohort, QualityConfig(sequences=["COR"]))
    with pytest.raises(InputError, match="no scans"):
        assess(cohort, QualityConfig(sequences=[]))


def test_mid_planes_are_three_in_true_proportions(cohort: Cohort) -> None:
    figure = mid_planes(cohort, "SAG", 0)
    shapes = [axes.images[0].get_array().shape for axes in figure.axes]
    assert shapes == [(64, 64), (24, 64), (24, 64)]
    assert [text.get_text() for text in figure.texts] == ["across z", "across y", "across x"]
