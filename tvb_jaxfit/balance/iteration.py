"""Feedback inhibition control by repeated simulation, as it was published: slow, and valid under noise."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..dynamics.noise import resample
from ..parameters import with_values
from ..runtime.progress import progress_bar
from ..state import get_path
from ..translate.prepare import prepare
from .rates import recorder

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

# First step of the value of a region, and by how much each decrease shortens the step of that region, to this at least.
_STEP, _SHORTENED, _SHORTEST = 0.02, 0.001, 0.001


@dataclass(frozen=True, eq=False)
class IteratedBalance:
    """End of `balance_by_iteration`.

    Attributes
    ----------
    value : ndarray, shape (n_region,)
        Of the balancing parameter, in the last simulation.
    mean : ndarray, shape (n_region,)
        Of the balanced quantity in that simulation.
    n_trials : int
        Number of simulations.
    converged : bool
        True if all regions were within the tolerance.
    """

    value: np.ndarray = field(repr=False)
    mean: np.ndarray = field(repr=False)
    n_trials: int
    converged: bool


def balance_by_iteration(
    sim: "Simulator",
    parameter: str = "model.J_i",
    quantity: str = "x_e / a_e",
    *,
    target: float = -0.026,
    tolerance: float = 0.005,
    start: float = 1.0,
    length: float = 10_000.0,
    skip: float = 1_000.0,
    max_trials: int = 5000,
    key: jax.Array | None = None,
    progress: bool = True,
) -> IteratedBalance:
    r"""Balance a simulator by repeated simulations, as Deco et al. (2014) did.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified. Each simulation starts from its initial conditions.
    parameter : str, optional
        Path of the balancing parameter, which lowers the quantity.
    quantity : str, optional
        Expression of the model's variables, as for `Balanced`. Default: the excitatory current relative to the
        threshold, :math:`I_E - b_E / a_E` [nA], in ``ReducedWongWangExcInh``; in ``DecoBalancedExcInh`` it is
        ``"I_e - b_e / a_e"``.
    target, tolerance : float, optional
        Of the mean quantity. -0.026 nA is a rate of about 3 Hz.
    start : float, optional
        Of the parameter, in all regions.
    length, skip : float, optional
        Length of each simulation, and of its start that is left out [ms].
    max_trials : int, optional
        Maximum number of simulations.
    key : jax.Array, optional
        JAX key of the noise, from which each simulation has its own. Default: ``jax.random.key(0)``.
    progress : bool, optional

    Returns
    -------
    IteratedBalance

    Raises
    ------
    ValueError
        An option of another kind; a quantity that is no expression of the model's variables.
    UnsupportedComponent
        As of `prepare`.

    Notes
    -----
    After each simulation, a region whose mean is too low loses 0.02 of the parameter, and its next steps are shorter by
    0.001, to 0.001 at least; one whose mean is too high gains its present step. `Balanced` has the same result without
    noise, in milliseconds.

    References
    ----------
    Deco, G. et al. (2014). J. Neurosci. 34(23), 7886-7898.
    """
    check(
        "balance_by_iteration",
        sim=(sim, allowed.simulator),
        parameter=(parameter, allowed.string),
        quantity=(quantity, allowed.string),
        target=(target, allowed.number()),
        tolerance=(tolerance, allowed.number(above=0.0)),
        start=(start, allowed.number()),
        length=(length, allowed.number(above=0.0)),
        skip=(skip, allowed.number(minimum=0.0)),
        max_trials=(max_trials, allowed.integer(1)),
        key=(key, allowed.optional(allowed.random_key)),
        progress=(progress, allowed.boolean),
    )
    if not skip < length:
        raise ValueError(f"balance_by_iteration: skip = {skip:g} of a length of {length:g} ms; leave out less.")
    key = jax.random.key(0) if key is None else key
    simulate, state = prepare(sim, length, key)
    get_path(state, parameter)
    run, n_node = recorder(simulate, sim, quantity), state.connectivity.weights.shape[0]
    n_skipped = int(np.ceil(skip / simulate.dt))
    value, step = np.full(n_node, float(start)), np.full(n_node, _STEP)
    dtype = state.connectivity.weights.dtype
    with progress_bar("balance", "simulation", max_trials, progress) as bar:
        for n_trials in range(1, int(max_trials) + 1):
            noisy = resample(state, jax.random.fold_in(key, n_trials)) if "noise" in state.integrator else state
            total, _ = run(with_values(noisy, {parameter: value.astype(dtype)}), n_skipped, simulate.n_steps)
            mean = np.asarray(total) / (simulate.n_steps - n_skipped)
            is_off = ~(np.abs(mean - target) <= tolerance)
            bar.update()
            bar.set_postfix(off=int(is_off.sum()), refresh=False)
            if not is_off.any() or n_trials == max_trials:
                break
            is_low = is_off & (mean < target)
            value = value + np.where(is_off, np.where(is_low, -step, step), 0.0)
            step = np.where(is_low, np.maximum(step - _SHORTENED, _SHORTEST), step)
    return IteratedBalance(value, mean, n_trials, not is_off.any())
