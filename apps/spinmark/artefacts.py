"""Folders that are whole or absent, and say what they were made from.

`make` writes an artefact in a hidden folder beside its final name and moves it into place when it
is complete. Its `run.json` holds the resolved configuration, the hashes of the inputs and of every
file. An artefact that is already there, made from the same inputs and configuration, is left alone.
"""

import contextlib
import fcntl
import hashlib
import json
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spinmark.errors import InputError
from spinmark.files import write_whole
from spinmark_data.cohort.manifest import STAGING

# The schema version that this spinmark writes and reads, per kind of artefact.
VERSIONS = {
    "phantom": 1,
    "cohort": 3,
    "split": 1,
    "run": 1,
    "embeddings": 1,
    "phenotypes": 2,
    "directions": 1,
    "trajectories": 1,
    "prognosis": 2,
    "evaluation": 1,
    "quality": 1,
    "definition": 1,
    "probe": 1,
    "finetuned": 1,
    "exported-encoder": 1,
    "attribution": 1,
    "comparison": 1,
    "description": 1,
    "reading-sheets": 1,
    "readings": 1,
}
# What an unfinished artefact is to become.
MARK = ".fingerprint"
# Folders of an artefact that are no part of its hash: what hangs on the machine, the hour and the viewer.
APART = {"timing", "logs"}
# Options that change where or how fast an artefact is made, not what it is.
INCIDENTAL = {
    "out",
    "workers",
    "cluster",
    "threads",
    "config",
    "preset",
    # A run goes on with another number of processes.
    "devices",
    "num_nodes",
    "strategy",
    "timeout_minutes",
}
JOIN_SECONDS = 600.0
RECORDED_PACKAGES = (
    "numpy",
    "pandas",
    "xarray",
    "zarr",
    "torch",
    "lightning",
    "scikit-learn",
    "pymc",
    "nutpie",
)


@dataclass(frozen=True)
class Made:
    """What `make` returns.

    Args:
        path: The artefact.
        hash: The hash of its content.
        fresh: False if it was there already.
    """

    path: Path
    hash: str
    fresh: bool


def make(
    out: Path,
    kind: str,
    write: Callable[[Path], object],
    *,
    config: object,
    inputs: Mapping[str, Path | str] | None = None,
    resumable: bool = False,
    is_main: bool = True,
) -> Made:
    """Write an artefact whole, or find it whole.

    Args:
        out: Its final path; the parent folder is created.
        kind: Its schema, a key of `VERSIONS`.
        write: Fills the folder that it is given.
        config: A dataclass; all but incidental options decide whether an artefact is the same.
        inputs: Artefacts (by path) or ready-made hashes that it is made from, by the option that
            names them.
        resumable: Whether `write` can go on from what an earlier, interrupted call left.
        is_main: False for a process that helps another one to make it, which calls `write` alone.

    Raises:
        InputError: The path is taken by something else, or another process is writing it.
    """
    out = Path(out)
    hashes, settings, fingerprint = _identify(kind, config, inputs)
    if is_url(out):
        return _make_remote(out, kind, write, fingerprint, settings, hashes)
    if not is_main and _prepared(out, fingerprint):
        write(out.parent / f".{out.name}.partial")
        return Made(out, "", fresh=True)
    if out.exists():
        return _already(out, kind, fingerprint, settings, hashes)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _sole_writer(out):
        partial = out.parent / f".{out.name}.partial"
        _prepare(partial, fingerprint, resumable)
        try:
            write(partial)
        except Exception:
            if not resumable:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        content = _seal(partial, kind, fingerprint, settings, hashes)
        # Only now: until it is sealed, a kill leaves what the same call goes on from.
        (partial / MARK).unlink()
        partial.rename(out)
    return Made(out, content, fresh=True)


def extend(
    out: Path,
    kind: str,
    write: Callable[[Path], object],
    *,
    config: object,
    inputs: Mapping[str, Path | str] | None = None,
) -> Made:
    """Add a generation to an artefact that stands, and seal it anew.

    The records of earlier runs stay in its `run.json`, under `earlier`.

    Args:
        out: The artefact.
        kind: Its schema.
        write: Adds to the folder that it is given, in such a way that readers see the old content or
            the new one; called again after a kill, it finds what is done.
        config: As for `make`.
        inputs: As for `make`.

    Raises:
        InputError: There is no such artefact.
    """
    out = Path(out)
    hashes, settings, fingerprint = _identify(kind, config, inputs)
    # An object store has no such lock: what writes there has to claim it.
    with contextlib.nullcontext() if is_url(out) else _sole_writer(out):
        before = read(out, kind)
        write(out)
        earlier = before.pop("earlier", [])
        content = _contents(out, kind)[1]
        if content == before["hash"]:
            return Made(out, content, fresh=False)
        _seal(out, kind, fingerprint, settings, hashes, [*earlier, before])
        return Made(out, content, fresh=True)


