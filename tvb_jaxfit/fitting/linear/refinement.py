"""How a fit goes on through the simulation from where the linear response has led it."""

import numpy as np
import optax

from ...loss import fc_corr
from ...parameters import BoundedParameter
from ...reporting.parameter_table import free_values
from .objective import size_of

# Steps of Adam in parts of a value's range. The first ones are short, since Adam takes them at full length whatever the
# slopes; and the last ones, since the noise of each leads astray.
_RATE, _FIRST, _LAST, _WARM = 0.005, 0.05, 0.1, 20
TOLD = f"Adam in steps of up to {_RATE:g} of each value's range, which fall to {_RATE * _LAST:g}"


def pattern(fc, target, missing="refuse"):
    """1 - `fc_corr`: the loss to go on by, as the linear fit has seen to the strength of FC.

    It is no loss to begin with: nothing keeps it from a bifurcation, where the linear response ends.
    """
    return 1.0 - fc_corr(fc, target, missing=missing)


def _size_of_image(parameter):
    """Change of an image that changes the value by its range or, with one bound alone, by its distance from it.

    Near that bound, the image is the logarithm of the distance, whatever the size of the value: see `BoundedParameter`.
    """
    if not isinstance(parameter, BoundedParameter) or np.isinf(parameter.lower_bound) == np.isinf(
        parameter.upper_bound
    ):
        return size_of(parameter)
    bound = parameter.lower_bound if np.isfinite(parameter.lower_bound) else parameter.upper_bound
    distance = np.maximum(np.abs(free_values(parameter) - bound), np.finfo(float).tiny)
    return float(np.mean(distance / -np.expm1(-distance)))


def adam(parameters, n_steps):
    """Adam in parts of each value's range, in steps that become longer, and then shorter.

    Parameters
    ----------
    parameters : dict of str to Parameter
        By path, as the images that are fitted.
    n_steps : int

    Returns
    -------
    optax.GradientTransformation
    """
    sizes = {path: _size_of_image(parameter) for path, parameter in parameters.items()}
    in_parts = optax.stateless(lambda updates, _: {path: sizes[path] * step for path, step in updates.items()})
    warm = min(_WARM, n_steps // 4)
    rate = optax.warmup_cosine_decay_schedule(_FIRST * _RATE, _RATE, warm, max(n_steps, 1), _LAST * _RATE)
    return optax.chain(optax.adam(rate), in_parts)
