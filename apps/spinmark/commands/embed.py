"""`spinmark embed --cohort COHORT --run RUN --out EMBEDDINGS`: one vector per scan."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.errors import UsageError
from spinmark.progress import done, progress
from spinmark_training.config import EmbedConfig


@dataclass(kw_only=True)
class Embed(EmbedConfig):
    """Turn every scan into a vector.

    Args:
        cohort: The cohort.
        out: Where to write the embeddings.
        run: The run whose encoder is used.
        voxel_pca: Instead of a run: this many principal components of the raw voxels, a baseline.
        split: With `voxel_pca`: the split; the components are fitted on its training subjects.
    """

    cohort: Path
    out: Path
    run: Path | None = None
    voxel_pca: int | None = None
    split: Path | None = None


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("embed", Embed, argv)
    if (args.run is None) == (args.voxel_pca is None):
        raise UsageError("give --run RUN, or --voxel_pca COMPONENTS with --split SPLIT")
    if args.voxel_pca is not None and args.split is None:
        raise UsageError("--voxel_pca is fitted on training subjects: give --split SPLIT too")
    inputs: dict[str, Path | str] = {"cohort": args.cohort}
    artefacts.read(args.cohort, "cohort")
    for kind in ("run", "split"):
        path = getattr(args, kind)
        if path is not None:
            artefacts.read(path, kind)
            inputs[kind] = path

    def write(folder: Path) -> None:
        from spinmark_data.cohort.reader import Cohort
        from spinmark_data.splits import read_split
        from spinmark_training.embed import embed, write_embeddings

        cohort = Cohort.open(args.cohort)
        if args.run is not None:
            with progress("embed: scans") as bar:
                vectors = embed(cohort, args.run, args, progress=bar)
        else:
            from spinmark_training.baselines import voxel_pca

            assert args.split is not None
            assert args.voxel_pca is not None
            vectors = voxel_pca(cohort, read_split(args.split), components=args.voxel_pca)
        write_embeddings(folder, vectors)

    made = artefacts.make(args.out, "embeddings", write, config=args, inputs=inputs)
    return done(
        f"{args.out}: one vector per scan in {args.out}/embeddings.zarr",
        f"spinmark discover --embeddings {args.out} --out PHENOTYPES",
        fresh=made.fresh,
    )
