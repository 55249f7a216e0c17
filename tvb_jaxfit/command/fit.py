"""``tvb-jaxfit fit``: what was reached is written before anything else is tried."""

import contextlib
import math
from dataclasses import replace
from pathlib import Path

import optax

from ..constraints import MaskedParameter, PositiveParameter, ScaledParameter
from ..errors import FitFailed
from ..fitting.checkpoint import CheckpointPath, NewCheckpointPath
from ..fitting.fit import fit
from ..fitting.method import Method
from ..fitting.options import FCOptions, LinearOptions, NoiseOptions, RunOptions
from ..parameters import BoundedParameter, Parameter
from ..reporting.report import write_report
from ..reporting.summary import certify_fit, summarise
from .folder import CHECKPOINT, PAGE, keep, stamp
from .matrices import load_fc
from .options import DONE, INTERRUPTED, NO, REFUSED, Refused, free_of, is_refusal
from .resume import deciding
from .simulator import simulator_of

_OF_KIND = {"positive": PositiveParameter, "scaled": ScaledParameter}


def run(options, command):
    """Fit, and write everything.

    Parameters
    ----------
    options : argparse.Namespace
        Checked.
    command : str
        As it was given.

    Returns
    -------
    code : int
        See `tvb_jaxfit.command.main.main`.
    problem : Exception or None
        What could not be done after the fit, or why it is no result.

    Raises
    ------
    Refused, ValueError, OSError
        What could not be done before it, and nothing of the folder was changed; or not all results could be written.
    """
    sim, target = simulator_of(options), load_fc(options.fc)
    free = {path: _parameter(*kept) for path, kept in free_of(options.free)[0].items()}
    folder = Path(options.out)
    checkpoint = None
    if options.method != Method.LINEAR:
        checkpoint = (NewCheckpointPath if options.force else CheckpointPath)(folder / CHECKPOINT)
        checkpoint.notes = deciding(options)
    former = stamp(folder / CHECKPOINT)
    problem = None
    try:
        result = fit(
            sim,
            target,
            free,
            method=options.method,
            optimizer=None if options.learning_rate is None else optax.adam(options.learning_rate),
            max_steps=options.steps,
            fc=FCOptions(monitor=options.monitor, skip_t=options.skip, missing=options.missing),
            noise=NoiseOptions(patience=options.patience),
            linear=LinearOptions(max_evaluations=options.max_evaluations),
            run=RunOptions(checkpoint=checkpoint, resume=options.resume, progress=not options.quiet),
        )
    except FitFailed as error:
        # The linear fit that it was to go on from is a result all the same.
        if error.linear_stage is None:
            raise
        result, problem = error.linear_stage, error
    if options.learning_rate is not None:
        optimizer = f"optax.adam({options.learning_rate:g})"
        result.settings = result.settings.with_code("optimizer", optimizer)
        result.options["optimizer"] = optimizer
    # One that this fit has not replaced is of another.
    of_another = [CHECKPOINT] if options.force and former == stamp(folder / CHECKPOINT) else []
    account, code = _written(result, command, folder, of_another)
    print(result)
    certificate = None
    code = NO if problem and code == DONE else code
    if result.diverged and problem is None:
        problem = FitFailed(f"the fit diverged; its best step before is kept: {result.diverged}")
    if code != INTERRUPTED and result.loss.size and (options.evaluate or options.certify):
        after, failed, certificate = _afterwards(result, options)
        code, problem = after or code, failed or problem
        account = replace(account, evaluation=result.evaluation, certificate=certificate)
        with _writing(folder):
            keep(folder, account)
    with _writing(folder):
        page = write_report(folder / PAGE, account, force=options.force or options.resume)
    print(page)
    return code, problem


def _written(result, command, folder, of_another):
    """(account of a fit, exit code), once it is written: at once after an interrupt, and with simulated FC then."""
    code = _code_of(result)
    if code == INTERRUPTED:
        with _writing(folder):
            keep(folder, summarise(result, command=command, simulate_fc=False), of_another)
    try:
        account = summarise(result, command=command)
        with _writing(folder):
            keep(folder, account, of_another)
    except KeyboardInterrupt:
        code, account = INTERRUPTED, summarise(result, command=command, simulate_fc=False)
        with _writing(folder):
            keep(folder, account, of_another)
    return account, code


@contextlib.contextmanager
def _writing(folder):
    """What cannot be written, as on a full disk, is told together with how to have it all the same."""
    try:
        yield
    except OSError as error:
        how = f"; with room, --resume goes on from its {CHECKPOINT}" if (folder / CHECKPOINT).exists() else ""
        raise Refused(f"--out {folder}: results could not be written ({error}){how}") from error


def _code_of(result):
    if result.history.stop_reason.interrupted:
        return INTERRUPTED
    return DONE if result.loss.size and not result.diverged else NO


def _afterwards(result, options):
    """(exit code, what could not be done, certificate) of what is asked for after a fit."""
    certificate = None
    try:
        if options.certify:
            certificate = certify_fit(result)
            print(certificate)
        if options.evaluate:
            print(result.evaluate(n_seeds=options.evaluate, n_tvb=options.tvb, progress=not options.quiet))
            if result.evaluation.interrupted:
                return INTERRUPTED, None, certificate
            if result.evaluation.failed:
                failed = "; ".join(result.evaluation.remarks())
                return NO, FitFailed(f"the fitted simulator does not stay finite on fresh noise: {failed}"), certificate
    except KeyboardInterrupt:
        return INTERRUPTED, None, certificate
    except Exception as error:
        if not is_refusal(error):
            raise
        return REFUSED, error, certificate
    return DONE if certificate is None or certificate.passed else NO, None, certificate


def _parameter(regional, low, high, kind=""):
    """Parameter that ``--free`` asks for; see `free_of`."""
    if kind in _OF_KIND:
        return _OF_KIND[kind](regional=regional)
    if kind == "masked":
        return MaskedParameter(lower_bound=low, upper_bound=high)
    if math.isinf(low) and math.isinf(high):
        return Parameter(regional=regional)
    return BoundedParameter(lower_bound=low, upper_bound=high, regional=regional)
