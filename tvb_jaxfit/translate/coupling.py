"""Coupling: what acts after the weighted sum."""

import numpy as np
from tvb.simulator import coupling as tvb_coupling

from .leaves import Leaf, node_column


def _linear(theta, gx):
    return theta["a"] * gx + theta["b"]


def _scaling(theta, gx):
    return theta["a"] * gx


_POSTS = {tvb_coupling.Linear: (_linear, ("a", "b")), tvb_coupling.Scaling: (_scaling, ("a",))}

SUPPORTED = ", ".join(cls.__name__ for cls in _POSTS)


def refusals(sim):
    """Reasons why the coupling of a simulator is not translated."""
    coupling = sim.coupling
    if type(coupling) not in _POSTS:
        yield f"Simulator.coupling: {type(coupling).__name__} is not supported yet (supported: {SUPPORTED})."
        return
    n_node = sim.connectivity.weights.shape[0]
    for name in _POSTS[type(coupling)][1]:
        value = np.asarray(getattr(coupling, name))
        if value.size != 1 and value.shape[-2:] != (n_node, 1) or value.size not in (1, n_node):
            yield (
                f"Simulator.coupling.{name}: shape {value.shape} is neither one value nor ({n_node}, 1), one for each "
                "region, which is what TVB broadcasts against its (n_cvar, n_node, n_mode). Reshape it."
            )
        elif not np.all(np.isfinite(value)):
            yield f"Simulator.coupling.{name}: {np.sum(~np.isfinite(value))} values are not finite. Give finite ones."
    cached = getattr(coupling, "_cached_lri", None)
    targets = np.nonzero(sim.connectivity.weights)[0]
    rows = np.unique(targets, return_index=True)
    if cached is not None and not all(map(np.array_equal, (coupling._cached_nzr, cached), rows)):
        yield (
            "Simulator.coupling: this instance has run with another connectivity and keeps its row indices; TVB would "
            "fail or err with it. Make a new instance."
        )


def leaves(sim):
    """Table of the coupling's parameters."""

    def native(value, sim):
        return value.reshape(-1, 1) if value.size > 1 else value.reshape(1)

    return [
        Leaf(f"coupling.{name}", lambda sim: sim.coupling, name, native, np.ravel)
        for name in _POSTS[type(sim.coupling)][1]
    ]


def post(coupling):
    """(theta, gx) to the coupling, theta as `constants` gives it."""
    return _POSTS[type(coupling)][0]


def constants(coupling, n_node):
    """Function from the coupling's node of the state to what `post` needs, shaped (1, n_node or 1, 1)."""
    names = _POSTS[type(coupling)][1]

    def columns(node):
        return {name: node_column(getattr(node, name), n_node, f"coupling.{name}")[None] for name in names}

    return columns
