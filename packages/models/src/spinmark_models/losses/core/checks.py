"""What every loss asks of its arguments, each in one line that names the value."""

from torch import Tensor

from spinmark_models.errors import InputError


def check_pair(a_ND: Tensor, b_ND: Tensor, least: int = 1) -> None:
    """Two matrices of one shape, row by row partners.

    Args:
        a_ND: One side.
        b_ND: The other.
        least: Fewest rows that the loss is defined for.

    Raises:
        InputError: They are not.
    """
    if a_ND.ndim != 2 or a_ND.shape != b_ND.shape:
        raise InputError(
            f"The two sides have shapes {tuple(a_ND.shape)} and {tuple(b_ND.shape)}; "
            "both must be (pairs, features)."
        )
    check_rows(a_ND, least)


def check_rows(x_ND: Tensor, least: int = 1) -> None:
    """A matrix with enough rows.

    Raises:
        InputError: It is none, or has too few.
    """
    if x_ND.ndim != 2 or len(x_ND) < least:
        raise InputError(
            f"A batch has shape {tuple(x_ND.shape)}; this loss takes (examples, features) with at "
            f"least {least} example(s)."
        )


def check_same_rows(student_NE: Tensor, teacher_NF: Tensor, least: int = 1) -> None:
    """Two matrices of the same examples, of any widths.

    Raises:
        InputError: The numbers of rows differ, or are too small.
    """
    if student_NE.ndim != 2 or teacher_NF.ndim != 2 or len(student_NE) != len(teacher_NF):
        raise InputError(
            f"Student and teacher have shapes {tuple(student_NE.shape)} and "
            f"{tuple(teacher_NF.shape)}; both must be (examples, features), equally many."
        )
    check_rows(student_NE, least)


def check_temperature(temperature: float, name: str = "temperature") -> None:
    """A number above 0.

    Raises:
        InputError: It is not.
    """
    if not temperature > 0:
        raise InputError(f"{name} is {temperature}; it must be above 0.")


def check_fixed(value: object, name: str = "temperature") -> None:
    """A number that is given and not learnt, where the loss could not tell its whole gradient.

    Raises:
        InputError: It needs a gradient.
    """
    if isinstance(value, Tensor) and value.requires_grad:
        raise InputError(f"{name} is a tensor that needs a gradient; this loss takes a fixed one.")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """A number within a closed range.

    Raises:
        InputError: It is not.
    """
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; use a number from {low:g} to {high:g}.")


def check_groups(groups: Tensor | None, n: int, name: str = "groups") -> None:
    """One value an example, or none at all.

    Raises:
        InputError: Another shape.
    """
    if groups is not None and groups.shape != (n,):
        raise InputError(f"{name} has shape {tuple(groups.shape)}; use ({n},).")
