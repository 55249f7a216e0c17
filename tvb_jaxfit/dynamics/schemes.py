"""TVB's integration schemes as node-local maps from the state to the next state.

Each function returns a map ``(theta, x, coupling, noise, stimulus)`` to the next state, in which the coupling is
constant over the stages. ``dfun(theta, x, coupling)`` is the vector field [1/ms]; ``project`` applies bounds and
clamps after every stage. Noise and stimulus are arrays, or 0.0. The order of operations is TVB's.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np


def clip(bounds: Sequence[tuple[int, float, float]]) -> Callable:
    """Projection onto the bounds of state variables; NaN passes, as in TVB.

    Parameters
    ----------
    bounds : sequence of (int, float, float)
        (index, lower, upper) of each bounded state variable.

    Returns
    -------
    callable
        Map of states (n_var, n_node, n_mode).
    """

    # Selections in place of jnp.clip, whose derivative divides: that costs as much as the vector field.
    def limit(x, low, high):
        x = x if np.isneginf(low) else jnp.where(x < low, low, x)
        return x if np.isposinf(high) else jnp.where(x > high, high, x)

    bounds = [(index, low, high) for index, low, high in bounds if np.isfinite([low, high]).any()]

    def project(x):
        if not bounds:
            return x
        rows = list(x)
        for index, low, high in bounds:
            rows[index] = limit(rows[index], low, high)
        return jnp.stack(rows)

    return project


def euler_deterministic(dfun: Callable, project: Callable, dt: float) -> Callable:
    """Euler: x' = P(x + dt (f(x, c) + s))."""

    def scheme(theta, x, coupling, noise, stimulus):
        return project(x + dt * (dfun(theta, x, coupling) + stimulus))

    return scheme


def euler_stochastic(dfun: Callable, project: Callable, dt: float) -> Callable:
    """Euler-Maruyama: x' = P(x + dt f(x, c) + z + dt s).

    References
    ----------
    Kloeden, P. E., Platen, E. (1995). Numerical solution of stochastic differential equations, Springer, p. 305.
    """

    def scheme(theta, x, coupling, noise, stimulus):
        return project(x + dt * dfun(theta, x, coupling) + noise + dt * stimulus)

    return scheme


def heun_deterministic(dfun: Callable, project: Callable, dt: float) -> Callable:
    """Heun, with the same coupling in both stages.

    x~ = P(x + dt (f(x) + s)),  x' = P(x + dt (f(x) + f(x~)) / 2 + dt s).
    """

    def scheme(theta, x, coupling, noise, stimulus):
        first = dfun(theta, x, coupling)
        predicted = project(x + dt * (first + stimulus))
        second = dfun(theta, predicted, coupling)
        return project(x + (first + second) * (dt / 2.0) + dt * stimulus)

    return scheme


def heun_stochastic(dfun: Callable, project: Callable, dt: float) -> Callable:
    """Stochastic Heun, with the same coupling and noise in both stages.

    x~ = P(x + dt f(x) + z + dt s),  x' = P(x + dt (f(x) + f(x~)) / 2 + z + dt s).

    References
    ----------
    Mannella, R. (2002). Int. J. Mod. Phys. C 13(9), 1177-1194.
    """

    def scheme(theta, x, coupling, noise, stimulus):
        first = dfun(theta, x, coupling)
        predicted = project(x + dt * first + noise + dt * stimulus)
        second = dfun(theta, predicted, coupling)
        return project(x + (first + second) * (dt / 2.0) + noise + dt * stimulus)

    return scheme


def runge_kutta_4(dfun: Callable, project: Callable, dt: float) -> Callable:
    """Classical Runge-Kutta of order 4. As in TVB the stimulus is not part of the stages: it is added once, at the end.

    References
    ----------
    Kloeden, P. E., Platen, E. (1995). Numerical solution of stochastic differential equations, Springer, p. 289.
    """

    def scheme(theta, x, coupling, noise, stimulus):
        k1 = dfun(theta, x, coupling)
        k2 = dfun(theta, project(x + (dt / 2.0) * k1), coupling)
        k3 = dfun(theta, project(x + (dt / 2.0) * k2), coupling)
        k4 = dfun(theta, project(x + dt * k3), coupling)
        return project(x + (dt / 6.0) * (k1 + 2.0 * k2 + 2.0 * k3 + k4) + dt * stimulus)

    return scheme


def identity(dfun: Callable, project: Callable, dt: float) -> Callable:
    """Iterated map instead of a flow: x' = P(f(x, c) + z + s)."""

    def scheme(theta, x, coupling, noise, stimulus):
        return project(dfun(theta, x, coupling) + noise + stimulus)

    return scheme
