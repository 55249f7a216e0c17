"""A model's vector field in JAX, traced from TVB's source or written by hand, and checked against TVB's."""

import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from tvb.simulator.models.base import Model

from ...dynamics import vector_fields
from ...state import State
from .. import traits
from ..double_precision import DoublePrecision
from ..mapped_parameter import node_column
from ..tracing.method import trace, trace_in_place
from ..tracing.mutable_array import has_jax_array
from ..tracing.step_attributes import StepAttributes
from ..tracing.untranslatable import Untranslatable
from .derived_attributes import derivation_method
from .vector_field_oracle import VectorFieldOracle, broadcast_regional, in_regional_layout

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

# Vector fields written by hand, for models whose formula is numerically singular; they pass the same check. Keys are
# names of module and class, since importing these modules compiles TVB's code, which takes seconds.
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
        Configured; not modified.
    n_node : int
    method : str or callable
        Name of the method that is traced, or a function (parameters, x, coupling) that is written by hand.
    regional_layouts : dict of str to (str or None)
        Layout in which TVB accepts regional values of each parameter, see `find_regional_layouts`; None for a parameter
        with one value for all regions.
    is_nonlocal : bool
        True if the vector field of a region depends on other regions, which holds for none of TVB's own models.
    writes_states : bool
        True if the code writes to the states that it is given, as far as it has been traced.
    """

    model: Model
    n_node: int
    method: str | Callable
    regional_layouts: dict
    is_nonlocal: bool = False
    writes_states: bool = False

    def constants(self, node: State) -> dict:
        """Parameters, and the attributes that TVB derives from them.

        Parameters
        ----------
        node : State
            The model's node of the state.

        Returns
        -------
        dict
            ``by_node``: arrays of shape (1 or n_node, 1 or n_mode). ``shared``: tables without a node axis in TVB, of
            shape (..., 1, n), where 1 stands for the nodes.
        """
        by_node, shared = {}, {}
        for parameter in traits.parameters(self.model):
            path = f"model.{parameter.name}"
            value = getattr(node, parameter.name)
            if parameter.shape is not None:
                shared[parameter.name] = _add_node_axis(jnp.reshape(value, parameter.shape))
                continue
            if value.size > 1 and self.regional_layouts.get(parameter.name, "column") is None:
                raise ValueError(
                    f"State.{path}: shape {value.shape}; TVB's {type(self.model).__name__} takes one value, the same "
                    "for all regions. Give one."
                )
            by_node[parameter.name] = node_column(value, self.n_node, path)
        tables, _ = self._derived_names
        for name, value in _float_arrays(self._derive(by_node, shared)).items():
            if name in tables:
                shared[name] = _add_node_axis(value)
            elif self._is_flat and value.shape == (self.n_node,):
                by_node[name] = jnp.reshape(value, (-1, 1))
            else:
                by_node[name] = jnp.reshape(value, (1,) * (2 - value.ndim) + value.shape)
        return {"by_node": by_node, "shared": shared}

    @property
    def _is_flat(self):
        """True if the code expects regional values of shape (n_node,), as TVB's numba models do."""
        return self.method == "dfun" and tuple(np.atleast_1d(self.model.spatial_param_reshape)) == (-1,)

    @cached_property
    def _derived_names(self):
        """Names of derived attributes: set of tables without a node axis, and set of those derived in each step.

        A table is recognised by its shape, which is no column although all parameters are global. Masks, functions and
        containers that depend on parameters cannot be stored as arrays of floats and are derived in each step.
        """
        in_each_step = set()
        columns = ((), (1,), (1, 1), (1, self.model.number_of_modes))
        one = jnp.zeros((1, 1))
        own = traits.parameters(self.model)
        by_node = {p.name: one for p in own if p.shape is None}
        shared = {p.name: _add_node_axis(jnp.zeros(p.shape)) for p in own if p.shape is not None}

        def derive(by_node, shared):
            derived = self._derive(by_node, shared)
            in_each_step.update(name for name, value in derived.items() if _is_derived_in_each_step(value))
            return _float_arrays(derived)

        shapes = jax.eval_shape(derive, by_node, shared)
        return {name for name, value in shapes.items() if value.shape not in columns}, frozenset(in_each_step)

    def _derive(self, by_node, shared):
        """Attributes that update_derived_parameters, or a configure() in its place, sets."""
        method = self._derivation_method
        if method is None:
            return {}
        values = {name: value.reshape(_drop_node_axis(value.shape)) for name, value in shared.items()}
        for name, value in by_node.items():
            is_single = value.size == 1
            values[name] = (
                value.reshape((1,)) if is_single else in_regional_layout(value, self.regional_layouts.get(name))
            )
        _, derived = trace(self.model, method, values)
        return derived

    @cached_property
    def _derivation_method(self):
        return derivation_method(self.model)

    def __call__(self, theta, x, coupling, step_attributes: StepAttributes | None = None):
        """Time derivative of the states.

        Parameters
        ----------
        theta : dict
            See `constants`.
        x : Array, shape (n_var, n_node, n_mode)
            Several samples can be evaluated as one: shape (n_var, n_sample * n_node, n_mode).
        coupling : Array, shape (n_cvar, n_node, n_mode)
        step_attributes : StepAttributes, optional
            Attributes that the model has set on itself in this step.

        Returns
        -------
        Array, shape (n_var, n_node, n_mode)
            [1/ms] times the unit of the states.
        """
        return self.in_place(theta, x, coupling, step_attributes)[0]

    def in_place(self, theta, x, coupling, step_attributes: StepAttributes | None = None):
        """Time derivative, and the states after the model's code has run, which may write to them.

        Parameters are those of ``__call__``.

        Returns
        -------
        dx, x : Array, shape (n_var, n_node, n_mode)

        Raises
        ------
        Untranslatable
            If the model sets attributes on itself and has tables or regional flags.
        """
        by_node, shared = theta["by_node"], theta["shared"]
        if step_attributes is not None and step_attributes.values and (shared or self.flag_groups):
            raise Untranslatable(
                f"{type(self.model).__name__} sets {', '.join(step_attributes.values)} on itself in a step, next to "
                "tables or regional flags; make them state variables"
            )
        if any(value.shape[-2] > 1 for value in shared.values()):
            return self._with_nodewise_tables(by_node, shared, x, coupling)
        if self.flag_groups:
            return self._by_flag_group(by_node, shared, x, coupling)
        return self._evaluate(by_node, shared, x, coupling, {}, step_attributes)

    def _with_nodewise_tables(self, by_node, shared, x, coupling):
        """`in_place` with tables repeated for each node, as the reverse pass needs them."""
        axes = {name: 0 if value.shape[0] > 1 else None for name, value in by_node.items()}
        over_nodes = jax.vmap(self._single_node, ({"by_node": axes, "shared": -2}, 1, 1), 1)
        shared = {n: jnp.broadcast_to(v, (*v.shape[:-2], x.shape[1], v.shape[-1])) for n, v in shared.items()}
        return over_nodes({"by_node": by_node, "shared": shared}, x, coupling)

    def _single_node(self, theta, x, coupling):
        by_node = {name: jnp.reshape(value, (1, -1)) for name, value in theta["by_node"].items()}
        shared = {name: jnp.expand_dims(value, -2) for name, value in theta["shared"].items()}
        results = self._evaluate(by_node, shared, x[:, None], coupling[:, None], {})
        return tuple(result[:, 0] for result in results)

    def _by_flag_group(self, by_node, shared, x, coupling):
        """`in_place` with regional flags: regions with equal flags together, so that no branch is traced wrongly."""
        results = []
        n_block = x.shape[1] // self.n_node
        groups = [
            ((nodes + self.n_node * np.arange(n_block)[:, None]).ravel(), flags) for nodes, flags in self.flag_groups
        ]
        for nodes, flags in groups:
            of_group = {name: value[nodes] if value.shape[0] > 1 else value for name, value in by_node.items()}
            results.append(self._evaluate(of_group, shared, x[:, nodes], coupling[:, nodes], flags))
        order = np.argsort(np.concatenate([nodes for nodes, _ in groups]))
        return tuple(jnp.concatenate(parts, axis=1)[:, order] for parts in zip(*results, strict=True))

    def model_attributes(self, theta: dict) -> dict:
        """Attributes of the model in the shapes in which its own code reads them."""
        by_node, shared = theta["by_node"], theta["shared"]
        _, in_each_step = self._derived_names
        attributes = {}
        if in_each_step:
            own = {p.name for p in traits.parameters(self.model)}
            parameters = ({name: value for name, value in part.items() if name in own} for part in (by_node, shared))
            derived = self._derive(*parameters)
            attributes |= {name: derived[name] for name in in_each_step}
        attributes |= {name: value.reshape(_drop_node_axis(value.shape)) for name, value in shared.items()}
        return attributes | traits.as_declared(self.model, by_node, _flatten_column if self._is_flat else _unchanged)

    def _evaluate(self, by_node, shared, x, coupling, flags, step_attributes=None):
        if callable(self.method):
            return self.method(by_node, x, coupling), x
        attributes = self.model_attributes({"by_node": by_node, "shared": shared}) | flags
        in_this_step = StepAttributes() if step_attributes is None else step_attributes
        result, _, (after, c, _) = trace_in_place(
            self.model, self.method, attributes, x, coupling, 0.0, step_attributes=in_this_step
        )
        if step_attributes is None:
            in_this_step.refuse_carried_over(self.model)
        if c is not coupling:
            raise Untranslatable(f"{self.method} writes in place into the coupling that it is given; give it a copy")
        self.writes_states = self.writes_states or after is not x
        return jnp.broadcast_to(result, x.shape), after

    def constants_in_double(self, values: dict | None = None) -> dict:
        """`constants` in double precision.

        Parameters
        ----------
        values : dict of str to array, optional
            Parameters that differ from the model's own.
        """
        values, own = values or {}, traits.parameters(self.model)
        node = {
            p.name: broadcast_regional(p, self.model, self.n_node, self.regional_layouts, values.get(p.name))
            for p in own
        }
        return self._constants_in_double(State(**node))

    @cached_property
    def _constants_in_double(self):
        return DoublePrecision(self.constants)

    @cached_property
    def in_double(self) -> DoublePrecision:
        """The field as a function of numpy arrays, in double precision."""
        return DoublePrecision(self.__call__)

    @cached_property
    def flag_groups(self) -> list[tuple[np.ndarray, dict]]:
        """Groups of regions with equal flags, [(indices, {flag: value})]; empty if no flag is regional."""
        flags = {name: np.ravel(getattr(self.model, name)) for name in traits.flags(self.model)}
        flags = {name: value for name, value in flags.items() if value.size == self.n_node > 1}
        groups = {}
        for index in range(self.n_node if flags else 0):
            groups.setdefault(tuple(value[index] for value in flags.values()), []).append(index)
        return [
            (np.array(nodes), {name: np.array([flag]) for name, flag in zip(flags, values, strict=True)})
            for values, nodes in groups.items()
        ]


