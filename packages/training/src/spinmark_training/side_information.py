"""What is known of each scan beside its voxels, for the rows that training may see and no other."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from spinmark_data.features import PLACES
from spinmark_training.errors import InputError
from spinmark_training.leaks import check_copies
from spinmark_training.scan_tables import Vector, as_numbers, kind_of, look_up
from spinmark_training.sources import CohortLike, ScanSource
from spinmark_training.survival_times import times_to_event

# What each role may serve for; every other role may be learnt from.
_NEVER = ("outcome",)
_NO_LABEL = ("outcome", "administrative")


class SideInformation:
    """Columns of what is known, one row a scan of the source; NaN or -1 for scans it may not see.

    Codes, ranges and all else that depends on several rows come from the rows it may see.

    Args:
        cohort: The cohort.
        source: The training subjects' scans.
    """

    def __init__(self, cohort: CohortLike, source: ScanSource) -> None:
        self._cohort = cohort
        self._scans = source.scans
        self._rows = source.rows
        self._tables: dict[str, pd.DataFrame] = {}
        self._found: dict[str, pd.Series | None] = {}

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._scans)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The rows that it may see."""
        return self._rows

    def _spread(self, values: npt.NDArray[np.float64]) -> Vector:
        """Values of the rows that are seen, as one a scan."""
        everyone = np.full(len(self._scans), np.nan)
        everyone[self._rows] = values
        return everyone

    def days(self) -> Tensor:
        """Return the days since enrolment, `(scans,)` float64."""
        return torch.from_numpy(self._spread(self._seen()["days"].to_numpy(np.float64)))

    def _seen(self) -> pd.DataFrame:
        return self._scans.iloc[self._rows]

    def _codes_of(self, column: str) -> Tensor:
        codes, _ = pd.factorize(self._seen()[column], sort=True)
        return torch.from_numpy(_whole(self._spread(codes.astype(np.float64))))

    def subjects(self) -> Tensor:
        """Return a number of the subject of each scan, `(scans,)` int64, -1 where not seen."""
        return self._codes_of("subject_id")

    def joints(self) -> Tensor:
        """Return a number of the joint of each scan, `(scans,)` int64, -1 where not seen."""
        return self._codes_of("joint_id")

    def variables(
        self, labels: Sequence[str], field: str = "objective.labels", *, roles: bool = True
    ) -> tuple[str, ...]:
        """Return the variables that labels stand for, each once.

        Args:
            labels: Variables, or roles that stand for those of their variables that some row has.
            field: The setting that names them, for the message.
            roles: Whether roles are accepted.

        Raises:
            InputError: One is neither, or no encoder may learn from it, by its role or because its values
                are those of an outcome.
        """
        known = self._dictionary()
        of_role = known["role"].astype(str)
        names: list[str] = []
        for label in labels:
            chosen = known.loc[of_role == label, "variable"].astype(str)
            if chosen.empty or not roles:
                names.append(label)
            elif label in _NO_LABEL:
                raise InputError(
                    f"{field}: {label!r}; accepted are variables, and roles other than "
                    f"{' and '.join(_NO_LABEL)}"
                )
            else:
                names += [name for name in chosen if self._has_values(name)]
        if not names:
            raise InputError(
                f"{field}: {list(labels)}; no training scan has a variable of these roles"
            )
        for name in names:
            self._check_role(name, _NO_LABEL, field)
            if self._find(name) is None:
                raise InputError(f"{field}: {name!r}; {self._accepted(roles)}")
        once = tuple(dict.fromkeys(names))
        self._check_values(once, field)
        return once

    def _check_values(self, names: Sequence[str], field: str) -> None:
        """Refuse an outcome that goes by another name."""
        found = {name: self._find(name) for name in names}
        values = {name: as_numbers(cells) for name, cells in found.items() if cells is not None}
        seen = self._seen()
        check_copies(
            pd.DataFrame(values, index=seen.index),
            self._cohort,
            seen,
            what=f"{field}: the variable",
            leave_out="and name the variables one by one",
        )

    def _has_values(self, name: str) -> bool:
        found = self._find(name)
        return found is not None and bool(found.notna().any())

    def _accepted(self, roles: bool) -> str:
        known = self._dictionary()
        usable = sorted(set(known["role"].astype(str)) - set(_NO_LABEL))
        of = "no table of the cohort has this variable"
        return f"{of}; accepted roles are {usable}" if roles and usable else of

    def kind(self, name: str) -> str:
        """Return the kind of a variable: `continuous`, `ordinal`, `nominal` or `binary`.

        As the dictionary has it; without its word, text is nominal and numbers are continuous.
        """
        kind = kind_of(self._dictionary(), name)
        if kind is not None:
            return kind
        found = self._find(name)
        text = found is not None and not pd.api.types.is_numeric_dtype(found)
        return "nominal" if text else "continuous"

    def numbers(self, names: Sequence[str], field: str = "objective.labels") -> Tensor:
        """Return variables as columns `(scans, F)` float64, NaN where unknown; codes where they are text.

        Args:
            names: The variables.
            field: The setting that names them, for the message.

        Raises:
            InputError: No table has one of them, it is an outcome, or unknown of every row.
        """
        return torch.from_numpy(np.stack([self._numbers(name, field) for name in names], axis=1))

    def codes(self, name: str, field: str = "objective.labels") -> tuple[Tensor, int]:
        """Return a variable's values as codes `(scans,)` int64, -1 where unknown, and their number.

        Args:
            name: The variable.
            field: The setting that names it, for the message.

        Raises:
            InputError: No table has it, it is an outcome, or it has fewer than two values among the rows.
        """
        values = self._numbers(name, field)
        codes, found = pd.factorize(values, sort=True)
        if len(found) < 2:
            raise InputError(
                f"{field}: {name} takes {len(found)} value(s) among the training scans; two or more are "
                "needed"
            )
        return torch.from_numpy(codes.astype(np.int64)), len(found)

    def survival(self, endpoint: str) -> tuple[Tensor, Tensor]:
        """Return the time from each scan to an endpoint, and whether it was observed.

        Args:
            endpoint: Its name in the cohort's outcomes.

        Returns:
            Days `(scans,)` float64 and events `(scans,)` bool, as `times_to_event` has them; NaN for
            scans that are not seen.

        Raises:
            InputError: There is no such endpoint, or no event among the rows.
        """
        time, event = times_to_event(self._cohort.table("outcomes"), self._seen(), endpoint)
        if not event.any():
            raise InputError(
                f"objective.endpoint: {endpoint!r} has no event after a training scan; accepted are "
                "endpoints with events"
            )
        everyone = np.zeros(len(self._scans), bool)
        everyone[self._rows] = event
        return torch.from_numpy(self._spread(time)), torch.from_numpy(everyone)

    def _dictionary(self) -> pd.DataFrame:
        known = self._table("dictionary")
        if len(known):
            return known
        return pd.DataFrame(columns=["variable", "role", "kind"], dtype=object)

    def _check_role(self, name: str, never: Sequence[str], field: str) -> None:
        known = self._dictionary()
        roles = known.loc[known["variable"] == name, "role"]
        if roles.isin(list(never)).any():
            raise InputError(
                f"{field}: {name} has the role {roles.iloc[0]}, from which no encoder may learn; accepted "
                "are variables of other roles"
            )

    def _find(self, name: str) -> "pd.Series | None":
        """The values of a variable of the rows that are seen; none if no table has it."""
        if name not in self._found:
            self._found[name] = None if name in PLACES else look_up(self._table, self._seen(), name)
        return self._found[name]

    def _table(self, name: str) -> pd.DataFrame:
        if name not in self._tables:
            self._tables[name] = self._cohort.table(name)
        return self._tables[name]

    def _numbers(self, name: str, field: str) -> Vector:
        self._check_role(name, _NEVER, field)
        found = self._find(name)
        if found is None:
            raise InputError(f"{field}: no table of the cohort has {name!r}")
        values = as_numbers(found)
        if not np.isfinite(values).any():
            raise InputError(f"{field}: {name} is missing of every training scan")
        return self._spread(np.where(np.isfinite(values), values, np.nan))


def _whole(values: Vector) -> npt.NDArray[np.int64]:
    return np.where(np.isfinite(values), values, -1).astype(np.int64)
