"""What can be said on the command line: no more than the standard library is needed to read it."""

import argparse
import dis
import itertools
import math
import re
import traceback

from .. import __version__
from ..checks.suggestions import did_you_mean
from ..errors import UnsupportedComponent

# Exit codes.
DONE, NO, REFUSED, FAILED, INTERRUPTED = 0, 1, 2, 3, 130
# What a script is called while it runs.
SCRIPT = "__tvb_jaxfit__"
# Simulators are TVB's defaults, but for these: what a script in their place would have to say.
DEFAULTS = {
    "connectivity": None,
    "weights_scaling": "tract",
    "speed": math.inf,
    "model": "ReducedWongWang",
    "variable": None,
    "coupling": "Linear",
    "integrator": "HeunStochastic",
    "dt": 1.0,
    "nsig": 4e-6,
    "seed": 42,
    "bold_period": 1000.0,
    "set": [],
}
LENGTH = 120_000.0
# What --free may say, and the kinds of parameters that it may name.
FREE = "PATH[:regional][:KIND][:LOW:HIGH]"
KINDS = ("positive", "scaled", "masked")
EXAMPLES = {
    "fit": r"""tvb-jaxfit fit --connectivity dk_average --fc dk_average --dt 4 \
    --set coupling.a=0.15 --set model.w=0.3 --free coupling.a --free model.w:regional:0:1 \
    --steps 50 --evaluate 4 --tvb --out fit_of_dk""",
    "certify": "tvb-jaxfit certify --connectivity 76 --speed 3 --simulation-length 3000",
    "report": "tvb-jaxfit report fit_of_dk --force",
}


# How argparse says what it does not know.
_NO_CHOICE, _UNKNOWN = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)"), "unrecognized arguments: "


class Refused(Exception):
    """What was asked for cannot be done, for reasons that are the user's to mend.

    Parameters
    ----------
    *reasons : str
    """

    def __init__(self, *reasons):
        self.reasons = reasons
        super().__init__("\n".join(f"  - {reason}" for reason in reasons) if len(reasons) > 1 else reasons[0])

    def __reduce__(self):
        return type(self), self.reasons, vars(self)


def is_refusal(error):
    """Whether an error is for the user to mend as its message says; of any other, the traceback tells more.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    bool
        Of what the operating system or an import says, unless the user's own code asked for it; of errors that this
        package raises by a ``raise`` of its own, in place of what Python or a library raises within it.
    """
    if isinstance(error, (Refused, UnsupportedComponent)):
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    if isinstance(error, (OSError, ImportError)):
        return not any(frame.f_globals.get("__name__") == SCRIPT for frame, _ in frames)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not isinstance(error, (ValueError, TypeError)):
        return False
    is_ours = str(last.tb_frame.f_globals.get("__name__")).startswith(f"{__package__.partition('.')[0]}.")
    return is_ours and last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def is_script(name):
    """Whether --simulator names a Python file, in place of a module.

    Parameters
    ----------
    name : str
        Without the name of a simulator after a colon.
    """
    return name.endswith(".py")


def parser():
    """Parser of the command line.

    Returns
    -------
    argparse.ArgumentParser
    """
    whole = _Parser(
        prog="tvb-jaxfit",
        description="Fit a simulator of The Virtual Brain to functional connectivity (FC), by gradients.",
        epilog="exit codes: 0 done, 1 the result says no, 2 refused, 3 an unexpected error (with its traceback), "
        "130 interrupted by Ctrl-C, 143 by SIGTERM, as from Slurm (what was reached is written)",
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="{fit,certify,parameters,report}")
    _fit(_command(commands, "fit", "fit parameters of a simulator to an empirical FC"))
    certify = _command(commands, "certify", "run TVB and its translation on the same draws, and compare")
    _simulator(certify)
    does = "list what of a simulator can be fitted: paths, shapes, values, units and domains"
    _simulator(_command(commands, "parameters", does, "tvb-jaxfit parameters --connectivity 76 --model Epileptor2D"))
    report = _command(commands, "report", "make the report of a fit anew, from what the fit has written")
    report.add_argument("folder", metavar="DIR", help="of a fit")
    report.add_argument("--to", metavar="FILE", help="where the page goes (default DIR/report.html)")
    _force(report)
    return whole


class _Parser(argparse.ArgumentParser):
    """Parser that names, beside what it does not know, what was probably meant."""

    def error(self, message):
        """End with the usage and a message."""
        known = {option for each in (self, *self._commands()) for option in each._option_string_actions}
        if found := _NO_CHOICE.search(message):
            message += did_you_mean(found[1], re.findall(r"[^', ]+", found[2]))
        elif message.startswith(_UNKNOWN):
            unknown = [text.partition("=")[0] for text in message.removeprefix(_UNKNOWN).split() if text[:2] == "--"]
            message += "".join(did_you_mean(text, known) for text in unknown)
        super().error(message)

    def _commands(self):
        """Parsers of the commands."""
        choices = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return [command for each in choices for command in each.values()]


