"""Nuisance control: exact reversal, and a penalty that knows independence from dependence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.adversarial import (
    DomainClassifier,
    GradientReversal,
    domain_adversarial,
    reversal_strength,
    reverse_gradient,
)
from spinmark_models.losses.core.hsic import centred_product, u_centred
from spinmark_models.losses.independence import DomainGiven, conditional_independence

SITES = 3


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Gradient reversal.


@settings(deadline=None, max_examples=20)
@given(strength=st.floats(0, 10), seed=st.integers(0, 1000))
def test_the_reversed_gradient_is_exactly_minus_strength_times_the_plain_one(
    strength: float, seed: int
) -> None:
    def cube(x: Tensor) -> Tensor:
        return (x**3).sum()

    x = draw(4, 3, seed).requires_grad_()
    (plain,) = torch.autograd.grad(cube(x), x)
    (turned,) = torch.autograd.grad(cube(reverse_gradient(x, strength)), x)
    assert torch.equal(turned, -strength * plain)
    assert torch.equal(reverse_gradient(x, strength), x)


def test_the_layer_reverses_by_its_present_strength() -> None:
    layer = GradientReversal()
    x = draw(4, 3).requires_grad_()
    for strength in (0.0, 0.5, 2.0):
        layer.strength = strength
        (turned,) = torch.autograd.grad(layer(x).sum(), x)
        assert torch.equal(turned, torch.full_like(x, -strength))


def test_the_strength_rises_from_zero_to_almost_one() -> None:
    values = [reversal_strength(k / 50) for k in range(51)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[50] == pytest.approx(math.tanh(5))
    assert reversal_strength(0.3, gamma=0) == 0


def test_the_loss_is_the_cross_entropy_of_known_codes_and_turns_only_at_the_embedding() -> None:
    z, codes = draw(6, 4).requires_grad_(), torch.tensor([0, 2, -1, 1, -3, 2])
    layer = nn.Linear(4, SITES).double()
    loss = domain_adversarial(z, codes, layer, 0.7)
    by_z, by_weight = torch.autograd.grad(loss, (z, layer.weight))
    total = 0.0
    for row, code in zip(layer(z).tolist(), codes.tolist(), strict=True):
        if code >= 0:
            total -= row[code] - math.log(sum(math.exp(v) for v in row))
    assert float(loss.detach()) == pytest.approx(total / 4, rel=1e-12)
    known = codes >= 0
    plain = F.cross_entropy(layer(z)[known], codes[known])
    expected_z, expected_weight = torch.autograd.grad(plain, (z, layer.weight))
    torch.testing.assert_close(by_z, -0.7 * expected_z)
    torch.testing.assert_close(by_weight, expected_weight)


def test_no_known_code_is_answered_with_zero() -> None:
    z = draw(4, 3).requires_grad_()
    layer = nn.Linear(3, SITES).double()
    loss = domain_adversarial(z, torch.full((4,), -1), layer)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_the_condition_reaches_the_classifier_and_is_not_reversed() -> None:
    z, given_ng = draw(6, 4).float(), F.one_hot(torch.arange(6) % 2, 2)
    classifier = DomainClassifier(4 + 2, SITES, hidden=8)
    codes = torch.arange(6) % SITES
    loss = domain_adversarial(z, codes, classifier, given_NG=given_ng)
    together = torch.cat([z, given_ng.float()], dim=1)
    torch.testing.assert_close(loss, F.cross_entropy(classifier(together), codes))
    for call, words in (
        (lambda: domain_adversarial(z, codes, classifier, given_NG=given_ng[:3]), "given has"),
        (lambda: domain_adversarial(z, codes, classifier, -1.0), "strength is -1"),
        (lambda: domain_adversarial(z, codes[:2], classifier), "codes has shape"),
        (lambda: DomainClassifier(3, 1), "domains is 1"),
        (lambda: reversal_strength(1.5), r"progress is 1\.5"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def descend(loss: Tensor, leaves: list[Tensor], rate: float) -> None:
    """One step of plain gradient descent."""
    for leaf, slope in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
        leaf.data.sub_(rate * slope)


def test_training_against_the_classifier_hides_the_site_and_keeps_the_rest() -> None:
    g = torch.Generator().manual_seed(0)
    codes = torch.arange(200) % 2
    x = torch.randn(200, 2, generator=g) * torch.tensor([1.0, 0.3])
    x[:, 1] += 2 * codes - 1
    # The second column helps the task, and gives the site away.
    target = x[:, 0] + 0.3 * x[:, 1]
    found = {}
    for strength in (0.0, 10.0):
        weight = torch.zeros(2, 1, requires_grad=True)
        classifier = nn.Linear(1, 2)
        nn.init.zeros_(classifier.weight)
        for _ in range(300):
            z = x @ weight
            loss = F.mse_loss(z[:, 0], target)
            descend(
                loss + domain_adversarial(z, codes, classifier, strength),
                [weight, *classifier.parameters()],
                0.1,
            )
        found[strength] = weight.detach()[:, 0].tolist()
    assert found[0.0] == pytest.approx([1, 0.3], abs=1e-3)
    assert found[10.0][0] > 0.9
    assert abs(found[10.0][1]) < 0.1


# Conditional independence.


def shares_of_sites(grade: Tensor) -> Tensor:
    """The true probability of each site for a grade from 0 to 4: sites see different patients."""
    logits = torch.stack([-grade, 0 * grade, grade - 3], dim=1).double()
    return torch.softmax(logits, dim=1)


def simulate(n: int, seed: int, shift: float) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings that follow the grade, and the site besides if `shift` is not 0."""
    g = torch.Generator().manual_seed(seed)
    grade = torch.randint(0, 5, (n,), generator=g)
    site = torch.multinomial(shares_of_sites(grade), 1, generator=g)[:, 0]
    z = torch.randn(n, 3, generator=g, dtype=torch.float64)
    z[:, 0] += grade
    z[:, 1] += shift * site
    return z, site, grade


