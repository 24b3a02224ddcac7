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
    import xarray as xr

MODELS = (
    ("clinical",),
    ("kl",),
    ("embedding",),
    ("clinical", "kl"),
    ("clinical", "structure"),
    ("clinical", "structure", "phenotype"),
    ("clinical", "kl", "embedding"),
    ("clinical", "structure", "phenotype", "embedding"),
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
        models: Blocks of covariates of each model, out of clinical, kl, structure (KL and joint space width),
            morphometry (what `spinmark measure` made), phenotype and embedding.
        crossfit: Fit the models once for each fold without it and score every subject, not those of the
            test set alone; for embeddings of a cross-fitted run.
        seed: Seed of chains and bootstrap.
        out: Where to write the prognosis.
    """

    cohort: Path
    embeddings: Path
    phenotypes: Path
    out: Path
    reference: str = "clinical_kl"
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
    from spinmark_biomarkers.survival.settings import check_settings

    # Before outcomes are read, which is noted for good.
    check_settings(args)
    inputs: dict[str, Path | str] = {}
    for kind in ("cohort", "embeddings", "phenotypes"):
        inputs[kind] = getattr(args, kind)
        artefacts.read(getattr(args, kind), kind)
    if args.definition is not None:
        of_cohort(args.definition, args.cohort)
        inputs["definition"] = args.definition
    told: list[str] = []

    def write(folder: Path) -> None:
        from spinmark.designs import baseline_scans, designs, nested
        from spinmark.people import people
        from spinmark.report.prognosis_page import write_page
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
        scans = baseline_scans(embeddings)
        sets = scans.drop_duplicates("subject_id").set_index("subject_id")
        models = _possible(args, frozen.dataset, told)
        frames = designs(
            cohort,
            embeddings,
            models,
            phenotypes=frozen.dataset,
            origin=outcomes.loc[outcomes["endpoint"] == args.endpoint].set_index("joint_id")[
                "entry"
            ],
            held_out=sets.index if args.crossfit else sets.index[sets["set"] == "test"],
            tell=lambda line: told.append(f"  {line}"),
        )
        # A joint first scanned at a later visit would enter with what was not known at the origin.
        covariates = {
            name: frame[frame.index.isin(known_at.index)] for name, frame in frames.items()
        }
        if any("morphometry" in model for model in models):
            told.append(_taken(covariates, known_at.index))
        with progress("prognose: models") as bar:
            fit, groups = (
                (prognose_folds, subject_folds(embeddings))
                if args.crossfit
                else (prognose, sets["set"])
            )
            result = fit(
                outcomes,
                covariates,
                groups,
                args,
                known_at=known_at,
                groups=people(cohort, scans.reset_index()),
                ladder=["_".join(model) for model in nested(models)],
                progress=bar,
            )
        told.extend(f"  {line}" for line in result.told)
        write_prognosis(folder, result)
        (folder / PAGE).write_text(json.dumps(unsealed, indent=1, sort_keys=True) + "\n")
        write_page(folder, outcomes, frozen)

    made = artefacts.make(args.out, "prognosis", write, config=_settings(args), inputs=inputs)
    from spinmark.unsealing import read_page

    if before := read_page(args.out).get("after_unsealing"):
        told.append(f"  {before['told']}")
    told.insert(0, f"{args.out}: what each model adds, on one page: {args.out / 'prognosis.html'}")
    defined = "" if args.definition is None else f"--definition {args.definition} "
    return done(
        "\n".join(told),
        f"spinmark report --cohort {args.cohort} --embeddings {args.embeddings} "
        f"--phenotypes {args.phenotypes} --prognosis {args.out} {defined}--out report.html",
        fresh=made.fresh,
    )


def _possible(args: Prognose, phenotypes: "xr.Dataset", told: list[str]) -> list[list[str]]:
    """The models asked for; of those that are the default, those that can be had."""
    if [tuple(model) for model in args.models] != list(MODELS):
        return args.models
    reason = ""
    if args.crossfit:
        reason = "phenotypes were found on subjects that are scored"
    elif phenotypes.sizes["phenotype"] < 2:
        reason = "there is but one phenotype"
    if not reason:
        return args.models
    told.append(f"  models with phenotypes are left out: {reason}")
    kept = [[block for block in model if block != "phenotype"] for model in args.models]
    return [model for k, model in enumerate(kept) if model not in kept[:k]]


def _taken(covariates: "dict[str, pd.DataFrame]", known: "pd.Index") -> str:
    joints = min(len(frame) for frame in covariates.values())
    return (
        f"  {joints} of {len(known)} joints were measured at their first scan; all models use those"
    )


def _settings(args: Prognose) -> dict[str, object]:
    """The options, less those without effect."""
    settings = asdict(args)
    unused = [] if args.definition is not None else ["definition"]
    if not args.crossfit:
        unused.append("crossfit")
    return {name: value for name, value in settings.items() if name not in unused}
