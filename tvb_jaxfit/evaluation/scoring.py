"""Scores of single runs: FC of a run and of its windows, against every target and in every block of regions."""

import jax.numpy as jnp
import numpy as np

from ..loss import mean_fc_difference, rmse
from ..observation import compute_fc
from .baselines import correlation


class Scoring:
    """Collector of the scores, the FC and the failures of runs.

    Parameters
    ----------
    targets : Targets
    blocks : dict of str to ndarray of bool, shape (n_node, n_node)
        As from `tvb_jaxfit.evaluation.baselines.region_blocks`.
    skip_t : int
        Number of samples left out at the start of a run.
    n_window : int
        Number of samples per window; 0 for no windows.
    observables : dict of str to Target, optional
        Observables of the signals besides FC, by name.
    period : float, optional
        Of the samples [ms].

    Attributes
    ----------
    rows : list of dict
        See `Evaluation`.
    fc : dict of str to list of ndarray, shape (n_node, n_node)
        FC of each run, by simulator.
    failed : dict of (str, int) to str
        Reason why a run has no FC, by simulator and seed.
    """

    def __init__(self, targets, blocks, skip_t, n_window, observables=None, period=1.0):
        self.targets, self.blocks, self.skip_t, self.n_window = targets, blocks, skip_t, n_window
        self.observables, self.period = observables or {}, period
        self.rows, self.fc, self.failed = [], {}, {}

    def add(self, simulator, seed, signal, explain):
        """Score one run.

        Parameters
        ----------
        simulator : {"JAX", "TVB"}
        seed : int
        signal : ndarray, shape (n_time, n_node)
        explain : callable
            Maps (simulator, seed, signal, skip_t) to sentences on why the run has no FC; called only if it has none.
        """
        fc, window_fcs, problem = fc_with_windows(signal, self.skip_t, self.n_window)
        if problem is not None:
            self.failed[simulator, seed] = f"{problem} {explain(simulator, seed, signal, self.skip_t)}".rstrip()
        others = self._observable_scores(signal[self.skip_t :], problem is None)
        self.rows += [
            {"simulator": simulator, "seed": seed, "target": name} | score(fc, window_fcs, matrix, self.blocks) | others
            for name, matrix in self.targets.matrices.items()
        ]
        self.fc.setdefault(simulator, []).append(fc)

    def _observable_scores(self, signals, has_fc):
        """Scores of the observables of one run, by measure: its distance under its name, and ``"name KS"``, ..."""
        found = {}
        for name, each in self.observables.items():
            simulated = each.of_signal(jnp.asarray(signals), self.period) if has_fc else None
            found[name] = float(each.distance_of(simulated)) if has_fc else np.nan
            scores = each.scores(simulated) if has_fc else dict.fromkeys(each.measures, np.nan)
            found |= {f"{name} {measure}": value for measure, value in scores.items()}
        return found


def samples_per_window(runs, skip_t, window):
    """Number of samples per window; 0 if ``window`` is None.

    Parameters
    ----------
    runs : Runs
    skip_t : int
    window : float or None
        Length of a window [ms].

    Raises
    ------
    ValueError
        If the run or the window is too short for FC, or the window is longer than the run.
    """
    n_used, period = runs.n_time - skip_t, runs.period
    if n_used < 3:
        raise ValueError(
            f"evaluate: {runs.n_time} samples in {runs.length:g} ms, and skip_t = {skip_t}, leave {max(n_used, 0)}; "
            "FC needs at least 3. Give a larger simulation_length or a smaller skip_t in fc=FCOptions(...)."
        )
    if window is None:
        return 0
    n_window = round(window / period)
    if not 3 <= n_window <= n_used:
        raise ValueError(
            f"window: {window:g} ms are {n_window} samples; give at least 3 ({3 * period:g} ms) and at most the "
            f"{n_used} of a run ({n_used * period:g} ms)."
        )
    return n_window


def fc_with_windows(signal, skip_t, n_window):
    """FC of a run and of its windows.

    Parameters
    ----------
    signal : ndarray, shape (n_time, n_node)
    skip_t, n_window : int
        See `Scoring`.

    Returns
    -------
    fc : ndarray, shape (n_node, n_node)
        NaN if the run has no FC.
    window_fcs : list of ndarray, shape (n_node, n_node)
    problem : str or None
        Reason why there is no FC.
    """
    starts = range(skip_t, len(signal) - n_window + 1, n_window) if n_window else ()
    try:
        fc = compute_fc(signal, skip_t)
        window_fcs = [compute_fc(signal[start : start + n_window]) for start in starts]
    except ValueError as error:
        undefined = np.full((signal.shape[1],) * 2, np.nan)
        return undefined, [undefined for _ in starts], str(error)
    return np.asarray(fc, float), [np.asarray(window_fc, float) for window_fc in window_fcs], None


def score(fc, window_fcs, target, blocks):
    """Scores of one run against one target, by measure: ``"r"``, ``"rmse"``, ... (see `Evaluation`)."""
    scores = {"r": correlation(fc, target), "rmse": _rmse(fc, target)}
    scores["mean_difference"] = float(mean_fc_difference(fc, target, missing="ignore"))
    if window_fcs:
        scores["window_r"] = float(np.mean([correlation(window_fc, target) for window_fc in window_fcs]))
        scores["window_rmse"] = float(np.mean([_rmse(window_fc, target) for window_fc in window_fcs]))
    return scores | {f"r {name}": correlation(fc, target, pairs) for name, pairs in blocks.items()}


def _rmse(fc, target):
    return float(rmse(fc, target, missing="ignore"))