def _command(commands, name, does, example=None):
    return commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=f"example:\n  {example or EXAMPLES[name]}",
        # The example can be pasted: its lines stay as they are.
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _force(command):
    command.add_argument("--force", action="store_true", help="replace what is there already")


def _simulator(command):
    """Options that make a simulator. None has a default here, so that it shows what was given."""
    group = command.add_argument_group("simulator", "one that a script of yours has made, or one of these options")
    add = group.add_argument
    add(
        "--simulator",
        metavar="FILE.py[:NAME]",
        help="Python file with a live Simulator, called sim unless named, or module:attribute; in place of the others",
    )
    add("--connectivity", metavar="FILE", help='zip or h5 of TVB, or the name of one: "76", "dk_average"')
    scalings = ("tract", "region", "none")
    add(
        "--weights-scaling", choices=scalings, help="as of TVB's scaled_weights: largest weight 1 (tract, default), ..."
    )
    add("--speed", type=float, metavar="MM/MS", help="conduction speed (default inf: no delays)")
    add("--model", metavar="NAME", help="of tvb.simulator.models (default ReducedWongWang)")
    add("--variable", metavar="NAME", help="that BOLD is of, where the model has several")
    add("--coupling", metavar="NAME", help="of tvb.simulator.coupling (default Linear)")
    add("--integrator", metavar="NAME", help="of tvb.simulator.integrators (default HeunStochastic)")
    add("--dt", type=float, metavar="MS", help="step (default 1)")
    add("--nsig", type=float, help="dispersion of the additive noise (default 4e-6, for ReducedWongWang alone)")
    add("--seed", type=int, help="of the noise and the initial conditions (default 42)")
    add("--bold-period", type=float, metavar="MS", help="time between two volumes (default 1000)")
    add(
        "--set",
        action="append",
        metavar="PATH=VALUE",
        help="parameter of the simulator, as in model.I_o=0.32: a number, one a region with commas, or @FILE",
    )
    command.add_argument("--simulation-length", type=float, metavar="MS", help=f"(default {LENGTH:g}, or the script's)")


def _fit(command):
    add = command.add_argument
    add(
        "--fc",
        required=True,
        metavar="FILE",
        help='empirical FC: csv, tsv, txt, npy, npz[:KEY], mat[:KEY]; "dk_average"',
    )
    add(
        "--free",
        required=True,
        action="append",
        metavar=FREE,
        help="what to fit, as in coupling.a or model.w:regional:0:1; a bound may be empty. KIND: positive (steps in "
        "parts of the value, for noise and time constants: integrator.noise.nsig:positive), scaled (in parts of "
        "the start value), masked (entries that are not 0 alone, which may have bounds: "
        "connectivity.weights:masked:0:)",
    )
    add("--out", required=True, metavar="DIR", help="where values, FC, history and report go")
    _force(command)
    _simulator(command)
    add = command.add_argument_group("fit").add_argument
    methods = ("simulate", "linear", "linear+simulate")
    add(
        "--method",
        choices=methods,
        default="simulate",
        help="through the simulation (default), the linear response, or both",
    )
    add("--steps", type=int, default=100, metavar="N", help="of the optimiser (default 100)")
    add("--learning-rate", type=float, metavar="X", help="of Adam (default 0.01; after a linear fit, see fit())")
    add("--patience", type=int, metavar="N", help="looks at unseen noise without a better one that end the fit")
    add("--max-evaluations", type=int, default=600, metavar="N", help="of the linear response (default 600)")
    add(
        "--missing",
        choices=("refuse", "ignore"),
        default="refuse",
        help="pairs of regions without data (NaN, NA, empty, or not among its labels) in the FC: refused (default), or "
        "given no weight",
    )
    add("--monitor", type=int, metavar="N", help="index of the monitor that FC is of (default: the only Bold, or one)")
    add("--skip", type=int, metavar="N", help="samples left out before FC (default: those that see no signal yet)")
    add("--resume", action="store_true", help="go on with the fit in DIR that was interrupted or killed")
    add("--float32", action="store_true", help="single precision (default: double)")
    add("--quiet", action="store_true", help="no progress bars")
    add = command.add_argument_group("afterwards").add_argument
    add("--evaluate", type=int, metavar="N", help="score the fit on N seeds of fresh noise")
    add("--tvb", type=int, nargs="?", const=1, default=0, metavar="N", help="and have TVB itself run N of them (1)")
    add("--certify", action="store_true", help="compare TVB and its translation at the fitted values")


def free_of(texts):
    """What to fit, from ``--free``.

    Parameters
    ----------
    texts : list of str
        ``PATH[:regional][:KIND][:LOW:HIGH]``

    Returns
    -------
    dict of str to tuple
        By path: (whether it is regional, lower bound, upper bound), and its kind, one of `KINDS`, where one is named.
    list of str
        What is wrong.

    Examples
    --------
    >>> from tvb_jaxfit.command.options import free_of
    >>> free_of(["coupling.a:0:", "model.w:regional", "model.tau_s:positive"])[0]
    {'coupling.a': (False, 0.0, inf), 'model.w': (True, -inf, inf), 'model.tau_s': (False, -inf, inf, 'positive')}
    """
    free, problems = {}, []
    for text in texts:
        path, *rest = text.split(":")
        if path in free:
            problems.append(f"--free {text!r}: {path} is there twice; give it once")
            continue
        try:
            free[path] = _freed(rest)
        except ValueError as error:
            problems.append(f"--free {text!r}: {error}; give {FREE}, as in model.w:regional:0:1")
    return free, problems


