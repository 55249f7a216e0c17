"""Options of the command line. They are parsed with the standard library only."""

import argparse
import math
import re

from .. import __version__
from ..checks.suggestions import did_you_mean
from ..fitting.method import Method, choosing_simulation, conflicts
from .cohort_options import cohort_problems
from .dependent_options import BALANCE, MAP, parse_balances, parse_maps
from .path_options import FREE, parse_free, parse_settings

# Default options of a simulator; where they are None or empty, TVB's own defaults hold.
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
# Default length of a simulation [ms].
LENGTH = 120_000.0
EXAMPLES = {
    "fit": r"""tvb-jaxfit fit --connectivity dk_average --fc dk_average --dt 4 \
    --set coupling.a=0.15 --set model.w=0.3 --free coupling.a --free model.w:regional:0:1 \
    --steps 50 --evaluate 4 --tvb --out fit_of_dk""",
    "cohort": r"""tvb-jaxfit cohort subjects.tsv --free coupling.a --free model.w:regional:0:1 \
    --method linear --workers 4 --out study""",
    "certify": "tvb-jaxfit certify --connectivity 76 --speed 3 --simulation-length 3000",
    "parameters": "tvb-jaxfit parameters --connectivity 76 --model Epileptor2D --integrator HeunDeterministic",
    "report": "tvb-jaxfit report fit_of_dk --force",
}
# Minimum of each whole number.
_MINIMA = {"steps": 0, "patience": 1, "max_evaluations": 1, "starts": 1, "fit_seed": 0, "skip": 0, "monitor": 0} | {
    "evaluate": 1,
    "tvb": 0,
}
# Options of the command by their names in `fit`: those that some methods do not have.
_BY_METHOD = {
    "optimizer": "learning_rate",
    "max_steps": "steps",
    "patience": "patience",
    "max_evaluations": "max_evaluations",
}

# Texts of argparse about unknown words.
_NO_CHOICE, _UNKNOWN = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)"), "unrecognized arguments: "


def is_script(name: str) -> bool:
    """True if --simulator names a Python file, and not a module.

    Parameters
    ----------
    name : str
        Without the name of a simulator after a colon.
    """
    return name.endswith(".py")


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    main = _Parser(
        prog="tvb-jaxfit",
        description="Fit a simulator of The Virtual Brain to functional connectivity (FC), by gradients.",
        epilog="exit codes: 0 done, 1 negative result, 2 refused, 3 an unexpected error (with its traceback), "
        "130 interrupted by Ctrl-C, 143 by SIGTERM, as from Slurm (what was reached is written)",
    )
    main.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = main.add_subparsers(dest="command", required=True, metavar="{fit,cohort,certify,parameters,report}")
    _add_fit_options(_command(commands, "fit", "fit parameters of a simulator to an empirical FC"))
    _add_cohort_options(_command(commands, "cohort", "fit each subject of a table, in folders of their own"))
    _add_simulator_options(_command(commands, "certify", "run TVB and its translation on the same draws, and compare"))
    summary = "list the parameters of a simulator that can be fitted: paths, shapes, values, units and domains"
    _add_simulator_options(_command(commands, "parameters", summary))
    report = _command(commands, "report", "write the report of a fit again, from the files that the fit has written")
    report.add_argument("folder", metavar="DIR", help="folder of a fit")
    report.add_argument("--to", metavar="FILE", help="file of the report (default DIR/report.html)")
    _add_force(report)
    return main


class _Parser(argparse.ArgumentParser):
    """Parser whose errors suggest the option or choice that was probably meant."""

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


def _command(commands, name, summary):
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {EXAMPLES[name]}",
        # The lines of the example stay as they are, so that it can be pasted.
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_force(command):
    command.add_argument("--force", action="store_true", help="replace existing files of a former fit")


