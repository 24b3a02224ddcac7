"""What every likelihood offers, whatever its baseline."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from spinmark_biomarkers.survival.data import Floats, SurvivalData


class Family(ABC):
    """A family of hazards, in which a higher x @ beta is a higher risk.

    `arrays` reduces the data once to what the likelihood needs, `used` names those that the compiled function
    takes, `tensor_log_likelihood` is that function, `log_likelihood` its twin in NumPy, and
    `subject_log_likelihood` each person's part for many draws.

    Attributes:
        name: Its name in `LIKELIHOODS`.
        baseline: Names of the parameters of its baseline hazard.
        accepts_intervals: Whether events may be interval-censored.
        accepts_frailty: Whether a gamma frailty can be integrated out.
    """

    name: str
    baseline: tuple[str, ...]
    accepts_intervals: bool = True
    accepts_frailty: bool = True

    @abstractmethod
    def arrays(
        self,
        data: SurvivalData,
        width: int | None = None,
        *,
        breaks: Floats | None = None,
        ties: str = "efron",
    ) -> dict[str, Any]:
        """Reduce the data to what the likelihood needs.

        Args:
            data: Rows to fit.
            width: Number of columns that covariates are padded to with zeros; as many as there are by default.
            breaks: Left ends of the pieces in years, the first 0, for the piecewise family.
            ties: `efron` or `breslow`, for the Cox family.

        Returns:
            Arrays by name, of float64 or int64; subjects in the order of `data.subjects`.

        Raises:
            InputError: For data that the family cannot take.
        """

    @abstractmethod
    def used(
        self,
        *,
        interval_censored: bool = False,
        delayed: bool = False,
        frailty: bool = True,
        many: bool = False,
    ) -> tuple[str, ...]:
        """Names of the arrays that `tensor_log_likelihood` takes with the same flags."""

    @abstractmethod
    def tensor_log_likelihood(
        self,
        d: dict[str, Any],
        beta: Any,
        baseline: dict[str, Any],
        theta: Any = None,
        *,
        interval_censored: bool = False,
        delayed: bool = False,
        many: bool = False,
    ) -> Any:
        """Log-likelihood as a PyTensor expression.

        Args:
            d: The arrays named by `used`, as PyTensor variables.
            beta: Log hazard ratios, (width,).
            baseline: The parameters named by `self.baseline`.
            theta: Frailty variance, positive; None leaves the frailty out.
            interval_censored: Whether any event may be interval-censored; the terms are left out otherwise.
            delayed: Whether any row may start after 0.
            many: Whether a person may have three or more interval-censored events and a frailty.

        Returns:
            A scalar.
        """

    @abstractmethod
    def log_likelihood(
        self,
        arrays: dict[str, Any],
        beta: Floats,
        baseline: dict[str, Any],
        theta: float | None = None,
    ) -> float:
        """Log-likelihood in NumPy, weighted by subject; the twin of `tensor_log_likelihood`.

        Args:
            arrays: From `arrays`.
            beta: Log hazard ratios, (p,).
            baseline: The parameters named by `self.baseline`.
            theta: Frailty variance; 0 or None for none.
        """

    @abstractmethod
    def subject_log_likelihood(
        self,
        arrays: dict[str, Any],
        beta: Floats,
        baseline: dict[str, Floats],
        theta: Floats | None = None,
    ) -> Floats:
        """Each person's log-likelihood, not weighted, for many draws.

        Args:
            arrays: From `arrays`.
            beta: Log hazard ratios, (D, p) with p up to the padded width.
            baseline: The parameters named by `self.baseline`, (D,) or (D, J).
            theta: Frailty variance, (D,); 0 or None for none.

        Returns:
            Shape (D, S), the subjects in the order of `data.subjects`.
        """


def typed(found: dict[str, Any]) -> dict[str, Any]:
    """The arrays as float64 or int64, which is all that compiled functions take."""
    kinds = {k: np.asarray(v).dtype.kind for k, v in found.items()}
    return {
        k: np.asarray(v, np.int64 if kinds[k] in "iu" else np.float64) for k, v in found.items()
    }
