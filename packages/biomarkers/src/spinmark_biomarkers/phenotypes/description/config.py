"""Settings of the description; imports nothing heavy, so that a `--help` stays fast."""

from dataclasses import dataclass, field
from typing import Literal

from spinmark_biomarkers.errors import InputError

ROLES = (
    "demographic",
    "symptom",
    "function",
    "structure",
    "morphometric",
    "biospecimen",
    "treatment",
)


@dataclass(kw_only=True)
class DescribeConfig:
    """How phenotypes are described.

    Args:
        roles: Roles of the variables that describe; `outcome` is refused.
        variables: Variables that describe, by name; all of these roles by default.
        adjust: What adjusted effects are adjusted for: variables, `site` and `scanner`, as far as
            they are there.
        on: Whose joints are described: those of `test` subjects, of all whom the encoder has not
            seen (`unseen`), or `all`.
        include_used: Whether variables that the encoder learnt from are shown too, without p
            values.
        reference: The phenotype that regional profiles are compared with; null for the mean over
            all joints.
        permutations: Permutations of whole subjects behind each p value that needs them.
        repeats: Permutations of each group of variables in the surrogate.
        bootstrap: Bootstrap samples of subjects behind the surrogate's intervals.
        depth: Conditions of a rule of thumb, at most.
        shown: Variables of a phenotype on the page, at most.
        prototypes: Most typical members shown of each phenotype, at most.
        random: Random members, at most.
        boundary: Members at the border, at most.
        seed: Seed of everything random.
    """

    roles: list[str] = field(default_factory=lambda: list(ROLES))
    variables: list[str] = field(default_factory=list)
    adjust: list[str] = field(
        default_factory=lambda: ["AGE", "SEX", "BMI", "XRKL", "site", "scanner"]
    )
    on: Literal["test", "unseen", "all"] = "test"
    include_used: bool = False
    reference: int | None = None
    permutations: int = 1999
    repeats: int = 20
    bootstrap: int = 500
    depth: int = 3
    shown: int = 12
    prototypes: int = 6
    random: int = 6
    boundary: int = 4
    seed: int = 0


def check_config(config: DescribeConfig) -> None:
    """Refuse settings that are out of range.

    Raises:
        InputError: One is, or a role cannot describe.
    """
    if unknown := [role for role in config.roles if role not in ROLES]:
        raise InputError(
            f"roles: '{unknown[0]}' cannot describe a phenotype; accepted are {', '.join(ROLES)}"
        )
    least = {"permutations": 99, "repeats": 1, "bootstrap": 100, "depth": 1, "shown": 1}
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise InputError(f"{name}: {getattr(config, name)}; accepted is at least {lowest}")