def residual(site: Tensor, grade: Tensor) -> Tensor:
    return F.one_hot(site, SITES) - shares_of_sites(grade)


def penalty_by_hand(z: Tensor, r: Tensor, grade: Tensor, bandwidth: float) -> float:
    """Song's formula on kernels made pair by pair."""
    n = len(z)
    k, m = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                d2 = float(((z[i] - z[j]) ** 2).sum())
                k[i, j] = math.exp(-d2 / (2 * bandwidth**2))
                m[i, j] = float(r[i] @ r[j]) * bool(grade[i] == grade[j])
    one = np.ones(n)
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((total - 2 * (one @ k @ m @ one) / (n - 2)) / (n * (n - 3)))


def test_the_penalty_equals_brute_force() -> None:
    z, site, grade = simulate(12, 0, 1.0)
    r = residual(site, grade)
    got = conditional_independence(z, r, grade, bandwidth=1.3)
    assert float(got) == pytest.approx(penalty_by_hand(z, r, grade, 1.3), rel=1e-9)
    none = conditional_independence(z, r, bandwidth=1.3)
    expected = penalty_by_hand(z, r, torch.zeros_like(grade), 1.3)
    assert float(none) == pytest.approx(expected, rel=1e-9)


def test_its_gradient_equals_finite_differences_for_grades_and_for_numbers() -> None:
    z, site, grade = simulate(8, 1, 1.0)
    r = residual(site, grade)
    z.requires_grad_()
    for given_n in (grade, draw(8, 1)[:, 0], draw(8, 2), None):
        assert torch.autograd.gradcheck(
            lambda x, y=given_n: conditional_independence(
                x, r, y, bandwidth=1.5, given_bandwidth=0.8
            ),
            (z,),
        )


def test_the_median_rule_makes_it_indifferent_to_scale() -> None:
    z, site, grade = simulate(20, 2, 1.0)
    r = residual(site, grade)
    one = conditional_independence(z, r, grade)
    torch.testing.assert_close(conditional_independence(40 * z + 3, r, grade), one)


