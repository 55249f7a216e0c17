"""Hand-written vector fields of the models whose formula in TVB is numerically singular."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from .transfer_function import rectifier


def reduced_wong_wang(parameters: Mapping[str, jax.Array], state: jax.Array, coupling: jax.Array) -> jax.Array:
    r"""Time derivative of the reduced Wong-Wang model.

    Parameters
    ----------
    parameters : mapping of str to Array
        ``a`` [n/C], ``b`` [kHz], ``d`` [ms], ``gamma``, ``tau_s`` [ms], ``w``, ``J_N`` and ``I_o`` [nA],
        each of shape (n_node or 1, 1).
    state : Array, shape (1, n_node, n_mode)
        Synaptic gating variable S.
    coupling : Array, shape (1, n_node, n_mode)
        Long-range input, after the coupling function.

    Returns
    -------
    Array, shape (1, n_node, n_mode)
        dS/dt [1/ms].

    Notes
    -----
    TVB class: ``tvb.simulator.models.wong_wang.ReducedWongWang``.

    .. math::
        x &= w J_N S + I_o + J_N c \\
        H &= \frac{a x - b}{1 - \exp(-d (a x - b))} \\
        \dot S &= -S / \tau_s + (1 - S) H \gamma

    Deliberate difference from TVB: H is finite and accurate at a x = b, where TVB's formula gives NaN.

    References
    ----------
    Deco, G. et al. (2013). J. Neurosci. 33(27), 11239-11252.
    """
    p = parameters
    S = state[0]
    gain = p["d"] * p["a"]
    y = (gain * p["w"] * p["J_N"]) * S + (gain * (p["I_o"] + p["J_N"] * coupling[0]) - p["d"] * p["b"])
    return jnp.expand_dims((1.0 - S) * (p["gamma"] / p["d"]) * rectifier(y) - S / p["tau_s"], 0)


def reduced_wong_wang_exc_inh(parameters: Mapping[str, jax.Array], state: jax.Array, coupling: jax.Array) -> jax.Array:
    r"""Time derivative of the reduced Wong-Wang model with excitatory and inhibitory populations.

    Parameters
    ----------
    parameters : mapping of str to Array
        ``a_e``, ``b_e``, ``d_e``, ``gamma_e``, ``tau_e``, ``w_p``, ``W_e``, ``J_N``, ``a_i``, ``b_i``, ``d_i``,
        ``gamma_i``, ``tau_i``, ``W_i``, ``J_i``, ``G``, ``lamda``, ``I_o`` and ``I_ext``, each of shape
        (n_node or 1, 1); units as in TVB.
    state : Array, shape (2, n_node, n_mode)
        Synaptic gating variables S_e and S_i.
    coupling : Array, shape (1, n_node, n_mode)
        Long-range input, after the coupling function.

    Returns
    -------
    Array, shape (2, n_node, n_mode)
        dS_e/dt and dS_i/dt [1/ms].

    Notes
    -----
    TVB class: ``tvb.simulator.models.wong_wang_exc_inh.ReducedWongWangExcInh``.

    .. math::
        x_e &= a_e (w_p J_N S_e - J_i S_i + W_e I_o + G J_N c + I_{ext}) - b_e \\
        x_i &= a_i (J_N S_e - S_i + W_i I_o + \lambda G J_N c) - b_i \\
        \dot S_e &= -S_e / \tau_e + (1 - S_e) \gamma_e H(x_e), \quad
        \dot S_i = -S_i / \tau_i + \gamma_i H(x_i)

    with H(x) = x / (1 - exp(-d x)). Deliberate difference from TVB: H is finite and accurate at x = 0.

    References
    ----------
    Deco, G. et al. (2014). J. Neurosci. 34(23), 7886-7898.
    """
    return _exc_inh(parameters, state, coupling, 1.0)


def deco_balanced_exc_inh(parameters: Mapping[str, jax.Array], state: jax.Array, coupling: jax.Array) -> jax.Array:
    """Time derivative of the balanced excitation-inhibition model with neuromodulation.

    Parameters
    ----------
    parameters, state, coupling
        As `reduced_wong_wang_exc_inh`, and ``M_i``, which multiplies the input of both transfer functions.

    Returns
    -------
    Array, shape (2, n_node, n_mode)
        dS_e/dt and dS_i/dt [1/ms].

    Notes
    -----
    TVB class: ``tvb.simulator.models.wong_wang_exc_inh.DecoBalancedExcInh``. Deliberate difference from TVB: that of
    `reduced_wong_wang_exc_inh`.

    References
    ----------
    Deco, G. et al. (2021). Sci. Adv. 7(29), eabf4752.
    """
    return _exc_inh(parameters, state, coupling, parameters["M_i"])


def _exc_inh(p, state, coupling, gain):
    """Vector field of both excitation-inhibition models, with a factor on the input of the transfer functions."""
    S_e, S_i = state[0], state[1]
    c = p["G"] * p["J_N"] * coupling[0]
    slope_e, slope_i = gain * p["d_e"] * p["a_e"], gain * p["d_i"] * p["a_i"]
    to_e = slope_e * (p["W_e"] * p["I_o"] + p["I_ext"]) - gain * p["d_e"] * p["b_e"]
    to_i = slope_i * (p["W_i"] * p["I_o"]) - gain * p["d_i"] * p["b_i"]
    y_e = (slope_e * p["w_p"] * p["J_N"]) * S_e - (slope_e * p["J_i"]) * S_i + (slope_e * c + to_e)
    y_i = (slope_i * p["J_N"]) * S_e - slope_i * S_i + ((slope_i * p["lamda"]) * c + to_i)
    dS_e = (1.0 - S_e) * (p["gamma_e"] / p["d_e"]) * rectifier(y_e) - S_e / p["tau_e"]
    dS_i = (p["gamma_i"] / p["d_i"]) * rectifier(y_i) - S_i / p["tau_i"]
    return jnp.stack([dS_e, dS_i])
