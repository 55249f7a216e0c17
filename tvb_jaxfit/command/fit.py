"""``tvb-jaxfit fit``: the results of the fit are written before anything else is tried."""

import argparse
import contextlib
import warnings
from dataclasses import replace
from pathlib import Path

import optax

from ..balance.balanced import Balanced
from ..constraints import MaskedParameter, PositiveParameter, ScaledParameter
from ..errors import FitFailed
from ..evaluation.group import group_baselines
from ..evaluation.sessions import named_targets
from ..fitting.checkpoint import CheckpointPath, NewCheckpointPath
from ..fitting.fit import fit
from ..fitting.options import FCOptions, NoiseOptions, RunOptions, SearchOptions
from ..maps import MapParameter
from ..parameters import BoundedParameter, Parameter
from ..reporting.report import write_report
from ..reporting.summary import certify_fit, summarise
from .dependent_options import parse_balances, parse_maps
from .folder import CHECKPOINT, PAGE, file_identity, write_results
from .matrices import load_fc, load_maps
from .options import has_checkpoint
from .outcome import ExitCode, Refused, is_refusal
from .path_options import FreeOption, ParameterKind, parse_free
from .resume import determining_options
from .simulator import make_simulator


def run(options: argparse.Namespace, command: str) -> tuple[ExitCode, Exception | None]:
    """Fit, and write all results.

    Parameters
    ----------
    options : argparse.Namespace
        Checked.
    command : str
        The command line.

    Returns
    -------
    code : ExitCode
    problem : Exception or None
        Problem after the fit, or reason for its negative result.

    Raises
    ------
    Refused, ValueError, OSError
        The fit cannot be carried out, and the folder is unchanged; or not all results could be written.
    """
    folder = Path(options.out)
    checkpoint_before = file_identity(folder / CHECKPOINT)
    result, problem = _fit(options, folder)
    # The checkpoint of a former fit is removed, unless this fit has replaced it.
    is_old = options.force and checkpoint_before == file_identity(folder / CHECKPOINT)
    summary, code = _write(result, command, folder, [CHECKPOINT] if is_old else [])
    print(result)
    code = ExitCode.FAILED if problem and code == ExitCode.DONE else code
    if result.diverged and problem is None:
        problem = FitFailed(f"the fit diverged; its best step before is kept: {result.diverged}")
    is_more_asked = options.evaluate or options.certify or options.standard_errors
    if code != ExitCode.INTERRUPTED and result.loss.size and is_more_asked:
        code_after, problem_after, certificate = _afterwards(result, options)
        code, problem = code_after or code, problem_after or problem
        summary = replace(summary, evaluation=result.evaluation, certificate=certificate)
        summary = summary.with_standard_errors(result.standard_errors)
        with _writing(folder):
            write_results(folder, summary)
    with _writing(folder):
        page = write_report(folder / PAGE, summary, force=options.force or options.resume)
    print(page)
    return code, problem


def _fit(options, folder):
    """(result, reason why the simulation has no result): the linear fit before it is a result nevertheless."""
    sim, target, problem = make_simulator(options), load_fc(options.fc), None
    if options.group:
        _refuse_other_group(options, target, sim.connectivity.region_labels)
    optimizer = None if options.learning_rate is None else optax.adam(options.learning_rate)
    try:
        result = fit(
            sim,
            target,
            make_parameters(options),
            method=options.method,
            optimizer=optimizer,
            max_steps=options.steps,
            fc=FCOptions(monitor=options.monitor, skip_t=options.skip, missing=options.missing),
            noise=NoiseOptions(patience=options.patience),
            search=search_options(options),
            run=RunOptions(checkpoint=_checkpoint(options, folder), resume=options.resume, progress=not options.quiet),
        )
    except FitFailed as error:
        if error.linear_stage is None:
            raise
        result, problem = error.linear_stage, error
    if optimizer is not None:
        result.settings = result.settings.with_code("optimizer", f"optax.adam({options.learning_rate:g})")
    return result, problem


