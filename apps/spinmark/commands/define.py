"""`spinmark define --cohort COHORT --config FILE --out DEFINITION`: who is in, and what counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinmark import artefacts, cli
from spinmark.errors import InputError
from spinmark.progress import done
from spinmark_data.definition.config import DefinitionConfig

if TYPE_CHECKING:
    import pandas as pd

    from spinmark_data.definition.apply import Defined
    from spinmark_data.endpoints.build import Endpoints

KIND = "definition"


@dataclass(kw_only=True)
class Define(DefinitionConfig):
    """Choose who is analysed and build the outcomes that count.

    Args:
        cohort: The cohort.
        out: Where to write the definition.
        endpoints: Outcomes to build: a name and its options, `definition` among them where the name is
            not that of one.
        scan_columns: A CSV or Parquet file with more columns of scans, such as image quality, and
            `scan_id`; criteria of the unit `scan` can ask for them.
        until_day: Build outcomes from what was known by this day since enrolment, as the training
            side of a split forward in time needs them.
    """

    cohort: Path
    out: Path
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    scan_columns: Path | None = None
    until_day: float | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("define", Define, argv)
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.definition.apply import define
    from spinmark_data.endpoints.build import build_endpoints
    from spinmark_data.endpoints.registry import endpoint

    artefacts.read(args.cohort, "cohort")
    cohort = Cohort.open(args.cohort)
    chosen = {name: endpoint(name, options) for name, options in args.endpoints.items()}
    inputs: dict[str, Path | str] = {"cohort": args.cohort}
    if args.scan_columns is not None:
        inputs["scan_columns"] = artefacts.file_hash(args.scan_columns)

    def write(folder: Path) -> None:
        more = None if args.scan_columns is None else _table(args.scan_columns)
        found = define(cohort, args, scan_columns=more)
        _write(folder, found, args.title)
        if chosen:
            built = build_endpoints(cohort, chosen, joints=found.joints, until_day=args.until_day)
            _write_endpoints(folder / "endpoints", built, chosen)

    made = artefacts.make(args.out, KIND, write, config=args, inputs=inputs)
    return done(
        _summary(args.out),
        f"spinmark split --cohort {args.cohort} --definition {args.out} --out SPLIT",
        fresh=made.fresh,
    )


def of_cohort(definition: Path, cohort: Path) -> None:
    """Check that a definition was made from this content of a cohort.

    Raises:
        InputError: It is no definition, or one of another cohort or generation.
    """
    record = artefacts.read(definition, KIND)
    if record["inputs"].get("cohort") != artefacts.content_hash(cohort):
        raise InputError(
            f"{definition}: was made from another cohort, or from another generation of {cohort}; "
            "run `spinmark define` again"
        )


def _table(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype={"scan_id": str})
    except (ValueError, OSError):
        raise InputError(f"{path}: cannot be read; a CSV or Parquet file is needed") from None


def _write(folder: Path, found: "Defined", title: str) -> None:
    from matplotlib import rc_context

    from spinmark_data.definition.figure import flow_figure

    found.joints.to_parquet(folder / "joints.parquet", index=False)
    found.scans.to_parquet(folder / "scans.parquet", index=False)
    found.excluded.to_parquet(folder / "excluded.parquet", index=False)
    found.flow.to_csv(folder / "flow.csv", index=False, lineterminator="\n")
    found.alone.to_csv(folder / "alone.csv", index=False, lineterminator="\n")
    figure = flow_figure(found.flow, title)
    figure.savefig(folder / "flow.png", dpi=150, metadata={"Software": None})
    # Without a salt, SVG names its parts at random and the artefact's hash with them.
    with rc_context({"svg.hashsalt": "spinmark"}):
        figure.savefig(folder / "flow.svg", metadata={"Date": None})


def _write_endpoints(folder: Path, built: "Endpoints", chosen: Mapping[str, Any]) -> None:
    import yaml

    folder.mkdir(exist_ok=True)
    built.outcomes.to_parquet(folder / "outcomes.parquet", index=False)
    built.eligibility.to_parquet(folder / "eligibility.parquet", index=False)
    built.flow.to_csv(folder / "flow.csv", index=False, lineterminator="\n")
    page = {name: _described(config) for name, config in sorted(chosen.items())}
    (folder / "definition.yaml").write_text(yaml.safe_dump(page, sort_keys=False, width=100))


def _described(config: Any) -> dict[str, Any]:
    """A definition with all its options and the sources that its docstring names."""
    from dataclasses import asdict

    about = (type(config).__doc__ or "").partition("Args:")[0]
    options = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
    }
    return {"about": " ".join(about.split()), **options}


def _summary(path: Path) -> str:
    import pandas as pd

    last = pd.read_csv(path / "flow.csv").iloc[-1]
    text = (
        f"{path}: analysed: {last['subjects']} subjects, {last['joints']} joints, {last['scans']} scans "
        f"({path}/flow.csv, flow.png)"
    )
    outcomes = path / "endpoints" / "outcomes.parquet"
    if outcomes.is_file():
        rows = pd.read_parquet(outcomes)
        for name, group in rows.groupby("endpoint"):
            counts = ", ".join(f"{n} {cause}" for cause, n in group["cause"].value_counts().items())
            text += f"\n  {name}: {len(group)} joints: {counts}"
    return text
