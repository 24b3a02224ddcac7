"""The traps of OUTCOMES99, each on cells in the release's own form."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.files import read_table
from spinmark_data.ingest.oai.outcomes import Films, Outcomes, read_outcomes

VISITS = {"V00": 0.0, "V01": 370.0, "V03": 741.0, "V05": 1100.0, "V11": 3290.0}
CONFIRMED = "3: Replacement adjudicated, confirmed"
FAILED = "0: Replacement adjudcated,failed to confirm"
SEEN = "1: Yes, replacement seen on FU xray"


def outcome(
    tmp_path: Path,
    config: OaiConfig | None = None,
    films: Films | None = None,
    **cells: str,
) -> Outcomes:
    """Outcomes of one person, of whom only these cells are told."""
    cells = {"V99ERKBLRP": "0: No", "V99ELKBLRP": "0: No", "V99RNTCNT": "11: 108-month"} | cells
    path = tmp_path / "Outcomes99.txt"
    text = f"id|VERSION|{'|'.join(cells)}\r\n1000001|25|{'|'.join(cells.values())}\r\n"
    path.write_bytes(text.encode("ascii"))
    table = read_table(path, tmp_path, lambda name: name.startswith("V99"))
    visits = pd.DataFrame(
        {"subject_id": "1000001", "visit": list(VISITS), "days": list(VISITS.values())}
    )
    enrolment = pd.DataFrame({"subject_id": ["1000001"], "date": [pd.Timestamp("2004-03-24")]})
    return read_outcomes(table, visits, enrolment, pd.Index(["1000001"]), config, films)


def knee(found: Outcomes, side: str = "R") -> tuple[float, float, str] | None:
    rows = found.outcomes[found.outcomes["laterality"] == side]
    if rows.empty:
        return None
    row = rows.iloc[0]
    assert row["entry"] == 0
    assert row["weight"] == 1
    assert row["endpoint"] == "replacement"
    return float(row["lower"]), float(row["upper"]), str(row["cause"])


CENSORED = (3290.0, np.inf, "censored")


def test_an_adjudicated_day_is_exact(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99ERKRPCF=CONFIRMED, V99ERKDAYS="1500")
    assert knee(found) == (1500, 1500, "event")
    assert knee(found, "L") == CENSORED


def test_a_confirmed_replacement_without_a_day_uses_its_date_then_its_contacts(
    tmp_path: Path,
) -> None:
    dated = outcome(tmp_path, V99ERKRPCF=CONFIRMED, V99ERKDAYS=" ", V99ERKDATE="04/03/2006")
    assert knee(dated) == (740, 740, "event")
    between = outcome(
        tmp_path, V99ERKRPCF=CONFIRMED, V99ERKVSPR="1: 12-month", V99ERKVSAF="3: 24-month"
    )
    assert knee(between) == (370, 741, "event")
    assert any("confirmed replacement without a day" in row["reason"] for row in between.issues)


def test_a_replacement_seen_only_on_a_radiograph_lies_between_radiographs(tmp_path: Path) -> None:
    found = outcome(
        tmp_path,
        V99ERKRPSN=SEEN,
        V99ERKRPCF=" ",
        V99ERKXRPR="0: Baseline",
        V99ERKXRAF="3: 24-month",
        V99ERKVSAF="1: 12-month",
    )
    assert knee(found) == (0, 741, "event")


def test_seen_at_an_unrecorded_day_uses_the_nominal_one_and_says_so(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99ELKRPSN=SEEN, V99ELKXRPR="3: 24-month", V99ELKXRAF="6: 48-month")
    assert knee(found, "L") == (741, 48 * 30.4375, "event")
    assert any("V06 is named but its day is not recorded" in row["reason"] for row in found.issues)


@pytest.mark.parametrize(
    "cells",
    [
        {"V99ERKRPCF": FAILED, "V99ERKDAYS": "1500"},
        {"V99ERKRPCF": FAILED, "V99ERKRPSN": SEEN, "V99ERKXRAF": "3: 24-month"},
        {"V99ERKRPCF": " ", "V99ERKDAYS": "1500"},
        {"V99ERKRPCF": "1: Self report", "V99ERKDAYS": "1500"},
        {"V99ERKRPSN": SEEN, "V99ERKXRAF": ".: Missing Form/Incomplete Workbook"},
    ],
)
def test_an_unconfirmed_replacement_is_no_event_and_is_told(
    tmp_path: Path, cells: dict[str, str]
) -> None:
    found = outcome(tmp_path, **cells)
    assert knee(found) == CENSORED
    assert any(row["action"] == "taken as no event" for row in found.issues)


def test_a_blank_verdict_is_not_a_no(tmp_path: Path) -> None:
    assert knee(outcome(tmp_path, V99ERKRPCF=" ")) == CENSORED
    no_films = outcome(tmp_path, V99ERKRPSN="2: No FU xrays of this knee (or hip)")
    assert knee(no_films) == CENSORED
    assert no_films.issues == []


def test_a_knee_replaced_before_enrolment_is_counted_out(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99ERKBLRP="1: Yes")
    assert knee(found) is None
    assert knee(found, "L") == CENSORED
    assert [row["excluded"] for row in found.flow] == [0, 1]
    assert found.flow[-1]["n"] == 1


def test_death_competes_on_both_joints_and_leaves_an_earlier_replacement(tmp_path: Path) -> None:
    found = outcome(
        tmp_path,
        V99EDDCF="2: Confirmed",
        V99EDDDATE="03/24/2010",
        V99ERKRPCF=CONFIRMED,
        V99ERKDAYS="1500",
    )
    assert knee(found) == (1500, 1500, "event")
    assert knee(found, "L") == (2191, 2191, "death")


def test_a_two_digit_year_of_death_is_of_this_century(tmp_path: Path) -> None:
    assert knee(outcome(tmp_path, V99EDDDATE="03/24/10")) == (2191, 2191, "death")


def test_death_without_a_date_lies_after_the_last_contact(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99EDDCF="2: Confirmed", V99EDDDATE=" ", V99EDDVSPR="5: 36-month")
    assert knee(found) == (1100, 1100 + 12 * 30.4375, "death")


def test_a_replacement_after_death_is_left_out(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99EDDDATE="03/24/2006", V99ERKRPCF=CONFIRMED, V99ERKDAYS="1500")
    assert knee(found) is None
    assert knee(found, "L") == (730, 730, "death")
    assert any("after the death" in row["reason"] for row in found.issues)


@pytest.mark.parametrize("days", ["0", "-12"])
def test_a_time_of_zero_or_below_is_dropped_and_told(tmp_path: Path, days: str) -> None:
    found = outcome(tmp_path, V99ERKRPCF=CONFIRMED, V99ERKDAYS=days)
    assert knee(found) is None
    assert found.flow[-1]["reason"] == "a time of zero or below"
    assert any("the joint was left out" in row["action"] for row in found.issues)


def test_contacts_in_the_wrong_order_are_dropped(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99ERKRPSN=SEEN, V99ERKXRPR="3: 24-month", V99ERKXRAF="1: 12-month")
    assert knee(found) is None


def test_who_was_never_seen_again_has_no_outcome(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99RNTCNT="0: Baseline")
    assert found.outcomes.empty
    assert found.flow[-1] == {
        "step": "outcome: no follow-up after enrolment",
        "unit": "joints",
        "n": 0,
        "excluded": 2,
        "reason": "no follow-up after enrolment",
    }


@pytest.mark.parametrize(("cell", "day"), [("3: 24-month", 741), ("5", 1100), ("V01", 370)])
def test_censored_at_the_real_day_of_the_last_contact(
    tmp_path: Path, cell: str, day: float
) -> None:
    assert knee(outcome(tmp_path, V99RNTCNT=cell)) == (day, np.inf, "censored")


def test_without_a_last_contact_the_last_visit_counts(tmp_path: Path) -> None:
    assert knee(outcome(tmp_path, V99RNTCNT=" ")) == CENSORED


@pytest.mark.parametrize(
    ("cells", "option"),
    [
        ({"V99ERKRPCF": "2: Adjudicated, pending"}, "oai.replacement_confirmed"),
        ({"V99ELKTLPR": "3: Revision"}, "oai.replacement_total or oai.replacement_partial"),
        ({"V99ERKTLPR": "7"}, "oai.replacement_total"),
        ({"V99EDDCF": "1: Death reported"}, "oai.death_confirmed or oai.death_unconfirmed"),
        ({"V99RNTCNT": "15: 204-month"}, "add it to oai.months"),
        ({"V99RNTCNT": "2.5"}, "add it to oai.months"),
        ({"V99ERKVSPR": "97"}, "add it to oai.months"),
        ({"V99RNTCNT": "13: 144-month"}, "correct oai.months.V13"),
        ({"V99ERKRPSN": "4"}, "known are [0, 1, 2]"),
        ({"V99ERKBLRP": "3"}, "known are [0, 1]"),
        ({"V99ERKDATE": "24MAR2006"}, "set oai.date_formats"),
        ({"V99EDDDATE": "2006-03-24"}, "set oai.date_formats"),
    ],
)
def test_what_is_not_established_stops_with_the_option(
    tmp_path: Path, cells: dict[str, str], option: str
) -> None:
    with pytest.raises(InputError) as caught:
        outcome(tmp_path, **cells)
    assert option in str(caught.value)
    assert next(iter(cells)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_option_gives_an_unknown_code_its_meaning(tmp_path: Path) -> None:
    config = OaiConfig(replacement_confirmed=(2, 3), death_unconfirmed=(0, 1))
    found = outcome(tmp_path, config, V99ERKRPCF="2: Pending", V99ERKDAYS="900", V99EDDCF="1")
    assert knee(found) == (900, 900, "event")
    assert knee(found, "L") == CENSORED
    months = OaiConfig(months={**OaiConfig().months, "V13": 144, "V14": 150, "V15": 204})
    late = outcome(tmp_path, months, V99RNTCNT="15: 204-month")
    assert knee(late) == (204 * 30.4375, np.inf, "censored")


def test_an_unverified_month_is_told(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99RNTCNT="12: 120-month")
    assert knee(found) == (120 * 30.4375, np.inf, "censored")
    assert any("oai.months" in row["action"] for row in found.issues)


def test_a_death_that_was_not_confirmed_is_none(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99EDDCF="0: Not confirmed", V99EDDDATE="03/24/2010")
    assert knee(found) == CENSORED
    assert any("a death that was not confirmed" in row["reason"] for row in found.issues)


@pytest.mark.parametrize("cell", ["2", "2: Partial", "9: Partial, medial"])
def test_a_partial_replacement_is_an_event_or_ends_the_follow_up(tmp_path: Path, cell: str) -> None:
    cells = {"V99ERKRPCF": CONFIRMED, "V99ERKDAYS": "1500", "V99ERKTLPR": cell}
    assert knee(outcome(tmp_path, **cells)) == (1500, 1500, "event")
    strict = outcome(tmp_path, OaiConfig(partial_is_event=False), **cells)
    assert knee(strict) == (1500, np.inf, "censored")
    total = outcome(
        tmp_path, OaiConfig(partial_is_event=False), **cells | {"V99ERKTLPR": "1: Total"}
    )
    assert knee(total) == (1500, 1500, "event")


def test_the_flag_of_a_date_is_no_date_but_an_old_release_may_say_so(tmp_path: Path) -> None:
    cells = {"V99ERKRPCF": CONFIRMED, "V99ERKFLDT": "04/03/2006", "V99ERKXRAF": "5: 36-month"}
    assert knee(outcome(tmp_path, **cells)) == (0, 1100, "event")
    old = outcome(tmp_path, OaiConfig(replacement_dates=("DATE", "FLDT")), **cells)
    assert knee(old) == (740, 740, "event")


def test_other_dates_and_another_pivot(tmp_path: Path) -> None:
    config = OaiConfig(date_formats=("%d%b%Y",))
    assert knee(outcome(tmp_path, config, V99EDDDATE="24MAR2010")) == (2191, 2191, "death")
    early = outcome(tmp_path, OaiConfig(date_pivot=5), V99EDDDATE="03/24/10")
    assert knee(early) is None


def test_a_date_that_contradicts_the_days_is_told(tmp_path: Path) -> None:
    found = outcome(tmp_path, V99ERKRPCF=CONFIRMED, V99ERKDAYS="700", V99ERKDATE="04/03/2006")
    assert knee(found) == (700, 700, "event")
    assert any("another day than KDAYS" in row["reason"] for row in found.issues)


def test_phone_contacts_count_as_follow_up(tmp_path: Path) -> None:
    # V11 is a call: no film can be of it, but a replacement would have been told.
    assert knee(outcome(tmp_path, V99RNTCNT="11: 108-month")) == CENSORED


FILMS = {("1000001", "R"): (("V00", False), ("V01", False), ("V03", True), ("V05", True))}


def test_a_prosthesis_on_a_film_is_an_event_where_nothing_speaks_against_it(
    tmp_path: Path,
) -> None:
    found = outcome(tmp_path, None, FILMS)
    assert knee(found) == (370, 741, "event")
    assert knee(found, "L") == CENSORED
    assert any(row["action"] == "an event" for row in found.issues)
    for cells in ({"V99ERKRPSN": "0: No replacement seen on any FU xray"}, {"V99ERKRPCF": FAILED}):
        assert knee(outcome(tmp_path, None, FILMS, **cells)) == CENSORED
    assert knee(outcome(tmp_path, OaiConfig(prosthesis_is_event=False), FILMS)) == CENSORED
    exact = outcome(tmp_path, None, FILMS, V99ERKRPCF=CONFIRMED, V99ERKDAYS="500")
    assert knee(exact) == (500, 500, "event")


def test_a_prosthesis_on_the_first_film_counts_the_knee_out(tmp_path: Path) -> None:
    found = outcome(tmp_path, None, {("1000001", "R"): (("V00", True),)})
    assert knee(found) is None
    assert found.flow[-1]["reason"] == "a prosthesis on the film of enrolment"
