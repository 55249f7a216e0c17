"""Attributes that TVB derives from a model's parameters, and the method that derives them."""

import numpy as np
from tvb.simulator.models.base import Model

from .. import traits
from ..clone import clone


def derives_attributes(model: Model) -> bool:
    """Check whether TVB derives further attributes from a model's parameters."""
    return derivation_method(model) is not None


def derivation_method(model: Model) -> str | None:
    """Name of the method that derives attributes from a model's parameters.

    Returns
    -------
    str or None
        ``"configure"`` if a user's own configure() derives attributes that ``update_derived_parameters`` does not.
    """
    if _has_own_configure(model) and _configure_derives(model):
        return "configure"
    has_own_update = type(model).update_derived_parameters is not Model.update_derived_parameters
    return "update_derived_parameters" if has_own_update else None


def _has_own_configure(model):
    owner = next(cls for cls in type(model).__mro__ if "configure" in vars(cls))
    return not owner.__module__.startswith("tvb.")


def _configure_derives(model):
    """Check for attributes that configure() derives and update_derived_parameters() does not.

    The attributes of a copy with other parameters are compared after either call.
    """
    updated = clone(model)
    try:
        updated.configure()
        for p in traits.parameters(updated):
            value = 1.05 * np.asarray(p.read(updated), float) + 0.01
            setattr(updated, p.name, float(value) if p.is_scalar else value)
        updated.update_derived_parameters()
        configured = clone(updated)
        with np.errstate(all="ignore"):
            configured.configure()
    except Exception:
        return False
    return any(not _same_floats(value, vars(configured).get(name)) for name, value in vars(updated).items())


def _same_floats(a, b):
    """Compare two values if both are floats or arrays of floats; True for anything else."""
    kinds = [value.dtype.kind if isinstance(value, np.ndarray | np.generic) else None for value in (a, b)]
    if kinds == ["f", "f"] or (isinstance(a, float) and isinstance(b, float)):
        return np.array_equal(a, b, equal_nan=True)
    return True