@pytest.mark.parametrize("n", [8, 40])
def test_it_is_zero_on_average_in_batches_of_any_size_exactly_when_independent(n: int) -> None:
    means = {}
    for shift in (0.0, 2.0):
        values = []
        for seed in range(200):
            z, site, grade = simulate(n, seed, shift)
            r = residual(site, grade)
            values.append(float(conditional_independence(z, r, grade, bandwidth=2.0)))
        means[shift] = (np.mean(values), np.std(values, ddof=1) / math.sqrt(200))
    assert abs(means[0.0][0]) < 3.5 * means[0.0][1]
    assert means[2.0][0] > 4 * means[2.0][1]


def rank_among_permutations(z: Tensor, site: Tensor, grade: Tensor, seed: int, condition: bool):  # type: ignore[no-untyped-def]
    """The p value of the penalty among those with sites exchanged within each grade."""
    rng = np.random.default_rng(seed)
    sites = [site]
    for _ in range(19):
        other = site.clone()
        for value in range(5):
            place = torch.nonzero(grade == value)[:, 0]
            other[place] = site[place[torch.from_numpy(rng.permutation(len(place)))]]
        sites.append(other)
    found = []
    for s in sites:
        if condition:
            found.append(float(conditional_independence(z, residual(s, grade), grade)))
        else:
            found.append(float(conditional_independence(z, F.one_hot(s, SITES))))
    return sum(v >= found[0] for v in found) / len(found)


def test_calibrated_by_permutation_it_finds_dependence_and_no_more() -> None:
    null = [rank_among_permutations(*simulate(60, k, 0.0), k, True) for k in range(50)]
    power = [rank_among_permutations(*simulate(60, k, 2.0), k, True) for k in range(10)]
    # Of 50 tests at the level of 0.1, 5 are expected; 13 or more happen less than once in a thousand.
    assert sum(p <= 0.1 for p in null) < 13
    assert 0.35 < np.mean(null) < 0.7
    assert sum(p <= 0.1 for p in power) >= 9


def test_it_sees_what_no_linear_measure_would() -> None:
    # The site is in the size of the embedding's noise and not in its mean.
    z, site, grade = simulate(400, 0, 0.0)
    z[:, 1] *= 1 + 3 * site
    assert rank_among_permutations(z, site, grade, 0, True) <= 0.05
    r = residual(site, grade)
    linear = centred_product(u_centred(z @ z.T), u_centred(r @ r.T * (grade[:, None] == grade)))
    assert float(linear) < 0.1 * float(z.var()) ** 2


def test_without_the_condition_severity_itself_would_be_punished() -> None:
    # The embedding knows the site only through the grade.
    plain, conditional = [], []
    for seed in range(30):
        z, site, grade = simulate(60, seed, 0.0)
        plain.append(float(conditional_independence(z, F.one_hot(site, SITES))))
        conditional.append(float(conditional_independence(z, residual(site, grade), grade)))
    assert np.mean(plain) > 10 * abs(np.mean(conditional))
    assert np.mean(plain) > 5 * np.std(plain, ddof=1) / math.sqrt(30)


