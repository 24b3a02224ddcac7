import nibabel
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spinmark_data.errors import InputError
from spinmark_data.ingest.nifti import load_nifti
from spinmark_data.integers import quantise

FINITE = st.floats(-1e100, 1e100, width=64)


@given(arrays(np.float64, st.integers(1, 20), elements=FINITE))
@example(np.array([0.0, 5e-324]))
@example(np.array([1e10, 1e10 + 1e-3]))
@example(np.array([7.25, 7.25]))
def test_the_bound_on_floats(values: np.ndarray) -> None:
    stored, scale, offset = quantise(values)
    rounding = 8 * np.finfo(float).eps * max(np.abs(values).max(), np.ptp(values))
    error = np.abs(stored.astype(float) * scale + offset - values)
    assert (error <= scale / 2 + rounding).all()
    if np.ptp(values) == 0:
        assert (error == 0).all()


@given(
    arrays(st.sampled_from([np.int8, np.uint16, np.int32, np.int64, np.uint64]), st.integers(1, 9))
)
def test_integers_of_16_bits_are_exact_and_others_within_half_a_step(values: np.ndarray) -> None:
    stored, scale, offset = quantise(values)
    low, high = int(values.min()), int(values.max())
    if high - low <= 65535:
        assert scale == 1
    if high - low <= 65535 and max(abs(low), abs(high)) < 2**52:
        assert [int(s) + int(offset) for s in stored] == [int(v) for v in values]
    else:
        rounding = 8 * np.finfo(float).eps * max(abs(low), abs(high), high - low)
        for one, value in zip(stored, values, strict=True):
            assert abs(float(one) * scale + offset - float(value)) <= scale / 2 + rounding


@given(st.integers(-(2**40), 2**40), st.integers(0, 65535))
def test_whole_floats_that_span_16_bits_are_exact(low: int, span: int) -> None:
    values = np.array([low, low + span, low + span // 2], dtype=np.float64)
    stored, scale, offset = quantise(values)
    assert scale == 1
    assert (stored.astype(np.float64) + offset == values).all()


def test_a_value_that_is_not_finite_is_named() -> None:
    with pytest.raises(InputError, match=r"values from .*inf.* must be finite"):
        quantise(np.array([0.0, np.inf]))


@pytest.mark.parametrize("value", [0.0, 3.0, 7.25, -1e6])
def test_a_nifti_of_one_constant_value_comes_back(tmp_path, value: float) -> None:
    path = tmp_path / "constant.nii"
    nibabel.save(nibabel.Nifti1Image(np.full((4, 5, 6), value), np.eye(4)), path)
    volume, _ = load_nifti(path)
    assert (volume.voxels * volume.scale + volume.offset == value).all()
