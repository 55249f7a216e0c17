"""Noise of a run: random streams that continue from run to run, amplitudes, coloured noise, and fresh noise."""

import contextlib
import math
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from ..checks import options as allowed
from ..checks.options import check
from ..parameters import strip_parameters
from ..persistence import serialisable
from ..runtime.processes import PicklableMixin
from ..state import State


@serialisable
class NumpyStream:
    """TVB's random stream: legacy NumPy normals, drawn in TVB's order.

    Parameters
    ----------
    random_state : numpy.random.RandomState
        Stream from which the first step takes its draws; copied.
    first_step : int
        The simulator's current_step at that position of the stream.
    """

    # A cache that is no part of the stream's content.
    _transient = ("_states",)

    def __init__(self, random_state: np.random.RandomState, first_step: int):
        self._start = first_step, random_state.get_state()

    @cached_property
    def _states(self):
        """Known positions of the stream by step."""
        return dict([self._start])

    def draws(self, step: int, stop: int, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal draws of a run.

        Parameters
        ----------
        step, stop : int
            First and last step of the run.
        shape : tuple of int
            (n_time, ...), with the number of draws in time that the run takes.

        Returns
        -------
        ndarray, of this shape

        Raises
        ------
        ValueError
            If the position of the stream at ``step`` is unknown: no run of this stream has ended there.
        """
        random = np.random.RandomState()
        random.set_state(self.state_at(step))
        draws = random.normal(size=shape)
        self._states[stop] = random.get_state()
        return draws

    def state_at(self, step: int) -> tuple:
        """State of the NumPy stream at ``step``, as `numpy.random.RandomState.get_state` returns it."""
        if step not in self._states:
            raise ValueError(
                f"the position of the random stream is known at steps {sorted(self._states)}, not at step {step}. "
                "Continue from the final_state of a run of this simulator, or call prepare(sim) again."
            )
        return self._states[step]

    def _key(self):
        step, (kind, key, *rest) = self._start
        return step, kind, key.tobytes(), *rest

    # Streams with the same draws compare equal: they are part of the tree structure of states.
    def __eq__(self, other):
        return self is other or (type(other) is NumpyStream and self._key() == other._key())

    def __hash__(self):
        return hash(self._key())


@serialisable
class KeyStream(PicklableMixin):
    """Random stream from a JAX key: each run folds the step at which it starts into the key.

    Parameters
    ----------
    key : Array
        A JAX random key.
    """

    def __init__(self, key: jax.Array):
        self.key = key

    def draws(self, step: int, stop: int, shape: tuple[int, ...]) -> jax.Array:
        """Standard normal draws of a run, as `NumpyStream.draws`."""
        return standard_normal(jax.random.fold_in(self.key, step), shape, jnp.result_type(float))

    def _key(self):
        # Also called while a function is traced: states are compared there.
        with jax.ensure_compile_time_eval():
            return str(self.key.dtype), np.asarray(jax.random.key_data(self.key)).tobytes()

    def __eq__(self, other):
        return self is other or (type(other) is KeyStream and self._key() == other._key())

    def __hash__(self):
        return hash(self._key())


def noise_amplitude(nsig: jax.Array, dt: float) -> jax.Array:
    """Standard deviation of the noise of one step, sqrt(2 nsig dt).

    Parameters
    ----------
    nsig : Array
        Dispersion D (TVB: ``noise.nsig``).
    dt : float
        Integration step [ms].

    Returns
    -------
    Array
        As ``nsig``. At nsig = 0 the derivative is 0 instead of infinite; a negative nsig gives NaN.
    """
    noisy = nsig > 0.0
    return jnp.where(noisy, jnp.sqrt(2.0 * dt * jnp.where(noisy, nsig, 1.0)), jnp.where(nsig == 0.0, 0.0, jnp.nan))


def coloured_noise(eta: jax.Array, ntau: jax.Array, draws: jax.Array, dt: float) -> tuple[jax.Array, jax.Array]:
    r"""Exponentially correlated noise of a run, from standard normal draws.

    Parameters
    ----------
    eta : Array, shape (n_var, n_node, n_mode)
        Noise variable before the run.
    ntau : Array, shape ()
        Correlation time [ms].
    draws : Array, shape (n_steps, n_var, n_node, n_mode)
        Standard normal.
    dt : float
        Integration step [ms].

    Returns
    -------
    noise : Array, like draws
    eta : Array, like eta
        Noise variable after the run.

    Notes
    -----
    TVB's equations: :math:`\eta' = \eta E + \sqrt{1 - E^2} N` with :math:`E = \exp(-dt / \tau)`, and the noise of the
    step is :math:`dt \sqrt{1 / \tau} \eta'`.

    References
    ----------
    Fox, R. F. et al. (1988). Phys. Rev. A 38(11), 5938-5940.
    """
    decay = jnp.exp(-dt / ntau)
    scale = jnp.sqrt(1.0 - decay**2)

    def body(eta, normal):
        eta = eta * decay + scale * normal
        return eta, eta

    eta, series = jax.lax.scan(body, eta, draws)
    return dt * jnp.sqrt(1.0 / ntau) * series, eta


@partial(jax.jit, static_argnames=("shape", "dtype"))
def standard_normal(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """Standard normal draws.

    Parameters
    ----------
    key : Array
        A JAX random key.
    shape : tuple of int
    dtype : dtype

    Returns
    -------
    Array

    Notes
    -----
    In double precision, the noise of a long run costs more than its steps. A draw has 23 random bits here, and is
    computed in single precision: a third of the time. Values lie between -5.3 and 5.3, symmetric to zero.

    Examples
    --------
    >>> import jax
    >>> from tvb_jaxfit.dynamics.noise import standard_normal
    >>> draws = standard_normal(jax.random.key(0), (1000, 84), float)
    >>> float(abs(draws.mean())) < 0.01 and float(abs(draws.std() - 1.0)) < 0.01
    True
    """
    n = math.prod(shape)
    if jax.random.key_impl(key) == "threefry2x32":
        # Each call of the cipher gives two words; `jax.random.bits` keeps one of them.
        bits = threefry_2x32(jax.random.key_data(key), jax.lax.iota(np.uint32, n))
    else:
        bits = jax.random.bits(key, (n,), np.uint32)
    return _normal_of(bits).reshape(shape).astype(dtype)


def _normal_of(bits):
    """Normal quantiles of the centres of 2**23 intervals."""
    uniform = ((bits >> np.uint32(9)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-22) - np.float32(1.0)
    return np.float32(np.sqrt(2.0)) * jax.lax.erf_inv(uniform)


def resample(state: State, key: jax.Array) -> State:
    """State with fresh noise.

    Parameters
    ----------
    state : State
        State of a stochastic simulator; not modified. `Parameter` objects are replaced by their values.
    key : Array
        A JAX random key.

    Returns
    -------
    State
        With other draws in ``integrator.noise.draws``.

    Raises
    ------
    ValueError
        If the integrator is deterministic.
    """
    check("resample", state=(state, allowed.instance(State)), key=(key, allowed.random_key))
    state = strip_parameters(state)
    if "noise" not in state.integrator:
        raise ValueError("resample: the integrator is deterministic; there is no noise to draw.")
    noise = state.integrator.noise
    # A state in double precision keeps it when 64-bit mode was switched off.
    is_double = noise.draws.dtype == np.float64 and not jax.config.jax_enable_x64
    with jax.enable_x64(True) if is_double else contextlib.nullcontext():
        draws = standard_normal(key, noise.draws.shape, noise.draws.dtype)
    return state.replace(integrator=state.integrator.replace(noise=noise.replace(draws=draws)))
