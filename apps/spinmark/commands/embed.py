"""`spinmark embed --cohort COHORT --run RUN --out EMBEDDINGS`: one vector per scan."""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spinmark import artefacts, cli
from spinmark.commands import _baselines
from spinmark.errors import UsageError
from spinmark.progress import done, progress
from spinmark_training.config import EmbedConfig

# Options that came later; where they are as here, embeddings are the same as without them.
LATER = ("windows", "views", "align", "bad_scans", "radiomics", "teacher")
# Options that say in which order, and not what.
INCIDENTAL = ("shard", "piece")


@dataclass(kw_only=True)
class Embed(EmbedConfig):
    """Turn every scan into a vector.

    Args:
        cohort: The cohort.
        out: Where to write the embeddings.
        run: The run whose encoder is used, or whose encoders where it is cross-fitted.
        shard: Do one share of the work, such as 0/10 to 9/10 in the ten jobs of an array; the same command
            without it does what is left and writes the embeddings.
        voxel_pca: Instead of a run: this many principal components of the raw voxels, a baseline.
        radiomics: Instead of a run: shapes and intensities of the label maps' structures, a baseline.
        teacher: Instead of a run: what the teacher of this distilled run makes of each table row.
        split: With `voxel_pca` and `radiomics`: the split on whose training subjects they are fitted.
    """

    cohort: Path
    out: Path
    run: Path | None = None
    shard: str | None = None
    voxel_pca: int | None = None
    radiomics: bool = False
    teacher: Path | None = None
    split: Path | None = None


def _share(shard: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    if found is None or not int(found[1]) < int(found[2]):
        raise UsageError(f"--shard {shard}; accepted are 0/N to N-1/N, such as 0/10 to 9/10")
    return int(found[1]), int(found[2])


def _settings(args: Embed) -> dict[str, Any]:
    """The options that decide what is made."""
    plain = {**asdict(EmbedConfig()), "radiomics": False, "teacher": None}
    return {
        name: value
        for name, value in asdict(args).items()
        if name not in INCIDENTAL and not (name in LATER and value == plain[name])
    }


def _check(args: Embed) -> dict[str, Path | str]:
    """Check what goes with what, and return the inputs."""
    baseline = _baselines.chosen(args)
    if (args.run is None) == (baseline is None):
        raise UsageError(
            "give --run RUN, or one baseline: --voxel_pca COMPONENTS or --radiomics with --split SPLIT, "
            "--teacher RUN"
        )
    if baseline in _baselines.FITTED and args.split is None:
        raise UsageError(f"--{baseline} is fitted on training subjects: give --split SPLIT too")
    if baseline is not None and args.shard is not None:
        raise UsageError(f"--shard divides the work of a run; leave it out with --{baseline}")
    inputs: dict[str, Path | str] = {"cohort": args.cohort}
    artefacts.read(args.cohort, "cohort")
    for name, kind in (("run", "run"), ("teacher", "run"), ("split", "split")):
        path = getattr(args, name)
        if path is not None:
            artefacts.read(path, kind)
            inputs[name] = path
    if args.radiomics:
        inputs["labels"] = _baselines.labels_hash(args.cohort)
    return inputs


def _do_share(args: Embed, pieces: Path, share: tuple[int, int]) -> int:
    from spinmark_data.cohort.reader import Cohort
    from spinmark_training.embed import embed_shard

    assert args.run is not None
    with progress(f"embed: scans of share {args.shard}") as bar:
        scans = embed_shard(
            Cohort.open(args.cohort), args.run, args, pieces=pieces, shard=share, progress=bar
        )
    return done(
        f"{args.out}: share {args.shard} is there, {scans} scans",
        f"spinmark embed --cohort {args.cohort} --run {args.run} --out {args.out}, once all shares are",
    )


def _told(out: Path) -> str:
    """Say what was made, how well the spaces of folds agree, and how many scans are left out."""
    lines = [f"{out}: one vector per scan in {out}/embeddings.zarr"]
    if (out / "alignment.json").is_file():
        report = json.loads((out / "alignment.json").read_text())
        for fold, left in report["folds"].items():
            warning = (
                "; it has next to nothing in common with the others" if left["unrelated"] else ""
            )
            lines.append(
                f"  fold {fold}: residual {left['held_out']:.2f}, before alignment "
                f"{left['before']:.2f}{warning}"
            )
    if (out / "issues.parquet").is_file():
        import pandas as pd

        count = len(pd.read_parquet(out / "issues.parquet"))
        lines.append(f"  {count} scans could not be embedded, see {out}/issues.parquet")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("embed", Embed, argv)
    share = None if args.shard is None else _share(args.shard)
    inputs = _check(args)
    pieces = args.out.parent / f".{args.out.name}.pieces"
    if share is not None and not args.out.exists():
        return _do_share(args, pieces, share)

    def write(folder: Path) -> None:
        from spinmark_data.cohort.reader import Cohort
        from spinmark_training.embed import embed, write_embeddings

        cohort = Cohort.open(args.cohort)
        if args.run is not None:
            with progress("embed: scans") as bar:
                vectors = embed(cohort, args.run, args, pieces=pieces, progress=bar)
        else:
            vectors = _baselines.vectors(args, cohort)
        write_embeddings(folder, vectors)

    made = artefacts.make(args.out, "embeddings", write, config=_settings(args), inputs=inputs)
    # Only now: until the embeddings are whole, a kill leaves what the same call goes on from.
    shutil.rmtree(pieces, ignore_errors=True)
    return done(
        _told(args.out),
        f"spinmark discover --embeddings {args.out} --out PHENOTYPES",
        fresh=made.fresh,
    )