def _unchanged(value):
    return value


def _flatten_column(value):
    """A column of regional values as shape (n_node,)."""
    return value.reshape(-1) if value.ndim == 2 and value.shape[1] == 1 else value


def _float_arrays(derived):
    """Derived attributes that are arrays of floats; all others do not depend on parameters and stay TVB's."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in derived.items() if _is_float(value)}


def _is_float(value):
    return isinstance(value, (float, np.ndarray, np.generic, jax.Array)) and jnp.issubdtype(
        jnp.result_type(value), jnp.floating
    )


def _is_derived_in_each_step(value):
    """True if a derived attribute depends on parameters, but is no array of floats."""
    return not _is_float(value) and (isinstance(value, types.FunctionType) or has_jax_array(value))


def _add_node_axis(value):
    return jnp.reshape(value, (*value.shape[:-1], 1, value.shape[-1])) if value.ndim else jnp.reshape(value, (1, 1))


def _drop_node_axis(shape):
    return (*shape[:-2], shape[-1])


def translate_checked(sim: "Simulator") -> tuple[VectorField | None, list[str]]:
    """Translate the vector field of a configured simulator's model, and compare it with TVB's.

    Returns
    -------
    field : VectorField or None
        None if it cannot be translated.
    reasons : list of str
        Reasons why there is none; empty if there is one.
    """
    model, n_node = sim.model, sim.connectivity.weights.shape[0]
    oracle = VectorFieldOracle(model, n_node)
    reasons = list(oracle.reasons)
    if reasons:
        return None, reasons
    for method in _methods(model):
        field = VectorField(model, n_node, method, oracle.regional_layouts, oracle.is_nonlocal)
        reason = oracle.mismatch(field)
        if reason is None:
            return field, []
        reasons.append(reason)
    # The reason of the last candidate, dfun, which is the method that TVB calls.
    return None, reasons[-1:]


def _methods(model):
    """Candidates for `VectorField.method`, in order of preference: by hand, numpy's version of dfun, dfun."""
    owner = next(cls for cls in type(model).__mro__ if "dfun" in vars(cls))
    package, _, module = owner.__module__.rpartition(".")
    by_hand = _BY_HAND.get((module, owner.__name__)) if package == "tvb.simulator.models" else None
    if by_hand is not None and "dfun" not in vars(model):
        yield by_hand
    if "_numpy_dfun" in vars(owner) and "dfun" not in vars(model):
        yield "_numpy_dfun"
    yield "dfun"
