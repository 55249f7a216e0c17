"""A model's vector field, from its own source or written by hand, and how it compares with TVB's."""

import types
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from tvb.simulator.models.base import Model

from ...dynamics import vector_fields
from ...state import State
from .. import traits
from ..double_precision import DoublePrecision
from ..mapped_parameter import node_column
from ..tracing.method import StepAttributes, Untranslatable, trace, trace_in_place
from ..tracing.mutable_array import is_traced
from .vector_field_oracle import RAW, VectorFieldOracle, broadcast_regional, derivation_method

# Written by hand, for models whose formula is numerically singular: they pass the same comparison. By module and class:
# to import these modules compiles TVB's own code, which takes seconds.
_BY_HAND = {
    ("wong_wang", "ReducedWongWang"): vector_fields.reduced_wong_wang,
    ("wong_wang_exc_inh", "ReducedWongWangExcInh"): vector_fields.reduced_wong_wang_exc_inh,
    ("wong_wang_exc_inh", "DecoBalancedExcInh"): vector_fields.deco_balanced_exc_inh,
}


@dataclass(eq=False)
class VectorField:
    """The vector field of one configured model.

    Attributes
    ----------
    model : Model
        Configured; read only.
    n_node : int
    method : str or callable
        Name of the method whose source is followed, or a function (parameters, x, coupling) written by hand.
    regional_layouts : dict of str to str
        By parameter, the shape in which TVB takes a regional value: "column", "flat", "row"; or None where it takes
        one value only.
    is_nonlocal : bool
        Whether regions meet in it, as they do in none of TVB's own models.
    writes_states : bool
        Whether its code, as far as it was followed, writes to the states that it is given.
    """

    model: Model
    n_node: int
    method: object
    regional_layouts: dict
    is_nonlocal: bool = False
    writes_states: bool = False

    def constants(self, node):
        """Parameters and what TVB derives from them, every array with its node axis second to last.

        Parameters
        ----------
        node : State
            The model's node of the state.

        Returns
        -------
        dict
            ``by_node``: (1 or n_node, 1 or n_mode) arrays; ``shared``: arrays in which nodes do not figure, with an
            axis of length 1 in their place.
        """
        by_node, shared = {}, {}
        for parameter in traits.parameters(self.model):
            path = f"model.{parameter.name}"
            value = getattr(node, parameter.name)
            if parameter.shape is not None:
                shared[parameter.name] = _with_node_axis(jnp.reshape(value, parameter.shape))
                continue
            if value.size > 1 and self.regional_layouts.get(parameter.name, "column") is None:
                raise ValueError(
                    f"State.{path}: shape {value.shape}; TVB's {type(self.model).__name__} takes one value, the same "
                    "for all regions. Give one."
                )
            by_node[parameter.name] = node_column(value, self.n_node, path)
        tables, _ = self._kinds
        for name, value in self._derived(by_node, shared).items():
            if name in tables:
                shared[name] = _with_node_axis(value)
            elif self._is_flat and value.shape == (self.n_node,):
                by_node[name] = jnp.reshape(value, (-1, 1))
            else:
                by_node[name] = jnp.reshape(value, (1,) * (2 - value.ndim) + value.shape)
        return {"by_node": by_node, "shared": shared}

    @property
    def _is_flat(self):
        """Whether the code takes regional values in one dimension, as TVB's numba models do."""
        return self.method == "dfun" and tuple(np.atleast_1d(self.model.spatial_param_reshape)) == (-1,)

    @cached_property
    def _kinds(self):
        """Names of what TVB derives: tables in which nodes do not figure, and what is worked out within each step.

        Tables are no column where all parameters are global. Masks, functions and containers of what is differentiated
        are no arrays to keep.
        """
        within_step = set()
        n_mode = self.model.number_of_modes
        columns = ((), (1,), (1, 1), (1, n_mode), (n_mode,)) if n_mode == 1 else ((), (1,), (1, 1), (1, n_mode))
        one = jnp.zeros((1, 1))
        own = traits.parameters(self.model)
        by_node = {p.name: one for p in own if p.shape is None}
        shared = {p.name: _with_node_axis(jnp.zeros(p.shape)) for p in own if p.shape is not None}

        def derived(by_node, shared):
            written = self._written(by_node, shared)
            within_step.update(name for name, value in written.items() if _is_for_each_step(value))
            return _arrays(written)

        shapes = jax.eval_shape(derived, by_node, shared)
        return {name for name, value in shapes.items() if value.shape not in columns}, frozenset(within_step)

    def _derived(self, by_node, shared):
        """Arrays that TVB derives from the parameters."""
        return _arrays(self._written(by_node, shared))

    def _written(self, by_node, shared):
        """What update_derived_parameters, or a configure() in its place, sets."""
        method = self._derivation
        if method is None:
            return {}
        values = {name: value.reshape(_unnoded(value.shape)) for name, value in shared.items()}
        for name, value in by_node.items():
            raw = RAW[self.regional_layouts.get(name) or "column"]
            values[name] = value.reshape((1,)) if value.size == 1 else value.reshape(raw)
        _, written = trace(self.model, method, values)
        return written

    @cached_property
    def _derivation(self):
        return derivation_method(self.model)

    def __call__(self, theta, x, coupling, step_attributes=None):
        """dx/dt [1/ms] of states x (n_var, n_node, n_mode) under coupling (n_cvar, n_node, n_mode).

        Several samples may come as one, node after node: x (n_var, n_sample * n_node, n_mode). A `StepAttributes` holds what
        the model has set on itself in this step.
        """
        return self.in_place(theta, x, coupling, step_attributes)[0]

    def in_place(self, theta, x, coupling, step_attributes=None):
        """dx/dt, and the states as the model's code leaves them: it may write to them (see `writes`)."""
        by_node, shared = theta["by_node"], theta["shared"]
        if step_attributes is not None and step_attributes.values and (shared or self.groups):
            raise Untranslatable(
                f"{type(self.model).__name__} sets {', '.join(step_attributes.values)} on itself in a step, next to tables or "
                "regional flags; make them state variables"
            )
        if any(value.shape[-2] > 1 for value in shared.values()):
            # Each node with tables of its own, as the reverse pass wants them.
            axes = {name: 0 if value.shape[0] > 1 else None for name, value in by_node.items()}
            each = jax.vmap(self._one, ({"by_node": axes, "shared": -2}, 1, 1), 1)
            shared = {n: jnp.broadcast_to(v, (*v.shape[:-2], x.shape[1], v.shape[-1])) for n, v in shared.items()}
            return each({"by_node": by_node, "shared": shared}, x, coupling)
        if not self.groups:
            return self._direct(by_node, shared, x, coupling, {}, step_attributes)
        # Regional flags: the regions of one kind together, so that no branch is taken that is not meant.
        parts = []
        n_block = x.shape[1] // self.n_node
        groups = [((nodes + self.n_node * np.arange(n_block)[:, None]).ravel(), flags) for nodes, flags in self.groups]
        for nodes, flags in groups:
            of_these = {name: value[nodes] if value.shape[0] > 1 else value for name, value in by_node.items()}
            parts.append(self._direct(of_these, shared, x[:, nodes], coupling[:, nodes], flags))
        order = np.argsort(np.concatenate([nodes for nodes, _ in groups]))
        return tuple(jnp.concatenate(of_all, axis=1)[:, order] for of_all in zip(*parts, strict=True))

    def _one(self, theta, x, coupling):
        by_node = {name: jnp.reshape(value, (1, -1)) for name, value in theta["by_node"].items()}
        shared = {name: jnp.expand_dims(value, -2) for name, value in theta["shared"].items()}
        return tuple(part[:, 0] for part in self._direct(by_node, shared, x[:, None], coupling[:, None], {}))

    def model_attributes(self, theta):
        """Attributes of the model as its own code sees them."""
        by_node, shared = theta["by_node"], theta["shared"]
        _, within_step = self._kinds
        values = {}
        if within_step:
            own = {p.name for p in traits.parameters(self.model)}
            given = ({name: value for name, value in part.items() if name in own} for part in (by_node, shared))
            written = self._written(*given)
            values |= {name: written[name] for name in within_step}
        values |= {name: value.reshape(_unnoded(value.shape)) for name, value in shared.items()}
        return values | traits.as_declared(self.model, by_node, _flat if self._is_flat else _as_it_is)

    def _direct(self, by_node, shared, x, coupling, flags, step_attributes=None):
        if callable(self.method):
            return self.method(by_node, x, coupling), x
        values = self.model_attributes({"by_node": by_node, "shared": shared}) | flags
        within = StepAttributes() if step_attributes is None else step_attributes
        result, _, (after, c, _) = trace_in_place(
            self.model, self.method, values, x, coupling, 0.0, step_attributes=within
        )
        if step_attributes is None:
            within.refuse_carried_over(self.model)
        if c is not coupling:
            raise Untranslatable(f"{self.method} writes in place into the coupling that it is given; give it a copy")
        self.writes_states = self.writes_states or after is not x
        return jnp.broadcast_to(result, x.shape), after

    def constants_in_double(self, values=None):
        """Constants of given parameters (by name; the model's own by default), to compare with TVB's."""
        values, own = values or {}, traits.parameters(self.model)
        given = {
            p.name: broadcast_regional(p, self.model, self.n_node, self.regional_layouts, values.get(p.name))
            for p in own
        }
        return self._constants_in_double(State(**given))

    @cached_property
    def _constants_in_double(self):
        return DoublePrecision(self.constants)

    @cached_property
    def in_double(self):
        """The field as a function of numpy's arrays."""
        return DoublePrecision(self.__call__)

    @cached_property
    def groups(self):
        """Regions by their flags: [(indices, {flag: value})]; empty where no flag differs between regions."""
        flags = {name: np.ravel(getattr(self.model, name)) for name in traits.flags(self.model)}
        flags = {name: value for name, value in flags.items() if value.size == self.n_node > 1}
        kinds = {}
        for index in range(self.n_node if flags else 0):
            kinds.setdefault(tuple(value[index] for value in flags.values()), []).append(index)
        return [
            (np.array(nodes), {name: np.array([flag]) for name, flag in zip(flags, kind, strict=True)})
            for kind, nodes in kinds.items()
        ]


