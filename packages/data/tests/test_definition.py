"""Who is in: conditions, three-valued logic against a truth table, and the counted flow."""

import contextlib
import functools
import itertools
import string
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.definition.apply import define
from spinmark_data.definition.config import Criterion, DefinitionConfig
from spinmark_data.definition.expression import FUNCTIONS, MAX_LENGTH, parse
from spinmark_data.definition.figure import flow_figure
from spinmark_data.definition.frames import FrameCohort
from spinmark_data.definition.variables import CohortRows, Variables, nearest
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS


def joint_rows(
    readings: Mapping[str, Mapping[str, Sequence[float]]],
    visits: Sequence[str],
    days: Mapping[str, float],
) -> pd.DataFrame:
    """A `joints` table from {joint_id: {variable: readings at the visits}}."""
    rows = []
    for joint, columns in readings.items():
        subject, side = joint.split(":")
        for at, visit in enumerate(visits):
            values = {name: float(column[at]) for name, column in columns.items()}
            rows.append(
                {"subject_id": subject, "laterality": side, "visit": visit, "joint_id": joint,
                 "days": days[visit], **values}
            )  # fmt: skip
    return pd.DataFrame(rows)


def outcome_rows(*rows: tuple[str, float, float, str]) -> pd.DataFrame:
    """Replacement outcomes from (joint_id, lower, upper, cause)."""
    return pd.DataFrame(
        [
            (joint, "replacement", joint[:-2], joint[-1], 0.0, lower, upper, cause, 1.0)
            for joint, lower, upper, cause in rows
        ],
        columns=list(COLUMNS["outcomes"]),
    )


