"""Settings of the survival stage; imports nothing heavy."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class SamplerConfig:
    """How the posterior is drawn.

    Args:
        chains: Number of chains.
        tune: Warm-up steps of each chain.
        draws: Kept steps of each chain.
        target_accept: Acceptance that the step size is tuned to; higher steps more carefully.
        cores: Chains run side by side; the draws do not depend on it.
        seed: Seed of the chains.
        engine: `auto`, `nutpie`, `pymc` or `numpyro`; `auto` is nutpie where numba is installed, else
            PyMC's own.
        max_depth: A trajectory has at most 2 to this power steps.
    """

    chains: int = 2
    tune: int = 500
    draws: int = 1000
    target_accept: float = 0.9
    cores: int = 2
    seed: int = 0
    engine: str = "auto"
    max_depth: int = 10


@dataclass(kw_only=True)
class PrognoseConfig:
    """Ten-year risk from named sets of covariates, with death competing.

    Args:
        endpoint: Name of the endpoint in the outcomes table.
        horizons_years: Horizons at which predictions are scored.
        primary_years: Those among them that a conclusion may rest on, named before any figure is seen.
        likelihood: `piecewise`, `weibull`, `lognormal`, `loglogistic` or `cox`.
        baseline: Prior of the piecewise hazard: `random_walk`, `spline` or `independent`.
        intervals: Pieces of the piecewise-constant hazard.
        frailty: Let a person's joints share a gamma frailty; `cox` takes none.
        prior: Prior of the coefficients: `normal`, `r2d2`, `horseshoe` or `monotone`.
        priors: Block -> prior, for those that take another.
        imputations: Data sets in which missing covariates are drawn, from what the fitting subjects taught;
            0 takes the median and an indicator.
        embedding_components: Principal components kept of an embedding block.
        embedding_prefix: Columns of a design that start so are an embedding.
        morphometry_components: Principal components kept of a morphometry block.
        morphometry_prefix: Columns of a design that start so are measures of label maps.
        death_covariates: Columns that the model of death uses; those absent are left out.
        reference: The model that others are compared with; the first one where it is absent.
        thresholds: Risks at which one would act, for the net benefit.
        min_events: A group of people with fewer events gets no figure, and no model is called better or worse.
        min_at_risk: A horizon that fewer joints reach is labelled an extrapolation.
        allow_extrapolation: False refuses such a horizon.
        case_control: The joints were sampled by outcome; without weights no absolute risk is given.
        bootstrap: Subject bootstrap draws for every interval.
        level: Coverage of the intervals.
        cif_draws: Posterior draws that the cumulative incidence uses.
        retry: Draw a posterior that is not judged good once more, with smaller steps and twice the draws.
        sampler: How the posteriors are drawn.
    """

    endpoint: str = "replacement"
    horizons_years: list[float] = field(default_factory=lambda: [4.0, 8.0, 9.0, 10.0])
    primary_years: list[float] = field(default_factory=lambda: [4.0, 8.0, 9.0])
    likelihood: str = "piecewise"
    baseline: str = "random_walk"
    intervals: int = 6
    frailty: bool = True
    prior: str = "normal"
    priors: dict[str, str] = field(default_factory=dict)
    imputations: int = 0
    embedding_components: int = 16
    embedding_prefix: str = "embedding_"
    morphometry_components: int = 16
    morphometry_prefix: str = "morphometry_"
    death_covariates: list[str] = field(default_factory=lambda: ["AGE", "SEX", "BMI"])
    reference: str = "clinical"
    thresholds: list[float] = field(default_factory=lambda: [0.05, 0.1, 0.2])
    min_events: int = 10
    min_at_risk: int = 10
    allow_extrapolation: bool = True
    case_control: bool = False
    bootstrap: int = 200
    level: float = 0.95
    cif_draws: int = 200
    retry: bool = True
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
