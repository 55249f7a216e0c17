"""TVB's integration schemes as node-local maps: state, frozen coupling and noise to the next state."""

import jax.numpy as jnp


def clip(bounds):
    """Projection onto the state-variable bounds; NaN passes, as in TVB.

    Parameters
    ----------
    bounds : sequence of (int, float, float)
        (state variable, lower, upper) for each bounded one.

    Returns
    -------
    callable
        (n_var, n_node, n_mode) to the same.
    """

    def project(x):
        for index, low, high in bounds:
            x = x.at[index].set(jnp.clip(x[index], low, high))
        return x

    return project


def euler(dfun, project, dt):
    """Euler(-Maruyama): x' = x + dt f(x, c) + z.

    Parameters
    ----------
    dfun : callable
        (parameters, x, coupling) to dx/dt [1/ms].
    project : callable
        Bounds, applied to the result.
    dt : float
        Step [ms].

    Returns
    -------
    callable
        (parameters, x, coupling, noise) to the next x; noise is 0.0 for a deterministic scheme.
    """

    def scheme(parameters, x, coupling, noise):
        return project(x + dt * dfun(parameters, x, coupling) + noise)

    return scheme


def heun(dfun, project, dt):
    """Stochastic Heun, the coupling and the noise the same in both stages.

    x~ = P(x + dt f(x) + z),  x' = P(x + dt (f(x) + f(x~)) / 2 + z), with P the bounds.

    Parameters
    ----------
    dfun, project, dt
        As for `euler`.

    Returns
    -------
    callable
        (parameters, x, coupling, noise) to the next x.

    References
    ----------
    Mannella, R. (2002). Int. J. Mod. Phys. C 13(9), 1177-1194.
    """

    def scheme(parameters, x, coupling, noise):
        first = dfun(parameters, x, coupling)
        predicted = project(x + dt * first + noise)
        second = dfun(parameters, predicted, coupling)
        return project(x + (first + second) * (dt / 2.0) + noise)

    return scheme
