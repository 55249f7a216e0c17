"""Refinement through the simulation of a fit by the linear response: its loss and its optimizer."""

import numpy as np
import optax

from ...loss import fc_corr
from ...parameters import BoundedParameter
from ...reporting.parameter_table import free_values
from ..starts import parameter_scale

# Steps of Adam relative to a parameter's range: maximum, and the first and the last relative to it; number of steps of
# the increase. The first steps are short, since Adam takes them at full length whatever the slopes are; and the last
# ones, since the noise of each step disturbs them.
_RATE, _FIRST, _LAST, _N_WARMUP = 0.005, 0.05, 0.1, 20


def description(rate: float = _RATE) -> str:
    """Text on the optimizer of `adam`."""
    return f"Adam in steps of up to {rate:g} of each value's range, which fall to {rate * _LAST:g}"


def one_minus_fc_corr(fc, target, missing="refuse"):
    """1 - `fc_corr`: loss after a linear fit, which has fitted the strength of FC already.

    It is no loss to begin with: it does not keep a fit from a bifurcation, where the linear response ends.
    """
    return 1.0 - fc_corr(fc, target, missing=missing)


def _unconstrained_scale(parameter):
    """Change of an unconstrained value that changes the value by its range or, with one bound, by its distance from it.

    Near that bound, the unconstrained value is the logarithm of the distance, whatever the size of the value: see
    `BoundedParameter`.
    """
    if not isinstance(parameter, BoundedParameter) or np.isinf(parameter.lower_bound) == np.isinf(
        parameter.upper_bound
    ):
        return parameter_scale(parameter)
    bound = parameter.lower_bound if np.isfinite(parameter.lower_bound) else parameter.upper_bound
    distance = np.maximum(np.abs(free_values(parameter) - bound), np.finfo(float).tiny)
    return float(np.mean(distance / -np.expm1(-distance)))


def adam(parameters, n_steps, rate=_RATE) -> optax.GradientTransformation:
    """Adam in steps relative to each parameter's range, which first increase and then decrease.

    Parameters
    ----------
    parameters : dict of str to Parameter
        By path, as the unconstrained values that are fitted.
    n_steps : int
    rate : float, optional
        Maximum step, relative to a parameter's range.

    Returns
    -------
    optax.GradientTransformation
    """
    scales = {path: _unconstrained_scale(parameter) for path, parameter in parameters.items()}
    rescale = optax.stateless(lambda updates, _: {path: scales[path] * step for path, step in updates.items()})
    n_warmup = min(_N_WARMUP, n_steps // 4)
    schedule = optax.warmup_cosine_decay_schedule(_FIRST * rate, rate, n_warmup, max(n_steps, 1), _LAST * rate)
    return optax.chain(optax.adam(schedule), rescale)
