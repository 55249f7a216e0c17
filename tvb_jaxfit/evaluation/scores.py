"""Evaluation: the scores of a set of runs, and how people read them."""

from dataclasses import dataclass, field

import numpy as np

from ..markup import notebook_html, table
from ..persistence import serialisable
from .baselines import Targets


@serialisable
@dataclass(frozen=True, repr=False)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    description : str
    length : float
        Of each run [ms].
    n_samples, skip_t : int
        Samples of a run that FC is computed from, and samples left out before them.
    window : float or None
        [ms]
    targets : Targets
        ``targets.primary`` names the one that counts.
    rows : list of dict
        One for each run and target: ``simulator`` ("JAX" or "TVB"), ``seed``, ``target``, ``r``, ``rmse``, and where
        they were asked for ``window_r`` and ``window_rmse`` (means over windows) and ``r left-left``, ... for blocks.
    fc : dict of str to ndarray, shape (n_run, n_node, n_node)
        By simulator, the FC of each run; NaN where a run failed.
    training_scores : dict of str to float, or None
        ``r`` and ``loss`` of a fit's best step: on the noise of that step, or by the linear response without noise;
        with the target and the loss of the fit.
    validation_scores : dict of str to float, or None
        ``r`` and ``loss`` of the same step on the noise of the validation, by whose loss the step was chosen. None of
        a fit that chose by the training.
    structural_baseline : dict of str to float
        By target, the correlation of the structural weights (mean of both directions) with it.
    noise_ceiling : dict of str to float
        Of several sessions, how well they agree: ``"leave_one_out"`` (each with the mean of the others),
        ``"split_half"`` (reliability of their mean) and ``"trained on"`` (with held out), see
        `tvb_jaxfit.evaluation.baselines.noise_ceiling`.
    failed : dict of (str, int) to str
        By simulator and seed, why a run has no FC.
    interrupted : bool
        Whether runs are missing because of an interrupt.

    Notes
    -----
    The run with a seed is repeated by ``simulate(resample(state, jax.random.key(seed)))``; in TVB, by
    ``sim.integrator.noise.random_stream.seed(seed)`` before ``sim.run()``.
    """

    description: str
    length: float
    n_samples: int
    skip_t: int
    window: float | None
    targets: Targets
    rows: list
    fc: dict
    training_scores: dict | None = None
    validation_scores: dict | None = None
    structural_baseline: dict = field(default_factory=dict)
    noise_ceiling: dict = field(default_factory=dict)
    failed: dict = field(default_factory=dict)
    interrupted: bool = False

    def values(self, measure="r", target=None, simulator="JAX"):
        """One measure of every run.

        Parameters
        ----------
        measure : str, optional
            A column of `to_pandas`: ``"r"``, ``"rmse"``, ``"window_r"``, ``"r left-right"``, ...
        target : str, optional
            The one that counts by default.
        simulator : "JAX" or "TVB", optional

        Returns
        -------
        ndarray, shape (n_run,)
            NaN where a run failed.

        Raises
        ------
        KeyError
            Where there is no such measure or target.
        """
        target = self.targets.primary if target is None else target
        if target not in self.targets.matrices:
            raise KeyError(f"no target {target!r}; there is: {', '.join(self.targets.matrices)}")
        rows = [row for row in self.rows if row["target"] == target and row["simulator"] == simulator]
        if rows and measure not in rows[0]:
            raise KeyError(f"no measure {measure!r}; there is: {', '.join(list(rows[0])[3:])}")
        return np.array([row[measure] for row in rows])

    @property
    def r(self):
        """Correlation (off-diagonal) of each JAX run's FC with the target that counts."""
        return self.values("r")

    @property
    def rmse(self):
        """Root-mean-square difference of each JAX run's FC from the target that counts."""
        return self.values("rmse")

    def mean(self, measure="r", target=None, simulator="JAX"):
        """Mean over the runs that did not fail; see `values`."""
        return _mean(self.values(measure, target, simulator))

    def std(self, measure="r", target=None, simulator="JAX"):
        """Standard deviation (n - 1) over the runs that did not fail; NaN of fewer than two."""
        return _sd(self.values(measure, target, simulator))

    def to_pandas(self):
        """`rows` as a table.

        Returns
        -------
        pandas.DataFrame
        """
        import pandas as pd

        return pd.DataFrame(self.rows)

    def summary(self):
        """Scores on fresh noise in one line."""
        against = "" if self.targets.primary == "target" else f" against {self.targets.primary}"
        return (
            f"fresh noise: r {mean_and_sd(self.values('r'))}, RMSE {mean_and_sd(self.values('rmse'))}{against} "
            f"({runs(len(self.r))} of {seconds(self.length)})"
        )

    def __repr__(self):
        row = "  {:<34} {:<17} {}".format
        lines = [
            f"Evaluation: {self.description}",
            f"  {self.n_samples} samples of runs of {seconds(self.length)}, after {self.skip_t} left out",
            row("mean ± sd over noise", "r (off-diagonal)", "RMSE"),
            *(row(*cells) for cells in self.table()),
            *(f"  {remark}" for remark in self.remarks()),
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self):
        told = f"{self.n_samples} samples of runs of {seconds(self.length)}, after {self.skip_t} left out"
        return notebook_html(
            f"Evaluation: {self.description}",
            f"{told}; mean ± standard deviation over noise",
            table(["", "r (off-diagonal)", "RMSE"], self.table()),
            *self.remarks(),
        )

    def table(self):
        """Lines of text: what, r and RMSE, as mean ± standard deviation over noise.

        Returns
        -------
        list of (str, str, str)
        """
        rows = []
        for name, scores in (("training", self.training_scores), ("validation", self.validation_scores)):
            if scores:
                rows.append((name, f"{scores['r']:.4f}", f"(loss {_loss(scores['loss'])})"))
        for simulator in self.fc:
            rows += self._of(simulator)
        name = self.targets.primary
        rows.append((f"structural weights, {name}", f"{self.structural_baseline[name]:.4f}", ""))
        told = {
            "trained on": "sessions trained on, held out",
            "leave_one_out": "a session, mean of the others",
            "split_half": "mean of sessions (Spearman-Brown)",
        }
        return rows + [
            (text, f"{self.noise_ceiling[key]:.4f}", "") for key, text in told.items() if key in self.noise_ceiling
        ]

    def remarks(self):
        """What is missing, in words."""
        remarks = [f"{simulator}, seed {seed}: no FC: {why}" for (simulator, seed), why in self.failed.items()]
        return remarks + (["interrupted: these are the runs that were done"] if self.interrupted else [])

    def _of(self, simulator):
        """Cells of the table's lines on one simulator."""
        title = "fresh noise" if simulator == "JAX" else f"{simulator}, fresh noise"
        yield f"{title}, {runs(len(self.fc[simulator]))}", "", ""
        others = [name for name in self.targets.matrices if name not in self.targets.sessions]
        for name in reversed(others):
            r, rmse = (self.values(measure, name, simulator) for measure in ("r", "rmse"))
            yield f"  {name}", mean_and_sd(r), mean_and_sd(rmse)
            if name != self.targets.primary:
                continue
            if self.window is not None:
                r, rmse = (self.values(measure, name, simulator) for measure in ("window_r", "window_rmse"))
                yield f"    windows of {seconds(self.window)}", mean_and_sd(r), mean_and_sd(rmse)
            for measure in self._measures("r "):
                yield f"    {measure.removeprefix('r ')}", mean_and_sd(self.values(measure, name, simulator)), ""
        for title, names in (("each session", self.targets.sessions), ("each held out", self.targets.held_out)):
            if names:
                cells = [
                    mean_and_sd(np.mean([self.values(measure, name, simulator) for name in names], axis=0))
                    for measure in ("r", "rmse")
                ]
                yield f"  {title} (mean of {len(names)})", *cells

    def _measures(self, prefix):
        return [measure for measure in self.rows[0] if measure.startswith(prefix)]


def _loss(value):
    return f"{value:.4f}" if 0.001 <= abs(value) < 10.0 else f"{value:.4g}"


def _mean(values):
    values = values[np.isfinite(values)]
    return float(np.mean(values)) if values.size else np.nan


def _sd(values):
    values = values[np.isfinite(values)]
    return float(np.std(values, ddof=1)) if values.size > 1 else np.nan


def mean_and_sd(values):
    """Mean ± standard deviation (n - 1) of the finite values, as text; the mean alone of one."""
    return f"{_mean(values):.4f}" + ("" if np.isnan(_sd(values)) else f" ± {_sd(values):.4f}")


def runs(n):
    """Number of runs, as text."""
    return f"{n} run{'s' if n != 1 else ''}"


def seconds(length):
    """Length [ms] as text, in seconds where it is at least one."""
    return f"{length / 1000.0:g} s" if length >= 1000.0 else f"{length:g} ms"
