"""Comparison of one step of a translated simulator with TVB's own: errors that no component shows by itself."""

from collections.abc import Iterator

import jax
import numpy as np

from .assemble import assemble_unchecked
from .clone import clone
from .components import coupling_oracle, history, model, vector_field_oracle
from .double_precision import in_double, max_row_error
from .tracing.untranslatable import Untranslatable
from .translated_simulator import TranslatedSimulator
from .tvb_run import run_tvb

_TOLERANCE = 1e-10


def step_refusals(translated: TranslatedSimulator) -> Iterator[str]:
    """Reasons against a translation whose first step is not TVB's.

    Parameters
    ----------
    translated : TranslatedSimulator
        Each component has been compared with TVB's by itself.
    """
    sim, field = clone(translated.reference), translated["model"].vector_field
    past = history.ordered(sim)
    coupling = coupling_oracle.evaluate(sim, translated["coupling"], past[:, np.asarray(sim.model.cvar)])
    reason = _coupling_problem(sim, field, coupling)
    if reason is not None:
        yield reason
        return
    # TVB's own vector field costs nothing to trace. It cannot be used if the step needs what the model's code writes.
    uses_tvb_field = not (translated["integrator"].updates_model or field.writes_states)
    if uses_tvb_field:
        translated = translated.with_component("model", model.translated(TVBVectorField(field)))
    try:
        ours = _first_step(translated, sim, past[-1], coupling, uses_tvb_field)
    except Untranslatable as error:
        yield f"Simulator.model: {type(sim.model).__name__} is not translated: {error}."
        return
    try:
        with np.errstate(all="ignore"):
            run_tvb(sim, 1)
    except Exception as error:
        yield f"Simulator: TVB's own run fails at its first step: {type(error).__name__}: {error}."
        return
    theirs = np.asarray(sim.current_state, dtype=float)
    # At a singular point TVB's formula gives NaN, where a vector field written by hand is finite.
    worst = max_row_error(np.where(np.isnan(theirs), np.nan, ours), theirs)
    if not worst <= _TOLERANCE:
        yield f"Simulator: the first step of the translation differs from TVB's by {worst:.1e} of its maximum."


def _coupling_problem(sim, field, coupling):
    """Reason against a coupling (n_row, n_node, n_mode) with which the model's vector field fails; or None."""
    model, name = type(sim.model).__name__, type(sim.coupling).__name__
    x = sim.current_state[sim.model.state_variable_mask]
    failure = vector_field_oracle.dfun_failure(sim.model, x, coupling)
    if failure is not None:
        return f"Simulator.coupling: TVB's own {name} fails with {model}, whose dfun fails: {failure}."
    n_row, n_cvar = coupling.shape[0], len(sim.model.cvar)
    if n_row >= n_cvar:
        return None
    try:
        field.in_double(field.constants_in_double(), x, coupling)
    except (Untranslatable, IndexError):
        return (
            f"Simulator.coupling: {name} gives {n_row} rows, and {model}.dfun reads one for each of its {n_cvar} "
            "coupling variables: TVB reads beyond the end of the array. Use a coupling that gives all of them, "
            "such as Linear."
        )
    return None


def _first_step(translated, sim, x, coupling, uses_tvb_field):
    """State after the first step from the state x, in double precision."""
    with jax.enable_x64(True):
        simulate, state = assemble_unchecked(translated, 1, sim)
    arrays, tree = jax.tree.flatten(state)

    def constants_and_inputs(arrays):
        state = jax.tree.unflatten(tree, arrays)
        return simulate.constants(state), simulate.inputs(state)[0]

    theta, inputs = in_double(constants_and_inputs, arrays)
    first = {name: series[0] for name, series in inputs.items()}
    if not uses_tvb_field:
        return in_double(simulate.step.local, theta, x, coupling, first)
    with jax.enable_x64(True):
        return np.asarray(simulate.step.local(theta, x, coupling, first))


class TVBVectorField:
    """TVB's own vector field in the place of a translated one.

    Parameters
    ----------
    field : VectorField
        That has been compared with TVB's.
    """

    def __init__(self, field):
        self.model, self.model_attributes = field.model, field.model_attributes
        self.is_nonlocal, self.writes_states = field.is_nonlocal, False
        self._constants = field.constants_in_double()

    def constants(self, node):
        """Constants of the field; the node is the model's own."""
        return self._constants

    def __call__(self, theta, x, coupling, step_attributes=None):
        """dx/dt of the model, by TVB."""
        return vector_field_oracle.reference_dfun(self.model, np.asarray(x), np.asarray(coupling))
