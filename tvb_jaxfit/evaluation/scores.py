"""Evaluation: the scores of a set of runs, and their presentation."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..markup import notebook_html, table
from ..persistence import serialisable
from .sessions import Targets

if TYPE_CHECKING:
    import pandas

# Titles of the noise ceilings in a table.
_CEILINGS = {
    "trained on": "sessions trained on, held out",
    "leave_one_out": "a session, mean of the others",
    "split_half": "mean of sessions (Spearman-Brown)",
}


@serialisable
@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of runs on fresh noise, beside the scores of the fit, baselines without a model and noise ceilings.

    Attributes
    ----------
    description : str
        Of the simulator.
    length : float
        Length of each run [ms].
    n_samples, skip_t : int
        Number of samples of a run that FC is computed from, and number of samples left out before them.
    window : float or None
        Length of a window [ms].
    targets : Targets
        Empirical FC; ``targets.primary`` is the name of the primary target.
    rows : list of dict
        One for each run and target: ``simulator`` ("JAX" or "TVB"), ``seed``, ``target``, ``r``, ``rmse``,
        ``mean_difference`` of FC; with windows also ``window_r`` and ``window_rmse`` (means over windows); with region
        groups also ``r left-left``, ... for each block; with observables the distance from each, by its name.
    fc : dict of str to ndarray, shape (n_run, n_node, n_node)
        By simulator, the FC of each run; NaN if a run failed.
    training_scores : dict of str to float, or None
        ``r`` and ``loss`` of a fit's best step, with the target and the loss of the fit: on the noise of that step, or
        by the linear response without noise.
    validation_scores : dict of str to float, or None
        ``r`` and ``loss`` of the same step on the noise of the validation, whose loss selected the step. None for a fit
        that selected its best step by the training loss.
    structural_baseline : dict of str to float
        By target, its correlation with the structural weights (mean of both directions).
    noise_ceiling : dict of str to float
        Agreement of several sessions: ``"leave_one_out"`` (each with the mean of the others), ``"split_half"``
        (reliability of their mean) and ``"trained on"`` (with the held-out ones), see
        `tvb_jaxfit.evaluation.baselines.noise_ceiling`.
    failed : dict of (str, int) to str
        By simulator and seed, the reason why a run has no FC.
    interrupted : bool
        True if an interrupt prevented some runs.
    observables : dict of str to str
        Targets besides FC as text, by name.
    left_out : list of str
        Sentences on targets that were not evaluated.
    group_baseline : dict of str to float, or None
        By target, its correlation with the FC of other subjects. None if no group was given.

    Notes
    -----
    A run in JAX is repeated by ``simulate(resample(state, jax.random.key(seed)))``. A run in TVB is repeated by
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
    observables: dict = field(default_factory=dict)
    left_out: list = field(default_factory=list)
    group_baseline: dict | None = None

    def values(self, measure: str = "r", target: str | None = None, simulator: str = "JAX") -> np.ndarray:
        """One measure of every run.

        Parameters
        ----------
        measure : str, optional
            A key of `rows`: ``"r"``, ``"rmse"``, ``"window_r"``, ``"r left-right"``, ...
        target : str, optional
            The primary target by default.
        simulator : {"JAX", "TVB"}, optional

        Returns
        -------
        ndarray, shape (n_run,)
            NaN for runs that failed.

        Raises
        ------
        KeyError
            If the measure or the target does not exist.
        """
        target = self.targets.primary if target is None else target
        if target not in self.targets.matrices:
            raise KeyError(f"no target {target!r}; there is: {', '.join(self.targets.matrices)}")
        rows = [row for row in self.rows if row["target"] == target and row["simulator"] == simulator]
        if rows and measure not in rows[0]:
            raise KeyError(f"no measure {measure!r}; there is: {', '.join(list(rows[0])[3:])}")
        return np.array([row[measure] for row in rows])

    @property
    def r(self) -> np.ndarray:
        """Correlation (off-diagonal) of the FC of each JAX run with the primary target, shape (n_run,)."""
        return self.values("r")

    @property
    def rmse(self) -> np.ndarray:
        """Root-mean-square difference of the FC of each JAX run from the primary target, shape (n_run,)."""
        return self.values("rmse")

    def mean(self, measure: str = "r", target: str | None = None, simulator: str = "JAX") -> float:
        """Mean over the runs that did not fail; see `values`."""
        return _mean(self.values(measure, target, simulator))

    def std(self, measure: str = "r", target: str | None = None, simulator: str = "JAX") -> float:
        """Standard deviation (n - 1) over the runs that did not fail; NaN for fewer than two. See `values`."""
        return _std(self.values(measure, target, simulator))

    def to_pandas(self) -> "pandas.DataFrame":
        """Table of `rows`, with the baselines of the target of each: ``structural_baseline``, ``group_baseline``.

        Returns
        -------
        pandas.DataFrame
        """
        import pandas as pd

        frame = pd.DataFrame(self.rows)
        columns = {"structural_baseline": self.structural_baseline, "group_baseline": self.group_baseline}
        for column, baseline in columns.items():
            if baseline is not None:
                frame[column] = [baseline[row["target"]] for row in self.rows]
        return frame

    def summary(self) -> str:
        """Scores on fresh noise in one line."""
        against = "" if self.targets.primary == "target" else f" against {self.targets.primary}"
        shortfall = self.shortfall()
        return (
            f"fresh noise: r {format_mean_std(self.values('r'))}, RMSE {format_mean_std(self.values('rmse'))}{against} "
            f"({format_runs(len(self.r))} of {format_length(self.length)})" + (f"; {shortfall}" if shortfall else "")
        )

    def shortfall(self) -> str:
        """Sentence on the baselines that r on fresh noise does not reach; empty if r exceeds all of them."""
        r, baselines = self.mean(), self._baselines(self.targets.primary)
        missed = [f"that of {title} ({value:.4f})" for title, value in baselines.items() if r < value]
        return f"r is below {' and '.join(missed)}" if missed else ""

    def __repr__(self):
        row = "  {:<34} {:<17} {}".format
        lines = [
            f"Evaluation: {self.description}",
            f"  {self._samples_text()}",
            row("mean ± sd over noise", "r (off-diagonal)", "RMSE"),
            *(row(*cells) for cells in self.table()),
            *(f"  {remark}" for remark in self.remarks()),
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self):
        return notebook_html(
            f"Evaluation: {self.description}",
            f"{self._samples_text()}; mean ± standard deviation over noise",
            table(["", "r (off-diagonal)", "RMSE"], self.table()),
            *self.remarks(),
        )

    def _samples_text(self):
        return f"{self.n_samples} samples of runs of {format_length(self.length)}, after {self.skip_t} left out"

    def table(self) -> list[tuple[str, str, str]]:
        """Lines of a table: title, r and RMSE, the latter two as mean ± standard deviation over noise.

        Returns
        -------
        list of (str, str, str)
        """
        rows = []
        for name, scores in (("training", self.training_scores), ("validation", self.validation_scores)):
            if scores:
                rows.append((name, f"{scores['r']:.4f}", f"(loss {_format_loss(scores['loss'])})"))
        for simulator in self.fc:
            rows += self._simulator_lines(simulator)
        name = self.targets.primary
        baselines = self._baselines(name).items()
        rows += [(f"{title.removeprefix('the ')}, {name}", f"{value:.4f}", "") for title, value in baselines]
        ceilings = [(title, self.noise_ceiling[key]) for key, title in _CEILINGS.items() if key in self.noise_ceiling]
        return rows + [(title, f"{value:.4f}", "") for title, value in ceilings]

    def remarks(self) -> list[str]:
        """Sentences on observables besides FC, on baselines that are not reached, and on missing runs."""
        shortfall = self.shortfall()
        interrupted = ["interrupted: these are the runs that were done"] if self.interrupted else []
        return [shortfall] * bool(shortfall) + self.on_observables() + self.failures() + interrupted

    def on_observables(self) -> list[str]:
        """Sentence on each observable besides FC."""
        return [self._observable_text(name) for name in self.observables] + self.left_out

    def failures(self) -> list[str]:
        """Sentence on each run without FC."""
        return [f"{simulator}, seed {seed}: no FC: {reason}" for (simulator, seed), reason in self.failed.items()]

    def _baselines(self, target):
        """Correlations that need no model, by their titles in a sentence."""
        baselines = {"the structural weights": self.structural_baseline[target]}
        return baselines | ({"the group's FC": self.group_baseline[target]} if self.group_baseline else {})

    def _observable_text(self, name):
        """Distance of the runs from a target besides FC, mean ± standard deviation over noise."""
        parts = []
        for simulator in self.fc:
            measures = [each for each in self.rows[0] if each == name or each.startswith(f"{name} ")]
            values = ", ".join(
                f"{each.removeprefix(name).strip() or 'distance'} {format_mean_std(self.values(each, None, simulator))}"
                for each in measures
            )
            parts.append(f"{'' if simulator == 'JAX' else f'{simulator}: '}{values}")
        return f"{name}, fresh noise: {'; '.join(parts)}"

    def _simulator_lines(self, simulator):
        """Lines of the table on the runs of one simulator."""

        def cells(name, *measures):
            return [format_mean_std(self.values(measure, name, simulator)) for measure in measures]

        title = "fresh noise" if simulator == "JAX" else f"{simulator}, fresh noise"
        yield f"{title}, {format_runs(len(self.fc[simulator]))}", "", ""
        others = [name for name in self.targets.matrices if name not in self.targets.sessions]
        for name in reversed(others):
            yield f"  {name}", *cells(name, "r", "rmse")
            if name != self.targets.primary:
                continue
            if self.window is not None:
                yield f"    windows of {format_length(self.window)}", *cells(name, "window_r", "window_rmse")
            for measure in (measure for measure in self.rows[0] if measure.startswith("r ")):
                yield f"    {measure.removeprefix('r ')}", *cells(name, measure), ""
        for title, names in (("each session", self.targets.sessions), ("each held out", self.targets.held_out)):
            if names:
                means = [
                    np.mean([self.values(measure, name, simulator) for name in names], axis=0)
                    for measure in ("r", "rmse")
                ]
                yield f"  {title} (mean of {len(names)})", *map(format_mean_std, means)


def _format_loss(value):
    return f"{value:.4f}" if 0.001 <= abs(value) < 10.0 else f"{value:.4g}"


def _mean(values):
    values = values[np.isfinite(values)]
    return float(np.mean(values)) if values.size else np.nan


def _std(values):
    values = values[np.isfinite(values)]
    return float(np.std(values, ddof=1)) if values.size > 1 else np.nan


def format_mean_std(values) -> str:
    """Mean ± standard deviation (n - 1) of the finite values as text; the mean alone for one value."""
    return f"{_mean(values):.4f}" + ("" if np.isnan(_std(values)) else f" ± {_std(values):.4f}")


def format_runs(n) -> str:
    """Number of runs as text."""
    return f"{n} run{'s' if n != 1 else ''}"


def format_length(length) -> str:
    """Length [ms] as text, in seconds if it is at least one second."""
    return f"{length / 1000.0:g} s" if length >= 1000.0 else f"{length:g} ms"
