from pathlib import Path

import numpy as np
import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_training.errors import InputError
from spinmark_training.side_information import SideInformation
from spinmark_training.sources import ScanSource

from .tabled_world import SEQUENCE, write_tabled


@pytest.fixture(scope="module")
def tabled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    return write_tabled(tmp_path_factory.mktemp("tabled") / "cohort")


@pytest.fixture(scope="module")
def known(tabled: tuple[Cohort, Split]) -> SideInformation:
    cohort, split = tabled
    return SideInformation(cohort, ScanSource(cohort, SEQUENCE, split))


def _hidden(known: SideInformation) -> torch.Tensor:
    mask = torch.ones(len(known), dtype=torch.bool)
    mask[known.rows] = False
    return mask


def test_scans_that_may_not_be_seen_are_unknown_in_every_column(known: SideInformation) -> None:
    hidden = _hidden(known)
    assert hidden.any()
    time, event = known.survival("replacement")
    for numbers in (known.days(), time, known.numbers(("AGE", "WOMKP", "SITE"))):
        assert numbers[hidden].isnan().all()
    assert not event[hidden].any()
    for codes in (known.codes("SITE")[0], known.joints(), known.subjects()):
        assert (codes[hidden] == -1).all()


def test_nothing_depends_on_what_is_known_of_the_others(
    known: SideInformation, tmp_path: Path
) -> None:
    cohort, split = write_tabled(tmp_path / "spoilt", spoil=True)
    spoilt = SideInformation(cohort, ScanSource(cohort, SEQUENCE, split))
    names = ("AGE", "WOMKP", "SITE", "RACE", "SEX", "XRKL")
    np.testing.assert_array_equal(known.numbers(names), spoilt.numbers(names))
    for name in ("SITE", "RACE", "XRKL"):
        assert torch.equal(known.codes(name)[0], spoilt.codes(name)[0])
        assert known.codes(name)[1] == spoilt.codes(name)[1]
    for one, other in zip(
        known.survival("replacement"), spoilt.survival("replacement"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_values_are_those_of_the_tables(
    known: SideInformation, tabled: tuple[Cohort, Split]
) -> None:
    cohort, _ = tabled
    scans = cohort.scans(SEQUENCE).reset_index(drop=True)
    values = known.numbers(("AGE", "WOMKP"))
    ages = cohort.table("visits").set_index(["subject_id", "visit"])["AGE"]
    pains = cohort.table("joints").set_index(["subject_id", "laterality", "visit"])["WOMKP"]
    for row in known.rows:
        scan = scans.iloc[row]
        assert float(values[row, 0]) == ages[scan["subject_id"], scan["visit"]]
        pain = pains[scan["subject_id"], scan["laterality"], scan["visit"]]
        assert float(values[row, 1]) == pytest.approx(pain, nan_ok=True)


def test_codes_run_from_0_and_joints_belong_to_subjects(
    known: SideInformation, tabled: tuple[Cohort, Split]
) -> None:
    codes, count = known.codes("SITE")
    assert set(codes[known.rows].tolist()) == set(range(count))
    joints, subjects = known.joints()[known.rows], known.subjects()[known.rows]
    scans = tabled[0].scans(SEQUENCE).reset_index(drop=True).iloc[known.rows]
    assert len(joints.unique()) == scans["joint_id"].nunique()
    assert len(set(zip(joints.tolist(), subjects.tolist(), strict=True))) == len(joints.unique())


def test_a_role_stands_for_its_variables_and_names_for_themselves(known: SideInformation) -> None:
    assert known.variables(("demographic",)) == ("SEX", "RACE", "AGE")
    assert known.variables(("WOMKP", "symptom", "function")) == ("WOMKP", "FUNC")
    assert [known.kind(n) for n in ("RACE", "AGE", "XRKL")] == ["nominal", "continuous", "ordinal"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ("outcome",),
            r"objective.labels: 'outcome'; accepted are variables, and roles other than",
        ),
        (("administrative",), "'administrative'; accepted are variables"),
        (("XRPROSTH",), "XRPROSTH has the role outcome"),
        (("SITE",), "SITE has the role administrative"),
        (("NONE",), r"'NONE'; no table .*accepted roles are \['demographic', 'function'"),
        (("subject_id",), "'subject_id'; no table"),
        ((), "no training scan"),
    ],
)
def test_what_no_encoder_may_learn_from_is_refused_in_one_line(
    known: SideInformation, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        known.variables(labels)
    assert "\n" not in str(error.value)


def test_a_nuisance_may_be_the_site_and_never_an_outcome(known: SideInformation) -> None:
    assert known.codes("SITE", "objective.nuisance")[1] == 3
    with pytest.raises(InputError, match=r"^objective.nuisance: XRPROSTH has the role outcome"):
        known.codes("XRPROSTH", "objective.nuisance")
    with pytest.raises(InputError, match=r"^objective.nuisance: no table of the cohort has 'NONE'"):
        known.codes("NONE", "objective.nuisance")


def test_a_cohort_without_a_dictionary_still_has_its_variables(
    world: tuple[Cohort, Split],
) -> None:
    cohort, split = world
    known = SideInformation(cohort, ScanSource(cohort, "TINY", split))
    assert known.variables(("WOMKP",)) == ("WOMKP",)
    assert known.kind("WOMKP") == "continuous"
    assert known.kind("SITE") == "nominal"
    with pytest.raises(InputError, match="no outcomes"):
        known.survival("replacement")
    with pytest.raises(InputError, match="'demographic'; no table"):
        known.variables(("demographic",))
