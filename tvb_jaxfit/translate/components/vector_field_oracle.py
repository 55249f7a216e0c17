"""TVB's own vector field with random states and parameters: what a translation has to equal."""

import itertools
import types
from functools import cached_property

import numpy as np
from tvb.simulator.models.base import Model

from .. import traits
from ..clone import clone
from ..double_precision import max_row_error
from ..tracing.method import Untranslatable

_TOLERANCE = 1e-11
# Shapes in which a regional value reaches update_derived_parameters, each fit for some of TVB's formulas.
RAW = {"column": (-1, 1), "flat": (-1,), "row": (1, -1)}


def find_regional_layouts(model, n_node):
    """By parameter, the shape in which a regional value reaches what TVB derives from it: see `VectorField`.

    Whatever the model holds, and whether what it derived from that is up to date.
    """
    bare = clone(model)
    for parameter in traits.parameters(bare):
        if parameter.shape is None and not parameter.is_scalar:
            setattr(bare, parameter.name, np.ravel(parameter.read(bare))[:1].astype(float))
    bare.configure()
    return VectorFieldOracle(bare, n_node, find_only=True).regional_layouts


def derives_attributes(model):
    """Whether TVB derives further attributes from a model's parameters."""
    return derivation_method(model) is not None


def derivation_method(model):
    """Name of the method that derives attributes from a model's parameters, or None.

    Parameters
    ----------
    model : Model

    Returns
    -------
    str or None
        ``"configure"`` where a user's own one derives what ``update_derived_parameters`` does not.
    """
    if _has_own_configure(model) and _configure_derives(model):
        return "configure"
    own = type(model).update_derived_parameters is not Model.update_derived_parameters
    return "update_derived_parameters" if own else None


def _has_own_configure(model):
    owner = next(cls for cls in type(model).__mro__ if "configure" in vars(cls))
    return not owner.__module__.startswith("tvb.")


def _configure_derives(model):
    """Whether other parameters, once configured, leave other numbers than update_derived_parameters makes of them."""
    moved = clone(model)
    try:
        moved.configure()
        for p in traits.parameters(moved):
            value = 1.05 * np.asarray(p.read(moved), float) + 0.01
            setattr(moved, p.name, float(value) if p.is_scalar else value)
        moved.update_derived_parameters()
        fresh = clone(moved)
        with np.errstate(all="ignore"):
            fresh.configure()
    except Exception:
        return False
    return any(not _same_numbers(value, vars(fresh).get(name)) for name, value in vars(moved).items())


def _same_numbers(one, other):
    """Whether two values are the same, as far as both are real numbers."""
    kinds = [value.dtype.kind if isinstance(value, np.ndarray | np.generic) else None for value in (one, other)]
    if kinds == ["f", "f"] or (isinstance(one, float) and isinstance(other, float)):
        return np.array_equal(one, other, equal_nan=True)
    return True


def _is_tvbs_own(model):
    """Whether a model's vector field is one of TVB's own."""
    owner = next(cls for cls in type(model).__mro__ if "dfun" in vars(cls))
    return owner.__module__.startswith("tvb.simulator.models.")


def in_regional_layout(value, kind):
    """Regional value in such a shape."""
    return np.reshape(value, RAW[kind or "column"])


def broadcast_regional(parameter, model, n_node, raw, value=None):
    """Value as the state shows it, regional where TVB takes it so: one shape, whatever the user's."""
    value = parameter.shaped(np.asarray(parameter.read(model) if value is None else value, dtype=float))
    if parameter.shape is None and not parameter.is_scalar and raw.get(parameter.name, "column") is not None:
        value = np.broadcast_to(value, (n_node,))
    return value


