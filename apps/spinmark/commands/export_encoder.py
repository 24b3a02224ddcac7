"""`spinmark export-encoder --run RUN --out DIR`: an encoder for somebody who has no cohort."""

from dataclasses import dataclass
from pathlib import Path

from spinmark import artefacts, cli
from spinmark.errors import InputError, UsageError
from spinmark.progress import done

# Directions of array axes, by the LPS axis that they run along and whether downwards on it.
_WAYS = (
    ("right to left", "left to right"),
    ("anterior to posterior", "posterior to anterior"),
    ("inferior to superior", "superior to inferior"),
)


@dataclass(kw_only=True)
class ExportEncoder:
    """Write the encoder of a run into a folder that spinmark-models alone can use.

    Args:
        run: The run.
        out: The folder to make.
        cohort: The cohort of the run; the folder then tells how a volume has to lie.
        fold: Of a cross-fitted run, the fold whose encoder is meant.
        onnx: Write encoder.onnx too, once it agrees with the encoder; needs spinmark-models[onnx].
    """

    run: Path
    out: Path
    cohort: Path | None = None
    fold: int | None = None
    onnx: bool = False


def main(argv: list[str]) -> int:
    """Run the command."""
    args = cli.parse("export-encoder", ExportEncoder, argv)
    artefacts.read(args.run, "run")
    encoder = _folder(args)
    inputs: dict[str, Path | str] = {"run": args.run}
    if args.cohort is not None:
        artefacts.read(args.cohort, "cohort")
        inputs["cohort"] = args.cohort

    def write(folder: Path) -> None:
        from spinmark_data.splits import read_split
        from spinmark_models.handover import hand_over

        hand_over(
            encoder,
            folder,
            axes=None if args.cohort is None else _axes(args.cohort, encoder),
            onnx=args.onnx,
            names=read_split(encoder.parent).frame["subject_id"],
        )

    # Without the paths of this machine: the folder goes to somebody else.
    config = {"fold": args.fold, "onnx": args.onnx}
    made = artefacts.make(args.out, "exported-encoder", write, config=config, inputs=inputs)
    return done(_told(args), _next(args), fresh=made.fresh)


def _folder(args: ExportEncoder) -> Path:
    """Return the encoder's folder of a run."""
    folds = sorted(args.run.glob("fold-*/encoder"), key=lambda path: path.parent.name)
    if not folds:
        if args.fold is not None:
            raise UsageError(f"--fold {args.fold}: {args.run} has one encoder; leave it out")
        return args.run / "encoder"
    known = [path.parent.name.removeprefix("fold-") for path in folds]
    if str(args.fold) not in known:
        given = "" if args.fold is None else f", not {args.fold}"
        raise UsageError(
            f"{args.run} has an encoder for each fold: give --fold, one of {', '.join(known)}{given}"
        )
    return args.run / f"fold-{args.fold}" / "encoder"


def _axes(cohort: Path, encoder: Path) -> str:
    """Say how the volumes of a cohort lie; the axes of all scans of a sequence have to agree."""
    import numpy as np

    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.ingest.geometry import lps_axes
    from spinmark_models.export import load_encoder

    spec = load_encoder(encoder)[1]
    sequence = str(spec.extra["sequence"])
    opened = Cohort.open(cohort)
    scans, affines, _ = opened.coordinates(sequence)
    found = set()
    for affine in np.asarray(affines, np.float64):
        along = lps_axes(affine)
        ways = [_WAYS[lps][int(affine[lps, axis] < 0)] for axis, lps in enumerate(along)]
        found.add(", ".join(f"{name} from {way}" for name, way in zip("zyx", ways, strict=True)))
    if len(found) != 1:
        raise InputError(
            f"{cohort}: the axes of {sequence} run in {len(found)} ways ({'; '.join(sorted(found))}), so "
            "that none can be told; leave --cohort out, and tell them yourself"
        )
    told = [found.pop()]
    left = scans.loc[scans["laterality"] == "L", "mirrored"].astype(bool)
    if left.all() and len(left):
        told.append("left joints mirrored from right to left")
    elif len(left):
        told.append(f"{left.sum()} of {len(left)} scans of left joints mirrored")
    whole = tuple(opened.images(sequence)["volume"].shape[-3:])
    if whole != spec.input_shape:
        told.append(f"a part of a volume of {whole}, with the percentiles of the whole")
    return "; ".join(told)


def _told(args: ExportEncoder) -> str:
    """Say what was made, as the folder tells it."""
    import json

    page = json.loads((args.out / "encoder.json").read_text())
    use = json.loads((args.out / "use.json").read_text())
    grid = " x ".join(map(str, page["input_shape"]))
    lines = [
        f"{args.out}: an encoder of {grid} voxels, sha256 {page['weights_sha256'][:12]}..., with README.md"
    ]
    if use["onnx"] is not None:
        lines.append(
            f"  encoder.onnx agrees with it within {use['onnx']['difference']:.1g} standard deviations"
        )
    if use["axes"] is None:
        lines.append("  how a volume lies is not told; --cohort COHORT would tell it")
    return "\n".join(lines)


def _next(args: ExportEncoder) -> str:
    return (
        f"spinmark_models.embed.embed_volumes({str(args.out)!r}, volume, spacing_mm=...), see "
        "docs/tasks/use-an-encoder.md"
    )
