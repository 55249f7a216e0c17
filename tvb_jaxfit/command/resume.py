"""Options that decide a fit: kept in its checkpoint, and the same where the fit is resumed."""

import hashlib
from pathlib import Path

from .folder import CHECKPOINT, inputs_of
from .options import DEFAULTS, LENGTH, Refused, free_of, settings_of

# They say where results go, how many steps are made, and what comes after the fit.
_FREE_TO_CHANGE = ("command", "out", "force", "resume", "quiet", "steps", "evaluate", "tvb", "certify")
_DEFAULTS = DEFAULTS | {"simulation_length": LENGTH}
# Files are compared by their content; of a script, the checkpoint itself says whether its simulator is another.
_SCRIPT = "--simulator"


def deciding(options):
    """What of the options decides a fit.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    dict
        "options": values by name; "files": digests of the files that are read, by option.
    """
    given = {name: value for name, value in vars(options).items() if name not in _FREE_TO_CHANGE}
    if options.method == "linear+simulate" and options.learning_rate is None:
        # The learning rate falls over all steps.
        given["steps"] = options.steps
    if options.method == "simulate":
        # It is of the linear response alone.
        del given["max_evaluations"]
        given["learning_rate"] = 0.01 if options.learning_rate is None else options.learning_rate
    files = {option: _digest(path) for option, path in inputs_of(options).items() if path.is_file()}
    return {"options": given, "files": files}


def refuse_changed(options):
    """Refuse to resume a fit with other options than it was begun with.

    Parameters
    ----------
    options : argparse.Namespace
        With ``out`` of a fit that has a checkpoint.

    Raises
    ------
    Refused
        With the name, the former value and the value now, of every option that is another.
    """
    from ..fitting.checkpoint import notes_of

    then, now = notes_of(Path(options.out) / CHECKPOINT), deciding(options)
    # A checkpoint of a former version does not say: the fit compares itself with it then.
    if not then:
        return
    names = dict.fromkeys([*then["options"], *now["options"]])
    changed = [told for name in names for told in _changed(name, then, now)]
    if changed:
        raise Refused(
            *changed,
            f"--resume: {options.out}/{CHECKPOINT} is of a fit with other options. Give them as they were, or begin "
            "anew in another --out or with --force",
        )


def _changed(name, then, now):
    """What is to be said of an option: nothing where it is as it was."""
    former, present = (_DEFAULTS.get(name) if value is None else value for value in _of_both(name, then, now))
    if name in _PARSED:
        return _changed_items(name, former or [], present or [], then, now)
    option = f"--{name.replace('_', '-')}"
    told = f"{option}: {_told(former)} before, {_told(present)} now"
    return [] if _is_same(option, former, present, then, now) else [told if former != present else _is_other(option)]


def _of_both(name, then, now):
    return [each["options"].get(name) for each in (then, now)]


def _is_same(option, former, present, then, now):
    """Whether a value is as it was; of a file, its content."""
    digests = [each["files"].get(option) for each in (then, now)]
    if digests[0] is None and digests[1] is None:
        return former == present
    return digests[0] == digests[1] or (option == _SCRIPT and former == present)


def _is_other(option):
    return f"{option}: the file has another content now than before"


def _changed_items(name, former, present, then, now):
    """The same of an option that is given several times, by the path that each begins with."""
    parse, sign = _PARSED[name]
    texts = [{text.partition(sign)[0]: text.partition(sign)[2] for text in each} for each in (former, present)]
    values = [parse(each)[0] for each in (former, present)]
    told = []
    for path in dict.fromkeys([*values[0], *values[1]]):
        option = f"--{name} {path}"
        if _is_same(option, values[0].get(path), values[1].get(path), then, now):
            continue
        ends = [_item(each, path, sign) for each in texts]
        told.append(f"{option}: {ends[0]} before, {ends[1]} now" if ends[0] != ends[1] else _is_other(option))
    return told


def _item(texts, path, sign):
    if path not in texts:
        return "not given"
    return f"{path}{sign}{texts[path]}" if texts[path] else path


def _told(value):
    if value is None:
        return "the default"
    if isinstance(value, bool):
        return "given" if value else "not given"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Options that are given several times: what reads them, and what ends the path that they begin with.
_PARSED = {"free": (free_of, ":"), "set": (settings_of, "=")}