def test_descending_it_removes_the_site_and_keeps_severity() -> None:
    g = torch.Generator().manual_seed(5)
    grade = torch.randint(0, 5, (300,), generator=g)
    site = torch.multinomial(shares_of_sites(grade), 1, generator=g)[:, 0]
    noise = torch.randn(300, 2, generator=g, dtype=torch.float64)
    x = torch.stack([grade + 0.5 * noise[:, 0], site + 0.3 * noise[:, 1]], dim=1)
    r = residual(site, grade)
    weight = torch.tensor([[1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    start = float(conditional_independence(x @ weight.detach().T, r, grade))
    for _ in range(60):
        z = x @ F.normalize(weight, dim=1).T
        descend(conditional_independence(z, r, grade), [weight], 100.0)
    assert float(conditional_independence(x @ weight.detach().T, r, grade)) < 0.1 * start
    toward_grade, toward_site = weight.detach()[0].abs().tolist()
    assert toward_site < 0.25 * toward_grade


# What severity tells of the site.


def test_for_grades_the_expected_site_is_the_shrunk_share_of_the_grade() -> None:
    _, site, grade = simulate(400, 3, 0.0)
    model = DomainGiven(site, grade, SITES)
    overall = F.one_hot(site, SITES).double().mean(dim=0)
    found = model(torch.arange(5))
    ridges = []
    for value in range(5):
        of_grade = F.one_hot(site[grade == value], SITES).double()
        n, mean = len(of_grade), of_grade.mean(dim=0)
        # (n mean + ridge overall) / (n + ridge), for one ridge that all grades share.
        weight = ((found[value] - overall) / (mean - overall)).mean()
        torch.testing.assert_close(found[value], weight * mean + (1 - weight) * overall)
        ridges.append(float(n / weight - n))
    np.testing.assert_allclose(ridges, ridges[0], rtol=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(found, shares_of_sites(torch.arange(5)), atol=0.15, rtol=0)


def test_the_ridge_has_the_least_error_of_leaving_one_out() -> None:
    n = 40
    severity = draw(n, 1)[:, 0]
    site = (severity + draw(n, 1, 1)[:, 0] > 0).long()
    model = DomainGiven(site, severity, 2, bandwidth=0.7)
    k = np.exp(-((severity[:, None] - severity[None, :]) ** 2).numpy() / (2 * 0.7**2))
    target = F.one_hot(site, 2).double().numpy()
    target = target - target.mean(axis=0)
    errors = {}
    for ridge in np.logspace(-3, 3, 13):
        errors[ridge] = 0.0
        for i in range(n):
            rest = [j for j in range(n) if j != i]
            weights = np.linalg.solve(k[np.ix_(rest, rest)] + ridge * np.eye(n - 1), target[rest])
            errors[ridge] += float(((target[i] - k[i, rest] @ weights) ** 2).sum())
    best = min(errors, key=errors.__getitem__)
    expected = np.linalg.solve(k + best * np.eye(n), target)
    np.testing.assert_allclose(model.weights.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_for_numbers_it_approaches_the_true_shares() -> None:
    g = torch.Generator().manual_seed(0)
    severity = 4 * torch.rand(500, generator=g, dtype=torch.float64)
    site = torch.multinomial(shares_of_sites(severity), 1, generator=g)[:, 0]
    model = DomainGiven(site, severity, SITES)
    grid = torch.linspace(0.3, 3.7, 20, dtype=torch.float64)
    torch.testing.assert_close(model(grid), shares_of_sites(grid), atol=0.15, rtol=0)
    again = DomainGiven(site, severity, SITES)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(grid), model(grid))


def test_a_fitted_expectation_serves_the_penalty_as_the_true_one_does() -> None:
    z, site, grade = simulate(800, 7, 0.0)
    model = DomainGiven(site, grade, SITES)
    values = []
    for seed in range(100):
        z, site, grade = simulate(30, 1000 + seed, 0.0)
        r = model.residual(site, grade)
        values.append(float(conditional_independence(z, r, grade, bandwidth=2.0)))
    assert abs(np.mean(values)) < 3.5 * np.std(values, ddof=1) / math.sqrt(100)


def test_unknown_sites_leave_no_residual_and_wrong_ones_are_refused() -> None:
    _, site, grade = simulate(50, 4, 0.0)
    model = DomainGiven(site, grade, SITES)
    codes = torch.tensor([-1, 1, -1])
    r = model.residual(codes, grade[:3])
    assert torch.equal(r[[0, 2]], torch.zeros(2, SITES, dtype=torch.float64))
    assert bool((r[1] != 0).all())
    z = draw(50, 2)
    for call, words in (
        (lambda: DomainGiven(site, grade[:5], SITES), "equally many"),
        (lambda: DomainGiven(site, grade, 2), "codes run from 0 to 2; use 0 to 1"),
        (lambda: model.residual(torch.tensor([3]), grade[:1]), "codes reach 3"),
        (lambda: model.residual(codes, grade[:2]), "codes has shape"),
        (lambda: conditional_independence(z, draw(50, 3), grade[:5]), "given has 5"),
        (lambda: conditional_independence(z, draw(50, 3), bandwidth=0), "bandwidth is 0"),
        (lambda: conditional_independence(z[:3], draw(3, 3)), "at least 4"),
        (lambda: conditional_independence(z, draw(50, 3), grade[:, None]), "one a row"),
    ):
        with pytest.raises(InputError, match=words):
            call()
