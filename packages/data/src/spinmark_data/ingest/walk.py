"""The files of a release, and what of it cannot be followed or read."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from spinmark_data.ingest.source import Issue

MISSING = "links to nothing"


@dataclass(kw_only=True)
class Tree:
    """What a folder holds.

    Args:
        files: Names of regular files by their folder, both sorted; hidden ones are passed over.
        missing: Names of links to nothing by their folder.
        issues: What is left out: links to nothing, links to folders, what is no file, and folders that
            cannot be opened.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)


def walk(release: Path) -> Tree:
    """List the files of a folder and of the folders below it.

    A link to a file counts as that file. A link to a folder is not followed: it may lead in a circle,
    or to what is in the release already.

    Args:
        release: The folder.
    """
    tree = Tree()
    _list(release, ".", tree)
    for folder, names in tree.missing.items():
        where, reason = folder, f"{len(names)} of its files are {MISSING}"
        if len(names) == 1:
            where, reason = _join(folder, names[0]), "a link to nothing"
        tree.issues.append((where, "refused", reason, "fetch the file" + "s" * (len(names) > 1)))
    return tree


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _list(release: Path, folder: str, tree: Tree) -> None:
    try:
        with os.scandir(release / folder) as listed:
            entries = sorted(
                (e for e in listed if not e.name.startswith(".")), key=lambda e: e.name
            )
    except PermissionError:
        tree.issues.append((folder, "refused", "the folder may not be opened", "allow reading it"))
        return
    files, children = [], []
    for entry in entries:
        name = _join(folder, entry.name)
        # Only links are asked of the disk, so that a large release is listed fast.
        if entry.is_symlink() and not os.access(entry.path, os.F_OK):
            tree.missing.setdefault(folder, []).append(entry.name)
        elif entry.is_file():
            files.append(entry.name)
        elif entry.is_dir(follow_symlinks=False):
            children.append(name)
        elif entry.is_dir():
            reason = "a link to a folder is not followed"
            tree.issues.append((name, "refused", reason, "copy the folder to its place"))
        else:
            tree.issues.append((name, "refused", "no regular file", "remove it"))
    if files:
        tree.files[folder] = files
    for child in children:
        _list(release, child, tree)