def _add_simulator_options(command):
    """Add the options that make a simulator; none has a default here, so that those that were given can be found."""
    group = command.add_argument_group("simulator", "a simulator of a script of yours, or one made by these options")
    add = group.add_argument
    add(
        "--simulator",
        metavar="FILE.py[:NAME]",
        help="Python file with a live Simulator, called sim unless named, or module:attribute; in place of the others",
    )
    add("--connectivity", metavar="FILE", help='zip or h5 of TVB, or the name of a data set: "76", "dk_average"')
    scalings = ("tract", "region", "none")
    add(
        "--weights-scaling", choices=scalings, help="as of TVB's scaled_weights: largest weight 1 (tract, default), ..."
    )
    add("--speed", type=float, metavar="MM/MS", help="conduction speed (default inf: no delays)")
    add("--model", metavar="NAME", help="class of tvb.simulator.models (default ReducedWongWang)")
    add("--variable", metavar="NAME", help="state variable that BOLD is computed from, if the model has several")
    add("--coupling", metavar="NAME", help="class of tvb.simulator.coupling (default Linear)")
    add("--integrator", metavar="NAME", help="class of tvb.simulator.integrators (default HeunStochastic)")
    add("--dt", type=float, metavar="MS", help="time step (default 1)")
    add("--nsig", type=float, help="dispersion of the additive noise (default 4e-6, for ReducedWongWang alone)")
    add("--seed", type=int, help="seed of the noise and the initial conditions (default 42)")
    add("--bold-period", type=float, metavar="MS", help="time between two volumes (default 1000)")
    add(
        "--set",
        action="append",
        metavar="PATH=VALUE",
        help="parameter of the simulator, as in model.I_o=0.32: a number, one per region with commas, or @FILE",
    )
    command.add_argument("--simulation-length", type=float, metavar="MS", help=f"(default {LENGTH:g}, or the script's)")


def _add_fit_options(command):
    add = command.add_argument
    add(
        "--fc",
        required=True,
        metavar="FILE",
        help='empirical FC: csv, tsv, txt, npy, npz[:KEY], mat[:KEY]; "dk_average"',
    )
    _add_parameter_options(command)
    add("--out", required=True, metavar="DIR", help="folder for values, FC, history and report")
    _add_force(command)
    _add_simulator_options(command)
    add = _add_method_options(command)
    add("--resume", action="store_true", help="continue the fit in DIR that was interrupted or killed")
    add = _add_evaluation_options(command)
    add(
        "--group",
        nargs="+",
        metavar="FILE",
        help="FC of other subjects, or one file with their mean: the baseline that needs no model, beside the scores",
    )
    add(
        "--standard-errors",
        type=float,
        nargs="?",
        const=True,
        metavar="MS",
        help="standard errors of the fitted values by a recording of this length (default: that of the simulation)",
    )
    add("--certify", action="store_true", help="compare TVB and its translation at the fitted values")


def _add_method_options(command):
    """Add the options of the fit itself; return the function that adds others to their group."""
    add = command.add_argument_group("fit").add_argument
    add(
        "--method",
        choices=[str(method) for method in Method],
        default=str(Method.AUTO),
        help="gradients through the simulation, the linear response, or both in turn (default auto: the linear "
        "response where it applies, refined by the simulation where that helps)",
    )
    add("--steps", type=int, metavar="N", help="number of optimizer steps through the simulation (default 100)")
    add("--learning-rate", type=float, metavar="X", help="of Adam (default 0.01; after a linear fit, see fit())")
    add("--patience", type=int, metavar="N", help="validations in a row without a better one after which the fit ends")
    add("--max-evaluations", type=int, metavar="N", help="of the linear response (default 600)")
    add("--starts", type=int, metavar="N", help="starts that are followed (default: that of the method)")
    add("--fit-seed", type=int, metavar="N", help="seed of all that the fit draws (default 0)")
    add(
        "--missing",
        choices=("refuse", "ignore"),
        default="refuse",
        help="pairs of regions without data in the FC (NaN, NA, empty, or not among its labels): refused (default), or "
        "given no weight",
    )
    add("--monitor", type=int, metavar="N", help="index of the monitor for FC (default: the only Bold, or only one)")
    add("--skip", type=int, metavar="N", help="samples left out before FC (default: those before the signal begins)")
    add("--float32", action="store_true", help="single precision (default: double)")
    add("--quiet", action="store_true", help="no progress bars")
    return add


