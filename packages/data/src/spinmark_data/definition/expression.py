"""Conditions as text, read by a parser that knows a handful of forms and runs no code.

A condition names variables, compares them and joins comparisons: `XRKL <= 3 and not missing(WOMKP)`.
A missing cell makes a comparison unknown rather than false, and unknown passes through `and`, `or`
and `not` by Kleene's three-valued logic; what becomes of an unknown condition is the caller's
decision.

| form | meaning |
|---|---|
| `XRKL`, `` `20MPACE` `` | a variable; in backticks where its name starts with a digit |
| `XRKL @ V03` | its value at that visit |
| `== != < <= > >= in` | comparison with a number, a text or the label of a code |
| `+ - * /`, `abs(...)` | arithmetic |
| `and`, `or`, `not` | three-valued logic |
| `missing(X)`, `known(X)` | whether the cell is missing |
| `reason(X)` | why it is missing, such as `'.P'`, `''` where it is not |
| `scanned('SAG_3D_DESS')` | whether the joint has such a scan at the visit |
| `has_outcome('replacement')` | whether the joint has a row among the outcomes |
"""

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.errors import InputError

MAX_LENGTH = 2000
_MARK = "_quoted_"
_BACKTICKS = re.compile(r"`([^`'\"\n]{1,80})`")
FUNCTIONS = ("missing", "known", "reason", "scanned", "has_outcome", "abs")

Truth = pd.arrays.BooleanArray

_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_SIGNS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Rows(Protocol):
    """What a condition is asked of: rows with variables."""

    def __len__(self) -> int:
        """How many rows."""
        ...

    def column(self, name: str, visit: str | None) -> pd.Series:
        """A variable of every row, at the row's own visit or at another."""
        ...

    def code(self, name: str, value: object, sign: str) -> object:
        """A value that a variable is compared with: a label becomes its code.

        Raises:
            InputError: The variable never takes this value.
        """
        ...

    def reason(self, name: str, visit: str | None) -> pd.Series:
        """Why each cell is missing, `""` where it is not or where no reason is known."""
        ...

    def scanned(self, sequence: str, visit: str | None) -> NDArray[np.bool_]:
        """Whether each row's joint has a scan of this sequence."""
        ...

    def has_outcome(self, endpoint: str) -> NDArray[np.bool_]:
        """Whether each row's joint has a row among the outcomes."""
        ...


@dataclass(frozen=True)
class Variable:
    """A variable that a condition names.

    Args:
        name: Its name.
        visit: The visit that was asked for, or None for the row's own.
    """

    name: str
    visit: str | None = None


@dataclass(frozen=True)
class _Column:
    """A column on its way through an expression; numbers are float64 with NaN for missing."""

    values: NDArray[Any]
    text: bool
    variable: Variable | None = None

    @property
    def unknown(self) -> NDArray[np.bool_]:
        return np.asarray(pd.isna(self.values), dtype=bool)