def _refuse_other_group(options, target, labels):
    """Raise ValueError for a group that `evaluate` would refuse after the fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        targets = named_targets(target, labels, missing=options.missing)
        group_baselines(_group(options), targets, labels, options.missing)


def _group(options):
    """FC of the group: of one file, or of one file for each subject; None without any."""
    matrices = [load_fc(name, "--group") for name in options.group or []]
    return matrices if len(matrices) > 1 else next(iter(matrices), None)


def search_options(options: argparse.Namespace) -> SearchOptions:
    """Options of the search that a command names.

    Parameters
    ----------
    options : argparse.Namespace
    """
    given = {"seed": options.fit_seed, "n_starts": options.starts, "max_evaluations": options.max_evaluations}
    return SearchOptions(**{name: value for name, value in given.items() if value is not None})


def _checkpoint(options, folder):
    if not has_checkpoint(options):
        return None
    checkpoint = (NewCheckpointPath if options.force else CheckpointPath)(folder / CHECKPOINT)
    checkpoint.notes = determining_options(options)
    return checkpoint


def _write(result, command, folder, also_remove):
    """(summary, exit code) of a fit, once it is written: after an interrupt at once, and with simulated FC then."""
    code = _exit_code(result)
    if code == ExitCode.INTERRUPTED:
        with _writing(folder):
            write_results(folder, summarise(result, command=command, simulate_fc=False), also_remove)
    try:
        summary = summarise(result, command=command)
        with _writing(folder):
            write_results(folder, summary, also_remove)
    except KeyboardInterrupt:
        code, summary = ExitCode.INTERRUPTED, summarise(result, command=command, simulate_fc=False)
        with _writing(folder):
            write_results(folder, summary, also_remove)
    return summary, code


@contextlib.contextmanager
def _writing(folder):
    """Context in which an error of writing, as on a full disk, becomes a refusal with its remedy."""
    try:
        yield
    except OSError as error:
        remedy = f"; with room, --resume continues from its {CHECKPOINT}" if (folder / CHECKPOINT).exists() else ""
        raise Refused(f"--out {folder}: results could not be written ({error}){remedy}") from error


def _exit_code(result):
    if result.history.stop_reason.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE if result.loss.size and not result.diverged else ExitCode.FAILED


def _afterwards(result, options):
    """(exit code, problem, certificate) of what is to be done after a fit."""
    certificate = None
    try:
        if options.certify:
            certificate = certify_fit(result)
            print(certificate)
        if options.evaluate:
            numbers = {"n_seeds": options.evaluate, "n_tvb": options.tvb}
            fc = FCOptions(missing=options.missing)
            print(result.evaluate(fc=fc, **numbers, group=_group(options), progress=not options.quiet))
            if result.evaluation.interrupted:
                return ExitCode.INTERRUPTED, None, certificate
            if result.evaluation.failed:
                reasons = "; ".join(result.evaluation.failures())
                problem = FitFailed(f"the fitted simulator does not stay finite on fresh noise: {reasons}")
                return ExitCode.FAILED, problem, certificate
        if options.standard_errors:
            print(result.identifiability(None if options.standard_errors is True else options.standard_errors))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED, None, certificate
    except Exception as error:
        if not is_refusal(error):
            raise
        return ExitCode.REFUSED, error, certificate
    code = ExitCode.DONE if certificate is None or certificate.passed else ExitCode.FAILED
    return code, None, certificate


def make_parameters(options: argparse.Namespace) -> dict[str, Parameter]:
    """Parameters that ``--free``, ``--map`` and ``--balance`` ask for, by path."""
    free = {path: make_parameter(option) for path, option in parse_free(options.free)[0].items()}
    for path, option in parse_maps(options.map)[0].items():
        bounds = {"lower_bound": option.lower_bound, "upper_bound": option.upper_bound}
        free[path] = MapParameter(load_maps(option), option.transform, **bounds)
    return free | {
        path: Balanced(option.target, option.rate) for path, option in parse_balances(options.balance)[0].items()
    }


def make_parameter(option: FreeOption) -> Parameter:
    """Parameter that ``--free`` asks for."""
    bounds = {"lower_bound": option.lower_bound, "upper_bound": option.upper_bound}
    if option.kind is ParameterKind.POSITIVE:
        return PositiveParameter(regional=option.regional)
    if option.kind is ParameterKind.SCALED:
        return ScaledParameter(regional=option.regional)
    if option.kind is ParameterKind.MASKED:
        return MaskedParameter(**bounds)
    if option == FreeOption(regional=option.regional):
        return Parameter(regional=option.regional)
    return BoundedParameter(**bounds, regional=option.regional)
