"""Coupling: TVB's own code, traced, and its parameters in the state."""

import numpy as np

from ...errors import UnsupportedComponent
from .. import traits
from ..mapped_parameter import MappedParameter, global_or_regional, node_column
from ..tracing.untranslatable import Untranslatable
from . import contract, coupling_oracle
from .coupling_functions import candidates, has_own_call, is_dense

NAME, POSITION = "coupling", ""
handles = contract.handles_all
refusals_configured = contract.no_refusals
warn = contract.no_warning
position_problems = contract.no_position_problems
restore = contract.nothing_to_restore
unconfigure = contract.nothing_to_unconfigure

# Attributes in which TVB's sparse coupling keeps the rows of the weights from its first call on.
_ROW_CACHE = ("_cached_nzr", "_cached_lri")


def refusals(sim):
    """Reasons against translation that show before configure()."""
    coupling = sim.coupling
    n_node = sim.connectivity.weights.shape[0]
    name = type(coupling).__name__
    for parameter in traits.parameters(coupling):
        value = np.asarray(parameter.read(coupling))
        shapes = _regional_shapes(coupling, n_node)
        if value.size != 1 and value.shape not in shapes and not has_own_call(coupling):
            yield (
                f"Simulator.coupling.{parameter.name}: shape {value.shape} is neither one value nor {shapes[0]}, one "
                f"for each region, which is what TVB broadcasts against {name}'s sum. Reshape it."
            )
        elif not np.all(np.isfinite(value)):
            yield (
                f"Simulator.coupling.{parameter.name}: {np.sum(~np.isfinite(value))} values are not finite. "
                "Give finite ones."
            )
    if not _row_cache_is_valid(sim):
        yield (
            "Simulator.coupling: this instance has run with another connectivity and keeps its row indices; TVB would "
            "fail or err with it. Make a new instance."
        )


def _row_cache_is_valid(sim):
    cached = [getattr(sim.coupling, name, None) for name in _ROW_CACHE]
    rows = np.unique(np.nonzero(sim.connectivity.weights)[0], return_index=True)
    return cached[1] is None or all(map(np.array_equal, cached, rows))


def _regional_shapes(coupling, n_node):
    """Shapes of a regional parameter that TVB broadcasts against the sum: one value for each target."""
    return [(n_node, 1, 1)] if is_dense(coupling) else [(n_node, 1), (1, n_node, 1)]


def translate(sim):
    """Translate the coupling of a configured simulator, and compare it with TVB's own on a random history."""
    oracle = coupling_oracle.oracle(sim)
    name, n_node = type(sim.coupling).__name__, sim.connectivity.weights.shape[0]
    difference = np.inf
    try:
        for functions in candidates(sim):
            regional = [name for name in sorted(functions.global_only) if np.size(getattr(sim.coupling, name)) > 1]
            if regional:
                raise UnsupportedComponent(
                    [f"Simulator.coupling.{parameter}: {_GLOBAL_ONLY.format(name)}" for parameter in regional]
                )
            translated = contract.TranslatedCoupling(
                constants=_constants(sim.coupling, n_node, functions.global_only),
                post=functions.post,
                channels=functions.channels,
                pairwise=functions.pairwise,
            )
            difference = oracle.error(translated)
            if difference <= coupling_oracle.TOLERANCE:
                return translated
    except UnsupportedComponent:
        raise
    except (Untranslatable, ValueError, TypeError) as error:
        raise UnsupportedComponent([f"Simulator.coupling: {name} is not translated: {error}."]) from error
    raise UnsupportedComponent([coupling_oracle.mismatch(sim, difference)])


_GLOBAL_ONLY = "{} uses it before the sum over regions, where it takes one value for all. Give one."


def _constants(coupling, n_node, global_only):
    """Function from the state to the parameters, each (1, n_node or 1, 1).

    Those of a coupling with a __call__ of its own have the shapes in which it holds them.
    """
    parameters = traits.parameters(coupling)

    def column(parameter, value):
        if not has_own_call(coupling):
            return _column(value, n_node, parameter.name)
        own_shape = np.shape(parameter.read(coupling))
        own_size = np.prod(own_shape, dtype=int)
        if value.size not in (1, own_size) and parameter.name not in global_only:
            raise ValueError(
                f"State.coupling.{parameter.name}: shape {value.shape}. Give one value, or shape {own_shape}."
            )
        return value.reshape(own_shape) if value.size == own_size else value

    def constants(state):
        columns = {p.name: column(p, getattr(state.coupling, p.name)) for p in parameters}
        for name in global_only:
            if columns[name].size > 1:
                reason = _GLOBAL_ONLY.format(type(coupling).__name__)
                raise ValueError(f"State.coupling.{name}: {columns[name].size} values; {reason}")
        return {"coupling": columns}

    return constants


def _column(value, n_node, name):
    value = value[0] if value.shape == (1, n_node, 1) else value
    return node_column(value, n_node, f"coupling.{name}")[None]


def parameters(sim):
    """Parameters of the coupling."""
    n_node = np.shape(sim.connectivity.weights)[0]
    return [_mapped(parameter, sim.coupling, n_node) for parameter in traits.parameters(sim.coupling)]


def _mapped(parameter, coupling, n_node):
    def to_tvb(value, sim):
        own_shape = np.shape(parameter.read(sim.coupling))
        if has_own_call(sim.coupling) and value.size == np.prod(own_shape, dtype=int):
            return value.reshape(own_shape)
        return value.reshape(_regional_shapes(sim.coupling, n_node)[0]) if value.size > 1 else value.reshape(1)

    def to_state(value):
        return value if has_own_call(coupling) and value.size not in (1, n_node) else value.ravel()

    def shapes(sim):
        return (*global_or_regional(n_node), (1, n_node, 1))

    return MappedParameter(
        f"coupling.{parameter.name}",
        lambda sim: sim.coupling,
        parameter.name,
        to_tvb,
        to_state,
        is_scalar=parameter.is_scalar,
        shapes=None if parameter.is_scalar else shapes,
    )


def node(sim, span):
    """Coupling's part of the state."""
    return contract.parameter_node(parameters(sim))


def rederive(sim):
    """Remove the row indices that TVB keeps of the weights, if the weights have other rows now."""
    if not _row_cache_is_valid(sim):
        for name in _ROW_CACHE:
            vars(sim.coupling).pop(name, None)
