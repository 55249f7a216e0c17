"""Result: draws of a posterior, with their diagnostics."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from ..checks import options as allowed
from ..checks.options import check
from ..markup import notebook_html, table
from ..parameters import with_values
from ..runtime.processes import PicklableMixin
from ..state import State
from ..text import aligned, short_range
from .density import Branch, Data
from .laplace import Laplace
from .nuts import Chains

if TYPE_CHECKING:
    import arviz
    import pandas

# Limits beyond which a result says that the chains have not converged (Vehtari et al. 2021, Bayesian Analysis 16(2)).
_MAX_R_HAT, _MIN_EFFECTIVE = 1.01, 100.0
# Number of draws at which the likelihood of other data is computed.
_N_HELD_OUT = 200


@dataclass(frozen=True, eq=False)
class Posterior(PicklableMixin):
    """Posterior of fitted values.

    Attributes
    ----------
    branch : Branch
        Density of the values and of the further unknowns of the data, around its maximum.
    laplace : Laplace
        Normal approximation of the unconstrained variables.
    u : ndarray, shape (n_chain, n_draw, n)
        Draws of the unconstrained variables.
    chains : Chains or None
        Draws of NUTS; None for draws of the Laplace approximation.
    is_trusted : ndarray of bool, shape (n,)
        True for draws, evenly spaced, at which the linear response describes the simulator; see `Validity`.
    remarks : tuple of str
    """

    branch: Branch = field(repr=False)
    laplace: Laplace
    u: np.ndarray = field(repr=False)
    chains: Chains | None
    is_trusted: np.ndarray = field(repr=False)
    remarks: tuple = ()

    @property
    def method(self) -> str:
        """Method of the draws: "NUTS" or "Laplace"."""
        return "Laplace" if self.chains is None else "NUTS"

    @property
    def data(self) -> Data:
        """Data: `ObservedFC` or `ObservedRecordings`."""
        return self.branch.density.data

    @property
    def n_free(self) -> int:
        """Number of free values."""
        return self.branch.density.n_free

    @cached_property
    def draws(self) -> dict[str, np.ndarray]:
        """Draws by path, each (n_chain, n_draw, n); further unknowns of the data come last."""
        values = self.branch.density.values(self.u)
        return {path: values[..., of_path] for path, of_path in self.branch.density.prior.slices.items()}

    @property
    def names(self) -> dict[str, list[str]]:
        """Names of the entries by path."""
        density = self.branch.density
        own = density.expected.free.names
        labels = density.expected.free.labels

        def of_further(n):
            return [""] if n == 1 else list(map(str, labels)) if n == len(labels) else list(map(str, range(n)))

        return {path: own.get(path) or of_further(each.shape[-1]) for path, each in self.draws.items()}

    def quantile(self, q: float) -> dict[str, np.ndarray]:
        """Quantile of the draws by path, each (n,)."""
        check("quantile", q=(q, allowed.number(minimum=0.0, maximum=1.0)))
        return {path: np.quantile(each, q, axis=(0, 1)) for path, each in self.draws.items()}

    @property
    def median(self) -> dict[str, np.ndarray]:
        """Median of the draws by path, each (n,)."""
        return self.quantile(0.5)

    @property
    def std(self) -> dict[str, np.ndarray]:
        """Standard deviation of the draws by path, each (n,)."""
        return {path: np.std(each, axis=(0, 1)) for path, each in self.draws.items()}

    @property
    def correlation(self) -> np.ndarray:
        """Correlation between the free values, shape (n_free, n_free)."""
        values = np.concatenate(list(self.draws.values()), axis=-1)[..., : self.n_free]
        return np.atleast_2d(np.corrcoef(values.reshape(-1, self.n_free).T))

    @property
    def log_evidence(self) -> float:
        """Laplace approximation of the logarithm of the probability of the data."""
        return self.laplace.log_evidence

    @cached_property
    def log_likelihood(self) -> float:
        """Logarithm of the likelihood at the maximum of the posterior."""
        return self.branch.density.log_likelihood(self.laplace.maximum.u, self.laplace.maximum.x)

    @property
    def n_divergent(self) -> int:
        """Number of divergent draws; 0 for the Laplace approximation."""
        return 0 if self.chains is None else int(self.chains.is_divergent.sum())

    @cached_property
    def r_hat(self) -> dict[str, np.ndarray]:
        """R-hat by path, each (n,); empty for the Laplace approximation, whose draws are independent.

        Raises
        ------
        ImportError
            Without ArviZ.
        """
        return self._by_arviz("rhat")

    @cached_property
    def effective_size(self) -> dict[str, np.ndarray]:
        """Number of independent draws that the draws are worth, by path, each (n,); as `r_hat`."""
        return self._by_arviz("ess")

    def _by_arviz(self, function):
        if self.chains is None:
            return {}
        import arviz

        found = getattr(arviz, function)(self.inference_data)
        return {path: np.atleast_1d(found[path].values) for path in self.draws}

    @property
    def problems(self) -> list[str]:
        """Signs that the draws do not represent the posterior, in words; empty if there are none."""
        found = []
        if self.chains is not None:
            worst, smallest = (np.concatenate(list(each.values())) for each in (self.r_hat, self.effective_size))
            if not np.max(worst) <= _MAX_R_HAT:
                found.append(f"R-hat up to {np.max(worst):.3f}: chains differ; take more draws (n_warmup, n_draws)")
            if not np.min(smallest) >= _MIN_EFFECTIVE:
                found.append(f"effective size down to {np.min(smallest):.0f}: take more draws")
            if self.n_divergent:
                found.append(
                    f"{self.n_divergent} of {self.chains.is_divergent.size} draws diverged: the posterior has an edge, "
                    "such as an instability, which the draws do not describe well"
                )
        if self.laplace.n_flat:
            found.append(f"{self.laplace.n_flat} directions have no curvature: the Laplace approximation is rough")
        return found + self._on_linear_response()

    @cached_property
    def inference_data(self) -> "arviz.InferenceData":
        """Draws for ArviZ, whose plots and statistics take them.

        Raises
        ------
        ImportError
            Without ArviZ.
        """
        import arviz

        names, draws = self.names, self.draws
        dims = {path: [f"{path}.entry"] for path in draws if draws[path].shape[-1] > 1}
        stats = {}
        if self.chains is not None:
            stats = {
                "diverging": self.chains.is_divergent,
                "acceptance_rate": self.chains.acceptance,
                "n_steps": self.chains.n_steps,
                "lp": -self.chains.potential,
            }
        return arviz.from_dict(
            posterior={path: each if path in dims else each[..., 0] for path, each in draws.items()},
            sample_stats=stats or None,
            coords={f"{path}.entry": names[path] for path in dims},
            dims=dims,
            posterior_attrs={
                "inference_library": "tvb_jaxfit",
                "method": self.method,
                "data": str(self.data),
                "log_evidence": self.log_evidence,
                "priors": "; ".join(f"{path}: {prior}" for path, (prior, _) in self.branch.density.prior.parts.items()),
                "remarks": "; ".join([*self._on_linear_response(), *self.remarks]),
            },
        )

    def _on_linear_response(self):
        n_doubtful = int(np.sum(~self.is_trusted))
        if not n_doubtful:
            return []
        return [
            f"the linear response is not trusted at {n_doubtful} of {self.is_trusted.size} draws: check them by "
            "simulation, predictive_check()"
        ]

    def save(self, path) -> Path:
        """Save the draws as netCDF; ``arviz.from_netcdf(path)`` reads them.

        Parameters
        ----------
        path : path-like
            A missing folder is created.

        Returns
        -------
        Path
        """
        check("save", path=(path, allowed.path))
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.inference_data.to_netcdf(str(path))
        return path

    def states(self, n: int = 10) -> list[State]:
        """States with the values of draws that are evenly spaced, for `evaluate` and `write_back`.

        Parameters
        ----------
        n : int, optional

        Returns
        -------
        list of State
        """
        check("states", n=(n, allowed.integer(1)))
        expected = self.branch.density.expected
        vectors = self.branch.density.values(self.spaced(n))[:, : self.n_free]
        return [with_values(expected.state, expected.free.values(vector)) for vector in vectors]

    def spaced(self, n: int) -> np.ndarray:
        """Variables of draws that are evenly spaced over all chains, shape (n, n_variable)."""
        flat = self.u.reshape(-1, self.u.shape[-1])
        return flat[np.linspace(0, len(flat) - 1, min(int(n), len(flat))).round().astype(int)]

    def log_predictive_density(self, data: Data) -> float:
        r"""Logarithm of the mean likelihood of other data over the draws: :math:`\log E[p(y | \theta)]`.

        Parameters
        ----------
        data : Data
            Of the same kind as those of the posterior.
        """
        density = replace(self.branch.density, data=data)
        draws = self.spaced(_N_HELD_OUT)
        each = [density.log_likelihood(u, self.branch.start(u)) for u in draws]
        return float(logsumexp(each) - np.log(len(each)))

    def to_frame(self) -> "pandas.DataFrame":
        """Table with one row for each path and entry: median, 5 and 95 % quantiles, standard deviation, R-hat, ...

        Raises
        ------
        ImportError
            Without pandas.
        """
        import pandas

        columns = {"median": self.median, "5 %": self.quantile(0.05), "95 %": self.quantile(0.95), "std": self.std}
        if self.chains is not None:
            columns |= {"R-hat": self.r_hat, "effective size": self.effective_size}
        index = [(path, name) for path, names in self.names.items() for name in names]
        flat = {name: np.concatenate(list(of_path.values())) for name, of_path in columns.items()}
        return pandas.DataFrame(flat, pandas.MultiIndex.from_tuples(index, names=["path", "entry"]))

    def _title(self):
        n_chain, n_draw, _ = self.u.shape
        how = f"NUTS, {n_chain} chains of {n_draw} draws" if self.chains is not None else f"Laplace, {n_draw} draws"
        return f"Posterior of {self.n_free} values by {self.data} ({how})"

    def _rows(self):
        heads = ["", "5 %", "median", "95 %", "standard deviation", "prior"]
        low, middle, high, std = self.quantile(0.05), self.median, self.quantile(0.95), self.std
        parts = self.branch.density.prior.parts
        rows = []
        for path, (prior, _) in parts.items():
            columns = (low, ".4g"), (middle, ".4g"), (high, ".4g"), (std, ".2g")
            texts = (short_range(each[path], style) for each, style in columns)
            rows.append([path, *texts, str(prior)])
        return heads, rows

    def _sentences(self):
        found = [f"log evidence (Laplace) {self.log_evidence:.1f}"]
        if self.chains is not None:
            r_hat, size = (np.concatenate(list(each.values())) for each in (self.r_hat, self.effective_size))
            found.append(
                f"largest R-hat {np.max(r_hat):.3f}, smallest effective size {np.min(size):.0f}, "
                f"{self.n_divergent} divergences"
            )
        return [*found, *self.problems, *self.remarks]

    def __repr__(self):
        heads, rows = self._rows()
        return "\n".join([self._title(), *(f"  {line}" for line in [*aligned([heads, *rows]), *self._sentences()])])

    def _repr_html_(self):
        heads, rows = self._rows()
        return notebook_html(self._title(), table(["parameter", *heads[1:]], rows), *self._sentences())