class VectorFieldOracle:
    """TVB's own vector field with random states and parameters: what a translation has to equal."""

    n_case = 2

    def __init__(self, model, n_node, seed=0, find_only=False):
        self.model, self.n_node, self._random = model, n_node, np.random.RandomState(seed)
        self.reasons, self.regional_layouts = [], {}
        x, coupling = self._states()
        failure = dfun_failure(model, x, coupling)
        if failure is not None:
            self.reasons.append(f"Simulator.model: {type(model).__name__}.dfun itself fails: {failure}.")
            return
        self._find_raw()
        if not (self.reasons or find_only):
            self._draw()

    def _find_raw(self):
        """For each parameter a shape in which TVB takes regional values and gives each region its own."""
        own = {p.name: p for p in traits.parameters(self.model) if p.shape is None and not p.is_scalar}
        if not derives_attributes(self.model):
            if not _is_tvbs_own(self.model):
                self.regional_layouts = {name: "column" if self._is_taken(name, p) else None for name, p in own.items()}
                self.reasons += [self._not_regional(name, p) for name, p in own.items() if self._is_given(name, p)]
            return
        regional = [name for name, p in own.items() if self.n_node > 1 and np.size(p.read(self.model)) > 1]
        # Those that are regional already: the shapes that reproduce what TVB holds.
        held = vars(self.model)
        for kinds in itertools.islice(itertools.product(RAW, repeat=len(regional)), 81):
            self.regional_layouts = dict(zip(regional, kinds, strict=True))
            fresh = self._reconfigured({name: own[name].read(self.model) for name in regional})
            if fresh is not None and all(_equal(vars(fresh).get(name), value) for name, value in held.items()):
                break
        else:
            self.reasons.append(
                f"Simulator.model: what {type(self.model).__name__} derives from regional {', '.join(regional)} cannot "
                "be worked out anew from the values that it holds. Give one value for all regions."
            )
            return
        for name, parameter in own.items():
            if name in regional:
                if not self._is_local(name, parameter):
                    self.reasons.append(self._not_regional(name, parameter))
                continue
            for kind in RAW:
                self.regional_layouts[name] = kind
                if self._is_local(name, parameter):
                    break
            else:
                self.regional_layouts[name] = None

    def _is_given(self, name, parameter):
        """Whether the user gave regional values where the model's code takes one."""
        return self.regional_layouts[name] is None and np.size(parameter.read(self.model)) > 1

    def _not_regional(self, name, parameter):
        count, cls = np.size(parameter.read(self.model)), type(self.model).__name__
        what = (
            f"of which TVB's {cls} uses the first for all regions"
            if derives_attributes(self.model)
            else f"which the code of {cls} does not take by region"
        )
        return f"Simulator.model.{name}: {count} values, {what}. Give one value."

    def _is_taken(self, name, parameter):
        """Whether the model's code runs with a regional value."""
        if self.n_node == 1:
            return True
        value = np.broadcast_to(np.ravel(parameter.read(self.model)).astype(float), (self.n_node,)).copy()
        x, coupling = self._states()
        fresh = self._reconfigured({name: value})
        given = None if fresh is None else reference_dfun(fresh, x, coupling)
        return given is not None and given.shape == x.shape

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
            outcomes.append(reference_dfun(fresh, x, coupling))
        before, after = outcomes
        if before is None or after is None or before.shape != x.shape:
            return False
        return np.array_equal(before[:, 1:], after[:, 1:], equal_nan=True)

    def _reconfigured(self, values):
        """Copy of the model with other values, configured by TVB; None where TVB fails."""
        fresh = clone(self.model)
        stub = types.SimpleNamespace(surface=None, number_of_nodes=self.n_node)
        regional = {name: kind for name, kind in self.regional_layouts.items() if kind is not None}
        try:
            for p in traits.parameters(fresh):
                value = np.asarray(values.get(p.name, p.read(fresh)), float)
                if p.is_scalar:
                    setattr(fresh, p.name, float(value))
                elif p.shape is None:
                    shape = RAW[regional.get(p.name, "column")] if value.size > 1 else (1,)
                    setattr(fresh, p.name, value.reshape(shape))
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
        integrated = np.flatnonzero(model.state_variable_mask)
        ranges = np.array([model.state_variable_range[model.state_variables[i]] for i in integrated])
        shape = (len(integrated), self.n_node, model.number_of_modes)
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
            theirs = reference_dfun(copy, x, coupling)
            if theirs is None:
                if not case:
                    self.reasons.append(
                        f"Simulator.model: {type(self.model).__name__}.dfun itself fails on states of shape {x.shape}."
                    )
                    return
                continue
            nudged = [reference_dfun(copy, x * nudge, coupling * nudge) for nudge in (1.0 + 1e-8, 1.0 - 1e-8)]
            # A second difference this small leaves only the digits that TVB's formula itself loses.
            with np.errstate(invalid="ignore"):
                floor = np.abs(nudged[0] + nudged[1] - 2.0 * theirs)
            self.cases.append((values, x, coupling, theirs, floor))

    @cached_property
    def is_nonlocal(self):
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
        other = reference_dfun(copy, x, coupling)
        return not np.array_equal(other[:, 1:], theirs[:, 1:], equal_nan=True)

    def _forgets(self):
        """Why TVB's own field depends on how often it was asked, or None."""
        _, x, coupling, _, _ = self.cases[0]
        if np.array_equal(*_twice(self.model, x, coupling), equal_nan=True):
            return None
        return (
            f"Simulator.model: {type(self.model).__name__}.dfun gives another value when it is asked again: it keeps "
            "something from call to call. Make that a state variable."
        )

    def _near(self, parameter):
        value = broadcast_regional(parameter, self.model, self.n_node, self.regional_layouts)
        reach = 0.05 * np.where(value == 0.0, 1.0, value)
        return value + reach * self._random.uniform(-1.0, 1.0, size=value.shape)

    def mismatch(self, field):
        """Why a field is not TVB's, or None."""
        name = type(self.model).__name__
        worst, widened = 0.0, None
        for values, x, coupling, theirs, floor in self.cases:
            try:
                theta = field.constants_in_double(values)
                found = [field.in_double(theta, x, coupling)]
                if (
                    theta["shared"]
                    and widened is None
                    and not (field.groups or field.is_nonlocal or field.in_double.is_long)
                ):
                    shared = theta["shared"].items()
                    widened = {name: np.broadcast_to(v, _widened(v.shape, self.n_node)) for name, v in shared}
                    found.append(field.in_double({"by_node": theta["by_node"], "shared": widened}, x, coupling))
            except (Untranslatable, ValueError, TypeError) as error:
                return f"Simulator.model: {name} is not translated: {error}."
            worst = max([worst, *(max_row_error(one, theirs, floor) for one in found)])
        if worst <= _TOLERANCE:
            return None if _is_tvbs_own(self.model) else self._forgets()
        return (
            f"Simulator.model: the translated vector field differs from {name}.dfun by {worst:.1e} of its "
            "maximum. Either its code does something that is not followed (see the README), or TVB's formula loses "
            "these digits with its parameters."
        )


