"""Outcomes are read for frozen labels only, and what was read leaves a line that later labels are told of."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinmark import artefacts
from spinmark.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from spinmark_biomarkers.phenotypes.discover import Phenotypes

# What a prognosis says of the labels that it was made for.
PAGE = "unsealed.json"


def frozen_phenotypes(folder: Path) -> "Phenotypes":
    """Read phenotypes whose files, labels and facts are as `spinmark discover` left them.

    Raises:
        InputError: A file is not the one that was sealed, or a hash that froze the labels does not hold.
    """
    from spinmark_biomarkers.phenotypes.store import read_phenotypes

    frozen = read_phenotypes(folder)
    changed = artefacts.changed_files(folder)
    if changed:
        raise InputError(
            f"{folder}: {changed[0]} is not what was sealed; outcomes are read for phenotypes as "
            "discovered: run "
            "'spinmark discover' again"
        )
    return frozen


def unseal(
    frozen: "xr.Dataset", *, endpoint: str, cohort: Path, embeddings: Path, phenotypes: Path
) -> dict[str, Any]:
    """Note that outcomes are about to be read for frozen labels.

    Args:
        frozen: The labels.
        endpoint: The endpoint.
        cohort: The cohort whose outcomes they are.
        embeddings: What the labels were found in.
        phenotypes: The labels' artefact.

    Returns:
        What a prognosis keeps of it: the hashes, the settings, and what came before (`after_unsealing`, or
        null).
    """
    from spinmark_biomarkers.phenotypes import history

    entry = history.unsealing(frozen, endpoint)
    places = [path for path in (cohort, embeddings, phenotypes) if not artefacts.is_url(path)]
    history.record(entry, places)
    return {
        "frozen_hash": entry.frozen_hash,
        "label_hash": entry.label_hash,
        "settings": entry.settings,
        "endpoint": endpoint,
        "after_unsealing": history.after_unsealing(frozen, history.unsealings(places)),
    }


def unsealed_before(
    found: "Phenotypes", embeddings: Path, cohort: Path | None = None
) -> "Phenotypes":
    """Let labels that were just made say whether outcomes had been read for others.

    Args:
        found: The labels.
        embeddings: What they were found in; its cohort is looked for where it lay when it was embedded.
        cohort: The cohort, where it is known.

    Returns:
        The same, with `after_unsealing` among the facts where it applies.
    """
    from dataclasses import replace

    from spinmark_biomarkers.phenotypes import history

    given = [] if cohort is None or artefacts.is_url(cohort) else [cohort]
    places = [embeddings, *given, *_cohorts(embeddings)]
    told = history.after_unsealing(found.dataset, history.unsealings(places))
    if told is None:
        return found
    return replace(found, facts={**found.facts, "after_unsealing": told})


def read_page(prognosis: Path) -> dict[str, Any]:
    """Read what a prognosis says of the labels that it was made for; nothing of an earlier spinmark's."""
    path = prognosis / PAGE
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def check_phenotypes(prognosis: Path, phenotypes: Path) -> None:
    """See to it that risk is shown by the labels that a prognosis was made for.

    Raises:
        InputError: They are others.
    """
    made_for = artefacts.read(prognosis, "prognosis")["inputs"].get("phenotypes")
    if made_for != artefacts.content_hash(phenotypes):
        raise InputError(
            f"{prognosis}: was made for other phenotypes than {phenotypes}; run 'spinmark prognose' for these, "
            "which notes that their outcomes are read"
        )


def _cohorts(embeddings: Path) -> list[Path]:
    """Where the cohort of embeddings lies: under the name it had then, from here or from a folder above."""
    record = artefacts.read(embeddings, "embeddings")
    named = record.get("config", {}).get("cohort")
    if not isinstance(named, str) or artefacts.is_url(Path(named)):
        return []
    found = [folder / named for folder in (Path(), *embeddings.resolve().parents)]
    return [path for path in found if record["inputs"].get("cohort") in _generations(path)]


def _generations(cohort: Path) -> set[str]:
    """The hashes that a cohort has had; none where there is no cohort."""
    path = cohort / "cohort.json"
    if not path.is_file():
        return set()
    manifest = json.loads(path.read_text())
    return {manifest["hash"], *(one["hash"] for one in manifest.get("generations", []))}
