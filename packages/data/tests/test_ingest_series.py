import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.ingest.dicom.headers import Header
from spinmark_data.ingest.dicom.series import Refused, layout, to_int16
from spinmark_data.ingest.geometry import lps_axes, mirror, reorient
from spinmark_data.ingest.images import sequence_name, side_of
from spinmark_data.ingest.limits import Limits


def headers(depths: list[float], axes: np.ndarray, first: np.ndarray) -> list[Header]:
    return [
        Header(
            {
                "Rows": 4,
                "Columns": 5,
                "PixelSpacing": (0.5, 0.7),
                "ImageOrientationPatient": tuple(axes.reshape(-1).tolist()),
                "ImagePositionPatient": tuple((first + depth * np.cross(*axes)).tolist()),
            }
        )
        for depth in depths
    ]


SAGITTAL = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0]])
FIRST = np.array([-10.0, 20.0, 30.0])


@settings(max_examples=50, deadline=None)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    order=st.permutations(list(range(6))),
    seed=st.integers(0, 99),
)
def test_every_voxel_keeps_its_place(turn, order, seed) -> None:
    from scipy.spatial.transform import Rotation

    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()[:2]
    stack = headers([2.0 * k for k in order], axes, FIRST)
    plan = layout(stack)
    rng = np.random.default_rng(seed)
    source = rng.permutation(6 * 4 * 5).reshape(6, 4, 5)
    out, affine = reorient(source[plan.order[0]], plan.affine)
    for value in rng.choice(source.size, 10):
        k, r, c = (int(i[0]) for i in np.nonzero(source == value))
        # DICOM PS3.3 C.7.6.2.1.1, per image.
        position = np.array(stack[k].ImagePositionPatient, dtype=float)
        expected = position + axes[0] * 0.7 * c + axes[1] * 0.5 * r
        index = np.array([i[0] for i in np.nonzero(out == value)])
        assert np.allclose((affine @ [*index, 1.0])[:3], expected, atol=1e-6)
    order_of_axes = lps_axes(affine)
    sign = {0: 1, 1: 1, 2: -1}
    assert all(affine[lps, axis] * sign[lps] >= 0 for axis, lps in enumerate(order_of_axes))


def test_a_sagittal_series_runs_right_to_left_then_down_then_back() -> None:
    plan = layout(headers([3.0, 0.0, 1.5], SAGITTAL, FIRST))
    assert plan.order.tolist() == [[1, 2, 0]]
    volume = np.arange(60).reshape(3, 4, 5)
    out, affine = reorient(volume, plan.affine)
    # The normal of these cosines points to the right, so z is flipped.
    assert np.array_equal(out, volume[::-1])
    assert np.allclose(np.diag(affine[[0, 2, 1], :3]), [1.5, -0.5, 0.7])
    assert np.array_equal(mirror(out, affine), volume)


@pytest.mark.parametrize(
    ("depths", "reason"),
    [
        ([0.0, 1.0], "missing slices"),
        ([0.0, 1.0, 2.0, 4.0], "as if 1 slices were missing"),
        ([0.0, 1.0, 2.0, 3.3], "uneven slice increment"),
    ],
)
def test_what_is_no_volume_is_refused(depths, reason) -> None:
    with pytest.raises(Refused, match=reason):
        layout(headers(depths, SAGITTAL, FIRST))


def test_tilt_and_mixed_planes_are_refused_but_one_reference_image_is_left_out() -> None:
    tilted = headers([0.0, 1.0, 2.0], SAGITTAL, FIRST)
    for k, header in enumerate(tilted):
        x, y, z = header["ImagePositionPatient"]
        header["ImagePositionPatient"] = (x, y, z + 0.2 * k)
    with pytest.raises(Refused, match=r"gantry tilt: slices drift by 11\.3 degrees"):
        layout(tilted)
    axial = headers([0.0, 1.0], np.eye(3)[:2], FIRST)
    good = headers([0.0, 1.0, 2.0], SAGITTAL, FIRST)
    with pytest.raises(Refused, match="inconsistent orientation: 2 of 5"):
        layout(good + axial)
    assert layout([axial[0], *good]).order.tolist() == [[1, 2, 3]]


def test_echoes_are_grouped_by_time() -> None:
    stack = headers([0.0, 1.0, 2.0] * 2, SAGITTAL, FIRST)
    for k, header in enumerate(stack):
        header["EchoTime"] = 20.0 if k < 3 else 10.0
    plan = layout(stack)
    assert plan.shape == (2, 3, 4, 5)
    assert plan.echo_time_ms == [10.0, 20.0]
    assert plan.order.tolist() == [[3, 4, 5], [0, 1, 2]]
    with pytest.raises(Refused, match="missing slices: echoes hold"):
        layout(stack[:-1])


