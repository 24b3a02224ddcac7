"""Typed configuration: a preset or a YAML file, and dotted options that override it."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from spinmark.errors import UsageError

Config = TypeVar("Config")


def preset_path(command: str, name: str) -> Path:
    """Return the file of a packaged preset.

    Args:
        command: The subcommand, such as `pretrain`.
        name: The preset, such as `demo`.

    Raises:
        UsageError: No such preset; the message lists those there are.
    """
    folder = Path(str(files("spinmark") / "presets" / command))
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise UsageError(f"--preset {name}: no such preset of {command}; there are {known}")
    return folder / f"{name}.yaml"


def parse(
    command: str,
    config_class: type[Config],
    argv: Sequence[str],
    aliases: Mapping[str, Sequence[str]] | None = None,
) -> Config:
    """Read a command's configuration.

    Args:
        command: The subcommand.
        config_class: A dataclass; its fields are the options, its docstring their help.
        argv: The words after the subcommand.
        aliases: Words that stand for others, such as `--from` for a field that Python cannot name.

    Returns:
        The configuration. `--config FILE` or `--preset NAME` comes first, dotted options override it.

    Raises:
        UsageError: An unknown key, a wrong type or a missing option, named in one line.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(
        prog=f"spinmark {command}",
        description=(config_class.__doc__ or "").strip().split("\n")[0],
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="A YAML file with these options.")
    parser.add_argument("--preset", help="A packaged configuration, by name.")
    parser.add_class_arguments(config_class, None)
    words = [word for given in argv for word in (aliases or {}).get(given, [given])]
    words = _bare_flags(config_class, _expand_preset(command, words))
    try:
        namespace = parser.parse_args(words)
        namespace.pop("config", None)
        namespace.pop("preset", None)
        return config_class(**vars(parser.instantiate(namespace)))
    except ArgumentError as error:
        raise UsageError(_explain(str(error), config_class) + _source(words)) from None


def _bare_flags(config_class: type[Any], words: Sequence[str]) -> list[str]:
    """Let an option that is yes or no stand alone for yes."""
    hints = get_type_hints(config_class)
    flags = {f"--{field.name}" for field in fields(config_class) if hints[field.name] is bool}
    full: list[str] = []
    # The last word, if there is one, is followed by the end.
    for word, following in zip(words, [*words, "--"][1:], strict=True):
        full.append(word)
        if word in flags and following.startswith("-"):
            full.append("true")
    return full


def positional(argv: Sequence[str], option: str) -> list[str]:
    """Let the first word stand for an option's value, such as the cohort of `spinmark verify COHORT`."""
    first = argv[0] if argv else "-"
    return list(argv) if first.startswith("-") else [f"--{option}", *argv]


def _expand_preset(command: str, argv: Sequence[str]) -> list[str]:
    """Replace `--preset NAME` by the packaged file, placed first so that options override it."""
    rest: list[str] = []
    chosen: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--preset":
            chosen.append(next(words, ""))
        elif word.startswith("--preset="):
            chosen.append(word.partition("=")[2])
        else:
            rest.append(word)
    return [*(f"--config={preset_path(command, name)}" for name in chosen), *rest]


def _source(words: Sequence[str]) -> str:
    """Name the file that options came from, if there was one."""
    pairs = zip(words, [*words[1:], ""], strict=False)
    paths = [
        word.partition("=")[2] or following
        for word, following in pairs
        if word == "--config" or word.startswith("--config=")
    ]
    return f" (options read from {', '.join(paths)} and the command line)" if paths else ""


def option_names(config_class: type[Any], prefix: str = "") -> list[str]:
    """List the dotted options of a configuration dataclass."""
    hints = get_type_hints(config_class)
    names: list[str] = []
    for field in fields(config_class):
        inner = (hints[field.name], *get_args(hints[field.name]))
        nested = [hint for hint in inner if is_dataclass(hint) and isinstance(hint, type)]
        if nested:
            names += option_names(nested[0], f"{prefix}{field.name}.")
        else:
            names.append(f"{prefix}{field.name}")
    return names


def _explain(message: str, config_class: type[Any]) -> str:
    """Turn the parser's message into one line that says what is accepted."""
    line = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", " ".join(message.split()))
    line = line.removeprefix("Parser key ")
    line = re.sub(r"Problems parsing config: .*?(line \d+, column \d+).*", r"not YAML at \1", line)
    unknown = (
        re.search(r"unrecognized arguments: --([\w.]+)", line)
        or re.search(r"does not accept (?:option|nested key) '([\w.]+)'", line)
        or re.search(r"Option '([\w.]+)' is not accepted", line)
    )
    if unknown:
        names = option_names(config_class)
        group = re.search(r"Group '([\w.]+)'", line)
        key = f"{group.group(1)}.{unknown.group(1)}" if group else unknown.group(1)
        near = difflib.get_close_matches(key, names, n=3) or names
        return f"unknown option {key!r}; accepted: {', '.join(near)}"
    union = re.search(r'"([\w.]+)": .*Subtypes: [\[(](.*?)[\])] Errors: .*Given value: (.*)', line)
    if union:
        key, types, given = union.groups()
        accepted = ["null" if one == "NoneType" else one for one in _split_types(types)]
        return f"{key} is {given[:80]}; accepted: {' or '.join(accepted)}"
    plain = re.fullmatch(r'"([\w.]+)": Expected an? .*?\. Got value: (.*)', line)
    if plain:
        key, given = plain.groups()
        return f"{key} is {given[:80]}; accepted: {_type_name(config_class, key)}"
    return line


def _type_name(config_class: type[Any], key: str) -> str:
    """How an option's type is written, such as `tuple[int, int, int]`; choices, one by one."""
    found: Any = config_class
    for part in key.split("."):
        inner = (found, *get_args(found))
        found = get_type_hints(next(one for one in inner if is_dataclass(one)))[part]
    if get_origin(found) is Literal:
        return ", ".join(map(str, get_args(found)))
    return found.__name__ if isinstance(found, type) and not get_args(found) else str(found)


def _split_types(types: str) -> list[str]:
    """The parts of `tuple[int, int], NoneType`."""
    return [part.strip() for part in re.split(r",\s*(?![^\[]*\])", types)]
