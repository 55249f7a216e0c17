"""Functional connectivity dynamics as a target."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..observation.distances import ks_distance, wasserstein_distance
from ..observation.fcd import FCD, compute_fcd
from ..observation.windows import DEFINITIONS
from ..persistence import serialisable
from .target import Target

# Number of recordings that are drawn from a linear response for a distribution: their sampling error is half that of
# one recording.
_N_DRAWN = 4


@serialisable
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FCDTarget(Target):
    """Functional connectivity dynamics (FCD) as a target of `fit`.

    Parameters
    ----------
    value : FCD or array_like
        FCD of the recording as `compute_fcd` returns it, its matrix, or its distribution of shape (n,), of one or of
        several recordings.
    window, step, definition, overlapping : optional
        Windows of the simulated FCD, as for `compute_fcd` [samples]: those that the value was computed with.
    n_samples_of_recording : int, optional
        Number of samples of a recording. A longer simulation is cut into pieces of this length, and the distributions
        of the pieces are joined. Default: one FCD of the whole simulation.
    weight : float, default 1
        Factor of the distance in the loss.
    distance : callable, optional
        (simulated, value) of two distributions to a scalar. Default: `wasserstein_distance`.

    Raises
    ------
    ValueError
        An option or a value that is not allowed.

    Notes
    -----
    An FCD depends on the length of the recording: windows that overlap are similar, and their share falls with the
    length. A linear fit draws samples from the linear response (`LinearResponse.sample`), always on the same normal
    draws, so that the FCD has a gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> tj.FCDTarget(np.linspace(0.0, 0.8, 50), definition="cubnm", n_samples_of_recording=1200, weight=0.5)
    FCDTarget(50 values, weight=0.5, definition='cubnm', n_samples_of_recording=1200)
    """

    window: int | None = None
    step: int | None = None
    definition: Literal["cubnm", "cbig", "deco", "neurolib", "tvb"] | None = None
    overlapping: bool = True
    n_samples_of_recording: int | None = None

    measures = ("KS",)

    def _rules(self):
        return super()._rules() | {
            "window": (self.window, allowed.optional(allowed.integer(2))),
            "step": (self.step, allowed.optional(allowed.integer(1))),
            "definition": (self.definition, allowed.optional(allowed.choice(*DEFINITIONS))),
            "overlapping": (self.overlapping, allowed.boolean),
            "n_samples_of_recording": (self.n_samples_of_recording, allowed.optional(allowed.integer(4))),
        }

    def _read(self, value):
        if self.definition is None and (self.window is None or self.step is None):
            raise ValueError(
                "FCDTarget: its windows are not given. Give definition=, such as definition='cubnm', or window= and "
                "step= [samples], those that the value was computed with."
            )
        value = super()._read(value.distribution if isinstance(value, FCD) else value)
        if value.ndim == 2 and value.shape[0] == value.shape[1]:
            value = value[np.triu_indices(len(value), 1)]
        problems = [] if value.ndim == 1 and value.size else [f"shape {value.shape}; give a distribution, or a matrix"]
        if np.any(np.abs(value) > 1.0 + 1e-6):
            problems.append("values outside of -1 to 1; give correlations of the FC of windows")
        if problems:
            raise ValueError(f"FCDTarget: value: {'; '.join(problems)}.")
        return value

    def problems(self, n_node, period, n_time):
        """Reasons why the windows do not fit the samples."""
        try:
            jax.eval_shape(lambda signals: self.of_signal(signals, period), jnp.zeros((n_time, n_node)))
        except ValueError as error:
            return [str(error).removesuffix(".")]
        return []

    def n_samples(self, n_time):
        """Several recordings."""
        return _N_DRAWN * (n_time if self.n_samples_of_recording is None else int(self.n_samples_of_recording))

    def of_signal(self, signals, period):
        """Distribution of the similarities of windows, of all pieces."""
        n_time = signals.shape[0]
        size = n_time if self.n_samples_of_recording is None else min(int(self.n_samples_of_recording), n_time)
        pieces = [signals[start : start + size] for start in range(0, n_time - size + 1, size)]
        return jnp.concatenate([self._distribution(piece, period) for piece in pieces])

    def _distribution(self, signals, period):
        windows = {"definition": self.definition, "overlapping": self.overlapping, "period": period}
        return compute_fcd(signals, self.window, self.step, **windows).distribution

    def _default_distance(self, simulated, value):
        return wasserstein_distance(simulated, value)

    def scores(self, simulated):
        """KS distance, as published codes report it."""
        return {"KS": float(ks_distance(simulated, np.asarray(self.value, simulated.dtype), self.definition))}