@dataclass(frozen=True)
class Expression:
    """A condition that was read and found to consist of known forms.

    Args:
        text: As it was written.
    """

    text: str
    _tree: ast.expr = field(repr=False, compare=False)
    _quoted: Mapping[str, str] = field(repr=False, compare=False)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables that it names, each once, in order."""
        return tuple(dict.fromkeys(_Reader(self).variables(self._tree)))

    def evaluate(self, rows: Rows) -> Truth:
        """Ask the condition of every row.

        Args:
            rows: Rows with variables.

        Returns:
            True, False or missing (unknown), one a row.

        Raises:
            InputError: An unknown variable, a value that never occurs, or a comparison of a text with
                a number; the message names the nearest known one.
        """
        found = _Evaluator(self, rows).value(self._tree)
        return _truth(self, found)


def parse(text: str) -> Expression:
    """Read a condition.

    Args:
        text: The condition, of 2,000 characters at most.

    Raises:
        InputError: It is empty, too long, no expression, or holds a form that is not in the list
            at the head of this module.

    Examples:
        >>> [item.name for item in parse("BMI > 30 and XRKL @ V03 < 2").variables]
        ['BMI', 'XRKL']
    """
    if not text.strip():
        raise InputError("A condition is empty; write one such as 'XRKL <= 3'.")
    if len(text) > MAX_LENGTH:
        raise InputError(f"A condition has {len(text)} characters; {MAX_LENGTH} are accepted.")
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        return quoted.setdefault(match.group(1), f"{_MARK}{len(quoted)}")

    source = _BACKTICKS.sub(stand_in, " ".join(text.split()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        hint = "; put a name that starts with a digit in backticks" if _digits_first(text) else ""
        raise InputError(f"Condition {_short(text)!r} cannot be read{hint}.") from None
    expression = Expression(text, tree, {mark: name for name, mark in quoted.items()})
    try:
        _Reader(expression).check(tree)
    except RecursionError:
        raise InputError(f"Condition {_short(text)!r} is nested too deeply.") from None
    return expression


def _digits_first(text: str) -> bool:
    return re.search(r"(?<![\w.'\"`])\d+[A-Za-z_]{2,}", text) is not None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:77] + "..."


class _Reader:
    """Walks a tree of forms, all of which it has to know."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def fail(self, node: ast.AST, what: str) -> InputError:
        return InputError(
            f"Condition {_short(self.expression.text)!r}: {what}; accepted are comparisons of "
            f"variables with values, + - * /, and, or, not, X @ VISIT, and {', '.join(FUNCTIONS)}."
        )

    def name(self, node: ast.Name) -> str:
        return self.expression._quoted.get(node.id, node.id)

    def variable(self, node: ast.expr) -> Variable | None:
        """The variable that a node names, with its visit, or None."""
        if isinstance(node, ast.Name):
            return Variable(self.name(node))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            if not isinstance(node.left, ast.Name):
                raise self.fail(node, "before @ stands no variable")
            if isinstance(node.right, ast.Name):
                return Variable(self.name(node.left), self.name(node.right))
            if isinstance(node.right, ast.Constant) and isinstance(node.right.value, str):
                return Variable(self.name(node.left), node.right.value)
            raise self.fail(node, "after @ stands no visit such as V03")
        return None

    def literal(self, node: ast.expr) -> str | float | None:
        """The value of a constant, or None where the node is none."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.literal(node.operand)
            return -inner if isinstance(inner, float) else None
        if not isinstance(node, ast.Constant):
            return None
        value = node.value
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float):
            try:
                return float(value)
            except OverflowError:
                raise self.fail(node, "a number is too large") from None
        raise self.fail(node, f"{type(value).__name__} {_short(repr(value))} is no value")

    def literals(self, node: ast.expr) -> list[str | float] | None:
        """The values of a list, or None where the node is none."""
        if not isinstance(node, ast.List | ast.Tuple | ast.Set):
            return None
        values = [self.literal(item) for item in node.elts]
        if any(value is None for value in values):
            raise self.fail(node, "a list may hold numbers and texts only")
        return [value for value in values if value is not None]

    def children(self, node: ast.expr) -> Sequence[ast.expr]:
        """The parts of a form that are expressions themselves, once the form is known."""
        if self.variable(node) is not None or self.literal(node) is not None:
            return ()
        if isinstance(node, ast.BoolOp):
            return node.values
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            return (node.operand,)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return (node.left, node.right)
        if isinstance(node, ast.Compare):
            return self.sides(node)
        if isinstance(node, ast.Call):
            return self.arguments(node)
        raise self.fail(node, f"{type(node).__name__} is not accepted")

    def sides(self, node: ast.Compare) -> Sequence[ast.expr]:
        sides = [node.left]
        for sign, side in zip(node.ops, node.comparators, strict=True):
            if isinstance(sign, ast.In | ast.NotIn):
                if self.literals(side) is None:
                    raise self.fail(node, "after `in` stands a list such as ['V00', 'V06']")
            elif type(sign) in _COMPARE:
                sides.append(side)
            else:
                raise self.fail(node, f"{type(sign).__name__} is no comparison")
        return sides

    def arguments(self, node: ast.Call) -> Sequence[ast.expr]:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS or node.keywords or len(node.args) != 1:
            raise self.fail(
                node, f"'{name or ast.unparse(node.func)[:40]}(...)' is no function here"
            )
        (argument,) = node.args
        if name in ("scanned", "has_outcome"):
            if not isinstance(self.literal(argument), str):
                raise self.fail(node, f"{name}(...) takes a text in quotes")
            return ()
        if name != "abs" and self.variable(argument) is None:
            raise self.fail(node, f"{name}(...) takes a variable")
        return (argument,)

    def check(self, node: ast.expr) -> None:
        for child in self.children(node):
            self.check(child)

    def variables(self, node: ast.expr) -> list[Variable]:
        variable = self.variable(node)
        if variable is not None:
            return [variable]
        return [found for child in self.children(node) for found in self.variables(child)]


class _Evaluator(_Reader):
    """Gives a checked tree its values."""

    def __init__(self, expression: Expression, rows: Rows) -> None:
        super().__init__(expression)
        self.rows = rows

    def value(self, node: ast.expr) -> _Column | Truth | str | float:
        variable = self.variable(node)
        if variable is not None:
            return _column(self.rows.column(variable.name, variable.visit), variable)
        literal = self.literal(node)
        if literal is not None:
            return literal
        if isinstance(node, ast.BoolOp):
            parts = [_truth(self.expression, self.value(item)) for item in node.values]
            whole = parts[0]
            for part in parts[1:]:
                both = isinstance(node.op, ast.And)
                # Either is true where not both are false.
                whole = whole & part if both else ~(~whole & ~part)
            return whole
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.op, ast.Not):
                return ~_truth(self.expression, self.value(node.operand))
            return _Column(-self.numbers(node.operand), text=False)
        if isinstance(node, ast.BinOp):
            with np.errstate(divide="ignore", invalid="ignore"):
                combine = _ARITHMETIC[type(node.op)]
                found = combine(self.numbers(node.left), self.numbers(node.right))
            # A division by zero has no value.
            return _Column(np.where(np.isfinite(found), found, np.nan), text=False)
        if isinstance(node, ast.Compare):
            return self.comparison(node)
        assert isinstance(node, ast.Call)
        return self.call(node)

    def numbers(self, node: ast.expr) -> NDArray[np.float64]:
        found = self.value(node)
        if isinstance(found, float):
            return np.full(len(self.rows), found)
        if isinstance(found, _Column) and not found.text:
            return np.asarray(found.values, dtype=np.float64)
        raise self.fail(node, f"'{ast.unparse(node)[:40]}' is no number")

    def call(self, node: ast.Call) -> _Column | Truth:
        assert isinstance(node.func, ast.Name)
        argument, name = node.args[0], node.func.id
        if name == "abs":
            return _Column(np.abs(self.numbers(argument)), text=False)
        if name in ("scanned", "has_outcome"):
            text = str(self.literal(argument))
            if name == "scanned":
                return _known(self.rows.scanned(text, None))
            return _known(self.rows.has_outcome(text))
        variable = self.variable(argument)
        assert variable is not None
        if name == "reason":
            reasons = self.rows.reason(variable.name, variable.visit)
            return _Column(reasons.to_numpy(dtype=object), text=True)
        absent = self.rows.column(variable.name, variable.visit).isna().to_numpy(dtype=bool)
        return _known(absent if name == "missing" else ~absent)

    def comparison(self, node: ast.Compare) -> Truth:
        left = self.value(node.left)
        whole = _known(np.ones(len(self.rows), dtype=bool))
        for sign, side in zip(node.ops, node.comparators, strict=True):
            values = self.literals(side) if isinstance(sign, ast.In | ast.NotIn) else None
            if values is not None:
                found = _known(np.zeros(len(self.rows), dtype=bool))
                for value in values:
                    found = ~(
                        ~found & ~self.compare(node, left, ast.Eq(), value, _SIGNS[type(sign)])
                    )
                if not values and isinstance(left, _Column):
                    found[left.unknown] = pd.NA
                whole = whole & (~found if isinstance(sign, ast.NotIn) else found)
                continue
            right = self.value(side)
            whole = whole & self.compare(node, left, sign, right, _SIGNS[type(sign)])
            left = right
        return whole

    def compare(
        self, node: ast.expr, left: Any, sign: ast.cmpop, right: Any, written: str
    ) -> Truth:
        left, right = self.coded(left, right, written), self.coded(right, left, written)
        texts = [
            side.text if isinstance(side, _Column) else isinstance(side, str)
            for side in (left, right)
        ]
        if isinstance(left, Truth) or isinstance(right, Truth):
            raise self.fail(node, "a condition cannot be compared")
        if texts[0] != texts[1]:
            raise self.fail(node, f"'{ast.unparse(node)[:60]}' compares a text with a number")
        n = len(self.rows)
        kind: Any = object if texts[0] else np.float64
        sides = [
            side.values if isinstance(side, _Column) else np.full(n, side, dtype=kind)
            for side in (left, right)
        ]
        unknown = np.asarray(pd.isna(sides[0]) | pd.isna(sides[1]), dtype=bool)
        met = np.zeros(n, dtype=bool)
        known = ~unknown
        met[known] = _COMPARE[type(sign)](sides[0][known], sides[1][known]).astype(bool)
        return pd.arrays.BooleanArray(met, unknown)

    def coded(self, side: Any, other: Any, written: str) -> Any:
        """A constant that stands beside a variable, as that variable's code."""
        if isinstance(side, str | float) and isinstance(other, _Column) and other.variable:
            return self.rows.code(other.variable.name, side, written)
        return side