def dfun_failure(model, x, coupling):
    """What TVB's own vector field of these states raises, or the shape that it gives in place of theirs; or None."""
    try:
        with np.errstate(all="ignore"):
            shape = np.shape(clone(model).dfun(x.copy(), coupling.copy(), 0.0))
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        return f"on states of shape {x.shape} and a coupling of shape {coupling.shape}, {type(error).__name__}: {first}"
    if shape != x.shape:
        return f"it gives shape {shape} for states of shape {x.shape} and a coupling of shape {coupling.shape}"
    return None


def _twice(model, x, coupling):
    """What a model gives when it is asked twice in a row."""
    copy = clone(model)
    with np.errstate(all="ignore"):
        return [np.array(copy.dfun(x.copy(), coupling.copy(), 0.0), dtype=float) for _ in range(2)]


def _widened(shape, n_node):
    return (*shape[:-2], n_node, shape[-1])


def reference_dfun(model, x, coupling):
    """TVB's own vector field, a copy of what it gives; None where it fails. A model may set attributes on itself."""
    try:
        with np.errstate(all="ignore"):
            return np.array(clone(model).dfun(x.copy(), coupling.copy(), 0.0), dtype=float)
    except Exception:
        return None


def _equal(one, other):
    if isinstance(other, np.ndarray) and other.dtype.kind == "f":
        return isinstance(one, np.ndarray) and one.size == other.size and np.array_equal(one.ravel(), other.ravel())
    return True
