"""A model's vector field, from its own source or written by hand, and how it compares with TVB's."""

import itertools
import types
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from tvb.simulator import models
from tvb.simulator.models.base import Model

from ..dynamics import vector_fields
from ..state import State
from . import traits
from .clone import clone
from .compare import Double, worst_by_row
from .leaves import node_column
from .source import Untranslatable, follow

# Written by hand, for models whose formula is numerically singular. They pass the same comparison.
_BY_HAND = {
    models.ReducedWongWang: vector_fields.reduced_wong_wang,
    models.ReducedWongWangExcInh: vector_fields.reduced_wong_wang_exc_inh,
    models.DecoBalancedExcInh: vector_fields.deco_balanced_exc_inh,
}
_TOLERANCE = 1e-11
# Shapes in which a regional value reaches update_derived_parameters, each fit for some of TVB's formulas.
_RAW = {"column": (-1, 1), "flat": (-1,), "row": (1, -1)}


@dataclass(eq=False)
class Field:
    """The vector field of one configured model.

    Attributes
    ----------
    model : Model
        Configured; read only.
    n_node : int
    method : str or callable
        Name of the method whose source is followed, or a function (parameters, x, coupling) written by hand.
    raw : dict of str to str
        By parameter, the shape in which TVB takes a regional value: "column", "flat", "row"; or None where it takes
        one value only.
    mixes : bool
        Whether regions meet in it, as they do in none of TVB's own models.
    """

    model: Model
    n_node: int
    method: object
    raw: dict
    mixes: bool = False

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
            if value.size > 1 and self.raw.get(parameter.name, "column") is None:
                raise ValueError(
                    f"State.{path}: shape {value.shape}; TVB's {type(self.model).__name__} takes one value, the same "
                    "for all regions. Give one."
                )
            by_node[parameter.name] = node_column(value, self.n_node, path)
        for name, value in self._derived(by_node, shared).items():
            if name in self._tables:
                shared[name] = _with_node_axis(value)
            else:
                by_node[name] = jnp.reshape(value, (1,) * (2 - value.ndim) + value.shape)
        return {"by_node": by_node, "shared": shared}

    @cached_property
    def _tables(self):
        """Derived arrays in which nodes do not figure: those that are no column where all parameters are global."""
        n_mode = self.model.number_of_modes
        columns = ((), (1,), (1, 1), (1, n_mode), (n_mode,)) if n_mode == 1 else ((), (1,), (1, 1), (1, n_mode))
        one = jnp.zeros((1, 1))
        own = traits.parameters(self.model)
        by_node = {p.name: one for p in own if p.shape is None}
        shared = {p.name: _with_node_axis(jnp.zeros(p.shape)) for p in own if p.shape is not None}
        shapes = jax.eval_shape(self._derived, by_node, shared)
        return {name for name, value in shapes.items() if value.shape not in columns}

    def _derived(self, by_node, shared):
        """What update_derived_parameters makes of the parameters."""
        if not derives(self.model):
            return {}
        values = {name: value.reshape(_unnoded(value.shape)) for name, value in shared.items()}
        for name, value in by_node.items():
            raw = _RAW[self.raw.get(name) or "column"]
            values[name] = value.reshape((1,)) if value.size == 1 else value.reshape(raw)
        _, written = follow(self.model, "update_derived_parameters", values)
        return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in written.items()}

    def __call__(self, theta, x, coupling):
        """dx/dt [1/ms] of states x (n_var, n_node, n_mode) under coupling (n_cvar, n_node, n_mode)."""
        by_node, shared = theta["by_node"], theta["shared"]
        if any(value.shape[-2] > 1 for value in shared.values()):
            # Each node with tables of its own, as the reverse pass wants them.
            axes = {name: 0 if value.shape[0] > 1 else None for name, value in by_node.items()}
            each = jax.vmap(self._one, ({"by_node": axes, "shared": -2}, 1, 1), 1)
            shared = {n: jnp.broadcast_to(v, (*v.shape[:-2], x.shape[1], v.shape[-1])) for n, v in shared.items()}
            return each({"by_node": by_node, "shared": shared}, x, coupling)
        if not self._groups:
            return self._direct(by_node, shared, x, coupling, {})
        # Regional flags: the regions of one kind together, so that no branch is taken that is not meant.
        parts = []
        for nodes, flags in self._groups:
            of_these = {name: value[nodes] if value.shape[0] > 1 else value for name, value in by_node.items()}
            parts.append(self._direct(of_these, shared, x[:, nodes], coupling[:, nodes], flags))
        order = np.argsort(np.concatenate([nodes for nodes, _ in self._groups]))
        return jnp.concatenate(parts, axis=1)[:, order]

    def _one(self, theta, x, coupling):
        by_node = {name: jnp.reshape(value, (1, -1)) for name, value in theta["by_node"].items()}
        shared = {name: jnp.expand_dims(value, -2) for name, value in theta["shared"].items()}
        return self._direct(by_node, shared, x[:, None], coupling[:, None], {})[:, 0]

    def values(self, theta):
        """Attributes of the model as its own code sees them."""
        values = {name: value.reshape(_unnoded(value.shape)) for name, value in theta["shared"].items()}
        values |= {name: value.reshape((1,)) if value.size == 1 else value for name, value in theta["by_node"].items()}
        return values | {p.name: values[p.name].reshape(()) for p in traits.parameters(self.model) if p.scalar}

    def _direct(self, by_node, shared, x, coupling, flags):
        if callable(self.method):
            return self.method(by_node, x, coupling)
        values = self.values({"by_node": by_node, "shared": shared})
        result, _ = follow(self.model, self.method, values | flags, x, coupling)
        return jnp.broadcast_to(result, x.shape)

    def constants_in_double(self, values=None):
        """Constants of given parameters (by name; the model's own by default), to compare with TVB's."""
        values, own = values or {}, traits.parameters(self.model)
        given = {p.name: spread(p, self.model, self.n_node, self.raw, values.get(p.name)) for p in own}
        return self._constants_in_double(State(**given))

    @cached_property
    def _constants_in_double(self):
        return Double(self.constants)

    @cached_property
    def in_double(self):
        """The field as a function of numpy's arrays."""
        return Double(self.__call__)

    @cached_property
    def _groups(self):
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


