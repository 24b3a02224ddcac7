"""Terms beside an objective: their values, their weights, and what they unlearn."""

import math

import pytest
import torch
from torch.nn import functional as F

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.losses.adversarial import reversal_strength
from spinmark_models.losses.independence import DomainGiven, conditional_independence
from spinmark_models.losses.koleo import koleo
from spinmark_models.losses.registry import get_loss
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.nuisance_terms import Adversary, one_row_a_subject
from spinmark_training.objectives.spread_terms import AGREEMENTS
from spinmark_training.objectives.terms import TERMS, WithTerms
from spinmark_training.side_information import SideInformation

from .embedded_batch import batch_of, build, embeddings, joint_batch, known_of
from .tabled_world import SEQUENCE, write_tabled


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Cohort, Split]]:
    folder = tmp_path_factory.mktemp("worlds")
    return [write_tabled(folder / "plain"), write_tabled(folder / "spoilt", spoil=True)]


@pytest.fixture(scope="module")
def known(worlds: list[tuple[Cohort, Split]]) -> SideInformation:
    return known_of(worlds[0], SEQUENCE)


def test_terms_are_added_by_their_weights(known: SideInformation) -> None:
    weights = {"koleo": 0.3, "cka": 2.0}
    plain = build(ObjectiveConfig(name="nt_xent"), known)
    objective = build(ObjectiveConfig(name="nt_xent", terms=weights), known)
    assert isinstance(objective, WithTerms)
    objective.objective.load_state_dict(plain.state_dict())
    batch = joint_batch(known)
    student = embeddings(batch)
    scored, alone = objective(student, None, batch), plain(student, None, batch)
    added = sum(weight * scored.figures[f"loss_{name}"] for name, weight in weights.items())
    assert scored.loss.item() == pytest.approx((alone.loss + added).item(), rel=1e-6)
    assert float(scored.figures["loss_ssl"]) == pytest.approx(alone.loss.item())
    assert scored.figures["chance"] == alone.figures["chance"]
    assert not any(
        value.requires_grad for value in scored.figures.values() if isinstance(value, torch.Tensor)
    )


def test_without_terms_an_objective_stays_what_it_is(known: SideInformation) -> None:
    assert not isinstance(build(ObjectiveConfig(name="nt_xent"), known), WithTerms)


def test_koleo_is_the_librarys_of_each_view(known: SideInformation) -> None:
    batch = joint_batch(known)
    student = embeddings(batch)
    objective = build(ObjectiveConfig(terms={"koleo": 1.0}), known)
    found = objective(student, None, batch).figures["loss_koleo"]
    first, second = student.whole.detach().chunk(2)
    expected = (koleo(first, batch.subject) + koleo(second, batch.subject)) / 2
    assert float(found) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", AGREEMENTS)
def test_agreement_is_the_librarys_both_ways_and_none_of_equal_views(
    name: str, known: SideInformation
) -> None:
    batch = joint_batch(known)
    student = embeddings(batch)
    objective = build(ObjectiveConfig(terms={name: 1.0}), known)
    found = objective(student, None, batch).figures[f"loss_{name}"]
    first, second = student.whole.detach().chunk(2)
    loss = get_loss(name)
    expected = (loss(first, second) + loss(second, first)) / 2
    assert float(found) == pytest.approx(expected.item(), rel=1e-5)
    same = student._replace(whole=first.repeat(2, 1))
    alike = objective(same, None, batch).figures[f"loss_{name}"]
    assert float(alike) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("severity", [None, "XRKL", "WOMKP"])
