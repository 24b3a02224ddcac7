"""Copies are found whatever was done to them, and different knees are not taken for copies."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.quality.config import BITS, QualityConfig
from spinmark_data.quality.duplicates import COLUMNS, find_duplicates, near_pairs
from spinmark_data.quality.fingerprint import exact, fingerprint, mirrored, words

LIMIT = QualityConfig().duplicate_bits
JOINTS = 14


def knee(number: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    state = JointState(
        laterality="R", sex=1 + number % 2, size=1 + 0.05 * rng.normal(),
        shape=tuple(rng.normal(size=6)), fat_mm=float(rng.uniform(3, 9)), medial=0.6,
        **{name: float(rng.uniform(0, 2)) for name in ("bone", "cartilage", "inflammation", "hypertrophy")},
        lesion_seed=number,
    )  # fmt: skip
    grid = Grid(shape=(16, 48, 54), spacing_mm=(5.4, 1.5, 1.5))
    return render_scan(state, SCANNERS[number % 4], grid, seed=seed).volume


def bits(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def compressed(volume: np.ndarray) -> np.ndarray:
    """Through 8-bit JPEG of quality 75, plane by plane."""
    planes = []
    for plane in np.rint(volume * (255 / volume.max())).astype(np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(plane).save(buffer, "JPEG", quality=75)
        planes.append(np.asarray(Image.open(buffer)))
    return np.stack(planes)


def test_the_limit_parts_copies_from_other_knees_and_from_rescans() -> None:
    first = [knee(n, 10 * n) for n in range(JOINTS)]
    prints = [fingerprint(volume) for volume in first]
    rng = np.random.default_rng(0)
    copies = []
    for volume, known in zip(first, prints, strict=True):
        noisy = volume + rng.normal(0, 0.01 * volume.max(), volume.shape)
        copies += [
            bits(known, fingerprint(x)) for x in (noisy, 1.7 * noisy + 30, compressed(volume))
        ]
    rescans = [bits(prints[n], fingerprint(knee(n, 10 * n + 1))) for n in range(JOINTS)]
    others = [bits(a, b) for i, a in enumerate(prints) for b in prints[:i]]
    assert max(copies) <= LIMIT
    assert min(others + rescans) > 2 * LIMIT


@given(
    st.integers(0, 2**32), st.sampled_from([0.25, 0.5, 2.0, 8.0]), st.integers(0, 500)
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_brightness_changes_nothing_and_mirroring_what_is_known(
    seed: int, scale: float, offset: int
) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.integers(0, 1000, rng.integers(10, 40, 3)).astype(np.float64)
    known = fingerprint(volume)
    assert len(known) == BITS // 4
    assert bits(known, fingerprint(volume * scale + offset)) <= 2
    axes = np.arange(3)
    turned = words([fingerprint(np.flip(volume, axis)) for axis in axes])
    assert np.bitwise_count(mirrored(words([known] * 3), axes) ^ turned).sum(axis=1).max() <= 2
    np.testing.assert_array_equal(mirrored(mirrored(turned, axes), axes), turned)


def test_a_fingerprint_is_made_of_the_signs_of_the_lowest_cosines() -> None:
    volume = np.random.default_rng(1).normal(size=(16, 16, 16))
    places = np.arange(16)
    cosines = np.cos(np.pi * np.outer(places, places + 0.5) / 16)
    spectrum = np.einsum("ai,bj,ck,ijk->abc", cosines, cosines, cosines, volume)
    length = np.add.outer(np.add.outer(places**2, places**2), places**2)
    order = sorted(np.ndindex(16, 16, 16), key=lambda k: (length[k], k))[1 : BITS + 1]
    expected = "".join("1" if spectrum[k] > 0 else "0" for k in order)
    assert f"{int(fingerprint(volume), 16):0{BITS}b}" == expected


def test_a_blank_volume_has_no_fingerprint() -> None:
    assert fingerprint(np.full((4, 5, 6), 7)) == ""


def test_equal_voxels_have_equal_hashes() -> None:
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    assert exact(volume) == exact(np.flip(np.flip(volume, 0).copy(), 0))
    assert exact(volume) != exact(volume.reshape(4, 3, 5))
    assert exact(volume) != exact(volume + 1)


@given(st.integers(0, 1000), st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_pairs_are_those_of_a_search_one_by_one(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 2**63, (300, 8), dtype=np.uint64)
    for copy, original in ((17, 3), (280, 3), (299, 298)):
        found[copy] = found[original]
        for place in rng.integers(0, BITS, rng.integers(0, 40)):
            found[copy, place // 64] ^= np.uint64(1) << np.uint64(place % 64)
    numbers = [int.from_bytes(row.tobytes(), "little") for row in found]
    expected = [
        (i, j, (numbers[i] ^ numbers[j]).bit_count())
        for i in range(300)
        for j in range(i + 1, 300)
        if (numbers[i] ^ numbers[j]).bit_count() <= limit
    ]
    assert (
        list(zip(*(part.tolist() for part in near_pairs(found, found, limit)), strict=True))
        == expected
    )


def test_a_crowd_of_equal_images_ends_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    same = np.zeros((600, 8), dtype=np.uint64)
    i, _, _ = near_pairs(same, same, 0, most=1000)
    assert len(i) == 1000
    assert "look alike" in caplog.text


def rows(*scans: tuple[str, str, str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "scan_id": f"{subject}:{side}:{visit}:SAG:{n}", "subject_id": subject,
                "laterality": side, "visit": visit, "voxels_sha256": exact(volume),
                "fingerprint": fingerprint(volume), "right_left": 0,
            }
            for n, (subject, side, visit, volume) in enumerate(scans)
        ]
    )  # fmt: skip


def test_what_differs_says_how_bad_a_copy_is() -> None:
    rng = np.random.default_rng(2)
    a, b, c, d = (rng.integers(0, 1000, (16, 20, 20)).astype(np.float64) for _ in range(4))
    scans = rows(
        ("1000001", "R", "V00", a), ("1000002", "R", "V00", a),
        ("1000003", "R", "V00", b), ("1000003", "L", "V00", b + rng.normal(0, 5, b.shape)),
        ("1000004", "R", "V00", c), ("1000004", "R", "V01", c[::-1]),
        ("1000005", "R", "V00", d), ("1000005", "R", "V00", d),
        ("1000006", "R", "V00", np.zeros((3, 3, 3))), ("1000007", "R", "V00", np.zeros((3, 3, 3))),
    )  # fmt: skip
    found = find_duplicates(scans, LIMIT)
    assert found.columns.tolist() == list(COLUMNS)
    told = {
        (row.scan_id_a[:7], row.scan_id_b[:7]): (row.kind, row.relation, row.verdict)
        for row in found.itertuples()
    }
    assert told == {
        ("1000001", "1000002"): ("exact", "subject", "error"),
        ("1000003", "1000003"): ("near", "side", "error"),
        ("1000004", "1000004"): ("mirrored", "visit", "error"),
        ("1000005", "1000005"): ("exact", "none", "information"),
    }
    assert found["verdict"].tolist() == ["error"] * 3 + ["information"]
    assert find_duplicates(scans.head(1), LIMIT).empty
    assert find_duplicates(scans.head(0), LIMIT).columns.tolist() == list(COLUMNS)
