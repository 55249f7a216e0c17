"""Vector fields written by hand, for the models whose formula is numerically singular in TVB."""

import jax.numpy as jnp

from .transfer import rectifier


def reduced_wong_wang(parameters, state, coupling):
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

    Deliberate difference: H is finite and accurate where a x = b; TVB's formula gives NaN there.

    References
    ----------
    Deco, G. et al. (2013). J. Neurosci. 33(27), 11239-11252.
    """
    p = parameters
    S = state[0]
    x = p["w"] * p["J_N"] * S + p["I_o"] + p["J_N"] * coupling[0]
    H = rectifier(p["d"] * (p["a"] * x - p["b"])) / p["d"]
    return jnp.expand_dims(-(S / p["tau_s"]) + (1.0 - S) * H * p["gamma"], 0)