def spread(parameter, model, n_node, raw, value=None):
    """Value as the state shows it, regional where TVB takes it so: one shape, whatever the user's."""
    value = parameter.shaped(np.asarray(parameter.read(model) if value is None else value, dtype=float))
    if parameter.shape is None and not parameter.scalar and raw.get(parameter.name, "column") is not None:
        value = np.broadcast_to(value, (n_node,))
    return value


def _with_node_axis(value):
    return jnp.reshape(value, (*value.shape[:-1], 1, value.shape[-1])) if value.ndim else jnp.reshape(value, (1, 1))


def _unnoded(shape):
    return (*shape[:-2], shape[-1])


def make(sim):
    """Vector field of a configured simulator's model, and the reasons why there is none.

    Returns
    -------
    field : Field or None
    reasons : list of str
    """
    model, n_node = sim.model, sim.connectivity.weights.shape[0]
    trials = _Trials(model, n_node)
    reasons = list(trials.reasons)
    if reasons:
        return None, reasons
    for method in _methods(model):
        field = Field(model, n_node, method, trials.raw, trials.mixes)
        reason = trials.disagreement(field)
        if reason is None:
            return field, []
        reasons.append(reason)
    # The first way is the one that TVB's authors, or the user, meant.
    return None, reasons[:1]


def raw_shapes(model, n_node):
    """By parameter, the shape in which a regional value reaches what TVB derives from it: see `Field`."""
    return _Trials(model, n_node, find_only=True).raw


def derives(model):
    """Whether TVB derives further attributes from a model's parameters."""
    return type(model).update_derived_parameters is not Model.update_derived_parameters


def as_raw(value, kind):
    """Regional value in such a shape."""
    return np.reshape(value, _RAW[kind or "column"])