def missing_rows(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    """Reasons of missing cells."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS["missing"]))


def dictionary_rows(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    """A dictionary from (variable, kind, codes, table)."""
    frame = pd.DataFrame(list(rows), columns=["variable", "kind", "codes", "table"])
    return frame.reindex(columns=list(COLUMNS["dictionary"])).astype(object).fillna("")


NAN = float("nan")
SUBJECTS = pd.DataFrame({"subject_id": ["1000001", "1000002", "1000003", "1000004"],
                         "SEX": [1.0, 2.0, 2.0, NAN], "SITE": ["A", "A", "B", "B"]})  # fmt: skip
VISITS = pd.DataFrame(
    [("1000001", "V00", 0.0, 0, 50.0, 31.0, 1.1), ("1000002", "V00", 0.0, 0, 60.0, NAN, 1.3),
     ("1000003", "V00", 0.0, 0, 85.0, 24.0, 0.9), ("1000001", "V03", 720.0, 24, 52.0, 33.0, 1.0)],
    columns=["subject_id", "visit", "days", "months", "AGE", "BMI", "20MPACE"],
)  # fmt: skip


def small_cohort() -> FrameCohort:
    """Four people, the last without a knee; 1000002's left knee is a prosthesis."""
    joints = joint_rows(
        {
            "1000001:R": {"XRKL": [0, 2], "WOMKP": [3, 9]},
            "1000001:L": {"XRKL": [1, 1], "WOMKP": [0, NAN]},
            "1000002:R": {"XRKL": [3, NAN], "WOMKP": [NAN, NAN]},
            "1000002:L": {"XRKL": [NAN, NAN], "WOMKP": [2, 2]},
            "1000003:R": {"XRKL": [4, NAN], "WOMKP": [12, NAN]},
        },
        ["V00", "V03"],
        {"V00": 0.0, "V03": 730.0},
    )
    scans = pd.DataFrame(
        [("1000001", "R", "V00", 0, 0.0), ("1000001", "R", "V00", 1, 0.0),
         ("1000001", "R", "V03", 0, 720.0), ("1000001", "L", "V00", 0, 0.0),
         ("1000002", "R", "V00", 0, 0.0), ("1000003", "R", "V03", 0, 700.0),
         ("1000001", "R", "V00", 2, 0.0)],
        columns=["subject_id", "laterality", "visit", "rank", "days"],
    )  # fmt: skip
    flash = scans.iloc[[0, 4]].reset_index(drop=True)
    return FrameCohort(
        {
            "subjects": SUBJECTS,
            "visits": VISITS,
            "joints": joints,
            "missing": missing_rows(
                ("1000002", "L", "V00", "XRKL", ".P"), ("1000002", "", "V00", "BMI", ".R")
            ),
            "outcomes": outcome_rows(
                ("1000001:R", 3000.0, np.inf, "censored"), ("1000001:L", 900.0, 900.0, "event")
            ),
            "dictionary": dictionary_rows(
                ("SEX", "binary", '{"1": "Male", "2": "Female"}', "subjects"),
                ("XRKL", "ordinal", "{}", "joints"),
                ("BMI", "continuous", "{}", "visits"),
                ("WOMKP", "continuous", "{}", "joints"),
            ),
        },
        {"SAG_3D_DESS": scans, "COR_T1_3D_FLASH": flash},
    )


ROWS = ["1000001:L", "1000001:R", "1000002:L", "1000002:R", "1000003:R"]


@functools.cache
def small_variables() -> Variables:
    return Variables(small_cohort())


def ask(condition: str, visit: str = "V00") -> list[bool | None]:
    variables = small_variables()
    assert list(variables.joints["joint_id"]) == ROWS
    truth = parse(condition).evaluate(CohortRows(variables, variables.joints, visit))
    return [None if value is pd.NA else bool(value) for value in truth]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("XRKL <= 1", [True, True, None, False, False]),
        ("not XRKL <= 1", [False, False, None, True, True]),
        ("0 < XRKL <= 3", [True, False, None, True, False]),
        ("XRKL in [0, 4]", [False, True, None, False, True]),
        ("XRKL not in [0, 4]", [True, False, None, True, False]),
        ("missing(XRKL)", [False, False, True, False, False]),
        ("known(XRKL) and XRKL > 3", [False, False, False, False, True]),
        ("reason(XRKL) == '.P'", [False, False, True, False, False]),
        ("reason(BMI) == '.R'", [False, False, True, True, False]),
        ("XRKL @ V03 - XRKL >= 2", [False, True, None, None, None]),
        ("XRKL @ 'V03' == 2 or XRKL > 2", [False, True, None, True, True]),
        ("SEX == 'Female'", [False, False, True, True, True]),
        ("SEX == 1", [True, True, False, False, False]),
        ("SITE == 'B'", [False, False, False, False, True]),
        ("`20MPACE` > 1.2", [False, False, True, True, False]),
        ("BMI > 30 or XRKL == 3", [True, True, None, True, False]),
        ("BMI > 30 and XRKL == 3", [False, False, None, None, False]),
        ("abs(XRKL - 2) <= 1", [True, False, None, True, False]),
        ("-XRKL < -2.5", [False, False, None, True, True]),
        ("XRKL / XRKL == 1", [True, None, None, True, True]),
        ("scanned('SAG_3D_DESS')", [True, True, False, True, False]),
        ("has_outcome('replacement')", [True, True, False, False, False]),
        ("XRKL == 3\n  and laterality == 'R'", [False, False, False, True, False]),
        ("1 < 2", [True] * 5),
    ],
)
def test_a_condition_has_these_answers(condition: str, expected: list[bool | None]) -> None:
    assert ask(condition) == expected