def _add_evaluation_options(command, default=None):
    """Add the options of the scores of a fit; return the function that adds others to their group."""
    add = command.add_argument_group("afterwards").add_argument
    number = "" if default is None else f" (default {default})"
    add("--evaluate", type=int, metavar="N", default=default, help=f"score the fit on N seeds of fresh noise{number}")
    add("--tvb", type=int, nargs="?", const=1, default=0, metavar="N", help="and have TVB itself run N of them (1)")
    return add


def _add_cohort_options(command):
    add = command.add_argument
    add("subjects", metavar="SUBJECTS", help="tsv or csv with a row for each subject, or a folder with sub-* folders")
    add(
        "--column",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="column of SUBJECTS: of another name (fc=fc_rest), or files of a folder, as in "
        "fc=sub-{subject}/ses-{session}/*_fc.csv; columns are fc (or timeseries, or bold), connectivity, held_out, "
        "session_id, recording_length, and paths such as model.I_o, which --set would set",
    )
    add("--atlas", metavar="FILE", help="image of the regions, for FC of images in a column bold (by nilearn)")
    _add_parameter_options(command)
    add("--out", required=True, metavar="DIR", help="folder of the cohort; a second call does what is missing")
    _add_simulator_options(command)
    _add_method_options(command)
    add = _add_evaluation_options(command, default=8)
    add(
        "--standard-errors",
        action="store_true",
        help="standard errors of the fitted values, by recordings of the length in the column recording_length [ms], "
        "or of the simulation's",
    )
    add = command.add_argument_group("where", "on this machine, or on a cluster of dask.distributed").add_argument
    add("--workers", type=int, metavar="N", help="number of processes (default: of processors), or of Slurm's jobs")
    add("--scheduler", metavar="ADDRESS", help="tcp://HOST:PORT of a running scheduler of Dask")
    add("--slurm", metavar="OPTIONS", help="start workers by Slurm: queue=cpu,cores=8,memory=16GB,walltime=02:00:00")
    add("--array", metavar="I/N", help="the part I of N of the subjects alone, for a job array: 0/4, 1/4, ...")
    add("--dry-run", action="store_true", help="check every input, and say what would be done")
    # Options of a single fit.
    command.set_defaults(fc=None, group=None, certify=False, resume=False, force=False)


def _add_parameter_options(command):
    """Add the options that name the parameters of a fit."""
    add = command.add_argument
    add(
        "--free",
        action="append",
        default=[],
        metavar=FREE,
        help="parameter to fit, as in coupling.a or model.w:regional:0:1; a bound may be empty. KIND: positive (steps "
        "in parts of the value, for noise and time constants: integrator.noise.nsig:positive), scaled (in parts of "
        "the start value), masked (entries that are not 0 alone, which may have bounds: "
        "connectivity.weights:masked:0:)",
    )
    add(
        "--map",
        action="append",
        default=[],
        metavar=MAP,
        help="parameter that follows maps of the regions, whose coefficients are fitted: model.w_p=maps.csv; the file "
        "has a line of names and, in its first column, region labels. TRANSFORM: exp (default), linear, sigmoid",
    )
    add(
        "--balance",
        action="append",
        default=[],
        metavar=BALANCE,
        help="parameter that keeps the rate of each region at a target at the fixed point: model.J_i (3 Hz of H_e)",
    )


def option_problems(options: argparse.Namespace) -> list[str]:
    """Problems of options that can be found without reading any file: all at once.

    Parameters
    ----------
    options : argparse.Namespace
    """
    problems = _simulator_problems(options)
    if options.command == "cohort":
        problems += cohort_problems(options)
    return problems + _fit_problems(options) if options.command in ("fit", "cohort") else problems


