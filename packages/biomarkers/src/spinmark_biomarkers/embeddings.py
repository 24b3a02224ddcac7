"""The embeddings artefact as this package reads it: checked, or made from a plain table."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from spinmark_biomarkers.errors import InputError

SCAN_COORDS = (
    "scan_id",
    "subject_id",
    "laterality",
    "joint_id",
    "visit",
    "rank",
    "days",
    "site",
    "scanner",
    "set",
)
SETS = ("train", "val", "test")


def _some(names: Iterable[object], most: int = 5) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def plain_strings(ds: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose string coordinates are object arrays, as they are written.

    Reading a Zarr store gives NumPy's variable-length strings, which cannot be cast to others.
    """
    texts = {
        str(name): (ds[name].dims, np.asarray(ds[name].values).astype(object))
        for name in ds.coords
        if ds[name].dtype.kind in "UT"
    }
    return ds.assign_coords(texts) if texts else ds


def open_embeddings(folder: Path) -> xr.Dataset:
    """Read an embeddings artefact into memory.

    Args:
        folder: The artefact, which holds `embeddings.zarr`.

    Raises:
        InputError: Where the store is absent, of another schema version, or fails
            `check_embeddings`.
    """
    store = folder / "embeddings.zarr"
    if not store.is_dir():
        raise InputError(f"{folder}: no embeddings.zarr; accepted is what 'spinmark embed' wrote")
    ds = xr.open_zarr(store, consolidated=False, chunks=None).load()
    found = (ds.attrs.get("schema"), ds.attrs.get("version"))
    if found != ("spinmark/embeddings", 1):
        raise InputError(
            f"{folder}: schema {found[0]} version {found[1]}; accepted is spinmark/embeddings 1"
        )
    return plain_strings(check_embeddings(ds))


def features_of_part(ds: xr.Dataset, part: str | None) -> xr.Dataset:
    """Keep the features of one part of an embedding.

    Args:
        ds: The embeddings; `part(feature)` names the part of each feature where there are such.
        part: The part; none keeps all features.

    Raises:
        InputError: There is no such part.
    """
    if part is None:
        return ds
    if "part" not in ds.variables:
        raise InputError(
            f"part: {part!r}, but these embeddings have no parts; accepted are those of a run with "
            "transfer.parts, or no part"
        )
    names = np.asarray(ds["part"].values, dtype=object).astype(str)
    if part not in names:
        raise InputError(f"part: {part!r}; accepted are {_some(sorted(set(names)))}")
    return ds.isel(feature=np.flatnonzero(names == part))


def check_embeddings(ds: xr.Dataset) -> xr.Dataset:
    """Check a dataset against the embeddings schema and return it.

    Args:
        ds: `embedding(scan, feature)` with the scan coordinates named in docs/schemas.md; `fold`
            may be absent.

    Returns:
        The same dataset, the scan's identifiers among its coordinates, strings as objects.

    Raises:
        InputError: Where a variable or coordinate is missing, a row holds NaN or infinity, a
            scan_id stands twice, or a set is not train, val or test.
    """
    if "embedding" not in ds.variables:
        raise InputError(
            f"embeddings: no variable 'embedding', found {sorted(map(str, ds.variables))}; "
            "accepted is embedding(scan, feature)"
        )
    if ds["embedding"].dims != ("scan", "feature"):
        raise InputError(
            f"embeddings: embedding has dimensions {ds['embedding'].dims}; "
            "accepted is ('scan', 'feature')"
        )
    missing = [name for name in SCAN_COORDS if name not in ds.variables]
    if missing:
        raise InputError(f"embeddings: no {_some(missing)}; accepted are {', '.join(SCAN_COORDS)}")
    ds = ds.set_coords([name for name in (*SCAN_COORDS, "fold") if name in ds.variables])
    ds = plain_strings(ds)
    if ds.sizes["scan"] == 0 or ds.sizes["feature"] == 0:
        raise InputError(
            f"embeddings: {ds.sizes['scan']} scans x {ds.sizes['feature']} features; "
            "accepted is at least one of each"
        )
    scan_ids = pd.Series(np.asarray(ds["scan_id"].values, dtype=object))
    twice = scan_ids[scan_ids.duplicated()].unique()
    if len(twice):
        raise InputError(f"embeddings: scan_id {_some(twice)} stands more than once; accepted once")
    finite = np.asarray(np.isfinite(ds["embedding"].values).all(axis=1), dtype=bool)
    if not finite.all():
        raise InputError(
            f"embeddings: not finite at {int((~finite).sum())} scans "
            f"({_some(scan_ids.to_numpy()[~finite])}); accepted are finite numbers"
        )
    strange = sorted(set(map(str, ds["set"].values)) - set(SETS))
    if strange:
        raise InputError(f"embeddings: set {_some(strange)}; accepted are {', '.join(SETS)}")
    both = pd.DataFrame({"s": ds["subject_id"].values, "set": ds["set"].values}).astype(str)
    held = both.assign(test=both["set"] == "test").groupby("s")["test"].nunique()
    if (held > 1).any():
        raise InputError(
            f"embeddings: subjects {_some(held[held > 1].index)} are both fitted and held out; "
            "accepted is one set a subject"
        )
    if "crossfit" in ds.attrs:
        _check_crossfit(ds)
    return ds