def test_kleene_logic_is_that_of_the_tables() -> None:
    # Strong Kleene logic by its definition: false < unknown < true, and is min, or is max.
    order = {False: 0.0, None: 0.5, True: 1.0}
    forms = {True: "XRKL == XRKL", False: "XRKL != XRKL", None: "XRKL @ V03 == 2"}
    back = {value: key for key, value in order.items()}
    at = ROWS.index("1000003:R")  # known at V00, missing at V03
    for a, b in itertools.product(order, repeat=2):
        assert ask(f"({forms[a]}) and ({forms[b]})")[at] == back[min(order[a], order[b])]
        assert ask(f"({forms[a]}) or ({forms[b]})")[at] == back[max(order[a], order[b])]
    for a in order:
        assert ask(f"not ({forms[a]})")[at] == back[1 - order[a]]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("XRLK > 1", "Unknown variable 'XRLK'; the nearest known one is 'XRKL'"),
        ("womkp > 1", "nearest known one is 'WOMKP'"),
        ("XRKL == 7", "XRKL == 7: XRKL never takes this value; the nearest known one is '4'"),
        ("XRKL in [0, 9]", "XRKL in 9"),
        ("SEX == 'Femal'", "nearest known one is 'Female'"),
        ("SITE == 'C'", "SITE never takes this value"),
        (
            "XRKL @ V05 > 1",
            r"nobody has a value at this visit; XRKL has values at \['V00', 'V03'\]",
        ),
        ("SEX @ V03 == 1", "belongs to a person"),
        ("XRKL > 'high'", "text with a number"),
        ("SITE > 2", "text with a number"),
        ("SITE - 1 > 2", "'SITE' is no number"),
        ("(XRKL > 1) > 0", "a condition cannot be compared"),
        ("XRKL + 1", "no condition but a value"),
        ("scanned('SAG_3D_DES')", "the nearest is 'SAG_3D_DESS'"),
        ("has_outcome('death')", r"the cohort's outcomes are \['replacement'\]"),
        ("rank == 0", r"Unknown variable 'rank' \(it is one of scans\)"),
    ],
)
def test_a_slip_of_the_pen_names_the_nearest(condition: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "__import__('os').system('true')", "XRKL.__class__ == 1", "(lambda: 1)()", "[x for x in [1]]",
        "XRKL if SEX else 1", "open('f') == 1", "XRKL[0] > 1", "f'{XRKL}' == 'a'", "XRKL ** 9 > 1",
        "(y := 3) > 2", "XRKL // 2 > 1", "XRKL is None", "XRKL == None", "XRKL == b'a'", "XRKL & 1",
        "missing(3)", "missing(XRKL, SEX)", "scanned(XRKL)", "abs(x=1) > 1", "XRKL in SEX", "XRKL == 1j",
        "1 @ V03 > 2", "XRKL @ 3 > 2", "eval('1')", "*XRKL", "XRKL in [[1]]", "XRKL == ...",
    ],
)  # fmt: skip
def test_other_forms_are_refused(condition: str) -> None:
    with pytest.raises(InputError, match="Condition"):
        parse(condition)


