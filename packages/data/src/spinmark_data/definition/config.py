"""A cohort definition as dataclasses; light, so that a command's help stays quick."""

from dataclasses import dataclass, field

from spinmark_data.errors import InputError

UNITS = ("subject", "joint", "scan")
QUANTIFIERS = ("any", "all")
MISSING = ("include", "exclude", "refuse")


def _check(name: str, value: str, accepted: tuple[str, ...], where: str) -> None:
    if value not in accepted:
        raise InputError(f"{where}: {name}={value!r}; accepted are {list(accepted)}.")


@dataclass(kw_only=True)
class Criterion:
    """One rule of a definition; rules are applied in the order in which they stand.

    Args:
        name: What the flow calls it, such as `no MRI at baseline`.
        include: The condition that units have to meet to stay; give this or `exclude`.
        exclude: The condition that units have to meet to go.
        unit: What goes: `subject` (with both joints), `joint` or `scan`.
        visit: The visit whose values count; by default the definition's, and for scans their own.
        joints: For the unit `subject`, whether the condition holds for a person if it holds for `any`
            of the joints or for `all`. Joints that earlier rules dropped are looked at too.
        if_missing: What becomes of units for which the condition is unknown, as a cell is missing:
            `include` keeps them, `exclude` drops them, `refuse` stops with a count.
    """

    name: str
    include: str = ""
    exclude: str = ""
    unit: str = "joint"
    visit: str = ""
    joints: str = "any"
    if_missing: str = "refuse"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: None or both of `include` and `exclude`, or another value than those accepted.
        """
        where = f"Criterion '{self.name}'"
        if not self.name.strip():
            raise InputError("A criterion has no name; the flow has to call it something.")
        if bool(self.include.strip()) == bool(self.exclude.strip()):
            raise InputError(
                f"{where}: give a condition under `include` or under `exclude`, one of them."
            )
        _check("unit", self.unit, UNITS, where)
        _check("joints", self.joints, QUANTIFIERS, where)
        _check("if_missing", self.if_missing, MISSING, where)


@dataclass(kw_only=True)
class DefinitionConfig:
    """Who is analysed.

    Args:
        title: What this definition is called, for figures.
        visit: The visit at which criteria look, unless they name another.
        sequences: The sequences to analyse; all by default.
        visits: The visits whose scans are analysed; all by default.
        primary_only: Leave out rescans, which are kept for test-retest.
        scans_required: Whether a joint without any such scan goes.
        criteria: Rules, applied in this order.
    """

    title: str = ""
    visit: str = "V00"
    sequences: list[str] = field(default_factory=list)
    visits: list[str] = field(default_factory=list)
    primary_only: bool = True
    scans_required: bool = True
    criteria: list[Criterion] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: Two criteria of one name.
        """
        names = [criterion.name for criterion in self.criteria]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"Criteria {twice} stand twice; the flow needs a name for each.")
