"""Pages: slices where they should be, nothing in a file but pixels and codes."""

import re
import subprocess
import sys
import zlib

import numpy as np
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.reading import (
    Band,
    Joint,
    Page,
    page_figure,
    pages_of,
    png,
    slice_pictures,
    strip,
    write_pdf,
)

WRITE = """
import hashlib
import numpy as np
from spinmark_biomarkers.figures.reading import Band, Joint, Page, page_figure, write_pdf
image = np.arange(64 * 60, dtype=np.uint8).reshape(60, 64)
bands = tuple(Band(label=x, note="", joints=(Joint(label="1", pictures=(image,)),)) for x in "AB")
page = Page(title="K T V", told="a", corner="b", slices=("c",), bands=bands)
print(hashlib.sha256(write_pdf([page_figure(page)])).hexdigest())
"""


def a_page(joints: int = 5) -> Page:
    image = np.tile(np.arange(240, dtype=np.uint8), (200, 1))
    shown = tuple(Joint(label=str(n + 1), pictures=(image, image.T[:200])) for n in range(joints))
    bands = (
        Band(label="Typical", note="near", joints=shown),
        Band(label="Border", note="", joints=shown[:2]),
    )
    return Page(
        title="K T V", told="What?", corner="set 1", slices=("lateral", "medial"), bands=bands
    )


def test_slices_lie_at_their_shares_of_the_extent() -> None:
    volume = np.zeros((20, 16, 16))
    noise = np.random.default_rng(0).random((16, 16))
    # Four slices of padding before and five after: the extent is 4 to 14.
    for z in range(4, 15):
        volume[z] = z + noise
    pictures = slice_pictures(volume, (1, 1, 1), (0, 0.3, 1))
    low, high = np.quantile(volume[4:15], (0.01, 0.995))
    for picture, z in zip(pictures, (4, 7, 14), strict=True):
        expected = np.clip((volume[z] - low) / (high - low), 0, 1).mean() * 255
        assert picture.mean() == pytest.approx(expected, abs=2)
    along = slice_pictures(volume, (1, 1, 1), (0.5,), axis="x")
    assert along[0].shape == (240, 192)


def test_pixels_are_square_and_one_grey_scale_serves_a_joint() -> None:
    volume = np.random.default_rng(1).random((5, 300, 150))
    volume[0] /= 10
    first, last = slice_pictures(volume, (2, 0.5, 1), (0, 1))
    # x is twice as coarse as y: 300 rows stay, 150 columns become 300.
    assert first.shape == last.shape == (300, 300)
    assert first.mean() < 0.2 * last.mean()
    scaled = slice_pictures(volume * 7 + 100, (2, 0.5, 1), (0, 1))
    assert np.abs(scaled[1].astype(int) - last).max() <= 1


@pytest.mark.parametrize(
    ("volume", "shares", "axis", "message"),
    [
        (np.ones((3, 4)), (0.5,), "z", "volume: shape (3, 4)"),
        (np.ones((3, 4, 5)), (0.5,), "z", "every slice holds one value"),
        (np.eye(4)[None].repeat(4, 0), (1.5,), "z", "slices: 1.5; accepted are shares from 0 to 1"),
        (np.eye(4)[None].repeat(4, 0), (0.5,), "w", "axis: 'w'; accepted are z, y and x"),
    ],
)
def test_bad_input_is_one_line(
    volume: np.ndarray, shares: tuple[float, ...], axis: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        slice_pictures(volume, (1, 1, 1), shares, axis=axis)
    assert message in str(caught.value)


def test_joints_do_not_overlap_and_stay_on_the_page() -> None:
    for joints in (1, 6, 16):
        figure = page_figure(a_page(joints))
        boxes = [axes.get_position() for axes in figure.axes if axes.images]
        assert len(boxes) == joints + min(joints, 2)
        for n, one in enumerate(boxes):
            assert one.x0 >= 0
            assert one.y0 >= 0.02
            assert one.x1 <= 0.98
            assert all(
                one.x1 <= b.x0 or b.x1 <= one.x0 or one.y1 <= b.y0 or b.y1 <= one.y0
                for b in boxes[:n]
            )
            shape = figure.axes[0].images[0].get_array().shape
            ratio = one.width * 11.69 / (one.height * 8.27)
            assert ratio == pytest.approx(shape[1] / shape[0], rel=1e-6)


def test_a_strip_has_black_between_its_slices() -> None:
    white = np.full((4, 3), 255, dtype=np.uint8)
    image = strip(Joint(label="1", pictures=(white, white)), gap=2)
    assert image[0].tolist() == [255] * 3 + [0] * 2 + [255] * 3
    with pytest.raises(InputError, match="pictures of"):
        strip(Joint(label="1", pictures=(white, white[:2])))


def test_a_pdf_knows_nothing_of_its_origin() -> None:
    content = write_pdf([page_figure(a_page(1))] * 2)
    assert len(re.findall(rb"/Type /Page\b", content)) == 2
    # The trailer names a dictionary of facts, and it is empty.
    number = re.search(rb"/Info (\d+) 0 R", content)
    assert number is not None
    assert re.search(rb"\b" + number[1] + rb" 0 obj\n<<\s*>>\nendobj", content)
    for word in (
        b"/Creator",
        b"/Producer",
        b"/CreationDate",
        b"/Author",
        b"/Metadata",
        b"matplotlib",
    ):
        assert word not in content, word
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, flags=re.DOTALL)
    unpacked = b"".join(zlib.decompress(one) for one in streams if one[:1] == b"x")
    assert b"matplotlib" not in unpacked


def test_a_png_holds_pixels_only() -> None:
    content = png(np.zeros((4, 4), dtype=np.uint8))
    assert [content[n : n + 4] for n in (12,)] == [b"IHDR"]
    assert not re.search(rb"tEXt|iTXt|zTXt|tIME|eXIf|pHYs", content)


@pytest.mark.slow
def test_equal_pages_give_equal_bytes_in_any_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", WRITE], env={"PYTHONHASHSEED": seed}, capture_output=True,
            text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_bands_are_spread_over_pages() -> None:
    bands = a_page().bands * 3
    pages = pages_of("t", "u", "c", {"lateral": 0.2}, bands, 4)
    assert [len(page.bands) for page in pages] == [4, 2]
    assert pages[1].corner == "c\npage 2 of 2"
    assert pages[0].slices == ("lateral",)
