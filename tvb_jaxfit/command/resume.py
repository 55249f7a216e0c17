"""Options that determine a fit: stored in its checkpoint, and the same when the fit is resumed."""

import argparse
from dataclasses import replace
from pathlib import Path

from ..fitting.method import Method
from .dependent_options import MapOption, parse_balances, parse_maps
from .folder import CHECKPOINT, input_digests
from .options import DEFAULTS, LENGTH
from .outcome import Refused
from .path_options import parse_free, parse_settings

# Options that may change: where results go, the number of steps, and what follows the fit.
_MAY_CHANGE = ("command", "out", "force", "resume", "quiet", "steps")
_MAY_CHANGE += ("evaluate", "tvb", "group", "certify", "standard_errors")
_DEFAULTS = DEFAULTS | {"simulation_length": LENGTH, "max_evaluations": 600, "fit_seed": 0}
_LEARNING_RATE, _STEPS = 0.01, 100
# Files are compared by content, but for a script: the checkpoint itself compares its simulator.
_SCRIPT = "--simulator"
# Options that can be given several times: their parser, and the character that ends their path.
_REPEATED = {"free": (parse_free, ":")} | {
    name: (parse, "=") for name, parse in (("set", parse_settings), ("map", parse_maps), ("balance", parse_balances))
}


def determining_options(options: argparse.Namespace) -> dict:
    """Options that determine a fit.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    dict
        "options": values by name; "files": digests of the input files, by option.
    """
    given = {name: value for name, value in vars(options).items() if name not in _MAY_CHANGE}
    if options.method != Method.SIMULATE and options.learning_rate is None:
        # The default learning rate decreases over all steps.
        given["steps"] = _STEPS if options.steps is None else options.steps
    if options.method == Method.SIMULATE:
        # This option belongs to the linear response.
        del given["max_evaluations"]
        given["learning_rate"] = _LEARNING_RATE if options.learning_rate is None else options.learning_rate
    files = input_digests(options)
    return {"options": given, "files": files}


def refuse_changed_options(options: argparse.Namespace):
    """Refuse to resume a fit with other options than before.

    Parameters
    ----------
    options : argparse.Namespace
        Its ``out`` is the folder of a fit with a checkpoint.

    Raises
    ------
    Refused
        With name, former value and present value of every option that has changed.
    """
    from ..fitting.checkpoint import notes_of

    then, now = notes_of(Path(options.out) / CHECKPOINT), determining_options(options)
    # A checkpoint of a former version has no notes: the fit compares itself with it.
    if not then:
        return
    names = dict.fromkeys([*then["options"], *now["options"]])
    changed = [change for name in names for change in _changes(name, then, now)]
    if changed:
        raise Refused(
            *changed,
            f"--resume: {options.out}/{CHECKPOINT} is of a fit with other options. Give them as they were, or begin "
            "a new fit in another --out or with --force",
        )


def _changes(name, then, now):
    """Descriptions of the changes of an option; empty if it is the same."""
    values = [each["options"].get(name) for each in (then, now)]
    former, present = (_DEFAULTS.get(name) if value is None else value for value in values)
    if name in _REPEATED:
        return _changes_by_path(name, former or [], present or [], then, now)
    option = f"--{name.replace('_', '-')}"
    if _is_same(option, former, present, then, now):
        return []
    if former == present:
        return [_changed_content(option)]
    return [f"{option}: {_text(former)} before, {_text(present)} now"]


def _is_same(option, former, present, then, now):
    """True if a value, or the content of a file, is the same."""
    digests = [each["files"].get(option) for each in (then, now)]
    if digests[0] is None and digests[1] is None:
        return former == present
    if isinstance(former, MapOption) and isinstance(present, MapOption):
        is_same_use = replace(former, file="") == replace(present, file="")
        return is_same_use and digests[0] == digests[1]
    return digests[0] == digests[1] or (option == _SCRIPT and former == present)


def _changed_content(option):
    return f"{option}: the file has another content now than before"


def _changes_by_path(name, former, present, then, now):
    """Changes of an option that is given several times, by the path that each value begins with."""
    parse, separator = _REPEATED[name]
    texts = [
        {text.partition(separator)[0]: text.partition(separator)[2] for text in each} for each in (former, present)
    ]
    values = [parse(each)[0] for each in (former, present)]
    changes = []
    for path in dict.fromkeys([*values[0], *values[1]]):
        option = f"--{name} {path}"
        if _is_same(option, values[0].get(path), values[1].get(path), then, now):
            continue
        before, after = (_item(each, path, separator) for each in texts)
        changes.append(f"{option}: {before} before, {after} now" if before != after else _changed_content(option))
    return changes


def _item(texts, path, separator):
    if path not in texts:
        return "not given"
    return f"{path}{separator}{texts[path]}" if texts[path] else path


def _text(value):
    if value is None:
        return "the default"
    if isinstance(value, bool):
        return "given" if value else "not given"
    return f"{value:g}" if isinstance(value, float) else str(value)
