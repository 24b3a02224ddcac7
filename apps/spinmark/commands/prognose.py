"""`spinmark prognose --cohort COHORT --embeddings EMBEDDINGS --out PROGNOSIS`: ten-year risk."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spinmark import artefacts, cli
from spinmark.commands.define import of_cohort
from spinmark.designs import check_models
from spinmark.errors import InputError
from spinmark.progress import done, progress
from spinmark_biomarkers.survival.config import PrognoseConfig

if TYPE_CHECKING:
    import pandas as pd

MODELS = (
    ("clinical",),
    ("kl",),
    ("embedding",),
    ("clinical", "kl"),
    ("clinical", "embedding"),
    ("clinical", "kl", "embedding"),
)


@dataclass(kw_only=True)
class Prognose(PrognoseConfig):
    """Estimate ten-year risk with death competing.

    Args:
        cohort: The cohort.
        embeddings: The embeddings.
        phenotypes: Frozen phenotypes; needed before outcomes are read.
        definition: Take the joints that this definition left in, and its endpoints in place of the
            cohort's outcomes.
        models: Blocks of covariates of each model, out of clinical, kl, embedding and morphometry; the
            last takes what `spinmark measure` made.
        crossfit: Fit the models once for each fold without it and score every subject, not those of the
            test set alone; for embeddings of a cross-fitted run.
        seed: Seed of chains and bootstrap.
        out: Where to write the prognosis.
    """

    cohort: Path
    embeddings: Path
    phenotypes: Path
    out: Path
    definition: Path | None = None
    models: list[list[str]] = field(default_factory=lambda: [list(model) for model in MODELS])
    crossfit: bool = False
    seed: int = 0


def outcomes_of(definition: Path) -> "pd.DataFrame":
    """The outcomes that a definition built.

    Raises:
        InputError: It built none.
    """
    import pandas as pd

    path = definition / "endpoints" / "outcomes.parquet"
    if not path.is_file():
        raise InputError(
            f"{definition}: has no endpoints; name some under `endpoints:` and run `spinmark define` again"
        )
    return pd.read_parquet(path)


def check_definition(prognosis: Path | None, definition: Path | None, cohort: Path) -> None:
    """See to it that outcomes are taken of the endpoint that a prognosis was made from.

    Raises:
        InputError: The prognosis was made with another definition, with one that is not given, or
            without any.
    """
    if definition is not None:
        of_cohort(definition, cohort)
    if prognosis is None:
        return
    used = artefacts.read(prognosis, "prognosis")["inputs"].get("definition")
    if definition is None:
        if used is not None:
            raise InputError(
                f"{prognosis}: was made with a definition; give that one as --definition"
            )
    elif used is None:
        raise InputError(f"{prognosis}: was made without a definition; leave --definition out")
    elif used != artefacts.content_hash(definition):
        raise InputError(f"{prognosis}: was made with another definition than {definition}")


def _later(known_at: "pd.Series", definition: Path) -> "pd.Series":
    """The later of the days at which phenotypes and a definition's joints were known, of joints of both."""
    import numpy as np
    import pandas as pd

    joints = pd.read_parquet(definition / "joints.parquet").set_index("joint_id")["known_at"]
    both = known_at.index.intersection(joints.index)
    # maximum, not fmax: a day that is unknown stays unknown.
    return pd.Series(np.maximum(known_at.loc[both], joints.loc[both]), index=both)


