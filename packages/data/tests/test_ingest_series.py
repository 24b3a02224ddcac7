import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from spinmark_data.ingest.geometry import lps_axes, mirror, reorient
from spinmark_data.ingest.images import sequence_name, side_of
from spinmark_data.ingest.series import Refused, layout, to_int16


def headers(depths: list[float], axes: np.ndarray, first: np.ndarray) -> list[Dataset]:
    out = []
    for depth in depths:
        header = Dataset()
        header.Rows, header.Columns, header.PixelSpacing = 4, 5, [0.5, 0.7]
        header.ImageOrientationPatient = [float(x) for x in axes.reshape(-1)]
        header.ImagePositionPatient = [float(x) for x in first + depth * np.cross(*axes)]
        out.append(header)
    return out


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
        ([0.0, 1.0, 1.0, 2.0], "share a position"),
    ],
)
def test_what_is_no_volume_is_refused(depths, reason) -> None:
    with pytest.raises(Refused, match=reason):
        layout(headers(depths, SAGITTAL, FIRST))


def test_tilt_and_mixed_planes_are_refused_but_one_reference_image_is_left_out() -> None:
    tilted = headers([0.0, 1.0, 2.0], SAGITTAL, FIRST)
    for k, header in enumerate(tilted):
        header.ImagePositionPatient[2] += 0.2 * k
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
        header.EchoTime = 20.0 if k < 3 else 10.0
    plan = layout(stack)
    assert plan.shape == (2, 3, 4, 5)
    assert plan.echo_time_ms == [10.0, 20.0]
    assert plan.order.tolist() == [[3, 4, 5], [0, 1, 2]]
    with pytest.raises(Refused, match="missing slices: echoes hold"):
        layout(stack[:-1])


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