def _check_crossfit(ds: xr.Dataset) -> None:
    """Check the mark that each subject was embedded by an encoder that never saw them."""
    count = ds.attrs["crossfit"]
    if "fold" not in ds.variables:
        raise InputError(
            "embeddings: marked as cross-fitted but without 'fold'; accepted is fold(scan)"
        )
    both = pd.DataFrame({"s": ds["subject_id"].values, "fold": ds["fold"].values})
    several = both.groupby("s")["fold"].nunique()
    if (several > 1).any():
        raise InputError(
            f"embeddings: subjects {_some(several[several > 1].index)} are in several folds; "
            "accepted is one fold a subject"
        )
    if both["fold"].nunique() > count:
        raise InputError(
            f"embeddings: {both['fold'].nunique()} folds, but crossfit is {count}; accepted are as "
            "many or fewer"
        )


def never_seen(ds: xr.Dataset) -> npt.NDArray[np.bool_]:
    """Return which scans are of subjects whom the encoder that embedded them was not trained on.

    Args:
        ds: Embeddings that passed `check_embeddings`. All scans of cross-fitted embeddings are; of
            others those outside of the training set.

    Returns:
        A value a scan.
    """
    if "crossfit" in ds.attrs:
        return np.ones(ds.sizes["scan"], bool)
    return np.asarray(ds["set"].values.astype(str) != "train")


def subject_folds(ds: xr.Dataset) -> pd.Series:
    """Return the fold of each subject of cross-fitted embeddings, indexed by subject_id.

    Raises:
        InputError: The embeddings are not cross-fitted, so that an encoder has seen its subjects.
    """
    if "crossfit" not in ds.attrs:
        raise InputError(
            f"embeddings: {int((~never_seen(ds)).sum())} scans are of subjects whom the encoder was "
            "trained on; accepted are embeddings of a cross-fitted run (spinmark pretrain --fold all)"
        )
    both = pd.DataFrame({"subject_id": ds["subject_id"].values, "fold": ds["fold"].values})
    return both.drop_duplicates("subject_id").set_index("subject_id")["fold"]


def scan_frame(ds: xr.Dataset) -> pd.DataFrame:
    """Return the scan coordinates as a frame, a row a scan in the dataset's order."""
    return pd.DataFrame(
        {
            name: np.asarray(ds[name].values).astype(object)
            if ds[name].dtype.kind in "OUT"
            else np.asarray(ds[name].values)
            for name in SCAN_COORDS
        }
    )


def _plain(name: str) -> str:
    """An identifier less what a spreadsheet, a number or a joint's side adds to it."""
    bare = name.strip().casefold().removesuffix(".0")
    for side in (":r", ":l"):
        bare = bare.removesuffix(side)
    return bare.lstrip("0")


