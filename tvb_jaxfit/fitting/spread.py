"""Spread of fitted values over seeds and starts: what the data determine, and what the start does."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..maps import MapParameter
from ..parameters import parameters_of
from ..text import aligned
from .starts import parameter_scale

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Spread:
    """Fitted values of fits that differ in their seed, and of the starts that one fit has followed.

    Attributes
    ----------
    seeds : list of int
        Of the fits; the first is that of the fit itself.
    values : dict of str to ndarray, shape (n_fit, ...)
        Fitted values by path; of maps, the coefficients.
    loss, r : ndarray, shape (n_fit,)
        Loss at the best step, and mean r on fresh noise (without noise: at the best step).
    start_values : dict of str to ndarray, shape (n_start, ...)
        Values at the end of each start of the first fit, by path.
    start_loss : ndarray, shape (n_start,)
        By which the best start was selected.
    ranges : dict of str to float
        By path: distance of the bounds, or mean size of the start values.
    labels : list of str
        Of the regions.
    names : dict of str to tuple of str
        Of the coefficients of maps, by path.
    interrupted : bool
        True if an interrupt ended the refits early.
    """

    seeds: list
    values: dict = field(repr=False)
    loss: np.ndarray
    r: np.ndarray
    start_values: dict = field(repr=False)
    start_loss: np.ndarray
    ranges: dict = field(repr=False)
    labels: list = field(repr=False)
    names: dict = field(repr=False, default_factory=dict)
    interrupted: bool = False

    def std(self, path: str) -> np.ndarray:
        """Standard deviation of the values of a path over the fits, relative to its range; one for each region."""
        return _std(self.values[path]) / self.ranges[path]

    def std_over_starts(self, path: str) -> np.ndarray:
        """Standard deviation of the values of a path over the starts of the first fit, relative to its range."""
        return _std(self.start_values[path]) / self.ranges[path]

    def correlation(self, path: str) -> float:
        """Mean correlation of the regional values of a path between two fits; NaN for a global value or one fit."""
        values = self.values[path].reshape(len(self.seeds), -1)
        if values.shape[1] < 3 or len(values) < 2 or np.any(np.ptp(values, axis=1) == 0.0):
            return np.nan
        r = np.corrcoef(values)
        return float(np.mean(r[np.triu_indices(len(r), 1)]))

    def to_frame(self) -> "pandas.DataFrame":
        """Fitted values as a table: one row for each path and entry, one column for each seed.

        Raises
        ------
        ImportError
            Without pandas.
        """
        import pandas

        rows = []
        for path, values in self.values.items():
            flat = values.reshape(len(values), -1)
            names = self.labels if flat.shape[1] == len(self.labels) else range(flat.shape[1])
            names = self.names.get(path, names)
            std = np.broadcast_to(self.std(path).ravel(), flat.shape[1:])
            rows += [
                {"path": path, "entry": name if flat.shape[1] > 1 else "", **dict(zip(self.seeds, column, strict=True))}
                | {"std / range": relative}
                for name, column, relative in zip(names, flat.T, std, strict=True)
            ]
        return pandas.DataFrame(rows).set_index(["path", "entry"])

    def __repr__(self):
        rows = [["", "std / range over seeds", "over starts", "r between seeds"]]
        for path in self.values:
            several = np.size(self.std(path)) > 1
            text = f"{np.median(self.std(path)):.3f}" + (f" (at most {np.max(self.std(path)):.3f})" if several else "")
            r = self.correlation(path)
            starts = f"{np.median(self.std_over_starts(path)):.3f}" if len(self.start_loss) > 1 else "one start"
            rows.append([path, text, starts, "" if np.isnan(r) else f"{r:.3f}"])
        heads = [
            f"Spread over {len(self.seeds)} seeds ({', '.join(map(str, self.seeds))})"
            + (", interrupted" if self.interrupted else ""),
            f"  loss {_list(self.loss, 5)}; r on fresh noise {_list(self.r, 4)}",
        ]
        return "\n".join([*heads, *(f"  {line}" for line in aligned(rows))])


def spread(result, refit: Callable, request, n_seeds: int, progress: bool) -> Spread:
    """Spread of the values of a fit over seeds.

    Parameters
    ----------
    result : FitResult
    refit : callable
        `FitRequest` to `FitResult`.
    request : FitRequest
        Of the fit.
    n_seeds : int
        Number of fits, the one that was made included.
    progress : bool
    """
    first, results, interrupted = request.search.seed, [result], False
    run = replace(request.run, progress=progress, checkpoint=None, resume=False)
    for seed in range(first + 1, first + n_seeds):
        try:
            again = refit(replace(request, search=replace(request.search, seed=seed), run=run))
        except KeyboardInterrupt:
            again = None
        # A fit that was interrupted is no sample of where fits end.
        interrupted = again is None or again.history.stop_reason.interrupted
        if interrupted:
            break
        results.append(again)
    initial = parameters_of(result.initial if result.linear_stage is None else result.linear_stage.initial)
    candidates = (result.linear_stage or result).candidates
    return Spread(
        seeds=[first + index for index in range(len(results))],
        values={path: np.stack([_value(each, path) for each in results]) for path in initial},
        loss=np.array([each.loss[each.history.best_step] if each.loss.size else np.nan for each in results]),
        r=np.array([_r(each) for each in results]),
        start_values={path: np.stack([each.values[path] for each in candidates]) for path in initial if candidates},
        start_loss=np.array([each.loss for each in candidates]),
        ranges={path: parameter_scale(parameter) for path, parameter in initial.items()},
        labels=[str(label) for label in result.simulator.connectivity.region_labels],
        names={path: each.names for path, each in initial.items() if isinstance(each, MapParameter)},
        interrupted=interrupted,
    )


def _value(result, path):
    return np.asarray(parameters_of(result.best)[path].estimate)


def _r(result):
    if result.fresh is not None:
        return result.fresh.mean
    return result.r[result.history.best_step] if result.r.size else np.nan


def _std(values):
    return np.std(values, axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def _list(values, digits):
    return ", ".join(f"{value:.{digits}f}" for value in values)
