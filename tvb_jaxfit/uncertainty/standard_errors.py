"""Standard errors of fitted values as a record of numbers and text, which results keep and files contain."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..markup import Html, notebook_html, table
from ..persistence import serialisable
from ..text import aligned, short_range

if TYPE_CHECKING:
    import pandas

_HEADS = ("value", "standard error", "prior's", "determined")


@serialisable
@dataclass(frozen=True, eq=False, repr=False)
class StandardErrors:
    """Standard errors of fitted values by FC, without the linear response that they were computed from.

    Attributes
    ----------
    length : float
        Length of the recording [ms].
    n_samples, n_pairs : int
        Number of its samples, and of the pairs of regions.
    n_regions : int
    names : dict of str to list of str
        Names of the values by path: of regions, of connections, or of coefficients; empty for a single value.
    values, standard_error, standard_error_without_prior, prior_std, is_determined : dict of str to ndarray
        By path, shape (n,), as of `Identifiability`; of maps, for the coefficients.
    eigenvalues : ndarray, shape (n_free,)
        Of the information relative to that of the prior, the largest first.
    correlation : ndarray of float32 or None, shape (n_free, n_free)
        Between the values; None for more than 1000.
    trade_offs, remarks : tuple of str
    """

    length: float
    n_samples: int
    n_pairs: int
    n_regions: int
    names: dict
    values: dict
    standard_error: dict
    standard_error_without_prior: dict
    prior_std: dict
    is_determined: dict
    eigenvalues: np.ndarray
    correlation: np.ndarray | None = field(default=None)
    trade_offs: tuple = ()
    remarks: tuple = ()

    @property
    def n_determined(self) -> int:
        """Number of directions about which the FC says more than the prior."""
        return int(np.sum(self.eigenvalues > 1.0))

    def summary(self) -> str:
        """Number of directions that FC determines, as text."""
        return f"{self.n_determined} of {self.eigenvalues.size} directions determined by FC of {self.length / 1e3:g} s"

    def count(self, path: str) -> str:
        """Number of the values of a path that are determined, as text: "28 of 84"; of a single value, "yes" or "no"."""
        determined = self.is_determined[path]
        return f"{determined.sum()} of {determined.size}" if determined.size > 1 else ("no", "yes")[int(determined[0])]

    def error_range(self, path: str) -> str:
        """Smallest, median and largest standard error of a path, as text."""
        return short_range(self.standard_error[path], ".2g")

    def to_frame(self) -> "pandas.DataFrame":
        """Values with their standard errors as a table: one row for each path and entry.

        Raises
        ------
        ImportError
            Without pandas.
        """
        import pandas

        columns = {
            "value": self.values,
            "standard error": self.standard_error,
            "without prior": self.standard_error_without_prior,
            "prior": self.prior_std,
            "determined": self.is_determined,
        }
        index = [(path, name) for path, names in self.names.items() for name in names]
        flat = {name: np.concatenate(list(of_path.values())) for name, of_path in columns.items()}
        return pandas.DataFrame(flat, pandas.MultiIndex.from_tuples(index, names=["path", "entry"]))

    def text(self, what: str) -> str:
        """Description for a terminal, which begins with the name of the object that is described."""
        rows = [["", *_HEADS], *self._rows()]
        sentences = [self._sentence(), *aligned(rows), *self.trade_offs, *self.remarks]
        return "\n".join([self._title(what), *(f"  {line}" for line in sentences)])

    def html(self, what: str) -> str:
        """Description for a notebook; see `text`."""
        return notebook_html(self._title(what), self._sentence(), self.table(), *self.trade_offs, *self.remarks)

    def table(self) -> Html:
        """Table of the parameters: ranges of values and standard errors, and how many values are determined."""
        return table(["parameter", *_HEADS], self._rows())

    def _title(self, what):
        return (
            f"{what} of {self.eigenvalues.size} values by FC: {self.n_pairs} pairs, a recording of "
            f"{self.length / 1000.0:g} s ({self.n_samples} samples)"
        )

    def _sentence(self):
        return f"{self.n_determined} of {self.eigenvalues.size} directions are determined: FC says more than the prior"

    def _rows(self) -> Sequence[list[str]]:
        return [
            [
                path,
                short_range(values, ".4g"),
                self.error_range(path),
                short_range(self.prior_std[path], ".2g"),
                self.count(path),
            ]
            for path, values in self.values.items()
        ]

    def __repr__(self):
        return self.text("StandardErrors")

    def _repr_html_(self):
        return self.html("StandardErrors")
