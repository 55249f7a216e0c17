"""Balloon-Windkessel model: BOLD of a neural time series."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..checks.arrays import unmasked
from ..checks.options import check
from ..runtime.processes import refuse_forked
from . import schemes
from .balloon_parameters import PARAMETERS, balloon_parameters

# Blood at rest: vasodilatory signal s, flow f, volume v and deoxyhemoglobin q.
REST = (0.0, 1.0, 1.0, 1.0)
_SCHEMES = {"heun": schemes.heun_deterministic, "euler": schemes.euler_deterministic}


def balloon_windkessel(
    neural: Any, dt: float, parameters: str | Mapping = "tvb", *, nonlinear: bool = True, scheme: str = "heun"
) -> jax.Array:
    r"""BOLD signal of a neural time series by the Balloon-Windkessel model, as TVB's analyzer computes it.

    Parameters
    ----------
    neural : array of shape (n_time, ...)
        Neural activity, such as a rate or a synaptic gating variable: one series for each entry of the other axes.
    dt : float
        Sampling period of ``neural``, which is the integration step [ms].
    parameters : str or mapping, default "tvb"
        Name of a parameter set, or its values: see `balloon_parameters`. A value may be an array that broadcasts
        against ``neural[0]``, such as (n_node,) or (n_node, 1).
    nonlinear : bool, default True
        True for the nonlinear BOLD equation, False for the linear one.
    scheme : str, default "heun"
        Integration scheme, "heun" or "euler". TVB's analyzer uses Heun by default.

    Returns
    -------
    bold : jax.Array of the shape of ``neural``
        The first sample is that of blood at rest, which is 0. Each later one follows from the neural activity at its
        own time. Differentiable in ``neural`` and in all parameters.

    Raises
    ------
    TypeError
        ``neural`` is not of a floating dtype, or an option is of another kind.
    ValueError
        ``neural`` has masked samples or no time axis; ``dt`` is not positive; a parameter set or a value is not known.

    Notes
    -----
    With the neural activity x, constant within a step:

    .. math::
        \dot s &= x - s / \tau_s - (f - 1) / \tau_f, \qquad \dot f = s, \\
        \tau_o \dot v &= f - v^{1/\alpha}, \qquad
        \tau_o \dot q = f\, \frac{1 - (1 - E_0)^{1/f}}{E_0} - v^{1/\alpha} \frac{q}{v}, \\
        y &= V_0 \left( k_1 (1 - q) + k_2 (1 - q / v) + k_3 (1 - v) \right),

    and for the linear equation :math:`y = V_0 ((k_1 + k_2)(1 - q) + (k_3 - k_2)(1 - v))`. A constant x leads to
    :math:`f = 1 + \tau_f x`, which must be positive: the model is not defined for an activity below
    :math:`-1 / \tau_f`.

    TVB class: ``tvb.analyzers.fmri_balloon.BalloonModel``. Its transformations of the input are, for ``data`` of a TVB
    time series, (n_time, n_variable, n_node, n_mode): ``data[:, 0]`` ("none"), ``data.sum(axis=1)`` ("sum"),
    ``abs(numpy.diff(data[:, 0], axis=0))`` ("abs_diff"), and ``x - x.mean(axis=0)`` (normalize_neural_input).

    References
    ----------
    Stephan, K. E. et al. (2007). NeuroImage 38, 387-401.

    Examples
    --------
    >>> import numpy as np, tvb_jaxfit as tj
    >>> stimulus = np.zeros((3000, 1))
    >>> stimulus[:100] = 0.5
    >>> bold = tj.balloon_windkessel(stimulus, dt=10.0, parameters="cbig")
    >>> print(bold.shape, f"peak {bold.max():.2f} % after {0.01 * int(bold.argmax()):.2f} s")
    (3000, 1) peak 3.87 % after 3.63 s
    """
    refuse_forked("balloon_windkessel")
    check(
        "balloon_windkessel",
        dt=(dt, allowed.number(above=0.0)),
        nonlinear=(nonlinear, allowed.boolean),
        scheme=(scheme, allowed.choice(*_SCHEMES)),
    )
    neural = unmasked(neural, "neural")
    if not jnp.issubdtype(neural.dtype, jnp.floating):
        raise TypeError(f"neural has dtype {neural.dtype}; give a floating one: neural.astype(float).")
    if neural.ndim < 1 or neural.shape[0] < 1:
        raise ValueError(f"neural has shape {neural.shape}; the first axis is time: give at least one sample.")
    neural = jnp.asarray(neural)
    values = _broadcast(_values(parameters), neural.shape[1:], neural.dtype)
    rest = resting_hemodynamics(neural.shape[1:], neural.dtype)
    system = Balloon(dt, nonlinear, scheme)
    return system.sample(values, rest, neural[1:], np.arange(neural.shape[0]) - 1)[0]


def _values(parameters):
    if isinstance(parameters, str):
        return balloon_parameters(parameters)
    if not isinstance(parameters, Mapping) or set(parameters) != set(PARAMETERS):
        found = sorted(parameters) if isinstance(parameters, Mapping) else repr(parameters)
        raise ValueError(
            f"parameters: {found}; give the name of a parameter set, or a dict of {', '.join(PARAMETERS)}, such as "
            "balloon_parameters() returns."
        )
    return parameters


def _broadcast(values, shape, dtype):
    """Parameters that broadcast against samples without another number of axes."""
    arrays = {}
    for name, value in values.items():
        value = jnp.asarray(value, dtype)
        if value.ndim > len(shape) or np.broadcast_shapes(value.shape, shape) != shape:
            raise ValueError(f"parameters[{name!r}]: shape {value.shape}, which does not broadcast to {shape}.")
        arrays[name] = value if value.ndim == 0 else value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
    return arrays


def resting_hemodynamics(shape: tuple[int, ...], dtype=None) -> jax.Array:
    """Hemodynamic state of blood at rest, (4, *shape)."""
    return jnp.stack([jnp.full(shape, value, dtype) for value in REST])


def rates(p: Mapping, state: Any, neural: Any) -> tuple:
    """Derivatives of s, f, v and q [1/s]; for arrays of NumPy and of JAX.

    Parameters
    ----------
    p : mapping
        Parameters.
    state : array, shape (4, ...)
        s, f, v and q.
    neural : array, shape (...)
    """
    s, f, v, q = state
    outflow = v ** (1.0 / p["alpha"])
    extracted = (1.0 - (1.0 - p["E0"]) ** (1.0 / f)) / p["E0"]
    return (
        neural - (1.0 / p["tau_s"]) * s - (1.0 / p["tau_f"]) * (f - 1.0),
        s,
        (1.0 / p["tau_o"]) * (f - outflow),
        (1.0 / p["tau_o"]) * (f * extracted - outflow * (q / v)),
    )


def bold_signal(p: Mapping, state: Any, nonlinear: bool) -> Any:
    """BOLD signal of hemodynamic states (4, ...); for arrays of NumPy and of JAX."""
    _, _, v, q = state
    if nonlinear:
        return p["V0"] * (p["k1"] * (1.0 - q) + p["k2"] * (1.0 - q / v) + p["k3"] * (1.0 - v))
    return p["V0"] * ((p["k1"] + p["k2"]) * (1.0 - q) + (p["k3"] - p["k2"]) * (1.0 - v))


def steady_hemodynamics(p: Mapping, neural: jax.Array) -> jax.Array:
    """Hemodynamic state (4, ...) that a constant neural activity (...) leads to."""
    flow = 1.0 + p["tau_f"] * neural
    volume = flow ** p["alpha"]
    extracted = (1.0 - (1.0 - p["E0"]) ** (1.0 / flow)) / p["E0"]
    return jnp.stack([jnp.zeros_like(flow), flow, volume, volume * extracted])


class Balloon:
    """Balloon-Windkessel model at one integration step: its run, and its frequency response.

    Parameters
    ----------
    dt : float
        Integration step [ms].
    nonlinear : bool
        True for the nonlinear BOLD equation.
    scheme : str
        "heun" or "euler".
    """

    def __init__(self, dt: float, nonlinear: bool, scheme: str = "heun"):
        self._nonlinear = nonlinear
        self._scheme = _SCHEMES[scheme](
            lambda p, x, neural: jnp.stack(rates(p, x, neural)), lambda x: x, float(dt) / 1000.0
        )

    def step(self, p: Mapping, state: jax.Array, neural: jax.Array) -> jax.Array:
        """Hemodynamic state after one step."""
        return self._scheme(p, state, neural, 0.0, 0.0)

    def signal(self, p: Mapping, state: jax.Array) -> jax.Array:
        """BOLD signal of a hemodynamic state."""
        return bold_signal(p, state, self._nonlinear)

    def sample(self, p: Mapping, state: jax.Array, neural: jax.Array, ends: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """BOLD signal after some steps of a neural time series.

        Parameters
        ----------
        p : mapping of Array
            Parameters.
        state : Array, shape (4, ...)
            Hemodynamic state before the series.
        neural : Array, shape (n_time, ...)
        ends : ndarray of int, shape (n_sample,)
            Indices of the steps after which the signal is sampled, not decreasing, each >= -1; known before tracing.

        Returns
        -------
        bold : Array, shape (n_sample, ...)
        state : Array, shape (4, ...)
            Hemodynamic state after the whole series.

        Notes
        -----
        States leave the loop at the greatest common divisor of the sampling distances, which is the sampling period if
        samples are evenly spaced. The derivative keeps no other states, and recomputes those in between.
        """
        counts = np.asarray(ends, int) + 1
        stride = math.gcd(*counts.tolist()) or 1
        n_block = int(counts.max(initial=0)) // stride
        split = n_block * stride

        def advance(state, u):
            return self.step(p, state, u), None

        @partial(jax.checkpoint, prevent_cse=False)
        def block(state, inputs):
            new = advance(state, inputs[0])[0] if stride == 1 else jax.lax.scan(advance, state, inputs)[0]
            return new, new

        blocks = neural[:split].reshape(n_block, stride, *neural.shape[1:])
        end, states = jax.lax.scan(block, state, blocks)
        states = jnp.concatenate([state[None], states])[counts // stride]
        last = jax.lax.scan(advance, end, neural[split:])[0]
        return jax.vmap(partial(self.signal, p))(states), last

    def response(self, p: Mapping, neural: jax.Array) -> Callable:
        r"""Frequency response of small fluctuations around the steady state of a constant neural activity.

        Parameters
        ----------
        p : mapping of Array
        neural : Array, shape (...)
            Mean neural activity.

        Returns
        -------
        callable
            Function of z, (n,) complex, to the response (n, ...). With the derivatives A and b of a step by state and
            input, and c of the signal, it is :math:`c^T (1 - A / z)^{-1} b`: that of the integrated system, not of the
            differential equation.
        """
        steady = steady_hemodynamics(p, neural)
        units = jnp.eye(4, dtype=steady.dtype)

        def derivative(unit):
            direction = jnp.broadcast_to(unit.reshape(4, *(1,) * neural.ndim), steady.shape)
            of_state = jax.jvp(lambda state: self.step(p, state, neural), (steady,), (direction,))[1]
            return of_state, jax.jvp(partial(self.signal, p), (steady,), (direction,))[1]

        A, c = (list(each) for each in zip(*map(derivative, units), strict=True))
        b = jax.jvp(lambda neural: self.step(p, steady, neural), (neural,), (jnp.ones_like(neural),))[1]

        def response(z):
            inverse = (1.0 / z).reshape(-1, *(1,) * neural.ndim)
            m = [[inverse * A[column][row] for column in range(4)] for row in range(4)]
            # Signal and flow act on each other; volume follows the flow, and deoxyhemoglobin follows both.
            determinant = (1.0 - m[0][0]) * (1.0 - m[1][1]) - m[0][1] * m[1][0]
            s = ((1.0 - m[1][1]) * b[0] + m[0][1] * b[1]) / determinant
            f = (m[1][0] * b[0] + (1.0 - m[0][0]) * b[1]) / determinant
            v = (b[2] + m[2][0] * s + m[2][1] * f) / (1.0 - m[2][2])
            q = (b[3] + m[3][0] * s + m[3][1] * f + m[3][2] * v) / (1.0 - m[3][3])
            return c[2] * v + c[3] * q

        return response