def _column(values: pd.Series, variable: Variable) -> _Column:
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
        return _Column(values.to_numpy(dtype=np.float64, na_value=np.nan), False, variable)
    numbers = pd.to_numeric(values, errors="coerce")
    # Codes that were read as objects are numbers; a column without any value is a number too.
    if not bool((numbers.isna() & values.notna()).any()) and not any(
        isinstance(value, str) for value in values
    ):
        return _Column(numbers.to_numpy(dtype=np.float64), False, variable)
    return _Column(values.to_numpy(dtype=object), True, variable)


def _known(values: NDArray[np.bool_]) -> Truth:
    return pd.arrays.BooleanArray(np.array(values, dtype=bool), np.zeros(len(values), dtype=bool))


def _truth(expression: Expression, found: object) -> Truth:
    """A condition's truth; a column of 0 and 1 (such as `mirrored`) is a condition as well."""
    if isinstance(found, Truth):
        return found
    if isinstance(found, _Column) and not found.text:
        unknown = found.unknown
        if bool(np.isin(found.values[~unknown], (0.0, 1.0)).all()):
            return pd.arrays.BooleanArray(np.nan_to_num(found.values).astype(bool), unknown)
    raise InputError(
        f"Condition {_short(expression.text)!r} is no condition but a value; compare it, as in 'X > 0'."
    )
