"""What all Bayesian survival models have in common: from data and priors to draws that have been checked."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator, clone

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import engines
from spinmark_biomarkers.survival.checks import check_finite
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.diagnostics import Diagnostics, diagnose
from spinmark_biomarkers.survival.hazards import Hazard
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS, Family
from spinmark_biomarkers.survival.models.rough import rough_estimate, warn_of_scales
from spinmark_biomarkers.survival.priors import Prior, priors_of_blocks
from spinmark_biomarkers.survival.priors.base import CoefficientPrior, Columns
from spinmark_biomarkers.survival.pymc_models.build import used_arrays
from spinmark_biomarkers.survival.pymc_models.spec import BLOCKS, COLUMNS, Part, Spec, padded, tag
from spinmark_biomarkers.survival.separation import Separation, find_separation

logger = logging.getLogger(__name__)

FRAILTIES = ("auto", "none", "gamma", "lognormal")
PARTS = ("frailty", "interval_censored", "delayed")
ONE_BLOCK = "covariates"


# scikit-learn is untyped.
class SurvivalModel(BaseEstimator, ABC):  # type: ignore[misc]
    """A Bayesian model of the time to one event, drawn from by NUTS.

    Subclasses say which family of hazards it is. `get_params`, `set_params` and scikit-learn's `clone` work.

    Attributes:
        names_: Names of the p covariates.
        blocks_: Names of the covariate blocks.
        frailty_: The frailty that was fitted: `none`, `gamma` or `lognormal`.
        separation_: A direction of the covariates whose effect the data do not bound, so that its size is that
            of the prior; None where there is none.
        posterior_: Draws, named in each subclass; `beta(chain, draw, covariate)` in all of them.
        diagnostics_: Whether the draws can be trusted.
        n_features_in_: The number of covariates p.
    """

    _family: ClassVar[str]
    _accepts_frailty: ClassVar[bool] = True

    # Set by the constructors of the subclasses.
    prior: Prior
    frailty: str | bool
    sampler: SamplerConfig | None
    width: int | None
    always: tuple[str, ...]

    names_: tuple[str, ...]
    blocks_: tuple[str, ...]
    frailty_: str
    separation_: Separation | None
    posterior_: xr.Dataset
    diagnostics_: Diagnostics

    @property
    def family(self) -> Family:
        """The likelihood."""
        return LIKELIHOODS[self._family]

    def fit(self, data: SurvivalData, blocks: Mapping[str, str] | None = None) -> Self:
        """Draw from the posterior.

        Args:
            data: Rows to fit, covariates about standardised.
            blocks: Covariate -> block (such as clinical, structure, embedding); columns of a block share what
                its prior learns. One block by default.

        Returns:
            Itself.

        Raises:
            InputError: For data or settings that cannot be used, such as covariates that are not finite.
        """
        check_finite(data.ids, data.covariates, data.names)
        if not data.event.any():
            raise InputError(
                f"outcomes: no event among {len(data.ids)} rows; at least one is needed to fit"
            )
        spec, arrays = self._prepare(data, blocks)
        warn_of_scales(data)
        self.separation_ = find_separation(data)
        if self.separation_ is not None:
            logger.warning("%s", self.separation_.said(penalised=True))
        drawn, steps = engines.sample(spec, arrays, self.sampler or SamplerConfig())
        self.posterior_ = self._tidy(drawn)
        self._finish(data)
        judged = self.posterior_.drop_vars(self._not_judged, errors="ignore")
        if self.frailty_ == "none":
            judged = judged.drop_vars("frailty_variance", errors="ignore")
        self.diagnostics_ = diagnose(judged, steps=steps)
        logger.info("fit: %s", self.diagnostics_.verdict)
        if self.diagnostics_.advice:
            logger.info("%s is the worst; %s", self.diagnostics_.worst, self.diagnostics_.advice)
        return self

    def prior_draws(
        self,
        data: SurvivalData,
        blocks: Mapping[str, str] | None = None,
        *,
        draws: int = 1000,
        seed: int = 0,
    ) -> xr.Dataset:
        """Draw from the prior, the data deciding no more than covariates, breaks and the crude rate.

        Args:
            data: As for `fit`; its outcomes have no say beyond that.
            blocks: As for `fit`.
            draws: Number of draws.
            seed: Seed of the draws.

        Returns:
            The variables of `posterior_`, with one chain.
        """
        # A copy, so that a fitted model stays what it is.
        copy: Self = clone(self)
        return copy.at_prior(data, blocks, draws=draws, seed=seed).posterior_

    def at_prior(
        self,
        data: SurvivalData,
        blocks: Mapping[str, str] | None = None,
        *,
        draws: int = 1000,
        seed: int = 0,
    ) -> Self:
        """Take draws of the prior for `posterior_`, so that predictions are those of the prior.

        Args:
            data: As for `prior_draws`.
            blocks: As for `fit`.
            draws: Number of draws.
            seed: Seed of the draws.

        Returns:
            Itself, without diagnostics.
        """
        spec, arrays = self._prepare(data, blocks)
        self.posterior_ = self._tidy(engines.prior_draws(spec, arrays, draws=draws, seed=seed))
        return self

    def linear_predictor(self, x: Floats | pd.DataFrame) -> Floats:
        """Posterior mean of the log hazard ratio of each row.

        Args:
            x: Covariates, shape (n, p), or a frame with columns of these names.

        Returns:
            Shape (n,); higher is a higher risk in every family.
        """
        mean = self.posterior_["beta"].mean(("chain", "draw")).to_numpy()
        return np.asarray(self._design(x) @ mean, dtype=np.float64)

    def hazard(self, x: Floats | pd.DataFrame, most: int | None = None) -> Hazard:
        """Posterior draws of the hazard of each row, for predictions.

        Args:
            x: Covariates, shape (n, p), or a frame with columns of these names.
            most: Draws at most, evenly thinned; all by default.

        Returns:
            Draws of the hazard; a gamma frailty stands beside it as `theta`.

        Raises:
            InputError: With a log-normal frailty, which has no closed form to integrate.
        """
        if self.frailty_ == "lognormal":
            raise InputError(
                "frailty: 'lognormal' is a reference for coefficients; predictions accept none or gamma"
            )
        linear = self._draws("beta", most) @ self._design(x).T
        return self._hazard(linear, self._draws("frailty_variance", most), most)

    def subject_log_likelihood(self, data: SurvivalData) -> xr.DataArray:
        """Each person's log-likelihood under every draw, not weighted, for leave-one-subject-out.

        Args:
            data: People with the fitted covariates, those fitted or others.

        Returns:
            `(draw, subject)`, the chains one after another.

        Raises:
            InputError: For other covariates, or with a log-normal frailty.
        """
        if data.names != self.names_:
            raise InputError(
                f"covariates: {', '.join(data.names)}; accepted are {', '.join(self.names_)}"
            )
        if self.frailty_ == "lognormal":
            raise InputError(
                "frailty: 'lognormal' has no closed form; values of subjects accept none or gamma"
            )
        family = self.family
        values = family.subject_log_likelihood(
            family.arrays(data, **self._family_options()),
            self._draws("beta"),
            {name: self._draws(name) for name in family.baseline},
            None if self.frailty_ == "none" else self._draws("frailty_variance"),
        )
        return xr.DataArray(
            values,
            dims=("draw", "subject"),
            coords={"subject": data.subjects.astype(object)},
            name="log_likelihood",
        )

    @abstractmethod
    def _baseline_form(self) -> Any:
        """Return the baseline's prior in canonical form and its number of pieces."""

    @abstractmethod
    def _baseline_arrays(self, data: SurvivalData) -> dict[str, Any]:
        """Return the data that the baseline's prior takes."""

    @abstractmethod
    def _hazard(self, linear: Floats, theta: Floats, most: int | None) -> Hazard:
        """Return the hazards for linear predictors of shape (D, n)."""

    def _family_options(self) -> dict[str, Any]:
        return {}

    def _baseline_dims(self) -> dict[str, tuple[str, ...]]:
        return dict.fromkeys(self.family.baseline, ())

    def _coordinates(self) -> dict[str, Any]:
        return {}

    _not_judged: ClassVar[tuple[str, ...]] = ()

    def _finish(self, data: SurvivalData) -> None:
        """Add what follows from the draws and the data."""

    def _before(self, data: SurvivalData) -> None:
        """Decide what the form of the baseline needs of the data."""

    def _prepare(
        self, data: SurvivalData, blocks: Mapping[str, str] | None
    ) -> tuple[Spec, dict[str, Any]]:
        """Return the form of the model and its data."""
        unknown = sorted(set(self.always) - set(PARTS))
        if unknown:
            raise InputError(f"always: {unknown[0]!r}; accepted are {', '.join(PARTS)}")
        self.names_ = data.names
        self.n_features_in_ = len(data.names)
        of = [(blocks or {}).get(name, ONE_BLOCK) for name in data.names]
        self.blocks_ = tuple(dict.fromkeys(of))
        self._before(data)
        self.frailty_ = self._chosen_frailty(data)
        slots = padded(len(self.blocks_), BLOCKS)
        code = np.array([self.blocks_.index(b) for b in of], dtype=np.int64)
        parts, arrays, order = self._parts(code, slots, data)
        width = sum(part.width for part in parts)
        frailty = self.frailty_
        if "frailty" in self.always and frailty != "lognormal":
            frailty = "switched"
        options = self._family_options()
        # Padded columns stand at the end of each part, so the design is brought into that order.
        x = np.zeros((len(data.ids), width))
        x[:, order] = data.covariates
        self._order = order
        spread = data.with_covariates(x, tuple(str(k) for k in range(width)))
        found = self.family.arrays(spread, width, **options)
        baseline, pieces = self._baseline_form()
        spec = Spec(
            family=self._family,
            parts=parts,
            slots=slots,
            baseline=baseline,
            pieces=pieces,
            interval_censored="interval_censored" in self.always or bool(data.interval.any()),
            delayed="delayed" in self.always or bool((data.start > 0).any()),
            many=frailty in ("gamma", "switched") and len(found.get("many", ())) > 0,
            frailty=frailty,
            subjects=len(data.subjects) if frailty == "lognormal" else 0,
            ties=options.get("ties", ""),
        )
        arrays |= {name: found[name] for name in used_arrays(spec)}
        arrays |= self._baseline_arrays(data)
        if frailty != "none":
            on = float(self.frailty_ != "none")
            scale = float(getattr(self, "frailty_scale", 1.0))
            arrays["spread"] = np.array([scale, on] if frailty == "switched" else [scale])
        return spec, arrays

    def _parts(
        self, code: Any, slots: int, data: SurvivalData
    ) -> tuple[tuple[Part, ...], dict[str, Any], Any]:
        """Return the priors, their data, and the place of every covariate among the padded columns."""
        of_block = priors_of_blocks(self.prior, self.blocks_)
        if isinstance(self.prior, Mapping):
            # A model of fewer blocks may take the priors of more, but a name may also be misspelt.
            for block in [name for name in self.prior if name not in of_block]:
                logger.warning(
                    "prior: no block %r here; there are %s", block, ", ".join(self.blocks_)
                )
        priors: list[CoefficientPrior] = list(dict.fromkeys(of_block.values())) or list(
            priors_of_blocks(self.prior, (ONE_BLOCK,)).values()
        )
        parts: list[Part] = []
        arrays: dict[str, Any] = {}
        estimate, error = rough_estimate(data)
        order = np.zeros(len(code), dtype=np.int64)
        before = 0
        for k, prior in enumerate(priors):
            mine = [b for b, name in enumerate(self.blocks_) if of_block[name] == prior]
            columns = np.flatnonzero(np.isin(code, mine))
            width = padded(len(columns), COLUMNS)
            if self.width is not None and len(priors) == 1:
                width = self.width
            if len(columns) > width:
                raise InputError(
                    f"width: {width} for {len(columns)} covariates; accepted is at least as many"
                )
            order[columns] = before + np.arange(len(columns))
            before += width
            parts.append(Part(prior=prior.canonical(), width=width))
            given = Columns(
                names=tuple(self.names_[c] for c in columns),
                block=code[columns],
                width=width,
                slots=slots,
                events=float(data.event.sum()),
                estimate=estimate[columns],
                error=error[columns],
            )
            arrays |= {f"prior{tag(k)}_{n}": v for n, v in prior.arrays(given).items()}
        return tuple(parts), arrays, order

    def _chosen_frailty(self, data: SurvivalData) -> str:
        """Return the frailty, decided by the data where it is `auto`."""
        asked = self.frailty
        if isinstance(asked, bool):
            asked = "gamma" if asked else "none"
        if asked not in FRAILTIES:
            raise InputError(f"frailty: {self.frailty!r}; accepted are {', '.join(FRAILTIES)}")
        joints = pd.DataFrame({"joint": data.ids.astype(str), "code": data.subject_code})
        pairs = int((joints.drop_duplicates().groupby("code").size() > 1).sum())
        if asked == "auto":
            asked = "gamma" if pairs and self._accepts_frailty else "none"
            logger.info(
                "frailty: %s; %d of %d subjects have two joints and more%s",
                asked,
                pairs,
                len(data.subjects),
                "" if self._accepts_frailty else f" ({self._family} takes none)",
            )
        if asked != "none" and not self._accepts_frailty:
            raise InputError(f"frailty: {asked!r}; accepted with {self._family} is none")
        if asked == "lognormal":
            if (data.start > 0).any():
                raise InputError(
                    "frailty: 'lognormal' with delayed entry; accepted with it are none and gamma"
                )
            if np.ptp(data.weight) > 0 or (len(data.weight) and data.weight[0] != 1):
                raise InputError(
                    "frailty: 'lognormal' with sampling weights; accepted with it are none and gamma"
                )
        return asked

    def _tidy(self, drawn: xr.Dataset) -> xr.Dataset:
        """Draws without padding, under names of dimensions and covariates."""
        chains = ("chain", "draw")
        beta = drawn["beta"].to_numpy()[..., self._order]
        found: dict[str, Any] = {"beta": ((*chains, "covariate"), beta)}
        for name, dims in self._baseline_dims().items():
            found[name] = ((*chains, *dims), drawn[name].to_numpy())
        if self.frailty_ == "lognormal":
            found["frailty_sd"] = (chains, drawn["frailty_sd"].to_numpy())
        else:
            shape = beta.shape[:2]
            on = self.frailty_ == "gamma"
            theta = drawn["frailty_variance"].to_numpy() if on else np.zeros(shape)
            found["frailty_variance"] = (chains, theta)
        coords = {"covariate": np.array(self.names_, dtype=object)} | self._coordinates()
        of_block = priors_of_blocks(self.prior, self.blocks_)
        for k, prior in enumerate(dict.fromkeys(of_block.values())):
            mine = [b for b, name in enumerate(self.blocks_) if of_block[name] == prior]
            for name, dims in prior.kept.items():
                values = drawn[f"{name}{tag(k)}"].to_numpy()
                named = tuple(f"{dim}{tag(k)}" for dim in dims)
                found[f"{name}{tag(k)}"] = (
                    (*chains, *named),
                    values[..., mine] if dims else values,
                )
                if dims:
                    coords[named[0]] = np.array([self.blocks_[b] for b in mine], dtype=object)
        return xr.Dataset(found, coords=coords)

    def _design(self, x: Floats | pd.DataFrame) -> Floats:
        """Return the covariates as an array in the order of the fit."""
        rows: Any = None
        if isinstance(x, pd.DataFrame):
            rows = x.index
            missing = [name for name in self.names_ if name not in x.columns]
            if missing:
                raise InputError(
                    f"covariates: no column {missing[0]!r}; the model was fitted with it"
                )
            x = x[list(self.names_)].to_numpy(dtype=float)
        found = np.asarray(x, dtype=np.float64)
        if found.ndim != 2 or found.shape[1] != len(self.names_):
            raise InputError(
                f"covariates: shape {found.shape}; accepted is (n, {len(self.names_)})"
            )
        named = [f"row {k}" for k in range(len(found))] if rows is None else rows
        check_finite(named, found, self.names_)
        return found

    def _draws(self, name: str, most: int | None = None) -> Floats:
        """Return draws of a variable, chains one after another, evenly thinned."""
        values = self.posterior_[name].transpose("chain", "draw", ...).to_numpy()
        size = values.shape[0] * values.shape[1]
        at = np.linspace(0, size - 1, min(size, most or size)).round().astype(int)
        return np.asarray(values.reshape(size, *values.shape[2:])[at], dtype=np.float64)
