"""scipy's namespace for traced code: special functions, and densities of two distributions."""

import importlib
import types

import jax
import jax.numpy as jnp

from ...dynamics.hrf import gamma_density
from .mutable_array import MutableArray, has_jax_array, unwrap, wrap
from .numpy_namespace import NamespaceProxy, NoCounterpart

_DENSITIES = {"norm": ("pdf", "cdf", "ppf", "sf", "logpdf", "logcdf"), "gamma": ("pdf",)}


def scipy_proxy(module: types.ModuleType):
    """Proxy for scipy, scipy.special or scipy.stats; None for any other module."""
    if module.__name__ == "scipy":
        return _Scipy()
    if module.__name__ == "scipy.special":
        return NamespaceProxy(module, jax.scipy.special)
    if module.__name__ == "scipy.stats":
        return _Stats(module, None)
    return None


class _Scipy:
    """scipy itself, for the subpackages that have a proxy."""

    def __getattr__(self, name):
        if name not in ("special", "stats"):
            raise NoCounterpart("scipy is not translated to JAX")
        return scipy_proxy(importlib.import_module(f"scipy.{name}"))


class _Stats(NamespaceProxy):
    """scipy.stats, with its distributions."""

    def __getattr__(self, name):
        found = getattr(self._original, name)
        return Distribution(name) if type(found).__module__.startswith("scipy.stats") else super().__getattr__(name)


class Distribution:
    """A distribution of scipy.stats, frozen or not; scipy's own if no argument holds a JAX array.

    Parameters
    ----------
    name : str
    *shapes, **named
        Parameters of a frozen distribution.
    """

    def __init__(self, name, *shapes, **named):
        self._name, self._shapes, self._named = name, shapes, named

    def __call__(self, *shapes, **named):
        """Frozen distribution."""
        return Distribution(self._name, *shapes, **named)

    def __getattr__(self, method):
        import scipy.stats

        def call(x, *shapes, **named):
            x, shapes, named = unwrap((x, (*self._shapes, *shapes), self._named | named))
            if not has_jax_array((x, shapes, named)):
                return wrap(getattr(getattr(scipy.stats, self._name), method)(x, *shapes, **named))
            if method not in _DENSITIES.get(self._name, ()):
                raise NoCounterpart(f"scipy.stats.{self._name}.{method} is not translated to JAX")
            # Integers are converted to floats, so that the result can be differentiated.
            x, shapes, named = jax.tree.map(lambda value: jnp.asarray(value, float), (x, shapes, named))
            density = _gamma_density if self._name == "gamma" else getattr(jax.scipy.stats.norm, method)
            return MutableArray(density(x, *shapes, **named))

        return call


def _gamma_density(x, a, loc=0.0, scale=1.0):
    """scipy.stats.gamma.pdf with finite derivatives at x = loc, where hemodynamic responses start."""
    y = (x - loc) / scale
    return jnp.where(y < 0.0, 0.0, gamma_density(jnp.where(y < 0.0, 0.0, y), a)) / scale