def _freed(words):
    """(is regional, lower bound, upper bound), and the kind where there is one, of what follows a path."""
    said = list(itertools.takewhile(lambda word: word in ("regional", *KINDS), words))
    words, kind = words[len(said) :], [word for word in said if word != "regional"]
    regional = "regional" in said
    if len(kind) > 1 or len(said) > len(kind) + regional:
        raise ValueError(f"{':'.join(said)!r} names more than one kind, or one word twice")
    if kind and kind != ["masked"] and words:
        raise ValueError(f"{':'.join(words)!r} after {kind[0]!r}, which has no bounds")
    if kind == ["masked"] and regional:
        raise ValueError("'masked' is of the entries that there are; leave 'regional'")
    return regional, *_bounds(words), *kind


def _bounds(texts):
    if not texts:
        return -math.inf, math.inf
    if len(texts) != 2:
        kinds = ", ".join(f"{kind!r}" for kind in KINDS)
        raise ValueError(f"{':'.join(texts)!r} is neither 'regional', nor a kind ({kinds}), nor two bounds")
    low, high = (float(text or sign) for text, sign in zip(texts, ("-inf", "inf"), strict=True))
    if not low < high:
        raise ValueError(f"bounds {low:g} and {high:g} are not in order")
    return low, high


def settings_of(texts):
    """Parameters of the simulator, from ``--set``.

    Parameters
    ----------
    texts : list of str
        ``PATH=VALUE``

    Returns
    -------
    dict of str to (list of float or str)
        By path; a file's name as it is, after the @.
    list of str
        What is wrong.

    Examples
    --------
    >>> from tvb_jaxfit.command.options import settings_of
    >>> settings_of(["model.I_o=0.3,0.32", "model.w=@w.npy"])
    ({'model.I_o': [0.3, 0.32], 'model.w': '@w.npy'}, [])
    """
    settings, problems = {}, []
    for text in texts:
        path, equals, value = text.partition("=")
        try:
            if not (path and equals and value):
                raise ValueError("there is no value")
            if path in settings:
                raise ValueError(f"{path} is there twice")
            settings[path] = value if value.startswith("@") else [float(number) for number in value.split(",")]
        except ValueError as error:
            problems.append(f"--set {text!r}: {error}; give PATH=NUMBER, as in model.I_o=0.32, or PATH=@FILE")
    return settings, problems


def problems_of(options):
    """What is wrong with options, as far as they show it themselves: all at once.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    list of str
    """
    problems = settings_of(options.set or [])[1]
    given = [name for name in DEFAULTS if getattr(options, name) is not None]
    if options.simulator and given:
        told = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        problems.append(f"--simulator has a simulator of its own: leave {told}, and say it in the script")
    if not options.simulator and options.connectivity is None:
        problems.append("--connectivity: none; give a file of TVB, or --simulator with a script that has a simulator")
    for name in ("dt", "bold_period", "speed", "simulation_length"):
        value = getattr(options, name)
        if value is not None and not (value > 0.0 and (math.isfinite(value) or name == "speed")):
            problems.append(f"--{name.replace('_', '-')} {value:g}: give a positive number")
    if options.nsig is not None and not 0.0 <= options.nsig < math.inf:
        problems.append(f"--nsig {options.nsig:g}: give a number of at least 0")
    if options.seed is not None and not 0 <= options.seed < 2**32:
        problems.append(f"--seed {options.seed}: give a whole number from 0 to {2**32 - 1}")
    if options.command == "fit":
        problems += free_of(options.free)[1]
        counts = {"steps": 0, "patience": 1, "max_evaluations": 1, "skip": 0, "monitor": 0, "evaluate": 1, "tvb": 0}
        for name, least in counts.items():
            value = getattr(options, name)
            if value is not None and value < least:
                problems.append(f"--{name.replace('_', '-')} {value}: give at least {least}")
        if options.learning_rate is not None and not 0.0 < options.learning_rate < math.inf:
            problems.append(f"--learning-rate {options.learning_rate:g}: give a positive number")
        if options.tvb and options.evaluate is None:
            problems.append("--tvb: TVB runs beside JAX; give --evaluate N, too")
        if options.certify and options.float32:
            problems.append("--certify compares to rounding, in double precision: leave --float32, or leave it")
        if options.resume and options.method == "linear":
            problems.append("--resume: a linear fit has no checkpoint; leave it, and give --force to fit anew")
        if options.resume and options.force:
            problems.append("--resume goes on with what --force would replace: leave one of them")
    return problems
