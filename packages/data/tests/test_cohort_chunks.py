"""What is decoded at a time, as the cohort tells it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.cohort.direct import DirectArray
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError


@pytest.mark.parametrize("shape", [(40, 130, 70), (3, 40, 130, 70), (5, 6, 7)])
def test_chunks_are_those_that_a_reader_decodes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    volumes = SequenceVolumes(
        volume=np.ones((2, *shape), np.int16), scans=pd.DataFrame({"subject_id": ["a", "b"]})
    )
    write_cohort(tmp_path / "c", volumes={"S": volumes}, tables={}, provenance={})
    direct = DirectArray.open(tmp_path / "c" / "images.zarr" / "S" / "volume")
    assert direct is not None
    for reader in ("auto", "zarr"):
        cohort = Cohort.open(tmp_path / "c", reader=reader)
        assert cohort.chunks("S") == direct.inner
    with pytest.raises(InputError, match=r"Unknown sequence 'T'"):
        cohort.chunks("T")