def _methods(model):
    """Ways to a model's vector field: by hand, or methods to follow; the nearest first."""
    by_hand = next((cls for cls in _BY_HAND if type(model).dfun is cls.dfun), None)
    if by_hand is not None and "dfun" not in vars(model):
        yield _BY_HAND[by_hand]
    owner = next(cls for cls in type(model).__mro__ if "dfun" in vars(cls))
    if "_numpy_dfun" in vars(owner) and "dfun" not in vars(model):
        yield "_numpy_dfun"
    yield "dfun"


class _Trials:
    """TVB's own vector field with random states and parameters: what a translation has to equal."""

    n_case = 3

    def __init__(self, model, n_node, seed=0, find_only=False):
        self.model, self.n_node, self._random = model, n_node, np.random.RandomState(seed)
        self.reasons, self.raw = [], {}
        self._find_raw()
        if not (self.reasons or find_only):
            self._draw()

    def _find_raw(self):
        """For each parameter a shape in which TVB takes regional values and gives each region its own."""
        if not derives(self.model):
            return
        own = {p.name: p for p in traits.parameters(self.model) if p.shape is None and not p.scalar}
        regional = [name for name, p in own.items() if self.n_node > 1 and np.size(p.read(self.model)) > 1]
        # Those that are regional already: the shapes that reproduce what TVB holds.
        held = vars(self.model)
        for kinds in itertools.islice(itertools.product(_RAW, repeat=len(regional)), 81):
            self.raw = dict(zip(regional, kinds, strict=True))
            fresh = self._reconfigured({name: own[name].read(self.model) for name in regional})
            if fresh is not None and all(_equal(vars(fresh).get(name), value) for name, value in held.items()):
                break
        else:
            self.reasons.append(
                f"Simulator.model: what {type(self.model).__name__} derives from regional {', '.join(regional)} cannot be "
                "worked out anew from the values that it holds. Give one value for all regions."
            )
            return
        for name, parameter in own.items():
            if name in regional:
                if not self._is_local(name, parameter):
                    self.reasons.append(
                        f"Simulator.model.{name}: {np.size(parameter.read(self.model))} values, of which TVB's "
                        f"{type(self.model).__name__} uses the first for all regions. Give one value."
                    )
                continue
            for kind in _RAW:
                self.raw[name] = kind
                if self._is_local(name, parameter):
                    break
            else:
                self.raw[name] = None

    def _is_local(self, name, parameter):
        """Whether a regional value changes its own region alone, and is taken at all."""
        if self.n_node == 1:
            return True
        value = np.broadcast_to(np.ravel(parameter.read(self.model)).astype(float), (self.n_node,)).copy()
        x, coupling = self._states()
        outcomes = []
        for shift in (0.0, 0.05):
            value[0] += shift * (abs(value[0]) or 1.0)
            fresh = self._reconfigured({name: value})
            if fresh is None:
                return False
            outcomes.append(_dfun(fresh, x, coupling))
        before, after = outcomes
        if before is None or after is None or before.shape != x.shape:
            return False
        return np.array_equal(before[:, 1:], after[:, 1:], equal_nan=True)

    def _reconfigured(self, values):
        """Copy of the model with other values, configured by TVB; None where TVB fails."""
        fresh = clone(self.model)
        stub = types.SimpleNamespace(surface=None, number_of_nodes=self.n_node)
        regional = {name: kind for name, kind in self.raw.items() if kind is not None}
        try:
            for p in traits.parameters(fresh):
                value = np.asarray(values.get(p.name, p.read(fresh)), float)
                if p.scalar:
                    setattr(fresh, p.name, float(value))
                elif p.shape is None:
                    setattr(fresh, p.name, value.reshape(_RAW[regional.get(p.name, "column")] if value.size > 1 else (1,)))
                else:
                    setattr(fresh, p.name, value.reshape(p.shape))
            with np.errstate(all="ignore"):
                fresh.configure()
                fresh._spatialize_model_parameters(stub)
        except Exception:
            return None
        return fresh

    def _states(self):
        model = self.model
        ranges = np.array([model.state_variable_range[name] for name in model.state_variables[: model.nvar]])
        shape = (model.nvar, self.n_node, model.number_of_modes)
        low, high = ranges[:, :1, None], ranges[:, 1:, None]
        # A variable that starts at one value does not stay there.
        high = np.where(low == high, high + 0.1, high)
        x = self._random.uniform(low, high, size=shape)
        return x, self._random.uniform(-0.5, 2.0, size=(len(model.cvar), *shape[1:]))

    def _draw(self):
        """Cases: the user's own parameters, and others near them, regional where TVB takes them so."""
        self.cases = []
        for case in range(self.n_case):
            values, copy = {}, self.model
            if case:
                values = {p.name: self._near(p) for p in traits.parameters(self.model)}
                copy = self._reconfigured(values)
                if copy is None:
                    continue
            x, coupling = self._states()
            theirs = _dfun(copy, x, coupling)
            if theirs is None:
                if not case:
                    self.reasons.append(
                        f"Simulator.model: {type(self.model).__name__}.dfun itself fails on states of shape {x.shape}."
                    )
                    return
                continue
            nudged = [_dfun(copy, x * nudge, coupling * nudge) for nudge in (1.0 + 1e-8, 1.0 - 1e-8)]
            # A second difference this small leaves only the digits that TVB's formula itself loses.
            floor = np.abs(nudged[0] + nudged[1] - 2.0 * theirs)
            self.cases.append((values, x, coupling, theirs, floor))

    @cached_property
    def mixes(self):
        """Whether what one region is, or has for parameters, changes what another does."""
        values, x, coupling, theirs, _ = self.cases[-1]
        if self.n_node == 1:
            return False
        x, coupling = x.copy(), coupling.copy()
        x[:, 0] *= 1.01
        coupling[:, 0] *= 1.01
        copy = self.model
        if values:
            values = dict(values)
            for p in traits.parameters(self.model):
                if p.shape is None and np.size(values[p.name]) > 1:
                    values[p.name] = np.concatenate([values[p.name][:1] * 1.01, values[p.name][1:]])
            copy = self._reconfigured(values)
        other = _dfun(copy, x, coupling)
        return not np.array_equal(other[:, 1:], theirs[:, 1:], equal_nan=True)

    def _near(self, parameter):
        value = spread(parameter, self.model, self.n_node, self.raw)
        reach = 0.05 * np.where(value == 0.0, 1.0, value)
        return value + reach * self._random.uniform(-1.0, 1.0, size=value.shape)

    def disagreement(self, field):
        """Why a field is not TVB's, or None."""
        name = type(self.model).__name__
        worst, widened = 0.0, None
        for values, x, coupling, theirs, floor in self.cases:
            try:
                theta = field.constants_in_double(values)
                found = [field.in_double(theta, x, coupling)]
                if theta["shared"] and not (field._groups or field.mixes) and widened is None:
                    widened = {n: np.broadcast_to(v, _widened(v.shape, self.n_node)) for n, v in theta["shared"].items()}
                    found.append(field.in_double({"by_node": theta["by_node"], "shared": widened}, x, coupling))
            except (Untranslatable, ValueError, TypeError) as error:
                return f"Simulator.model: {name} is not translated: {error}."
            worst = max([worst, *(worst_by_row(one, theirs, floor) for one in found)])
        if worst <= _TOLERANCE:
            return None
        return (
            f"Simulator.model: the translated vector field differs from {name}.dfun by {worst:.1e} of its "
            "maximum. Either its code does something that is not followed (see the README), or TVB's formula loses "
            "these digits with its parameters."
        )


def _widened(shape, n_node):
    return (*shape[:-2], n_node, shape[-1])


def _dfun(model, x, coupling):
    """TVB's own vector field, a copy of it; None where it fails."""
    try:
        with np.errstate(all="ignore"):
            return np.array(model.dfun(x.copy(), coupling.copy()), dtype=float)
    except Exception:
        return None


def _equal(one, other):
    if isinstance(other, np.ndarray) and other.dtype.kind == "f":
        return isinstance(one, np.ndarray) and one.size == other.size and np.array_equal(one.ravel(), other.ravel())
    return True