@pytest.mark.parametrize(
    "condition", ["XRKL >", "a b", "x = 1", "import os", "(", "\x00", "1e", "'a"]
)
def test_what_is_no_expression_is_refused(condition: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        parse(condition)


def test_limits_hold() -> None:
    with pytest.raises(InputError, match="is empty"):
        parse("  ")
    with pytest.raises(InputError, match="2001 characters"):
        parse("x" * (MAX_LENGTH + 1))
    for deep in (
        "(" * 900 + "1" + ")" * 900,
        "not " * 490 + "1",
        "-" * 1900 + "1",
        "1+" * 990 + "1",
    ):
        with contextlib.suppress(InputError):
            parse(deep)
    with pytest.raises(InputError, match="too large"):
        parse(f"XRKL > {'9' * 400}")
    with pytest.raises(InputError, match="backticks"):
        parse("20MPACE > 1")


ALPHABET = st.text(alphabet=string.printable, max_size=60)
WORDS = st.lists(
    st.sampled_from(
        ["XRKL", "SEX", "SITE", "and", "or", "not", "(", ")", "==", "<", "in", "[", "]", "1", "'A'",
         ",", "@", "V03", "+", "/", "-", ".", "lambda", ":", "`20MPACE`", *FUNCTIONS]
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.one_of(ALPHABET, WORDS.map(" ".join)))
def test_any_text_is_answered_or_refused(text: str) -> None:
    answers: list[bool | None] = []
    with contextlib.suppress(InputError):
        answers = ask(text)
    assert set(answers) <= {True, False, None}


@pytest.mark.parametrize(("value", "known", "expected"), [
    ("WOMPK", ["XRKL", "WOMKP"], "WOMKP"), (2.6, [0.0, 2.0, 3.0], "3"), ("x", [], ""), (1.0, [], ""),
])  # fmt: skip
def test_the_nearest(value: object, known: list[object], expected: str) -> None:
    assert nearest(value, known) == expected


def test_answers_do_not_depend_on_the_order_of_rows() -> None:
    variables = Variables(small_cohort())
    expression = parse("BMI > 30 or XRKL @ V03 == 1")
    order = np.random.default_rng(0).permutation(len(ROWS))
    frame = variables.joints
    plain = expression.evaluate(CohortRows(variables, frame, "V00"))
    mixed = expression.evaluate(CohortRows(variables, frame.iloc[order], "V00"))
    assert list(mixed.fillna(False)) == list(plain.fillna(False)[order])
    assert list(mixed.isna()) == list(plain.isna()[order])


CRITERIA = [
    Criterion(name="no MRI at enrolment", include="scanned('SAG_3D_DESS')"),
    Criterion(name="prosthesis", exclude="reason(XRKL) == '.P'"),
    Criterion(name="end-stage", exclude="XRKL == 4", if_missing="include"),
    Criterion(name="too old", unit="subject", exclude="AGE > 80", if_missing="refuse"),
    Criterion(name="heavy or unknown", unit="subject", include="BMI < 35", if_missing="exclude"),
    Criterion(name="second rescan", unit="scan", exclude="rank == 2"),
]


def test_the_flow_is_counted_by_hand() -> None:
    config = DefinitionConfig(sequences=["SAG_3D_DESS"], criteria=CRITERIA)
    found = define(small_cohort(), config)
    # 1000004 has no knee. 2:L and 3:R have no MRI at V00, and with 3:R goes 1000003. Then nobody has a
    # prosthesis, is end-stage or old; 1000002's BMI is missing, so that 2:R goes with its two scans.
    columns = ["step", "unit", "n", "excluded", "unknown", "subjects", "joints", "scans"]
    assert found.flow[columns].to_numpy().tolist() == [
        ["everyone", "subjects", 4, 0, 0, 4, 5, 9],
        ["no data", "subjects", 3, 1, 0, 3, 5, 9],
        ["no MRI at enrolment", "joints", 3, 2, 0, 2, 3, 8],
        ["prosthesis", "joints", 3, 0, 0, 2, 3, 8],
        ["end-stage", "joints", 3, 0, 0, 2, 3, 8],
        ["too old", "subjects", 2, 0, 0, 2, 3, 8],
        ["heavy or unknown", "subjects", 1, 1, 1, 1, 2, 6],
        ["second rescan", "scans", 5, 1, 0, 1, 2, 5],
        ["other sequences", "scans", 4, 1, 0, 1, 2, 4],
        ["rescans", "scans", 3, 1, 0, 1, 2, 3],
        ["analysed", "joints", 2, 0, 0, 1, 2, 3],
    ]
    assert found.flow["excluded_joints"].tolist() == [0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]
    assert found.flow["excluded_scans"].tolist() == [0, 0, 1, 0, 0, 0, 2, 1, 1, 1, 0]
    assert found.alone.to_numpy().tolist() == [
        ["no MRI at enrolment", "joints", 1, 2, 1, 0],
        ["prosthesis", "joints", 0, 1, 0, 0],
        ["end-stage", "joints", 1, 1, 1, 0],
        ["too old", "subjects", 1, 1, 1, 0],
        ["heavy or unknown", "subjects", 1, 2, 2, 1],
        ["second rescan", "scans", 0, 0, 1, 0],
    ]
    assert list(found.joints["joint_id"]) == ["1000001:L", "1000001:R"]
    assert list(found.joints["known_at"]) == [0.0, 0.0]
    assert list(found.scans["scan_id"]) == [
        "1000001:R:V00:SAG_3D_DESS:0", "1000001:R:V03:SAG_3D_DESS:0", "1000001:L:V00:SAG_3D_DESS:0",
    ]  # fmt: skip
    gone = found.excluded[found.excluded["unit"] != "scan"]
    assert gone[["unit", "subject_id", "joint_id", "step"]].to_numpy().tolist() == [
        ["subject", "1000004", "", "no data"],
        ["joint", "1000002", "1000002:L", "no MRI at enrolment"],
        ["joint", "1000003", "1000003:R", "no MRI at enrolment"],
        ["subject", "1000002", "", "heavy or unknown"],
    ]


def test_a_missing_cell_is_kept_dropped_or_refused_as_told() -> None:
    cohort = small_cohort()

    def left(if_missing: str, **rule: str) -> list[str]:
        criterion = Criterion(name="rule", if_missing=if_missing, **rule)  # type: ignore[arg-type]
        config = DefinitionConfig(criteria=[criterion], scans_required=False)
        return list(define(cohort, config).joints["joint_id"])

    assert left("include", include="XRKL < 4") == [
        "1000001:L",
        "1000001:R",
        "1000002:L",
        "1000002:R",
    ]
    assert left("exclude", include="XRKL < 4") == ["1000001:L", "1000001:R", "1000002:R"]
    assert left("include", exclude="XRKL < 4") == ["1000002:L", "1000003:R"]
    assert left("exclude", exclude="XRKL < 4") == ["1000003:R"]
    with pytest.raises(InputError, match=r"Criterion 'rule': 1 joints have a missing cell"):
        left("refuse", include="XRKL < 4")


def test_a_person_goes_by_any_joint_or_by_all() -> None:
    def left(quantifier: str, condition: str) -> list[str]:
        rule = Criterion(
            name="rule", unit="subject", joints=quantifier, exclude=condition, if_missing="include"
        )
        config = DefinitionConfig(criteria=[rule], scans_required=False)
        return sorted(set(define(small_cohort(), config).joints["subject_id"]))

    assert left("any", "XRKL == 1") == ["1000002", "1000003"]
    assert left("all", "XRKL == 1") == ["1000001", "1000002", "1000003"]
    assert left("all", "XRKL <= 1") == ["1000002", "1000003"]
    # One knee of 3 and one unknown: by any it is certain, by all it is unknown.
    assert left("any", "XRKL == 3") == ["1000001", "1000003"]
    assert left("all", "XRKL == 3") == ["1000001", "1000002", "1000003"]


def test_a_criterion_at_a_later_visit_is_known_only_then() -> None:
    criteria = [Criterion(name="graded twice", include="known(XRKL @ V03)")]
    found = define(small_cohort(), DefinitionConfig(criteria=criteria))
    assert dict(zip(found.joints["joint_id"], found.joints["known_at"], strict=True)) == {
        "1000001:L": 730.0, "1000001:R": 730.0,
    }  # fmt: skip


def test_a_joint_is_known_from_the_first_scan_that_is_analysed() -> None:
    found = define(small_cohort(), DefinitionConfig())
    known = dict(zip(found.joints["joint_id"], found.joints["known_at"], strict=True))
    # 1000003:R has its only scan at V03, a visit that its row in `joints` dates.
    assert known.pop("1000003:R") == 730.0
    assert set(known.values()) == {0.0}
    found = define(small_cohort(), DefinitionConfig(visits=["V03"], scans_required=False))
    assert set(found.joints["known_at"]) == {0.0}


def test_who_was_not_seen_at_a_later_visit_is_known_at_its_median_day() -> None:
    cohort = small_cohort()
    joints = cohort.table("joints")
    gone = (joints["joint_id"] == "1000002:R") & (joints["visit"] == "V03")
    tables = {name: cohort.table(name) for name in COLUMNS}
    fewer = FrameCohort({**tables, "joints": joints[~gone]})
    rule = Criterion(name="worse", exclude="XRKL @ V03 > 3", if_missing="include")
    config = DefinitionConfig(criteria=[rule], scans_required=False)
    assert set(define(fewer, config).joints["known_at"]) == {730.0}
    # The visit has no row of a joint: those of people tell. And then nobody's.
    undated = joints.assign(days=np.where(joints["visit"] == "V03", np.nan, joints["days"]))
    people = FrameCohort({**tables, "joints": undated})
    assert set(define(people, config).joints["known_at"]) == {720.0}
    nobody = FrameCohort({**tables, "joints": undated, "visits": VISITS[VISITS["visit"] == "V00"]})
    assert define(nobody, config).joints["known_at"].isna().all()


def test_an_undated_cohort_of_one_visit_was_seen_at_enrolment() -> None:
    scans = pd.DataFrame([("1000001", "R", "base")], columns=["subject_id", "laterality", "visit"])
    found = define(FrameCohort({}, {"DESS": scans}), DefinitionConfig(visit="base"))
    assert list(found.joints["known_at"]) == [0.0]
    twice = pd.concat([scans, scans.assign(visit="6m")], ignore_index=True)
    found = define(FrameCohort({}, {"DESS": twice}), DefinitionConfig(visit="base"))
    assert found.joints["known_at"].isna().all()


def test_a_person_is_judged_by_a_joint_that_has_gone_before() -> None:
    rules = [Criterion(name="prosthesis", exclude="reason(XRKL) == '.P'"),
             Criterion(name="any prosthesis", unit="subject", exclude="reason(XRKL) == '.P'")]  # fmt: skip
    found = define(small_cohort(), DefinitionConfig(criteria=rules, scans_required=False))
    assert "1000002" not in set(found.joints["subject_id"])
    step = found.flow.set_index("step").loc["any prosthesis"]
    assert (step["excluded_subjects"], step["excluded_joints"]) == (1, 1)


def test_scans_are_judged_by_columns_from_outside() -> None:
    cohort = small_cohort()
    ids = cohort.scans("SAG_3D_DESS")["scan_id"]
    quality = pd.DataFrame({"scan_id": ids, "SNR": [9.0, 2.0, 9.0, 1.0, 9.0, 9.0, 9.0]})
    rule = Criterion(name="noisy", unit="scan", exclude="SNR < 5", if_missing="include")
    found = define(cohort, DefinitionConfig(criteria=[rule]), scan_columns=quality)
    assert found.flow.set_index("step").loc["noisy", "excluded"] == 2
    assert found.flow.set_index("step").loc["no scan to analyse", "excluded"] == 2
    assert list(found.joints["joint_id"]) == ["1000001:R", "1000002:R", "1000003:R"]
    with pytest.raises(InputError, match="'scan_id' is needed"):
        define(cohort, DefinitionConfig(), scan_columns=quality[["SNR"]])
    with pytest.raises(InputError, match="scan_id twice"):
        define(cohort, DefinitionConfig(), scan_columns=pd.concat([quality, quality]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sequences": ["SAG_3D_DES"]}, "the nearest is 'SAG_3D_DESS'"),
        ({"visits": ["V09"]}, "no scan has 'V09'"),
        ({"criteria": [Criterion(name="a", include="BIM > 1")]}, "the nearest known one is 'BMI'"),
    ],
)
def test_unknown_names_are_named(config: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        define(small_cohort(), DefinitionConfig(**config))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"name": "a"}, "one of them"),
        ({"name": "a", "include": "X > 1", "exclude": "X > 1"}, "one of them"),
        ({"name": " ", "include": "X > 1"}, "no name"),
        (
            {"name": "a", "include": "X > 1", "unit": "knee"},
            r"unit='knee'; accepted are \['subject'",
        ),
        ({"name": "a", "include": "X > 1", "if_missing": "drop"}, "if_missing='drop'"),
        ({"name": "a", "include": "X > 1", "joints": "both"}, "joints='both'"),
    ],
)
def test_a_criterion_is_checked(rule: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Criterion(**rule)  # type: ignore[arg-type]


def test_names_stand_once() -> None:
    rule = Criterion(name="a", include="X > 1")
    with pytest.raises(InputError, match=r"\['a'\] stand twice"):
        DefinitionConfig(criteria=[rule, rule])


RULES = st.lists(
    st.tuples(
        st.sampled_from(
            ["XRKL < 4", "BMI > 30", "WOMKP < 5", "missing(XRKL)", "AGE > 55", "SEX == 1"]
        ),
        st.booleans(),
        st.sampled_from(["subject", "joint"]),
        st.sampled_from(["include", "exclude"]),
    ),
    max_size=5,
)


@settings(max_examples=12, deadline=None)
@given(RULES)
def test_everyone_is_analysed_or_excluded_once(rules: list[tuple[str, bool, str, str]]) -> None:
    criteria = [
        Criterion(name=f"{at}", unit=unit, if_missing=missing,
                  **{"include" if keep else "exclude": condition})  # type: ignore[arg-type]
        for at, (condition, keep, unit, missing) in enumerate(rules)
    ]  # fmt: skip
    found = define(small_cohort(), DefinitionConfig(criteria=criteria))
    flow, everyone = found.flow, found.flow.iloc[0]
    for unit in ("subjects", "joints", "scans"):
        assert everyone[unit] - flow[f"excluded_{unit}"].sum() == flow[unit].iloc[-1]
        left = flow[unit].to_numpy()
        assert (left[:-1] - left[1:] == flow[f"excluded_{unit}"].to_numpy()[1:]).all()
    assert flow["joints"].iloc[-1] == len(found.joints)
    assert flow["scans"].iloc[-1] == len(found.scans)
    gone = found.excluded
    assert not gone[gone["unit"] == "joint"].duplicated("joint_id").any()
    assert not gone[gone["unit"] == "subject"].duplicated("subject_id").any()
    assert set(gone.loc[gone["unit"] == "joint", "joint_id"]).isdisjoint(found.joints["joint_id"])
    assert set(gone.loc[gone["unit"] == "subject", "subject_id"]).isdisjoint(
        found.joints["subject_id"]
    )


def test_no_text_of_the_figure_leaves_its_box() -> None:
    long = "a reason that takes several lines " * 5
    criteria = [
        Criterion(name=f"{long}{at}", include="XRKL < 4 and not (BMI > 40 or SEX == 'Male' and AGE > 99)",
                  if_missing="include")
        for at in range(3)
    ]  # fmt: skip
    found = define(small_cohort(), DefinitionConfig(criteria=criteria))
    figure = flow_figure(found.flow, "$A title$ " * 30)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [patch.get_window_extent() for patch in axes.patches]
    texts = [
        text.get_window_extent()
        for text in axes.texts
        if "\n" in text.get_text() or text.get_text()
    ]
    labels = [box for box in texts if box.width > 0]
    for label in labels[1:]:
        assert any(
            box.x0 <= label.x0 and label.x1 <= box.x1 and box.y0 <= label.y0 and label.y1 <= box.y1
            for box in boxes
        )
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    assert labels[0].x1 <= figure.bbox.x1
    with pytest.raises(InputError, match="no rows"):
        flow_figure(found.flow.iloc[:0])
