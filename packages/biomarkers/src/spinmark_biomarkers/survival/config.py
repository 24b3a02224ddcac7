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
    """

    chains: int = 2
    tune: int = 500
    draws: int = 1000
    target_accept: float = 0.9
    cores: int = 2
    seed: int = 0


@dataclass(kw_only=True)
class PrognoseConfig:
    """Ten-year risk from named sets of covariates, with death competing.

    Args:
        endpoint: Name of the endpoint in the outcomes table.
        horizons_years: Horizons at which predictions are scored.
        intervals: Pieces of the piecewise-constant hazard.
        frailty: Let a person's joints share a gamma frailty.
        embedding_components: Principal components kept of an embedding block.
        embedding_prefix: Columns of a design that start so are an embedding.
        morphometry_components: Principal components kept of a morphometry block.
        morphometry_prefix: Columns of a design that start so are measures of label maps.
        death_covariates: Columns that the model of death uses; those absent are left out.
        reference: The model that others are compared with; the first one where it is absent.
        min_at_risk: A horizon that fewer joints reach is labelled an extrapolation.
        allow_extrapolation: False refuses such a horizon.
        case_control: The joints were sampled by outcome; without weights no absolute risk is given.
        bootstrap: Subject bootstrap draws for every interval.
        level: Coverage of the intervals.
        cif_draws: Posterior draws that the cumulative incidence uses.
        sampler: How the posteriors are drawn.
    """

    endpoint: str = "replacement"
    horizons_years: list[float] = field(default_factory=lambda: [4.0, 8.0, 10.0])
    intervals: int = 6
    frailty: bool = True
    embedding_components: int = 16
    embedding_prefix: str = "embedding_"
    morphometry_components: int = 16
    morphometry_prefix: str = "morphometry_"
    death_covariates: list[str] = field(default_factory=lambda: ["AGE", "SEX", "BMI"])
    reference: str = "clinical"
    min_at_risk: int = 10
    allow_extrapolation: bool = True
    case_control: bool = False
    bootstrap: int = 200
    level: float = 0.95
    cif_draws: int = 200
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
