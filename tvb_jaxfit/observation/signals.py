"""Signals of a user: their shape, their dtype, and values for which an observable is undefined."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks.arrays import unmasked
from ..runtime.processes import refuse_forked


def read_signals(bold: ArrayLike, what: str, skip_t: int = 0, minimum: int = 3) -> jax.Array:
    """Signals to observe, one per node, without the samples at the beginning.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
    what : str
        Name of the observable, for messages.
    skip_t : int
        Number of samples to skip at the beginning.
    minimum : int
        Least number of samples that are left.

    Returns
    -------
    signals : jax.Array of shape (n_time - skip_t, n_node)

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        Masked samples, another shape, too few samples, or, if the values are known, samples that are not finite.
    """
    refuse_forked(what)
    bold = unmasked(bold, "bold")
    if not jnp.issubdtype(bold.dtype, jnp.floating):
        raise TypeError(f"bold has dtype {bold.dtype}; {what} needs a floating dtype. Convert it: bold.astype(float).")
    signals = _select(jnp.asarray(bold), what, skip_t, minimum)
    if is_known(signals):
        finite = np.isfinite(np.asarray(signals)).all(axis=0)
        if not finite.all():
            raise ValueError(
                f"bold is not finite at {nodes_text(~finite)}: the simulation diverged, or the recording has gaps. "
                "Reduce dt or the coupling, or leave these nodes out."
            )
    return signals


def refuse_constant(signals: jax.Array, what: str) -> None:
    """Raise ValueError if a signal is constant. Tracers have no values yet and pass.

    Parameters
    ----------
    signals : jax.Array of shape (n_time, n_node)
    what : str
        Name of the quantity that is undefined, such as "correlation".
    """
    if not is_known(signals):
        return
    values = np.asarray(signals)
    constant = (values == values[:1]).all(axis=0)
    if constant.any():
        raise ValueError(
            f"bold is constant over all {values.shape[0]} samples at {nodes_text(constant)}, so that its {what} is "
            "undefined. Simulate with noise, or leave these nodes out."
        )


def is_known(array: jax.Array) -> bool:
    """True outside functions that JAX transforms: the values can be checked."""
    return not isinstance(array, jax.core.Tracer)


def nodes_text(mask: np.ndarray) -> str:
    """Text that names the nodes where `mask` is true: at most ten of them, and how many more."""
    index = np.flatnonzero(mask).tolist()
    rest = f" and {len(index) - 10} more" if len(index) > 10 else ""
    return f"node{'s' if len(index) > 1 else ''} {', '.join(map(str, index[:10]))}{rest}"


def _select(bold, what, skip_t, minimum):
    """Samples to observe, shape (n_time, n_node)."""
    try:
        skip_t = operator.index(skip_t)
    except TypeError:
        raise TypeError(f"skip_t is {skip_t!r}; it counts samples: give a whole number.") from None
    if skip_t < 0:
        raise ValueError(f"skip_t is {skip_t}; it counts samples from the beginning and cannot be negative.")
    if bold.ndim == 4:
        n_voi, n_mode = bold.shape[1], bold.shape[3]
        if (n_voi, n_mode) != (1, 1):
            raise ValueError(
                f"bold has shape {bold.shape}, that is n_voi = {n_voi} and n_mode = {n_mode}; {what} is of one "
                "variable and one mode. Select them, for example bold[:, :1, :, :1], or record one variable: "
                "monitors.Bold(variables_of_interest=np.array([0]))."
            )
        bold = bold[:, 0, :, 0]
    elif bold.ndim != 2:
        raise ValueError(
            f"bold has shape {bold.shape}; expected (n_time, n_node) or TVB's (n_time, n_voi, n_node, n_mode)."
        )
    n_time = bold.shape[0]
    if n_time - skip_t < minimum:
        raise ValueError(
            f"bold has {n_time} samples and skip_t = {skip_t} leaves {max(n_time - skip_t, 0)}; {what} needs at least "
            f"{minimum}. Simulate longer, or skip less."
        )
    return bold[skip_t:]
