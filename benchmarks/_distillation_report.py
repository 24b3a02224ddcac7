"""What the study of distillation says: gains over self-supervision, a table, a picture, one line of JSON."""

from collections.abc import Iterable, Mapping
from pathlib import Path

SELF = "self-supervised"
COUPLINGS = (0.0, 0.33, 0.67)
LABELS = (50, 200)


class Gains:
    """Paired differences between arms, as `spinmark probe` wrote them.

    Args:
        folder: What it wrote.
    """

    def __init__(self, folder: Path) -> None:
        import pandas as pd

        self._rows = pd.read_parquet(folder / "differences.parquet")

    def of(self, arm: str, labels: int | str, metric: str = "r2", **where: str) -> dict[str, float]:
        """The difference of an arm from self-supervision: `value`, `low`, `high`.

        Args:
            arm: The arm.
            labels: Labelled joints.
            metric: The metric.
            where: Other columns; by default the mean over the true latents.
        """
        wanted = {
            "target": "mean",
            "role": "latent",
            "scheme": "held-out",
            "probe": "linear",
            **where,
        }
        wanted |= {"arm": arm, "against": SELF, "labels": str(labels), "metric": metric}
        rows = self._rows
        for column, value in wanted.items():
            rows = rows[rows[column] == value]
        if len(rows) != 1:
            raise SystemExit(f"{len(rows)} rows of {wanted}; one is expected")
        return {name: float(rows[name].iloc[0]) for name in ("value", "low", "high")}


def figures_of(gains: Gains) -> dict[str, float | None]:
    """The figures of the last line."""
    distilled = {n: gains.of("distilled", n) for n in LABELS}
    missing = {n: gains.of("missing", n) for n in LABELS}
    nothing = {n: gains.of("coupling-0", n) for n in LABELS}
    site = gains.of("distilled", "all", "site_leak_ratio", target="site", role="administrative")
    whole = sum(distilled[n]["value"] for n in LABELS)
    # Of a gain that is not there no share can be kept.
    shown = all(distilled[n]["low"] > 0 for n in LABELS)
    kept = sum(missing[n]["value"] for n in LABELS) / whole if shown else None
    return {
        **{f"structural_gain_{n}_low": round(distilled[n]["low"], 4) for n in LABELS},
        "gain_kept_at_50_missing": None if kept is None else round(kept, 3),
        "site_leak_ratio": round(site["value"], 3),
        # The widest of the two budgets: neither may exclude zero.
        "zero_coupling_gain_low": round(min(nothing[n]["low"] for n in LABELS), 4),
        "zero_coupling_gain_high": round(max(nothing[n]["high"] for n in LABELS), 4),
    }


def cell(found: Mapping[str, float]) -> str:
    """A figure and its interval."""
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def tables(gains: Gains, probe_folder: Path, arms: Iterable[str]) -> str:
    """What each arm reads of the true structure, and its gain over self-supervision, as Markdown."""
    import pandas as pd

    rows = pd.read_parquet(probe_folder / "probe.parquet")
    rows = rows[(rows["run"] == "all") & (rows["target"] == "mean") & (rows["role"] == "latent")]
    rows = rows[(rows["probe"] == "linear") & (rows["scheme"] == "held-out")]
    level = rows[rows["metric"] == "r2"].set_index(["arm", "labels"])
    head = [
        f"{kind}, {n} labels" for kind in ("R2", "gain", "gain beyond demographics") for n in LABELS
    ]
    lines = ["| arm | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for arm in (SELF, *arms):
        cells = [cell(level.loc[(arm, str(n))]) for n in LABELS]
        for metric in ("r2", "r2_beyond_demographics"):
            cells += ["" if arm == SELF else cell(gains.of(arm, n, metric)) for n in LABELS]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(gains: Gains, out: Path) -> None:
    """Draw the gain against the share of knees whose tables follow the disease."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    doses = {**{share: f"coupling-{share:g}" for share in COUPLINGS}, 1.0: "distilled"}
    for labels, colour in zip(LABELS, ("#0072B2", "#D55E00"), strict=True):
        found = [gains.of(arm, labels) for arm in doses.values()]
        value = [f["value"] for f in found]
        reach = [[f["value"] - f["low"] for f in found], [f["high"] - f["value"] for f in found]]
        shift = 0.008 if labels == LABELS[0] else -0.008
        places = [share + shift for share in doses]
        axes.errorbar(
            places,
            value,
            reach,
            color=colour,
            marker="o",
            capsize=3,
            label=f"{labels} labelled joints",
        )
    axes.axhline(0, color="0.5", linewidth=1)
    axes.set_xlabel("share of knees whose tables follow the disease")
    axes.set_ylabel("gain in mean R2 over self-supervision")
    axes.legend(frameon=False)
    figure.savefig(out, dpi=150)
