import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import PrognoseConfig, SamplerConfig
from spinmark_biomarkers.survival.settings import check_settings, main_years, primary_years


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"likelihood": "nonsense"}, "likelihood: 'nonsense'; accepted are piecewise, weibull"),
        ({"baseline": "flat"}, "baseline: 'flat'; accepted are random_walk, spline"),
        ({"prior": "lasso"}, "prior: 'lasso'; accepted are normal, r2d2, horseshoe, monotone"),
        ({"priors": {"kl": "normal"}}, "priors: no block is called 'kl'; accepted are clinical"),
        ({"priors": {"clinical": "lasso"}}, "priors: clinical: 'lasso'; accepted are normal"),
        ({"sampler": SamplerConfig(engine="stan")}, "engine: 'stan'; accepted are auto, nutpie"),
        ({"imputations": 1}, "imputations: 1; accepted are 0, or 2 and more"),
        ({"imputations": -1}, "imputations: -1; accepted"),
        ({"intervals": 0}, "intervals: 0; accepted is at least 1"),
        ({"bootstrap": 0}, "bootstrap: 0; accepted is at least 1"),
        ({"min_events": 1}, "min_events: 1; accepted is at least 2"),
        ({"level": 95.0}, "level: 95; accepted is above 0 and below 1"),
        ({"thresholds": [0.1, 10.0]}, "thresholds: 10; accepted are risks"),
        ({"horizons_years": []}, "horizons_years: none; accepted are increasing years above 0"),
        ({"horizons_years": [0.0, 8.0]}, "horizons_years: 0, 8; accepted"),
        ({"horizons_years": [8.0, 4.0]}, "horizons_years: 8, 4; accepted"),
        ({"horizons_years": [float("nan")]}, "horizons_years: nan; accepted"),
        ({"primary_years": [4.0, 7.0]}, "primary_years: 7; accepted are among horizons_years: 4, 8"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_a_line(changed, told):
    with pytest.raises(InputError) as caught:
        check_settings(PrognoseConfig(**changed))
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_the_default_settings_are_accepted():
    check_settings(PrognoseConfig())


@pytest.mark.parametrize(
    ("horizons", "primary", "named", "main"),
    [
        ([4.0, 8.0, 9.0, 10.0], None, [4.0, 8.0, 9.0], 8.0),
        # Of the default primary horizons, those that are asked for.
        ([4.0, 9.0, 12.0], None, [4.0, 9.0], 9.0),
        ([5.0, 8.5], None, [], 8.5),
        ([4.0, 8.0, 12.0], [12.0], [12.0], 12.0),
        ([4.0, 8.0, 12.0], [], [], 8.0),
    ],
)
def test_the_main_horizon_is_one_that_is_scored(horizons, primary, named, main):
    more = {} if primary is None else {"primary_years": primary}
    config = PrognoseConfig(horizons_years=horizons, **more)
    check_settings(config)
    assert primary_years(config) == named
    assert main_years(config) == main