def test_images_that_share_a_position_are_told_apart() -> None:
    twice = headers([0.0, 1.0, 1.0, 2.0], SAGITTAL, FIRST)
    plan = layout(twice)
    assert (plan.order.tolist(), plan.copies) == ([[0, 1, 3]], [(1, 2)])
    assert plan.repairs == ["1 images that stood twice were left out"]
    cine = headers([0.0, 1.0, 2.0] * 2, SAGITTAL, FIRST)
    for k, header in enumerate(cine):
        header["TriggerTime"] = 40.0 * (k // 3)
    with pytest.raises(Refused, match=r"a time series: .* 2 different values of TriggerTime"):
        layout(cine)
    both = headers([0.0, 1.0, 2.0] * 2, SAGITTAL, FIRST)
    for k, header in enumerate(both):
        header["ImageType"] = ("ORIGINAL", "PRIMARY", "MP"[k // 3])
    with pytest.raises(Refused, match="such as magnitude and phase"):
        layout(both)
    aside = headers([0.0, 1.0, 1.0, 2.0], SAGITTAL, FIRST)
    aside[2]["ImagePositionPatient"] = tuple(np.add(aside[2]["ImagePositionPatient"], [0, 50, 0]))
    with pytest.raises(Refused, match="2 images lie side by side"):
        layout(aside)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ImagePositionPatient", (0.0, float("nan"), 0.0), "ImagePositionPatient .* not finite"),
        ("ImagePositionPatient", (0.0, float("inf"), 0.0), "ImagePositionPatient .* not finite"),
        ("ImagePositionPatient", (0.0, 1e300, 0.0), "beyond"),
        ("ImagePositionPatient", (0.0, 1.0), "lacks ImagePositionPatient"),
        ("ImagePositionPatient", None, "lacks ImagePositionPatient"),
        ("ImageOrientationPatient", (0.5, 0, 0, 0, 1, 0), "cosines of length 0.5"),
        ("ImageOrientationPatient", (0.0,) * 6, "cosines of length 0"),
        (
            "ImageOrientationPatient",
            (1, 0, 0, 0.6, 0.8, 0),
            "at no right angle: their product is 0.6",
        ),
        ("PixelSpacing", (0.0, 0.7), "must be above 0"),
        ("PixelSpacing", (-0.5, 0.7), "must be above 0"),
        ("PixelSpacing", (0.5, float("nan")), "not finite"),
        ("EchoTime", float("inf"), "EchoTime inf is not finite"),
        ("Rows", 0, "every axis needs at least 1"),
        ("Rows", 10**9, "at most 1073741824 are read"),
        ("ImageType", ("ORIGINAL", "PRIMARY", "M", "MOSAIC"), "a mosaic"),
        ("SamplesPerPixel", 3, "colour"),
        ("NumberOfFrames", 12, "12 frames without functional groups"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.66.4", "a DICOM segmentation"),
    ],
)
def test_headers_that_make_no_sense_are_refused_by_name(name, value, reason) -> None:
    stack = headers([0.0, 1.0, 2.0], SAGITTAL, FIRST)
    for header in stack:
        header[name] = value
    with pytest.raises(Refused, match=reason):
        layout(stack)


def test_cosines_that_were_rounded_are_taken_as_they_stand() -> None:
    axes = np.array([[0.70711, 0.70711, 0.0], [0.0, 0.0, -1.0]])
    plan = layout(headers([0.0, 1.0, 2.0], axes, FIRST))
    assert np.array_equal(plan.affine[:3, 2], axes[0] * 0.7)


def test_a_volume_beyond_the_limit_is_refused_before_it_is_made() -> None:
    with pytest.raises(Refused, match=r"shape \(3, 4, 5\) is 60 voxels; at most 59 are read"):
        layout(headers([0.0, 1.0, 2.0], SAGITTAL, FIRST), Limits(voxels=59))


@given(st.integers(-(2**17), 2**17), st.integers(0, 65535))
def test_sixteen_bits_hold_any_span_of_sixteen_bits(low, span) -> None:
    voxels = np.array([low, low + span], dtype=np.int64)
    stored, offset = to_int16(voxels)
    assert np.array_equal(stored.astype(np.int64) + int(offset), voxels)


def test_names_and_sides() -> None:
    assert sequence_name("SAG_3D_DESS_LEFT ") == "SAG_3D_DESS"
    assert side_of("OAI^MR^ENROLLMENT^RIGHT ") == "R"
    assert side_of("SAG_3D_DESS") == ""
    assert sequence_name("", "MR") == "MR"
