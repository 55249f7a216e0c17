"""Predictive check: simulations at draws of a posterior, compared with the data."""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy.stats import t as student

from ..evaluation.evaluate import evaluate
from ..evaluation.options import FCOptions
from ..loss import fc_corr
from ..markup import notebook_html, table
from ..observation import compute_fc
from ..posterior.observed_fc import DISCREPANCY, ObservedFC
from ..posterior.result import Posterior
from ..runtime.progress import progress_bar
from ..text import aligned, short_range

# Probability of the intervals whose coverage is reported.
_PROBABILITY = 0.9


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """FC of simulations at draws of a posterior, beside the FC of the data.

    Attributes
    ----------
    observed : ndarray, shape (n_node, n_node)
        FC of the data.
    fc : dict of str to ndarray, shape (n_draw, n_node, n_node)
        FC of the simulations, by simulator: "JAX", and "TVB" of the first draws.
    discrepancy : float
        Standard deviation of the Fisher z that the posterior attributes to neither the model nor the sampling error.
    remarks : tuple of str
    """

    observed: np.ndarray = field(repr=False)
    fc: dict = field(repr=False)
    discrepancy: float
    remarks: tuple = ()

    @property
    def r(self) -> dict[str, np.ndarray]:
        """Correlation (off-diagonal) of each simulated FC with that of the data, by simulator."""
        return {name: np.array([_r(each, self.observed) for each in of_name]) for name, of_name in self.fc.items()}

    @property
    def r_between(self) -> np.ndarray:
        """Correlation of the FC of each two simulations: what `r` would be if the data came from the model."""
        return np.array([_r(*both) for both in combinations(self.fc["JAX"], 2)])

    @property
    def coverage(self) -> float:
        """Share of the pairs of regions whose Fisher z lies within the predictive interval of 90 %.

        Notes
        -----
        The interval is that of Student's t around the mean of the simulations; their variance contains the sampling
        error, and that of the discrepancy is added.
        """
        simulated, observed = _z(self.fc["JAX"]), _z(self.observed[None])[0]
        n = len(simulated)
        std = np.sqrt((1.0 + 1.0 / n) * np.var(simulated, axis=0, ddof=1) + self.discrepancy**2)
        inside = np.abs(observed - simulated.mean(axis=0)) <= student.ppf(0.5 + _PROBABILITY / 2.0, n - 1) * std
        return float(np.mean(inside[np.isfinite(observed)]))

    @property
    def statistics(self) -> dict[str, tuple[float, np.ndarray]]:
        """Summaries of FC: (of the data, of the simulations)."""
        measures = {"mean FC": np.nanmean, "standard deviation of FC": np.nanstd}
        observed, simulated = _upper(self.observed[None])[0], _upper(self.fc["JAX"])
        simulated = np.where(np.isnan(observed), np.nan, simulated)
        return {
            name: (float(of(observed)), np.array([of(each) for each in simulated])) for name, of in measures.items()
        }

    def _rows(self):
        rows = [
            (f"r with the data, {name}", "", short_range(each, ".3f")) for name, each in self.r.items() if each.size
        ]
        rows.append(("r between simulations", "", short_range(self.r_between, ".3f")))
        rows += [(name, f"{data:.3f}", short_range(each, ".3f")) for name, (data, each) in self.statistics.items()]
        return rows

    def _sentences(self):
        share = f"{self.coverage:.0%} of the pairs lie in their predictive interval of {_PROBABILITY:.0%}"
        return [share + (f", with a discrepancy of {self.discrepancy:.2g}" if self.discrepancy else ""), *self.remarks]

    def __repr__(self):
        rows = [("", "data", "simulations"), *self._rows()]
        title = f"Predictive check: {len(self.fc['JAX'])} draws, {len(self.fc.get('TVB', ()))} of them by TVB"
        return "\n".join([title, *(f"  {line}" for line in [*aligned(rows), *self._sentences()])])

    def _repr_html_(self):
        title = f"Predictive check: {len(self.fc['JAX'])} draws"
        return notebook_html(title, table(["", "data", "simulations"], self._rows()), *self._sentences())


def predictive_check(fit, posterior: Posterior, n_draws: int, n_tvb: int, seed: int, progress: bool) -> PredictiveCheck:
    """Simulations at draws of a posterior; see `FitResult.predictive_check`.

    Parameters
    ----------
    fit : FitResult
    posterior : Posterior
    n_draws, n_tvb, seed : int
    progress : bool

    Returns
    -------
    PredictiveCheck
    """
    data = posterior.data
    observed, n_samples = _observed(data)
    period = fit.simulate.monitors[fit.monitor].istep * fit.simulate.dt
    options = FCOptions(simulation_length=(n_samples + fit.skip_t) * period)
    found, remarks = {"JAX": [], "TVB": []}, []
    states = posterior.states(n_draws)
    with progress_bar("predictive check", "draw", len(states), progress) as bar:
        try:
            for number, state in enumerate(states):
                own = {"n_seeds": 1, "n_tvb": int(number < n_tvb), "seed": seed + number, "progress": False}
                evaluation = evaluate(fit, fc=options, state=state, **own)
                for simulator, each in evaluation.fc.items():
                    found[simulator] += list(each)
                bar.update(1)
        except KeyboardInterrupt:
            if len(found["JAX"]) < 2:
                raise
            remarks.append(f"interrupted: {len(found['JAX'])} of {len(states)} draws")
    failed = sum(np.isnan(each).any() for each in found["JAX"])
    if failed:
        remarks.append(f"{failed} simulations have no FC: their values are NaN, or do not change")
    usable = {name: np.array([each for each in of if not np.isnan(each).any()]) for name, of in found.items() if of}
    discrepancy = float(posterior.median[DISCREPANCY][0]) if DISCREPANCY in posterior.draws else 0.0
    return PredictiveCheck(observed, usable, discrepancy, tuple(remarks))


def _observed(data):
    """FC of the data, and the number of samples of a recording."""
    if isinstance(data, ObservedFC):
        return data.fc, data.n_samples
    signals = data.recordings.signals
    return np.mean([np.asarray(compute_fc(each)) for each in signals], axis=0), min(map(len, signals))


def _r(first, second):
    return float(fc_corr(first, second, missing="ignore"))


def _upper(matrices):
    return np.asarray(matrices)[:, *np.triu_indices(np.shape(matrices)[-1], 1)]


def _z(matrices):
    return np.arctanh(_upper(matrices))
