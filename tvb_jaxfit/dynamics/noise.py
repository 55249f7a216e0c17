"""Random streams: where the draws of a run come from, and where the next run goes on."""

import jax
import jax.numpy as jnp
import numpy as np

from ..persistence import serialisable
from ..runtime.processes import PicklableMixin


@serialisable
class NumpyStream:
    """TVB's own stream, replayed: legacy numpy normals, in the order in which TVB takes them.

    Parameters
    ----------
    random_state : numpy.random.RandomState
        Standing where the first step takes its draws; copied.
    first_step : int
        The simulator's current_step there.
    """

    # What comes of drawing is no part of what the stream is.
    _transient = ("_standing",)

    def __init__(self, random_state, first_step):
        self._start = first_step, random_state.get_state()
        self._standing = dict([self._start])

    def draws(self, step, stop, shape):
        """Standard normals of a run from one step to another.

        Parameters
        ----------
        step, stop : int
        shape : tuple of int
            (n_time, ...), as many draws in time as are taken between these steps.

        Returns
        -------
        ndarray, of this shape

        Raises
        ------
        ValueError
            Where no run of this stream ended at ``step``.
        """
        random = np.random.RandomState()
        random.set_state(self.state_at(step))
        draws = random.normal(size=shape)
        self._standing[stop] = random.get_state()
        return draws

    def state_at(self, step):
        """State of the numpy stream (as of RandomState.get_state) after ``step``."""
        if step not in self._standing:
            raise ValueError(
                f"the random stream stood at steps {sorted(self._standing)}, not at {step}: go on from the final_state "
                "of a run of this simulator, or call prepare() again."
            )
        return self._standing[step]

    def _key(self):
        step, (kind, key, *rest) = self._start
        return step, kind, key.tobytes(), *rest

    # Streams that give the same draws are the same: they are part of the structure of states.
    def __eq__(self, other):
        return self is other or (type(other) is NumpyStream and self._key() == other._key())

    def __hash__(self):
        return hash(self._key())


@serialisable
class KeyStream(PicklableMixin):
    """Fresh noise from a JAX key, without TVB: each run folds in the step where it starts.

    Parameters
    ----------
    key : Array
        A JAX random key.
    """

    def __init__(self, key):
        self.key = key

    def draws(self, step, stop, shape):
        """As `NumpyStream.draws`."""
        return jax.random.normal(jax.random.fold_in(self.key, step), shape, jnp.result_type(float))

    def _key(self):
        # States are compared while functions are traced, too.
        with jax.ensure_compile_time_eval():
            return str(self.key.dtype), np.asarray(jax.random.key_data(self.key)).tobytes()

    def __eq__(self, other):
        return self is other or (type(other) is KeyStream and self._key() == other._key())

    def __hash__(self):
        return hash(self._key())


def noise_amplitude(nsig, dt):
    """Standard deviation of the noise of one step, sqrt(2 nsig dt); its derivative is 0, not infinite, at nsig = 0.

    Parameters
    ----------
    nsig : Array
        Dispersion D.
    dt : float
        Step [ms].

    Returns
    -------
    Array
    """
    noisy = nsig > 0.0
    return jnp.where(noisy, jnp.sqrt(2.0 * dt * jnp.where(noisy, nsig, 1.0)), jnp.where(nsig == 0.0, 0.0, jnp.nan))


def coloured_noise(eta, ntau, draws, dt):
    r"""Exponentially correlated noise of a run from standard normal draws, and where it stands after it.

    Parameters
    ----------
    eta : Array, shape (n_var, n_node, n_mode)
        Where it stands before.
    ntau : Array, shape ()
        Correlation time [ms].
    draws : Array, shape (n_steps, n_var, n_node, n_mode)
    dt : float
        [ms]

    Returns
    -------
    noise : Array, like draws
    eta : Array, like eta

    Notes
    -----
    As TVB: :math:`\eta' = \eta E + \sqrt{1 - E^2} N` with :math:`E = \exp(-dt / \tau)`, and the noise is
    :math:`dt \sqrt{1 / \tau} \eta'`.

    References
    ----------
    Fox, R. F. et al. (1988). Phys. Rev. A 38(11), 5938-5940.
    """
    kept = jnp.exp(-dt / ntau)
    fresh = jnp.sqrt(1.0 - kept**2)

    def body(eta, normal):
        eta = eta * kept + fresh * normal
        return eta, eta

    eta, series = jax.lax.scan(body, eta, draws)
    return dt * jnp.sqrt(1.0 / ntau) * series, eta