def _as_it_is(value):
    return value


def _flat(value):
    """A regional column in one dimension."""
    return value.reshape(-1) if value.ndim == 2 and value.shape[1] == 1 else value


def _arrays(written):
    """Of what was derived, the arrays of real numbers; what else is no function of the parameters stays TVB's."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in written.items() if _is_real(value)}


def _is_real(value):
    return isinstance(value, (float, np.ndarray, np.generic, jax.Array)) and jnp.issubdtype(
        jnp.result_type(value), jnp.floating
    )


def _is_for_each_step(value):
    """Whether a derived value has to be made anew in each step: it depends on the parameters, but is no such array."""
    return not _is_real(value) and (isinstance(value, types.FunctionType) or is_traced(value))


def _with_node_axis(value):
    return jnp.reshape(value, (*value.shape[:-1], 1, value.shape[-1])) if value.ndim else jnp.reshape(value, (1, 1))


def _unnoded(shape):
    return (*shape[:-2], shape[-1])


def translate_checked(sim):
    """Vector field of a configured simulator's model, and the reasons why there is none.

    Returns
    -------
    field : VectorField or None
    reasons : list of str
    """
    model, n_node = sim.model, sim.connectivity.weights.shape[0]
    trials = VectorFieldOracle(model, n_node)
    reasons = list(trials.reasons)
    if reasons:
        return None, reasons
    for method in _methods(model):
        field = VectorField(model, n_node, method, trials.regional_layouts, trials.is_nonlocal)
        reason = trials.mismatch(field)
        if reason is None:
            return field, []
        reasons.append(reason)
    # The last way is dfun itself, which TVB calls.
    return None, reasons[-1:]


def _methods(model):
    """Ways to a model's vector field: by hand, or methods to follow; the nearest first."""
    owner = next(cls for cls in type(model).__mro__ if "dfun" in vars(cls))
    package, _, module = owner.__module__.rpartition(".")
    by_hand = _BY_HAND.get((module, owner.__name__)) if package == "tvb.simulator.models" else None
    if by_hand is not None and "dfun" not in vars(model):
        yield by_hand
    if "_numpy_dfun" in vars(owner) and "dfun" not in vars(model):
        yield "_numpy_dfun"
    yield "dfun"