def is_url(path: Path) -> bool:
    """Whether a path names an object store; `Path` leaves one slash of `s3://` or two."""
    return re.match(r"[a-z][a-z0-9+.-]+:/", str(path)) is not None


def _make_remote(
    out: Path,
    kind: str,
    write: Callable[[Path], object],
    fingerprint: str,
    settings: Any,
    hashes: Mapping[str, str],
) -> Made:
    """Write an artefact where nothing can be renamed: it is whole once its `run.json` is there."""
    from spinmark_data.cohort.location import locate

    if _text(out, "run.json") is not None:
        return _already(out, kind, fingerprint, settings, hashes)
    folder = locate(out)
    if _text(out, MARK) != fingerprint:
        if folder.exists("cohort.json"):
            raise InputError(
                f"{out}: holds a cohort that was made from something else; choose another --out, or "
                "remove it"
            )
        folder.write(MARK, fingerprint.encode())
    write(out)
    content = _seal(out, kind, fingerprint, settings, hashes)
    folder.remove(MARK)
    return Made(out, content, fresh=True)


def _identify(
    kind: str, config: object, inputs: Mapping[str, Path | str] | None
) -> tuple[dict[str, str], Any, str]:
    """Return the hashes of the inputs, the settings as JSON holds them, and the hash of both."""
    hashes = {
        name: value if isinstance(value, str) else content_hash(value)
        for name, value in sorted((inputs or {}).items())
    }
    settings = _plain(config)
    same = {
        "kind": kind,
        "version": VERSIONS[kind],
        "config": _essential(settings, hashes),
        "inputs": hashes,
    }
    return hashes, settings, _digest(same)


def _text(path: Path, name: str) -> str | None:
    """Return the content of a file of an artefact, wherever that lies, or None."""
    if not is_url(path):
        file = Path(path) / name
        return file.read_text() if file.is_file() else None
    from spinmark_data.cohort.location import locate

    folder = locate(path)
    return folder.read(name).decode() if folder.exists(name) else None


def read(path: Path, kind: str) -> dict[str, Any]:
    """Read an artefact's `run.json`, checking that it is of the kind and version asked for.

    Raises:
        InputError: Not there, not an artefact, another kind, or another schema version.
    """
    if not is_url(path) and not Path(path).is_dir():
        raise InputError(f"{path}: no such folder; {kind} made by spinmark: that is needed here")
    text = _text(path, "run.json")
    if text is None:
        raise InputError(f"{path}: has no run.json, so it is not {kind} made by spinmark")
    try:
        record: dict[str, Any] = json.loads(text)
        found, found_version = record["schema"], record["version"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}/run.json: cannot be read; make the {kind} again") from None
    if found != f"spinmark/{kind}":
        raise InputError(f"{path}: is {found}, but spinmark/{kind} is needed here")
    if found_version != VERSIONS[kind]:
        raise InputError(
            f"{path}: {found} version {found_version}, but this spinmark reads version "
            f"{VERSIONS[kind]}; make it again, or use the spinmark that made it"
        )
    return record


def content_hash(path: Path) -> str:
    """Return the hash of an artefact's content, as its `run.json` records it."""
    text = _text(path, "run.json")
    if text is None:
        raise InputError(f"{path}: has no run.json, so it is no artefact made by spinmark")
    record = json.loads(text)
    if record["schema"] == "spinmark/cohort":
        # The generation that stands, also where a kill came before it was sealed.
        return _contents(Path(path), "cohort")[1]
    return str(record["hash"])


def changed_files(path: Path) -> list[str]:
    """List the files of an artefact that are gone or not those that its `run.json` was sealed with."""
    record = json.loads(_text(path, "run.json") or "{}")
    return [
        name
        for name, sealed in sorted(record.get("files", {}).items())
        if not (Path(path) / name).is_file() or _sha256(Path(path) / name) != sealed
    ]


def listing_hash(folder: Path) -> str:
    """Hash the names, sizes and modification times below a folder that is not an artefact."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    entries = [
        (str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for stat in [path.stat()]
    ]
    if not entries:
        raise InputError(f"{folder}: is empty; a folder with DICOM or NIfTI files is needed")
    return _digest(entries)


def file_hash(path: Path) -> str:
    """Hash the content of a file that is not an artefact.

    Raises:
        InputError: There is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return _sha256(path)


