"""The r that a report begins with, and all other r of a fit, each with its meaning."""

from dataclasses import dataclass

import numpy as np

from ..evaluation.scores import mean_and_sd, runs, seconds
from ..loss import fc_corr


@dataclass(frozen=True)
class Headline:
    """The r that counts, and all others.

    Attributes
    ----------
    value : str
        r as text; "no r" without a result.
    meaning : str
        Noise and number of runs that it is of.
    others : list of (str, str, str)
        All r as (name, value, meaning), that on fresh noise first.
    """

    value: str
    meaning: str
    others: list


def headline(account):
    """Headline of a fit: r on fresh noise; without an evaluation, that of the training, named as such.

    Parameters
    ----------
    account : FitSummary

    Returns
    -------
    Headline
    """
    found, stage = account.evaluation, list(account.stages.values())[-1]
    rows = [*_fresh(found), *_fitted(stage, account.is_noisy), *_drawn(account)]
    if found is not None and np.isfinite(found.r).any():
        name, value, told = rows[0]
        return Headline(f"r = {value}", f"on {name}: {told}.", rows)
    trained = [(value, told) for name, value, told in rows if name == "training"]
    if not trained:
        return Headline("no r", f"The fit has no result: {stage.stop_reason}.", rows)
    if not account.is_noisy:
        return Headline(f"r = {trained[0][0]}", "The simulator has no noise: every run gives this value.", rows)
    why = "not evaluated on fresh noise" if found is None else "no run on fresh noise has FC"
    value, told = trained[0]
    told = f"{told[:1].upper()}{told[1:]}; {why}."
    if "nonlinearity" in stage.aux:
        return Headline(f"r = {value} without noise only", f"{told} The fit's own check: {stage.stop_reason}.", rows)
    return Headline(f"r = {value} on training noise only", told, rows)


def _fresh(found):
    """Rows of an evaluation."""
    if found is None:
        return
    against = "" if found.targets.primary == "target" else f" with the target {found.targets.primary!r}"
    spread = "mean ± standard deviation over" if np.isfinite(found.r).sum() > 1 else "of"
    for simulator in found.fc:
        values = found.values("r", simulator=simulator)
        if simulator == "JAX":
            told = f"{spread} {len(values)} seed{'s' if len(values) != 1 else ''}, runs of {seconds(found.length)} from"
            yield "fresh noise", mean_and_sd(values), f"{told} the best state on noise that the fit never saw{against}"
        else:
            yield f"{simulator}, fresh noise", mean_and_sd(values), f"{simulator} itself, {runs(len(values))}{against}"
        if found.window is not None:
            values = found.values("window_r", simulator=simulator)
            name = "windows" if simulator == "JAX" else f"{simulator}, windows"
            yield name, mean_and_sd(values), f"the same runs, FC of windows of {seconds(found.window)}, averaged"


def _fitted(history, is_noisy):
    """Rows of what a fit recorded at its best step."""
    if "r" in history.aux and history.loss.size:
        which = (
            "of the best step, which the fit has used" if history.validation.steps.size else "that every step has used"
        )
        told = f"on the noise {which}" if is_noisy else "of the best step"
        told = "by the linear response, without noise" if "nonlinearity" in history.aux else told
        yield "training", f"{history.aux['r'][history.best_step]:.4f}", told
    steps, at = history.validation.steps, history.validation.steps == history.best_step
    if "r" in history.validation.aux and at.any():
        told = f"on noise that no step used, but by which the best of {len(steps)} states was chosen"
        yield "validation", f"{history.validation.aux['r'][at][0]:.4f}", told


def _drawn(account):
    """Row of the FC that figures show."""
    if "Fitted" in account.matrices:
        r = float(fc_corr(account.matrices["Fitted"], account.matrices["Empirical"], missing="ignore"))
        told = "of the one run in the figures, on the noise of the simulator's own random stream"
        yield "figures", f"{r:.4f}", told if account.is_noisy else "of the run in the figures"