def given_options(options: argparse.Namespace) -> dict[str, str]:
    """Options that some methods do not have: names in `fit`, and names in the command, of those that were given.

    Parameters
    ----------
    options : argparse.Namespace
    """
    given = {name: own for name, own in _BY_METHOD.items() if getattr(options, own) is not None}
    return {name: f"--{own.replace('_', '-')}" for name, own in given.items()}


def has_checkpoint(options: argparse.Namespace) -> bool:
    """True if a fit writes a checkpoint: one that goes through the simulation from one start.

    Parameters
    ----------
    options : argparse.Namespace
    """
    method = Method(options.method)
    if method is Method.AUTO:
        return options.resume or (options.starts == 1 and bool(choosing_simulation(given_options(options))))
    return method is Method.LINEAR_THEN_SIMULATE or (method is Method.SIMULATE and (options.starts or 1) == 1)


def _simulator_problems(options):
    problems = parse_settings(options.set or [])[1]
    given = [name for name in DEFAULTS if getattr(options, name) is not None]
    if options.simulator and given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        problems.append(f"--simulator has a simulator of its own: leave {names}, and say it in the script")
    # The connectivity of a cohort may stand in its table.
    if not options.simulator and options.connectivity is None and options.command != "cohort":
        problems.append("--connectivity: none; give a file of TVB, or --simulator with a script that has a simulator")
    for name in ("dt", "bold_period", "speed", "simulation_length"):
        value = getattr(options, name)
        if value is not None and not (value > 0.0 and (math.isfinite(value) or name == "speed")):
            problems.append(f"--{name.replace('_', '-')} {value:g}: give a positive number")
    if options.nsig is not None and not 0.0 <= options.nsig < math.inf:
        problems.append(f"--nsig {options.nsig:g}: give a number of at least 0")
    if options.seed is not None and not 0 <= options.seed < 2**32:
        problems.append(f"--seed {options.seed}: give a whole number from 0 to {2**32 - 1}")
    return problems


def _fit_problems(options):
    parsed = parse_free(options.free), parse_maps(options.map), parse_balances(options.balance)
    problems = [problem for _, each in parsed for problem in each]
    paths = [path for found, _ in parsed for path in found]
    problems += [
        f"{path}: in more than one of --free, --map and --balance"
        for path in dict.fromkeys(paths)
        if paths.count(path) > 1
    ]
    if not options.free and not options.map:
        problems.append("nothing is free: give --free or --map")
    for name, minimum in _MINIMA.items():
        value = getattr(options, name)
        if value is not None and value < minimum:
            problems.append(f"--{name.replace('_', '-')} {value}: give at least {minimum}")
    if options.learning_rate is not None and not 0.0 < options.learning_rate < math.inf:
        problems.append(f"--learning-rate {options.learning_rate:g}: give a positive number")
    if options.tvb and options.evaluate is None:
        problems.append("--tvb: TVB runs beside JAX; give --evaluate N, too")
    if options.group and options.evaluate is None:
        problems.append("--group: its FC is a baseline of the scores; give --evaluate N, too")
    length = options.standard_errors
    if isinstance(length, float) and not 0.0 < length < math.inf:
        problems.append(f"--standard-errors {length:g}: give a positive number of ms, or none")
    if options.certify and options.float32:
        problems.append("--certify compares to rounding, in double precision: leave out --float32, or --certify")
    if options.resume and options.method == Method.LINEAR:
        problems.append("--resume: a linear fit has no checkpoint; leave it, and give --force to fit again")
    problems += conflicts(Method(options.method), given_options(options), options.starts)
    if options.resume and (options.starts or 1) > 1:
        problems.append("--resume: a fit from several --starts has no checkpoint; leave out one of them")
    if options.resume and options.force:
        problems.append("--resume continues from the files that --force would replace: leave out one of them")
    return problems