def _fitted(given: Iterable[str], subjects: pd.Series) -> set[str]:
    """Check the names of those whom an encoder was fitted on.

    Raises:
        InputError: A single text instead of a list, or names that are those of subjects but for their
            spelling: these would pass for people whom the encoder never saw.
    """
    if isinstance(given, str):
        raise InputError(
            f"fitted_subjects: the text {given!r}; accepted is a list of subject_ids, [] for none"
        )
    fitted = {str(s) for s in given}
    known = set(subjects)
    plain = {_plain(name): name for name in sorted(known)}
    near = {name: plain[_plain(name)] for name in sorted(fitted - known) if _plain(name) in plain}
    if near:
        pairs = [f"{name!r} for {own!r}" for name, own in near.items()]
        raise InputError(
            f"fitted_subjects: {_some(pairs)}; accepted are subject_ids written as in the table, else these "
            "subjects would count as held out although the encoder saw them"
        )
    return fitted


def from_frame(
    frame: pd.DataFrame | Path,
    *,
    fitted_subjects: Iterable[str],
    features: Iterable[str] | None = None,
) -> xr.Dataset:
    """Make an embeddings dataset from a table, for embeddings that spinmark did not compute.

    Args:
        frame: A row a scan, or the path of such a CSV. `subject_id` is required; `laterality`,
            `visit`, `rank`, `days`, `site` and `scanner` are taken where present.
        fitted_subjects: Everyone whom the encoder saw. They form the train set, all others the
            test set: no figure may be reported on a subject that the encoder was fitted on.
        features: Feature columns; by default all numeric columns that are not coordinates.

    Raises:
        InputError: Where a column is missing or is not numeric, a fitted subject is written in another
            way than in the table, or the result fails `check_embeddings`.
    """
    name = "frame"
    if isinstance(frame, Path):
        name = str(frame)
        try:
            frame = pd.read_csv(frame, dtype={"subject_id": str, "visit": str, "laterality": str})
        except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
            raise InputError(f"{name}: cannot be read as CSV ({error})") from error
    if "subject_id" not in frame.columns:
        raise InputError(
            f"{name}: no column 'subject_id', found {_some(frame.columns)}; accepted is a row a "
            "scan with subject_id and numeric features"
        )
    known = {*SCAN_COORDS, "fold"}
    if features is None:
        features = [
            str(c)
            for c in frame.columns
            if c not in known and pd.api.types.is_numeric_dtype(frame[c])
        ]
    columns = list(features)
    absent = [c for c in columns if c not in frame.columns]
    if absent or not columns:
        raise InputError(
            f"{name}: feature columns {_some(absent) or 'none'} not found; accepted are numeric "
            f"columns among {_some(frame.columns)}"
        )
    words = [c for c in columns if not pd.api.types.is_numeric_dtype(frame[c])]
    if words:
        raise InputError(
            f"{name}: feature columns {_some(words)} are not numeric; accepted numbers"
        )

    def text(column: str, default: str) -> pd.Series:
        if column not in frame.columns:
            return pd.Series([default] * len(frame), dtype=object)
        return frame[column].reset_index(drop=True).fillna(default).astype(str).astype(object)

    subject, side, visit = text("subject_id", ""), text("laterality", ""), text("visit", "V00")
    rank = frame["rank"].to_numpy(np.int64) if "rank" in frame else np.zeros(len(frame), np.int64)
    days = frame["days"].to_numpy(np.float64) if "days" in frame else np.zeros(len(frame))
    fitted = _fitted(fitted_subjects, subject)
    parts = zip(subject, side, visit, rank, strict=True)
    scan_id = [f"{s}:{lat}:{v}:unknown:{r}" for s, lat, v, r in parts]
    coords = {
        "scan_id": text("scan_id", "") if "scan_id" in frame else pd.Series(scan_id, dtype=object),
        "subject_id": subject,
        "laterality": side,
        "joint_id": (subject + ":" + side).astype(object),
        "visit": visit,
        "rank": rank,
        "days": days,
        "site": text("site", ""),
        "scanner": text("scanner", ""),
        "set": pd.Series(["train" if s in fitted else "test" for s in subject], dtype=object),
        "fold": np.zeros(len(frame), np.int64),
    }
    ds = xr.Dataset(
        {"embedding": (("scan", "feature"), frame[columns].to_numpy(np.float32))},
        coords={key: ("scan", np.asarray(value)) for key, value in coords.items()},
        attrs={"schema": "spinmark/embeddings", "version": 1, "objective": "unknown"},
    )
    return check_embeddings(ds)