def checked(outcomes: "pd.DataFrame", endpoint: str) -> "pd.DataFrame":
    """Refuse an endpoint with other causes than the models know.

    Raises:
        InputError: There are such rows.
    """
    causes = set(outcomes.loc[outcomes["endpoint"] == endpoint, "cause"].astype(str))
    if strange := sorted(causes - {"event", "death", "censored"}):
        raise InputError(
            f"endpoint '{endpoint}': has rows of the cause {strange}; event, death and censored are "
            "accepted: define it with `replacement: censored` or `replacement: event`"
        )
    return outcomes


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("prognose", Prognose, argv)
    check_models(args.models)
    args.sampler.seed = args.seed
    inputs: dict[str, Path | str] = {}
    for kind in ("cohort", "embeddings", "phenotypes"):
        inputs[kind] = getattr(args, kind)
        artefacts.read(getattr(args, kind), kind)
    if args.definition is not None:
        of_cohort(args.definition, args.cohort)
        inputs["definition"] = args.definition
    told = [
        f"{args.out}: cumulative incidence, metrics and diagnostics of {len(args.models)} models"
    ]

    def write(folder: Path) -> None:
        from spinmark.designs import baseline_scans, designs
        from spinmark.unsealing import PAGE, frozen_phenotypes, unseal
        from spinmark_biomarkers.embeddings import open_embeddings, subject_folds
        from spinmark_biomarkers.survival.crossfit import prognose_folds
        from spinmark_biomarkers.survival.prognosis import prognose
        from spinmark_biomarkers.survival.store import write_prognosis
        from spinmark_data.cohort.reader import Cohort

        cohort, embeddings = Cohort.open(args.cohort), open_embeddings(args.embeddings)
        frozen = frozen_phenotypes(args.phenotypes)
        unsealed = unseal(
            frozen.dataset,
            endpoint=args.endpoint,
            cohort=args.cohort,
            embeddings=args.embeddings,
            phenotypes=args.phenotypes,
        )
        known_at = frozen.known_at.set_index("joint_id")["known_at"]
        if args.definition is None:
            outcomes = cohort.table("outcomes")
            if not len(outcomes):
                raise InputError(
                    f"{args.cohort}: has no outcomes; ingest a release with OUTCOMES99"
                )
        else:
            outcomes = outcomes_of(args.definition)
            known_at = _later(known_at, args.definition)
        outcomes = checked(outcomes, args.endpoint)
        # A joint first scanned at a later visit would enter with what was not known at the origin.
        covariates = {
            name: frame[frame.index.isin(known_at.index)]
            for name, frame in designs(cohort, embeddings, args.models).items()
        }
        if _measured(args):
            told.append(_taken(covariates, known_at.index))
        sets = baseline_scans(embeddings).drop_duplicates("subject_id").set_index("subject_id")
        with progress("prognose: models") as bar:
            fit, groups = (
                (prognose_folds, subject_folds(embeddings))
                if args.crossfit
                else (prognose, sets["set"])
            )
            result = fit(outcomes, covariates, groups, args, known_at=known_at, progress=bar)
        write_prognosis(folder, result)
        (folder / PAGE).write_text(json.dumps(unsealed, indent=1, sort_keys=True) + "\n")

    made = artefacts.make(args.out, "prognosis", write, config=_settings(args), inputs=inputs)
    from spinmark.unsealing import read_page

    if before := read_page(args.out).get("after_unsealing"):
        told.append(f"  {before['told']}")
    defined = "" if args.definition is None else f"--definition {args.definition} "
    return done(
        "\n".join(told),
        f"spinmark report --cohort {args.cohort} --embeddings {args.embeddings} "
        f"--phenotypes {args.phenotypes} --prognosis {args.out} {defined}--out report.html",
        fresh=made.fresh,
    )


def _measured(args: Prognose) -> bool:
    return any("morphometry" in model for model in args.models)


def _taken(covariates: "dict[str, pd.DataFrame]", known: "pd.Index") -> str:
    joints = min(len(frame) for frame in covariates.values())
    return (
        f"  {joints} of {len(known)} joints were measured at their first scan; all models use those"
    )


def _settings(args: Prognose) -> dict[str, object]:
    """The options, less those without effect, so that an earlier prognosis without them is the same."""
    settings = asdict(args)
    unused = [] if args.definition is not None else ["definition"]
    if not args.crossfit:
        unused.append("crossfit")
    if not _measured(args):
        unused += ["morphometry_components", "morphometry_prefix"]
    if [tuple(model) for model in args.models] == list(MODELS):
        unused.append("models")
    return {name: value for name, value in settings.items() if name not in unused}
