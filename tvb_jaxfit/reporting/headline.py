"""Headline of a report: the correlation r that counts, and all other r of a fit, each with its meaning."""

from dataclasses import dataclass

import numpy as np

from ..evaluation.scores import format_length, format_mean_std, format_runs
from ..loss import fc_corr
from .summary import FitSummary

# Name of the simulations on fresh noise with which a fit has ended.
_OWN = "end of the fit, fresh noise"


@dataclass(frozen=True)
class Headline:
    """The r that counts, and all other r.

    Attributes
    ----------
    value : str
        r as text; "no r" for a fit without result.
    meaning : str
        Noise and number of runs that r refers to.
    others : list of (str, str, str)
        All r as (name, value, meaning), r on fresh noise first.
    """

    value: str
    meaning: str
    others: list[tuple[str, str, str]]


def headline(summary: FitSummary) -> Headline:
    """Headline of a fit: r on fresh noise, of an evaluation or else of the fit itself; else of the training.

    Parameters
    ----------
    summary : FitSummary

    Returns
    -------
    Headline
    """
    evaluation, history = summary.evaluation, list(summary.stages.values())[-1]
    rows = [
        *_fresh_noise_rows(evaluation),
        *_own_rows(summary.fresh),
        *_fit_rows(history, summary.is_noisy),
        *_figure_rows(summary),
    ]
    if evaluation is not None and np.isfinite(evaluation.r).any():
        name, value, meaning = rows[0]
        sentences = [f"on {name}: {meaning}.", *(f"{each}." for each in (evaluation.shortfall(),) if each)]
        return Headline(f"r = {value}", " ".join(sentences), rows)
    if summary.fresh is not None and np.isfinite(summary.fresh.r).any():
        value, meaning = next((value, meaning) for name, value, meaning in rows if name == _OWN)
        return Headline(f"r = {value}", f"on fresh noise: {meaning}.", rows)
    training = [(value, meaning) for name, value, meaning in rows if name == "training"]
    if not training:
        return Headline("no r", f"The fit has no result: {history.stop_reason}.", rows)
    value, meaning = training[0]
    if not summary.is_noisy:
        return Headline(f"r = {value}", "The simulator has no noise: every run gives this value.", rows)
    reason = "not evaluated on fresh noise" if evaluation is None else "no run on fresh noise has FC"
    meaning = f"{meaning[:1].upper()}{meaning[1:]}; {reason}."
    if history.is_linear:
        meaning = f"{meaning} The fit's own check: {history.stop_reason}."
        return Headline(f"r = {value} without noise only", meaning, rows)
    return Headline(f"r = {value} on training noise only", meaning, rows)


def _fresh_noise_rows(evaluation):
    """Rows of an evaluation."""
    if evaluation is None:
        return
    primary = evaluation.targets.primary
    against = "" if primary == "target" else f" with the target {primary!r}"
    average = "mean ± standard deviation over" if np.isfinite(evaluation.r).sum() > 1 else "of"
    for simulator in evaluation.fc:
        values = evaluation.values("r", simulator=simulator)
        if simulator == "JAX":
            n = len(values)
            meaning = (
                f"{average} {n} seed{'s' if n != 1 else ''}, runs of {format_length(evaluation.length)} from the best "
                f"state on noise that the fit never saw{against}"
            )
            yield "fresh noise", format_mean_std(values), meaning
        else:
            meaning = f"{simulator} itself, {format_runs(len(values))}{against}"
            yield f"{simulator}, fresh noise", format_mean_std(values), meaning
        if evaluation.window is not None:
            values = evaluation.values("window_r", simulator=simulator)
            name = "windows" if simulator == "JAX" else f"{simulator}, windows"
            meaning = f"the same runs, FC of windows of {format_length(evaluation.window)}, averaged"
            yield name, format_mean_std(values), meaning


def _own_rows(fresh):
    """Row of the simulations on fresh noise with which the fit has ended."""
    if fresh is not None:
        runs = f"{format_runs(len(fresh.r))} of {format_length(fresh.length)}"
        average = "mean ± standard deviation over" if np.isfinite(fresh.r).sum() > 1 else "of"
        meaning = f"{average} {runs} from the best state on noise that the fit never saw"
        yield _OWN, format_mean_std(fresh.r), meaning


def _fit_rows(history, is_noisy):
    """Rows of the r that a fit recorded at its best step."""
    validation = history.validation
    if "r" in history.aux and history.loss.size:
        if history.is_linear:
            meaning = "by the linear response, without noise"
        elif not is_noisy:
            meaning = "of the best step"
        elif validation.steps.size:
            meaning = "on the noise of the best step, which the fit has used"
        else:
            meaning = "on the noise that every step has used"
        yield "training", f"{history.aux['r'][history.best_step]:.4f}", meaning
    at_best = validation.steps == history.best_step
    if "r" in validation.aux and at_best.any():
        n = len(validation.steps)
        meaning = f"on noise that no step used, but by which the best of {n} states was chosen"
        yield "validation", f"{validation.aux['r'][at_best][0]:.4f}", meaning


def _figure_rows(summary):
    """Row of the simulated FC in the figures."""
    if "Fitted" in summary.matrices:
        r = float(fc_corr(summary.matrices["Fitted"], summary.matrices["Empirical"], missing="ignore"))
        meaning = "of the one run in the figures, on the noise of the simulator's own random stream"
        yield "figures", f"{r:.4f}", meaning if summary.is_noisy else "of the run in the figures"