def test_the_adversary_is_a_cross_entropy_and_its_gradient_comes_back_reversed(
    severity: str | None, known: SideInformation
) -> None:
    config = ObjectiveConfig(terms={"domain_adversarial": 1.0}, severity=severity)
    objective = build(config, known)
    assert isinstance(objective, WithTerms)
    term = objective.terms["domain_adversarial"]
    assert isinstance(term, Adversary)
    assert objective.uses == (("SITE",) if severity is None else ("SITE", severity))
    batch = joint_batch(known)
    rows = torch.cat([batch.first, batch.second])
    codes = known.codes("SITE")[0][rows]
    columns = [embeddings(batch).whole.detach().requires_grad_()]
    if severity == "XRKL":
        grades, levels = known.codes("XRKL")
        codes = torch.where(grades[rows] >= 0, codes, -1)
        columns.append(F.one_hot(grades[rows].clamp_min(0), levels) * (grades[rows] >= 0)[:, None])
    if severity == "WOMKP":
        pain = known.numbers(("WOMKP",))[:, 0]
        seen = pain[~pain.isnan()]
        pain = (pain - seen.mean()) / seen.std(correction=0)
        codes = torch.where(pain[rows].isnan(), -1, codes)
        columns.append(pain[rows].nan_to_num(0)[:, None].float())
    expected = F.cross_entropy(term.classifier(torch.cat(columns, 1)), codes, ignore_index=-1)
    expected.backward()
    assert columns[0].grad is not None
    for progress in (0.0, 0.4):
        objective.before_step(progress)
        student = embeddings(batch)
        value = term(student, batch)
        value.backward()
        assert float(value.detach()) == pytest.approx(expected.item(), rel=1e-5)
        assert student.whole.grad is not None
        reversed_ = -reversal_strength(progress) * columns[0].grad
        torch.testing.assert_close(student.whole.grad, reversed_, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("severity", ["XRKL", "WOMKP"])
def test_independence_is_the_librarys_with_an_expectation_of_one_row_a_subject(
    severity: str, known: SideInformation
) -> None:
    batch = joint_batch(known)
    student = embeddings(batch)
    config = ObjectiveConfig(terms={"conditional_independence": 100.0}, severity=severity)
    found = build(config, known)(student, None, batch).figures["loss_conditional_independence"]
    sites, domains = known.codes("SITE")
    if severity == "XRKL":
        given = known.codes("XRKL")[0]
        usable = given >= 0
    else:
        given = known.numbers(("WOMKP",))[:, 0]
        seen = given[~given.isnan()]
        given = (given - seen.mean()) / seen.std(correction=0)
        usable = ~given.isnan()
        given = given.nan_to_num(0)
    subjects = known.subjects()
    rows = [
        int(torch.nonzero((subjects == number) & usable)[0, 0])
        for number in range(int(subjects.max()) + 1)
    ]
    expectation = DomainGiven(sites[rows], given[rows], domains)
    residual = expectation.residual(torch.where(usable, sites, -1), given)
    width = float(expectation.bandwidth) if severity == "WOMKP" else None
    values = [
        conditional_independence(half, residual[at].float(), given[at], given_bandwidth=width)
        for half, at in zip(
            student.whole.detach().chunk(2), (batch.first, batch.second), strict=True
        )
    ]
    assert float(found) == pytest.approx(float(sum(values)) / 2, rel=1e-4, abs=1e-8)


def test_independence_without_severity_sees_a_site_that_is_plain(known: SideInformation) -> None:
    batch = joint_batch(known, subjects=8)
    objective = build(ObjectiveConfig(terms={"conditional_independence": 1.0}), known)
    sites = known.codes("SITE")[0][torch.cat([batch.first, batch.second])]
    plain = embeddings(batch)
    told = plain._replace(whole=plain.whole.detach() + 5 * F.one_hot(sites, 8).float())
    name = "loss_conditional_independence"
    seen = float(objective(told, None, batch).figures[name])
    unseen = float(objective(plain, None, batch).figures[name])
    assert seen > 0
    assert seen > 3 * abs(unseen)


@pytest.mark.parametrize("name", ["domain_adversarial", "conditional_independence"])
def test_nothing_that_is_known_of_held_out_subjects_is_kept(
    name: str, worlds: list[tuple[Cohort, Split]]
) -> None:
    for severity in ("XRKL", "WOMKP"):
        config = ObjectiveConfig(terms={name: 1.0}, severity=severity)
        plain, spoilt = (build(config, known_of(each, SEQUENCE)) for each in worlds)
        for (_, one), (_, other) in zip(plain.named_buffers(), spoilt.named_buffers(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        assert not any(
            key.endswith((".codes", ".given", ".residual")) for key in plain.state_dict()
        )


@pytest.mark.parametrize("name", TERMS)
def test_every_term_gives_a_number_where_nothing_is_known(
    name: str, known: SideInformation
) -> None:
    objective = build(ObjectiveConfig(terms={name: 1.0}), known)
    for key, buffer in objective.terms.named_buffers():  # type: ignore[union-attr, operator]
        buffer.fill_(-1 if key.endswith("codes") else 0)
    batch = joint_batch(known)
    scored = objective(embeddings(batch), None, batch)
    scored.loss.backward()
    assert math.isfinite(scored.loss.item())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ObjectiveConfig(terms={"site": 1.0}), r"objective.terms: 'site'; accepted are \['cka'"),
        (ObjectiveConfig(terms={"koleo": 0.0}), r"objective.terms.koleo: 0.0; accepted are"),
        (ObjectiveConfig(terms={"koleo": math.nan}), r"objective.terms.koleo: nan; accepted"),
        (
            ObjectiveConfig(terms={"domain_adversarial": 1.0}, nuisance="COIL"),
            "objective.nuisance: no table of the cohort has 'COIL'",
        ),
        (
            ObjectiveConfig(terms={"domain_adversarial": 1.0}, severity="XRPROSTH"),
            "objective.severity: XRPROSTH has the role outcome",
        ),
        (
            ObjectiveConfig(terms={"conditional_independence": 1.0}, severity="symptom"),
            "objective.severity: 'symptom'; no table",
        ),
        (
            ObjectiveConfig(terms={"koleo": 1.0}, severity="WOMKP"),
            "objective.severity: 'WOMKP'; only the terms domain_adversarial and conditional",
        ),
    ],
)
def test_terms_that_cannot_be_are_refused_in_one_line(
    config: ObjectiveConfig, message: str, known: SideInformation
) -> None:
    with pytest.raises(InputError, match=message) as error:
        build(config, known)
    assert "\n" not in str(error.value)


def test_one_row_stands_for_each_subject() -> None:
    subject = torch.tensor([1, -1, 0, 0, 1, 2])
    usable = torch.tensor([False, True, True, True, True, False])
    assert one_row_a_subject(subject, usable).tolist() == [2, 4]


@pytest.mark.parametrize("name", sorted(set(TERMS) - {"koleo", "domain_adversarial"}))
def test_a_batch_too_small_for_a_term_leaves_it_out(name: str, known: SideInformation) -> None:
    objective = build(ObjectiveConfig(terms={name: 1.0}), known)
    row = int(known.rows[0])
    batch = batch_of([row, row + 3], [row, row + 3], [0, 0])
    scored = objective(embeddings(batch), None, batch)
    assert float(scored.figures[f"loss_{name}"]) == 0
    scored.loss.backward()
