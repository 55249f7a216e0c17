"""``tvb-jaxfit``: what is asked for is checked first, then done, and its result is the exit code."""

# For completion in a shell: PYTHON_ARGCOMPLETE_OK
import shlex
import sys
import traceback
import warnings
from pathlib import Path

from ..errors import FitFailed
from .completion import completed
from .options import DONE, FAILED, INTERRUPTED, NO, REFUSED, Refused, is_refusal, parser, problems_of
from .signals import interrupting


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        0 done, 1 the result says no, 2 refused (the reasons are on standard error), 3 an unexpected error (with its
        traceback), 130 interrupted by SIGINT (Ctrl-C), 143 by SIGTERM (Slurm, kill).
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = completed(parser()).parse_args(arguments)
    except SystemExit as ended:
        return ended.code
    with interrupting() as received:
        code = _code_of(options, arguments, received)
    return received.exit_code(code) if code == INTERRUPTED else code


def _code_of(options, arguments, received):
    """Exit code of a command, its errors told."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Geodesic distance module", UserWarning)
            return _COMMANDS[options.command](options, arguments)
    except KeyboardInterrupt:
        print("tvb-jaxfit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except FitFailed as error:
        # It was tried: what came of it is no result.
        _say(options, error)
        return NO
    except Exception as error:
        # What an interrupt makes of an import, or of code in C, can be any error.
        if received.number is not None:
            print(f"tvb-jaxfit: interrupted ({type(error).__name__}: {error})", file=sys.stderr)
            return INTERRUPTED
        if not is_refusal(error):
            traceback.print_exception(error)
            return FAILED
        _say(options, error)
        return REFUSED


def _say(options, error):
    told = str(error)
    print(f"tvb-jaxfit {options.command}:{' ' if len(told.splitlines()) == 1 else chr(10)}{told}", file=sys.stderr)


def _checked(options):
    """Refuse options, and then files, that are in the way: all of them at once, before TVB and JAX are loaded."""
    problems = problems_of(options)
    if problems:
        raise Refused(*problems)
    from .folder import claim, inputs_of
    from .inputs import input_problems

    problems = input_problems(options)
    if options.command == "fit":
        try:
            claim(options.out, options.force, options.resume, inputs_of(options))
        except Refused as refused:
            problems += refused.reasons
    if problems:
        raise Refused(*problems)
    if getattr(options, "resume", False):
        from .resume import refuse_changed

        refuse_changed(options)


def _begin(options):
    """Double precision, before JAX is used: this is the application, and may."""
    import jax

    jax.config.update("jax_enable_x64", not getattr(options, "float32", False))


def _certify(options, arguments):
    _checked(options)
    _begin(options)
    from ..certificate.certify import certify
    from .simulator import simulator_of

    certificate = certify(simulator_of(options))
    print(certificate)
    return DONE if certificate.passed else NO


def _parameters(options, arguments):
    _checked(options)
    _begin(options)
    from .parameters import table

    print("\n".join(table(options)))
    return DONE


def _report(options, arguments):
    from .folder import PAGE, foreign_in, kept

    path = Path(options.folder) / PAGE if options.to is None else Path(options.to)
    if path.exists() and not options.force:
        raise Refused(f"{path} is there already; give --force to replace it, or --to FILE")
    if options.to is None and PAGE in foreign_in(options.folder):
        raise Refused(f"{path} is there, not as a report was written; move it, or give --to FILE")
    from ..reporting.report import write_report

    print(write_report(path, kept(options.folder), options.force))
    return DONE


def _fit(options, arguments):
    _checked(options)
    _begin(options)
    from .fit import run

    code, problem = run(options, f"tvb-jaxfit {shlex.join(arguments)}")
    if problem is not None:
        _say(options, problem)
    return code


_COMMANDS = {"fit": _fit, "certify": _certify, "parameters": _parameters, "report": _report}
