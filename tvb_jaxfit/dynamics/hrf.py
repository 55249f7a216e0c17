"""Hemodynamic response functions: TVB's BOLD kernels."""

import jax
import jax.numpy as jnp
import jax.scipy.special as special


def first_order_volterra(t: jax.Array, tau_s, tau_f, k_1, V_0) -> jax.Array:
    r"""First-order Volterra kernel of the balloon model.

    Parameters
    ----------
    t : Array, shape (n,)
        Time [s].
    tau_s, tau_f : Array, scalar
        Decay [s] and oscillation [s^2] of the kernel.
    k_1, V_0 : Array, scalar
        Scale of the BOLD signal. The monitor applies them after the convolution; the kernel does not use them.

    Returns
    -------
    Array, shape (n,)

    Notes
    -----
    TVB class: ``tvb.datatypes.equations.FirstOrderVolterra``. As in TVB it is NaN where 1/tau_f < 1/(4 tau_s^2).

    .. math:: G(t) = \tfrac13 e^{-t / 2 \tau_s} \sin(\omega t) / \omega, \quad \omega^2 = 1/\tau_f - 1/(4 \tau_s^2)

    References
    ----------
    Friston, K. et al. (2000). NeuroImage 12, 466-477.
    """
    omega = jnp.sqrt(1.0 / tau_f - 1.0 / (4.0 * tau_s**2))
    return 1.0 / 3.0 * jnp.exp(-0.5 * (t / tau_s)) * jnp.sin(omega * t) / omega


def gamma(t: jax.Array, tau, n, a) -> jax.Array:
    r"""Gamma kernel t^(n-1) exp(-t / tau), scaled to the peak ``a``.

    Parameters
    ----------
    t : Array, shape (n_time,)
        Time [s].
    tau, n, a : Array, scalar
        Time constant [s], order, peak.

    Returns
    -------
    Array, shape (n_time,)

    Notes
    -----
    TVB class: ``tvb.datatypes.equations.Gamma``. Its factorial cancels in the scaling, and is no parameter.

    References
    ----------
    Boynton, G. M. et al. (1996). J. Neurosci. 16, 4207-4221.
    """
    return a * _scale_to_peak(_power(t / tau, n - 1.0) * jnp.exp(-(t / tau)))


def double_exponential(t: jax.Array, tau_1, f_1, amp_1, tau_2, f_2, amp_2, a, pi) -> jax.Array:
    """Difference of two damped sines, scaled to the peak ``a``.

    Parameters
    ----------
    t : Array, shape (n_time,)
        Time [s].
    tau_1, f_1, amp_1, tau_2, f_2, amp_2 : Array, scalar
        Time constants [s], frequencies [Hz] and amplitudes.
    a, pi : Array, scalar
        Peak, and the number pi, which is a parameter in TVB.

    Returns
    -------
    Array, shape (n_time,)

    Notes
    -----
    TVB class: ``tvb.datatypes.equations.DoubleExponential``.

    References
    ----------
    Polonsky, A. et al. (2000). Nat. Neurosci. 3, 1153-1159.
    """
    first = amp_1 * jnp.exp(-t / tau_1) * jnp.sin(2.0 * pi * f_1 * t)
    return a * _scale_to_peak(first - amp_2 * jnp.exp(-t / tau_2) * jnp.sin(2.0 * pi * f_2 * t))


def mixture_of_gammas(t: jax.Array, a_1, a_2, l, c) -> jax.Array:  # noqa: E741 (TVB's name)
    """Difference of two gamma densities.

    Parameters
    ----------
    t : Array, shape (n_time,)
        Time [s].
    a_1, a_2, l, c : Array, scalar
        Two shapes, rate [1/s], and the weight of the undershoot.

    Returns
    -------
    Array, shape (n_time,)

    Notes
    -----
    TVB class: ``tvb.datatypes.equations.MixtureOfGammas``. Its gamma_a_1 and gamma_a_2 are derived from a_1 and a_2.

    References
    ----------
    Glover, G. (1999). NeuroImage 9, 416-429.
    """
    return gamma_density(l * t, a_1) - c * gamma_density(l * t, a_2)


def gamma_density(x: jax.Array, a: jax.Array) -> jax.Array:
    """Density of the gamma distribution of shape ``a`` at x >= 0, with finite derivatives at 0."""
    return _power(x, a - 1.0) * jnp.exp(-x) / jnp.exp(special.gammaln(a))


def _power(x, exponent):
    """x ** exponent for x >= 0; its derivative with respect to the exponent is 0 at x = 0."""
    positive = x > 0.0
    at_zero = jnp.where(exponent == 0.0, 1.0, jnp.where(exponent > 0.0, 0.0, jnp.inf))
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** exponent, at_zero)


def _scale_to_peak(pattern):
    """Pattern divided by its maximum."""
    return pattern / jnp.max(pattern)
