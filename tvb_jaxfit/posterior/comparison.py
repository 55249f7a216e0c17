"""Comparison of models by the evidence of their posteriors, and by data that no fit has seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..checks.options import check
from ..markup import notebook_html, table
from .observed_fc import ObservedFC
from .recordings import Recordings
from .result import Posterior

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Models of the same data, the one of the largest evidence first.

    Attributes
    ----------
    names : list of str
    n_free : ndarray of int, shape (n_model,)
        Number of free values.
    log_likelihood : ndarray, shape (n_model,)
        Largest one, at the maximum of the posterior.
    log_evidence : ndarray, shape (n_model,)
        By the Laplace approximation.
    held_out : ndarray, shape (n_model,), or None
        Logarithm of the predictive density of other data.
    """

    names: list
    n_free: np.ndarray = field(repr=False)
    log_likelihood: np.ndarray = field(repr=False)
    log_evidence: np.ndarray = field(repr=False)
    held_out: np.ndarray | None = field(repr=False)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Columns of the table, by name; differences are to the first model."""
        columns = {
            "free values": self.n_free,
            "log likelihood": self.log_likelihood,
            "log evidence": self.log_evidence,
            "difference": self.log_evidence - self.log_evidence[0],
        }
        if self.held_out is not None:
            columns["held out"] = self.held_out
            columns["held out, difference"] = self.held_out - self.held_out[0]
        return columns

    def to_frame(self) -> "pandas.DataFrame":
        """Table with one row for each model.

        Raises
        ------
        ImportError
            Without pandas.
        """
        import pandas

        return pandas.DataFrame(self.columns, index=pandas.Index(self.names, name="model"))

    def _rows(self):
        columns = self.columns
        texts = [[f"{each}" if key == "free values" else f"{each:.1f}" for each in of] for key, of in columns.items()]
        return ["model", *columns], [list(row) for row in zip(self.names, *texts, strict=True)]

    def __repr__(self):
        heads, rows = self._rows()
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

        def line(cells):
            name, *numbers = cells
            texts = [
                name.ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)),
            ]
            return "  " + "  ".join(texts)

        return "\n".join(["Model comparison", *map(line, [heads, *rows])])

    def _repr_html_(self):
        return notebook_html("Model comparison", table(*self._rows()))


def compare_models(
    posteriors: Mapping[str, Posterior], held_out: "np.ndarray | Recordings | None" = None
) -> ModelComparison:
    r"""Compare models of the same data: by evidence, and by data that no fit has seen.

    Parameters
    ----------
    posteriors : dict of str to Posterior
        By the name of the model: for example "global", "maps" and "regional" values. ``method="laplace"`` is enough.
    held_out : ndarray of shape (n_node, n_node), or Recordings, optional
        FC of another recording of the same length, in the order of the regions, or other recordings: as the data of
        the posteriors.

    Returns
    -------
    ModelComparison
        Printable.

    Raises
    ------
    ValueError
        Posteriors of different data; held-out data of another kind or shape.

    Notes
    -----
    The evidence :math:`p(y) = \int p(y | \theta)\, p(\theta)\, d\theta` is that of `Laplace`. It depends on the priors:
    ten times wider bounds of a value that the data determine cost :math:`\log 10 = 2.3`. A difference of 3 is
    substantial, one of 5 strong (Kass and Raftery 1995). The predictive density of held-out data is that of
    `Posterior.log_predictive_density`, and does not depend on the priors of what the data determine.

    References
    ----------
    Kass, R. E., Raftery, A. E. (1995). J. Am. Stat. Assoc. 90(430), 773-795.
    """
    check("compare_models", posteriors=(posteriors, _posteriors))
    problems = _differences(posteriors)
    if problems:
        raise ValueError(f"compare_models: posteriors: {'; '.join(problems)}. Compare models of the same data.")
    others = None
    if held_out is not None:
        others = np.array([each.log_predictive_density(_like(each.data, held_out)) for each in posteriors.values()])
    evidence = np.array([each.log_evidence for each in posteriors.values()])
    order = np.argsort(-evidence, kind="stable")
    names = list(posteriors)
    return ModelComparison(
        [names[index] for index in order],
        np.array([each.n_free for each in posteriors.values()])[order],
        np.array([each.log_likelihood for each in posteriors.values()])[order],
        evidence[order],
        None if others is None else others[order],
    )


def _posteriors(value):
    """Rule of at least two posteriors by name."""
    if isinstance(value, Mapping) and len(value) > 1 and all(isinstance(each, Posterior) for each in value.values()):
        return None
    return "a dict of two or more results of FitResult.posterior, by name"


def _differences(posteriors):
    """Differences between the data of the posteriors, in words."""
    (first, reference), *others = posteriors.items()
    return [
        f"{name!r} has other data ({each.data}) than {first!r} ({reference.data})"
        for name, each in others
        if not reference.data.is_same(each.data)
    ]


def _like(data, held_out):
    """Other data, of the kind of the data of a posterior."""
    if isinstance(data, ObservedFC):
        given = np.asarray(held_out, float) if not isinstance(held_out, Recordings) else held_out
        if np.shape(given) != data.fc.shape:
            what = "recordings" if isinstance(held_out, Recordings) else f"shape {np.shape(given)}"
            raise ValueError(f"compare_models: held_out: {what}; the posteriors are of FC of shape {data.fc.shape}.")
        if not np.all(np.abs(given[data.pairs]) < 1.0):
            raise ValueError("compare_models: held_out: correlations are missing, or 1 or more, that the data have.")
        return replace(data, fc=given)
    if not isinstance(held_out, Recordings) or held_out.n_node != data.recordings.n_node:
        raise ValueError(
            f"compare_models: held_out: give Recordings of {data.recordings.n_node} regions, as the posteriors have."
        )
    return replace(data, recordings=held_out)
