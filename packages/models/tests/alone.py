"""Runs a script in a process that has spinmark-models, what it declares, and nothing else."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import spinmark_models

_GUARD = """
import json, sys
allowed, paths = json.loads(sys.argv.pop(1)), json.loads(sys.argv.pop(1))
sys.path[:0] = paths
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{top} is not installed here", name=top)
sys.meta_path.insert(0, Refuse())
"""
# Loaded by whatever means, these would be the rest of spinmark.
_END = """
strays = {name.partition(".")[0] for name in sys.modules} & {
    "spinmark", "spinmark_data", "spinmark_training", "spinmark_biomarkers", "lightning", "monai",
    "pandas", "xarray", "zarr", "dask", "sklearn", "scipy", "pymc", "pydicom"}
assert not strays, strays
"""


def closure(*names: str) -> set[str]:
    """Distributions that these need, themselves among them, without extras."""
    found: set[str] = set()
    left = [name.lower() for name in names]
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop())
        if name in found:
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # For another platform or another Python.
        found.add(name)
        left += [re.split(r"[^\w.-]", need)[0].lower() for need in needs if "extra ==" not in need]
    return found


def modules_of(distributions: set[str]) -> list[str]:
    """Top-level modules of distributions."""
    found = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if {re.sub(r"[-_.]+", "-", owner.lower()) for owner in owners} & distributions
    }
    return sorted(found | {"spinmark_models"})


def run_alone(script: str, *args: object, beside: tuple[str, ...] = ()) -> str:
    """Runs a script, and returns what it prints.

    Args:
        script: Its arguments are in `sys.argv[1:]`.
        args: The arguments.
        beside: Further distributions that it may use, with what they need.
    """
    source = Path(spinmark_models.__file__).parents[1]
    torch_home = Path(importlib.metadata.distribution("torch").locate_file(""))
    given = [
        json.dumps(modules_of(closure("spinmark-models", *beside))),
        json.dumps([str(source), str(torch_home)]),
        *map(str, args),
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-W",
            "error::UserWarning",
            "-c",
            _GUARD + script + _END,
            *given,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