def _already(
    out: Path, kind: str, fingerprint: str, settings: Any, hashes: Mapping[str, str]
) -> Made:
    if out.is_dir() and not any(out.iterdir()):
        raise InputError(f"{out}: is an empty folder; remove it, or choose another --out")
    record = read(out, kind)
    if fingerprint in (made["fingerprint"] for made in (record, *record.get("earlier", []))):
        return Made(out, str(record["hash"]), fresh=False)
    reasons = [f"input {name}" for name in hashes if record["inputs"].get(name) != hashes[name]]
    before = _flat(_essential(record["config"], hashes))
    now = _flat(_essential(settings, hashes))
    reasons += [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    raise InputError(
        f"{out}: was made from something else (differs in {', '.join(reasons[:6]) or 'schema'}); "
        "choose another --out, or remove it"
    )


def _prepare(partial: Path, fingerprint: str, resumable: bool) -> None:
    mark = partial / MARK
    same = mark.is_file() and mark.read_text() == fingerprint
    if partial.exists() and not (resumable and same):
        if any(partial.glob("**/checkpoints/step-*")):
            raise InputError(
                f"{partial}: holds a run that was cut short, with other options or inputs than these; use "
                "the same ones to go on with it, or remove that folder to begin anew"
            )
        for child in partial.iterdir():
            # Finished pieces of a resumable piece of work are checked one by one by whoever resumes.
            if resumable and child.name.startswith(STAGING):
                continue
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    partial.mkdir(exist_ok=True)
    mark.write_text(fingerprint)


def _prepared(out: Path, fingerprint: str) -> bool:
    """Wait until the main process has begun the artefact; false if it is whole already."""
    mark = out.parent / f".{out.name}.partial" / MARK
    end = time.monotonic() + JOIN_SECONDS
    while time.monotonic() < end:
        # What an earlier run of something else has left is cleared away before the mark is set.
        if mark.is_file() and mark.read_text() == fingerprint:
            return True
        if out.exists():
            return False
        time.sleep(0.1)
    raise InputError(f"{out}: the main process has not begun it; see what it says")


@contextlib.contextmanager
def _sole_writer(out: Path) -> Iterator[None]:
    """Hold a lock beside the artefact, so that two processes never write one target."""
    path = out.parent / f".{out.name}.lock"
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another process is writing it; wait for it to end") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _seal(
    folder: Path,
    kind: str,
    fingerprint: str,
    settings: Any,
    hashes: Mapping[str, str],
    earlier: list[dict[str, Any]] | None = None,
) -> str:
    files, content = _contents(folder, kind)
    record = {
        "schema": f"spinmark/{kind}",
        "version": VERSIONS[kind],
        "fingerprint": fingerprint,
        "hash": content,
        "config": settings,
        "seed": settings.get("seed"),
        "inputs": dict(hashes),
        "packages": _package_versions(),
        "git": _git_state(),
        "platform": platform.platform(),
        "files": files,
        **({"earlier": earlier} if earlier else {}),
    }
    # At once: an artefact that is extended has one that others read.
    write_whole(folder / "run.json", json.dumps(record, indent=1) + "\n")
    return content


def _contents(folder: Path, kind: str) -> tuple[dict[str, str], str]:
    """Return the sha256 of every file, and the hash of the whole."""
    if kind == "cohort":
        # It has checksums of its own, made as it was written: terabytes are not read again.
        text = _text(folder, "cohort.json") or "{}"
        sums = {"cohort.json": hashlib.sha256(text.encode()).hexdigest()}
        return sums, str(json.loads(text)["hash"])
    files = {
        str(path.relative_to(folder)): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in (MARK, "run.json", ".run.json.new")
        and not APART & {*path.relative_to(folder).parts[:-1]}
    }
    return files, _digest(files)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> Any:
    """Turn a configuration into what JSON holds."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _essential(settings: Any, inputs: Mapping[str, str]) -> Any:
    """Drop incidental options; where an input lies is one, since its hash is recorded."""
    if not isinstance(settings, dict):
        return settings
    named = {name.partition(".")[0] for name in inputs}
    return {
        key: _essential(value, inputs)
        for key, value in settings.items()
        if key not in INCIDENTAL and key not in named
    }


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict):
        return {prefix.rstrip("."): settings}
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.")
    return flat


def _package_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("spinmark", *RECORDED_PACKAGES):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _git_state() -> dict[str, Any] | None:
    """Return the commit of the source tree and whether it was changed, where there is one."""
    here = Path(__file__).parent
    try:
        run = [
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
            ).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": run[0].strip(), "changed": bool(run[1].strip())}


def size_mb(path: Path) -> float:
    """Return the size of a folder in megabytes."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
