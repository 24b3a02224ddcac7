"""The prognosis: what each model adds to the clinic and KL, with its uncertainty, and what would upset that."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from spinmark.report.page import Picture, Section, Table, render
from spinmark.unsealing import read_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spinmark_biomarkers.phenotypes.discover import Phenotypes
    from spinmark_biomarkers.survival.data import SurvivalData
    from spinmark_biomarkers.survival.prognosis import Prognosis

PAGE = "prognosis.html"
DAYS_PER_YEAR = 365.25
STRUCTURAL = (
    "morphometry: volumes, cartilage thickness, bone areas and shape read off label maps, the "
    "structural baseline that an embedding has to beat."
)
# Scores of the table; metrics.parquet has them all.
SCORES = (
    "c_index", "auc", "ipa", "observed_expected_ratio", "calibration_slope", "ici",
)  # fmt: skip
COLUMNS = {"ici": "calibration error (ICI)", "observed_expected_ratio": "observed / expected"}
GAINS = ("c_index", "c_uno", "auc", "ipa", "net_benefit_at_0.1")


def write_page(folder: Path, outcomes: pd.DataFrame, phenotypes: "Phenotypes") -> None:
    """Write the page into a prognosis that lies whole in a folder."""
    banner = "For research. Nothing here is validated for the care of patients."
    section = prognosis_section(folder, outcomes, phenotypes)
    (folder / PAGE).write_text(render("Prognosis", banner, [section]), encoding="utf-8")


def after_unsealing(told: Mapping[str, Any]) -> list[str]:
    """The sentence of labels that came after outcomes had been read for others, and none of those before."""
    after = told.get("after_unsealing")
    return [f"Exploratory: {after['told']}."] if after else []


def prognosis_section(folder: Path, outcomes: pd.DataFrame, phenotypes: "Phenotypes") -> Section:
    """Risk with death competing, and what each model adds.

    Args:
        folder: The prognosis.
        outcomes: The outcomes that it was made from.
        phenotypes: The phenotypes that outcomes were read for.
    """
    from spinmark_biomarkers.survival.scoring import fullest
    from spinmark_biomarkers.survival.store import read_prognosis

    result = read_prognosis(folder)
    test = _test(result, outcomes)
    models = [str(name) for name in result.cif["model"].to_numpy()]
    most = fullest(models)
    return Section(
        key="prognosis",
        title="Ten-year prognosis",
        lead=_lead(result),
        pictures=_pictures(result, test, phenotypes, most),
        tables=_tables(result),
        notes=[
            *result.told,
            *_doubted(result),
            *dict.fromkeys(
                [*after_unsealing(phenotypes.summary()), *after_unsealing(read_page(folder))]
            ),
            *([STRUCTURAL] if any("morphometry" in name.split("_") for name in models) else []),
        ],
    )


def _test(result: "Prognosis", outcomes: pd.DataFrame) -> "SurvivalData":
    from spinmark_biomarkers.survival.data import SurvivalData

    shown = outcomes[outcomes["endpoint"] == result.cif.attrs["endpoint"]]
    people = pd.Series([joint.rsplit(":", 1)[0] for joint in result.cif["joint"].to_numpy()])
    held = people[(result.cif["set"] == "test").to_numpy()].unique()
    covariates = pd.DataFrame(index=result.cif["joint"].to_numpy())
    return SurvivalData.from_outcomes(shown, covariates, held, require_events=False)


def _main_years(result: "Prognosis") -> float:
    """The horizon of pictures, tables and sentences, in years."""
    return float(result.compared["main_years"])  # type: ignore[arg-type]


def _doubted(result: "Prognosis") -> list[str]:
    """A line for fits whose draws are bad, and one for those that are doubtful."""
    from spinmark_biomarkers.survival.validation.wording import block_names

    lines = []
    for word, told in (
        ("bad", "must not be used"),
        ("doubtful", "are too few or too uneven for fine comparisons"),
    ):
        names = [
            block_names(name)
            for name, facts in result.diagnostics.items()
            if str(facts["verdict"]).startswith(word)
        ]
        if names:
            lines.append(
                f"Of {len(result.diagnostics)} fits the draws of {len(names)} {told}: {'; '.join(names)}. "
                "The table of fits says why, and what to do."
            )
    return lines


def _lead(result: "Prognosis") -> str:
    endpoint = str(result.cif.attrs["endpoint"])
    lead = (
        "Does an image foretell more than the clinic and radiographic grades already do? Bayesian hazards, "
        "death competing. "
    )
    if "crossfit" in result.cif.attrs:
        lead += "Cross-fitted: each subject is a test subject of models fitted on the other folds."
    else:
        lead += "Fitted on training and validation subjects, scored on test subjects."
    if endpoint == "replacement":
        return lead + " Replacement is also a decision: access, site, pain and surgeon play a part."
    return lead + f" The endpoint is {endpoint}, as the definition says."


def _pictures(
    result: "Prognosis", test: "SurvivalData", phenotypes: "Phenotypes", most: str
) -> list[Picture]:
    from spinmark_biomarkers.figures.survival import concordance_forest, incidence_by_group
    from spinmark_biomarkers.survival.validation.wording import block_names

    beyond = bool(result.cif["extrapolated"].any())
    labels = phenotypes.to_dataset()
    first = pd.DataFrame({name: labels[name].to_numpy() for name in ("joint_id", "days", "label")})
    groups = first.sort_values("days").drop_duplicates("joint_id").set_index("joint_id")["label"]
    return [
        *_increments(result),
        Picture(
            figure=incidence_by_group(result, test, groups, model=most),
            title=f"Cumulative incidence of {result.cif.attrs['endpoint']} by phenotype, test subjects",
            method=f"Model {block_names(most)}: mean prediction and mean of the joints' 95 % intervals; "
            "dotted steps are Aalen-Johansen estimates.",
            caveat="Association, not cause. "
            + ("The grey part extrapolates beyond the follow-up." if beyond else ""),
        ),
        Picture(
            figure=concordance_forest(_in_words(result.metrics)),
            title="Discrimination on test subjects",
            method="Harrell's C with a bootstrap of whole subjects.",
            caveat="Few events make wide intervals; compare models by the paired differences above.",
        ),
        *_calibration(result, test, most),
        *_subgroups(result, most),
    ]


def _in_words(metrics: pd.DataFrame) -> pd.DataFrame:
    from spinmark_biomarkers.survival.validation.wording import block_names

    return metrics.assign(model=[block_names(str(name)) for name in metrics["model"]])


def _increments(result: "Prognosis") -> list[Picture]:
    from spinmark_biomarkers.figures.survival_increments import increments_forest
    from spinmark_biomarkers.survival.scoring import adding
    from spinmark_biomarkers.survival.validation.increments import REFERENCE, STEP, Increments
    from spinmark_biomarkers.survival.validation.wording import block_names

    if result.increments.empty:
        return []
    reference = str(result.compared["reference"])
    ladder = [str(name) for name in result.compared["ladder"]]  # type: ignore[attr-defined]
    above = adding([str(name) for name in result.risk.columns], reference, ladder)
    table = result.increments
    if above:
        # Models that lack what the reference has add nothing to it; the table of gains has them.
        table = table[(table["kind"] != REFERENCE) | table["model"].isin(above)]
    found = Increments(
        table=table,
        ladder=tuple(ladder),
        reference=reference,
        level=float(result.compared["level"]),  # type: ignore[arg-type]
    )
    primary = [f"{year:g}" for year in result.compared["primary_years"]]  # type: ignore[attr-defined]
    method = (
        "Each gain is taken within each bootstrap sample of subjects, so what two models share cancels. "
        + (
            f"Primary horizons, named before any figure was seen: {', '.join(primary)} years."
            if primary
            else "No horizon was named primary."
        )
    )
    caveat = "An interval that crosses the line does not show that nothing is added." + (
        " Hollow grey marks lie beyond the follow-up of the people fitted on."
        if table["extrapolated"].any()
        else ""
    )
    titles = {
        REFERENCE: f"What each model adds to {block_names(reference)}",
        STEP: "What each step of the ladder adds to the one below",
    }
    return [
        Picture(
            figure=increments_forest(found, kind=kind), title=title, method=method, caveat=caveat
        )
        for kind, title in titles.items()
        if (table["kind"] == kind).any()
    ]


def _calibration(result: "Prognosis", test: "SurvivalData", most: str) -> list[Picture]:
    """Calibration and net benefit of the fullest model and the reference, where events allow."""
    from spinmark_biomarkers.errors import InputError
    from spinmark_biomarkers.evaluation.calibration import calibration_curve
    from spinmark_biomarkers.evaluation.decision import decision_curves
    from spinmark_biomarkers.figures.survival_metrics import calibration_plot, decision_curve
    from spinmark_biomarkers.survival.validation.wording import block_names

    reference = str(result.compared.get("reference", most))
    names = list(dict.fromkeys([reference, most]))
    years = result.mean["time"].to_numpy() / DAYS_PER_YEAR
    at = int(abs(years - _main_years(result)).argmin())
    horizon = float(years[at])
    late = test.start if (test.start > 0).any() else None
    said = {
        block_names(name): result.mean.sel(model=name, joint=test.ids)
        .isel(time=at)
        .to_numpy()
        .clip(0, 1)
        for name in names
    }

    def calibrated() -> "Figure":
        return calibration_plot(
            {
                name: calibration_curve(
                    test.time, test.cause, risk, horizon, test.subject_ids,
                    weight=test.weight, start=late,
                )
                for name, risk in said.items()
            }
        )  # fmt: skip

    def decided() -> "Figure":
        curves = decision_curves(
            test.time, test.cause, said, horizon, test.subject_ids, weight=test.weight, start=late
        )
        return decision_curve(curves, horizon=horizon)

    asked = [
        (
            calibrated,
            f"Calibration at {horizon:g} years",
            "Observed risk from pseudo-values, smoothed over the predicted; bands resample whole subjects.",
            "Where few joints have a high predicted risk the band is wide; the histogram says where they lie.",
        ),
        (
            decided,
            f"Net benefit at {horizon:g} years",
            "Joints found that have the event, less those falsely found at the odds of the threshold; "
            "death competes.",
            "A threshold is a choice of patients and clinicians; no threshold here is a recommendation.",
        ),
    ]
    found = []
    for make, title, method, caveat in asked:
        try:
            found.append(Picture(figure=make(), title=title, method=method, caveat=caveat))
        except InputError:
            # Too few events: the notes of the prognosis say so.
            continue
    return found


def _subgroups(result: "Prognosis", most: str) -> list[Picture]:
    from spinmark_biomarkers.errors import InputError
    from spinmark_biomarkers.figures.survival_increments import subgroup_forest
    from spinmark_biomarkers.survival.validation.subgroups import Subgroups
    from spinmark_biomarkers.survival.validation.wording import block_names

    if result.subgroups.empty:
        return []
    found = Subgroups(table=result.subgroups, differences=result.differences)
    try:
        figure = subgroup_forest(found)
    except InputError:
        return []
    return [
        Picture(
            figure=figure,
            title="Groups of people",
            method=f"Model {block_names(most)} scored within each group of test subjects.",
            caveat="A group with few events gets a line and no mark. Wide intervals hide differences.",
        )
    ]


def _tables(result: "Prognosis") -> list[Table]:
    from spinmark_biomarkers.survival.validation.wording import block_names, metric_name

    tables = []
    main = _main_years(result)
    if not result.increments.empty:
        gains = result.increments.rename(columns={"gain": "value"})
        gains["model"] = [
            f"{block_names(upper)}, against {block_names(lower)}"
            for upper, lower in zip(gains["model"], gains["against"], strict=True)
        ]
        tables.append(
            _wide(
                gains.drop_duplicates(["metric", "horizon_days", "model"]),
                GAINS,
                f"Gains at {main:g} years",
                "Paired differences; above 0 the model is better than the one it is held against.",
                metric_name,
                main,
                signed=True,
            )
        )
    tables.append(
        _wide(
            _in_words(result.metrics),
            SCORES,
            f"Scores on test subjects at {main:g} years",
            "metrics.parquet has all metrics at all horizons.",
            metric_name,
            main,
        )
    )
    if not result.checks.empty:
        checks = result.checks
        rows = [
            [str(row["check"]), block_names(row["model"]), str(row["quantity"]), _text(row), row["sentence"]]
            for _, row in checks.iterrows()
        ]  # fmt: skip
        tables.append(
            Table(
                title="What would upset this",
                columns=["check", "model", "quantity", "value", "in words"],
                rows=rows,
                note="Within people, over time, by those lost to follow-up, and by what nobody measured.",
            )
        )
    if not result.elpd.empty:
        names = {
            "model": "model",
            "elpd": "log density",
            "se": "its standard error",
            "difference": "difference",
            "difference_se": "its standard error ",
            "unreliable": "subjects hard to leave out",
            "verdict": "in words",
        }
        left_out = _in_words(result.elpd[list(names)])
        # The verdict names the reference.
        reference = str(result.compared["reference"])
        left_out["verdict"] = [
            str(text).replace(f" {reference}", f" {block_names(reference)}")
            for text in left_out["verdict"]
        ]
        tables.append(
            Table.of(
                "Fitted subjects left out one at a time",
                left_out.rename(columns=names),
                "Expected log predictive density; higher is better; the difference is from the reference.",
            )
        )
    tables.append(
        Table(
            title="Fits",
            columns=["model", "can its draws be trusted?", "what to do"],
            rows=[
                [block_names(name), str(facts["verdict"]), str(facts.get("advice", ""))]
                for name, facts in result.diagnostics.items()
            ],
            note="diagnostics.json has every figure.",
        )
    )
    return tables


def _wide(
    rows: pd.DataFrame,
    metrics: Sequence[str],
    title: str,
    note: str,
    named: Callable[[str], str],
    main: float,
    *,
    signed: bool = False,
) -> Table:
    """A row a model and a column a metric, at the main horizon where the metric has one."""
    days = main * DAYS_PER_YEAR
    at = rows[rows["horizon_days"].isna() | ((rows["horizon_days"] - days).abs() < 1)]
    shown = [name for name in metrics if (at["metric"] == name).any()]
    body = []
    for model in dict.fromkeys(at["model"]):
        mine = at[at["model"] == model].drop_duplicates("metric").set_index("metric")
        cells = [_text(mine.loc[name], signed) if name in mine.index else "" for name in shown]
        body.append([str(model), *cells])
    columns = ["model", *(COLUMNS.get(name, named(name)) for name in shown)]
    return Table(title=title, columns=columns, rows=body, note=note)


def _text(row: "pd.Series[Any]", signed: bool = False) -> str:
    """`value (low to high)`, what is missing left out."""
    from spinmark_biomarkers.survival.validation.wording import short

    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    if value != value:
        p = float(row.get("p", float("nan")))
        return "" if p != p else f"p = {p:.2g}"

    def told(number: float) -> str:
        text = short(number) if abs(number) < 10 else f"{number:.3g}"
        return f"+{text}" if signed and number >= 0 else text

    # An interval is not torn apart at the end of a line.
    within = "" if low != low or high != high else f"({told(low)} to {told(high)})"
    return " ".join([told(value), *([within.replace(" ", "\N{NO-BREAK SPACE}")] if within else [])])
