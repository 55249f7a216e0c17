"""``tvb-jaxfit``: checks a command, carries it out, and returns its result as the exit code."""

# For completion in a shell: PYTHON_ARGCOMPLETE_OK
import shlex
import sys
import traceback
import warnings
from pathlib import Path

from ..errors import FitFailed
from .completion import with_completion
from .options import option_problems, parser
from .outcome import ExitCode, Refused, is_refusal
from .signals import interruptible


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        Default: those of the process.

    Returns
    -------
    int
        0 done; 1 negative result; 2 refused, with the reasons on standard error; 3 an unexpected error, with its
        traceback; 130 interrupted by SIGINT (Ctrl-C), 143 by SIGTERM (Slurm, kill).
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = with_completion(parser()).parse_args(arguments)
    except SystemExit as ended:
        return ended.code
    with interruptible() as received:
        code = _run(options, arguments, received)
    return received.exit_code(code) if code == ExitCode.INTERRUPTED else code


def _run(options, arguments, received):
    """Exit code of a command, with its errors printed."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Geodesic distance module", UserWarning)
            return _COMMANDS[options.command](options, arguments)
    except KeyboardInterrupt:
        print("tvb-jaxfit: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except FitFailed as error:
        # The fit was carried out, and has no result.
        _print_error(options.command, error)
        return ExitCode.FAILED
    except Exception as error:
        # An interrupt within an import, or within C code, can become any error.
        if received.number is not None:
            print(f"tvb-jaxfit: interrupted ({type(error).__name__}: {error})", file=sys.stderr)
            return ExitCode.INTERRUPTED
        if not is_refusal(error):
            traceback.print_exception(error)
            return ExitCode.ERROR
        _print_error(options.command, error)
        return ExitCode.REFUSED


def _print_error(command, error):
    """Print an error after the command; a message of the function of that name names it once."""
    text = str(error).removeprefix(f"{command}: ")
    print(f"tvb-jaxfit {command}:{' ' if len(text.splitlines()) == 1 else chr(10)}{text}", file=sys.stderr)


def _check(options):
    """Refuse invalid options, and then invalid files: all at once, before TVB and JAX are loaded."""
    problems = option_problems(options)
    if problems:
        raise Refused(*problems)
    from .folder import check_writable, input_files
    from .inputs import input_problems

    problems = input_problems(options)
    if options.command == "fit":
        try:
            check_writable(options.out, options.force, options.resume, input_files(options))
        except Refused as refused:
            problems += refused.reasons
    if problems:
        raise Refused(*problems)
    if getattr(options, "resume", False):
        from .resume import refuse_changed_options

        refuse_changed_options(options)


def _set_precision(options):
    """Select double precision before JAX is used, unless single precision was asked for."""
    import jax

    jax.config.update("jax_enable_x64", not getattr(options, "float32", False))


def _certify(options, arguments):
    _check(options)
    _set_precision(options)
    from ..certificate.certify import certify
    from .simulator import make_simulator

    certificate = certify(make_simulator(options))
    print(certificate)
    return ExitCode.DONE if certificate.passed else ExitCode.FAILED


def _parameters(options, arguments):
    _check(options)
    _set_precision(options)
    from .parameters import parameter_lines

    print("\n".join(parameter_lines(options)))
    return ExitCode.DONE


def _report(options, arguments):
    from .folder import PAGE, foreign_files, read_summary

    path = Path(options.folder) / PAGE if options.to is None else Path(options.to)
    if path.exists() and not options.force:
        raise Refused(f"{path} exists; give --force to replace it, or --to FILE")
    if options.to is None and PAGE in foreign_files(options.folder):
        raise Refused(f"{path} was not written as a report; move it, or give --to FILE")
    from ..reporting.report import write_report

    print(write_report(path, read_summary(options.folder), options.force))
    return ExitCode.DONE


def _fit(options, arguments):
    _check(options)
    _set_precision(options)
    from .fit import run

    code, problem = run(options, f"tvb-jaxfit {shlex.join(arguments)}")
    if problem is not None:
        _print_error(options.command, problem)
    return code


def _cohort(options, arguments):
    _check(options)
    _set_precision(options)
    from .cohort import run

    return run(options)


_COMMANDS = {"fit": _fit, "cohort": _cohort, "certify": _certify, "parameters": _parameters, "report": _report}
