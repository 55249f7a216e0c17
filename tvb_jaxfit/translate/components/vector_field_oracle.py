"""TVB's own vector field at random states and parameters: the reference for a translated one."""

import itertools
import types
from functools import cached_property
from typing import NamedTuple

import numpy as np
from tvb.simulator.models.base import Model

from .. import traits
from ..clone import clone
from ..double_precision import max_row_error
from ..tracing.untranslatable import Untranslatable
from .derived_attributes import derives_attributes

_TOLERANCE = 1e-11
# Layouts of a regional value in update_derived_parameters, each of which some of TVB's formulas need, and their shapes.
LAYOUTS = {"column": (-1, 1), "flat": (-1,), "row": (1, -1)}
# Most combinations of layouts of several regional parameters that are tried.
_MAX_COMBINATIONS = 81


def find_regional_layouts(model: Model, n_node: int) -> dict[str, str | None]:
    """Layout in which update_derived_parameters accepts regional values of each parameter, found by trial.

    The trials use a copy that is reset to global values, so that neither the model's values nor outdated derived
    attributes matter.

    Returns
    -------
    dict of str to (str or None)
        A key of `LAYOUTS`; None where the model takes one value for all regions.
    """
    reset = clone(model)
    for parameter in traits.parameters(reset):
        if parameter.shape is None and not parameter.is_scalar:
            setattr(reset, parameter.name, np.ravel(parameter.read(reset))[:1].astype(float))
    reset.configure()
    return VectorFieldOracle(reset, n_node, layouts_only=True).regional_layouts


def in_regional_layout(value, layout: str | None):
    """Regional value in a layout of `LAYOUTS`."""
    return np.reshape(value, LAYOUTS[layout or "column"])


def broadcast_regional(parameter, model: Model, n_node: int, layouts: dict, value=None) -> np.ndarray:
    """Value of a parameter as the state shows it, regional if TVB accepts regional values.

    Parameters
    ----------
    parameter : DeclaredParameter
    model : Model
    n_node : int
    layouts : dict of str to (str or None)
        See `find_regional_layouts`.
    value : array, optional
        The model's own by default.

    Returns
    -------
    ndarray, shape (n_node,), (1,), or the declared shape of a table
    """
    value = parameter.shaped(np.asarray(parameter.read(model) if value is None else value, dtype=float))
    if parameter.shape is None and not parameter.is_scalar and layouts.get(parameter.name, "column") is not None:
        value = np.broadcast_to(value, (n_node,))
    return value


def _is_tvbs_own(model):
    """Check whether a model's dfun is defined by a class of TVB's."""
    owner = next(cls for cls in type(model).__mro__ if "dfun" in vars(cls))
    return owner.__module__.startswith("tvb.simulator.models.")


class _Case(NamedTuple):
    """One evaluation of TVB's vector field.

    Attributes
    ----------
    values : dict of str to ndarray
        Parameters, regional where TVB accepts it; empty for the model's own.
    x, coupling : ndarray
    dx : ndarray
        Result of TVB's dfun.
    rounding_error : ndarray
        Digits that TVB's own formula loses, by element of ``dx``.
    """

    values: dict
    x: np.ndarray
    coupling: np.ndarray
    dx: np.ndarray
    rounding_error: np.ndarray


class VectorFieldOracle:
    """TVB's own vector field at random states and parameters.

    Parameters
    ----------
    model : Model
        Configured; not modified.
    n_node : int
    seed : int, optional
    layouts_only : bool, optional
        Find `regional_layouts` only; draw no cases.

    Attributes
    ----------
    reasons : list of str
        Reasons why the model is refused; empty if it is not.
    regional_layouts : dict of str to (str or None)
        See `find_regional_layouts`.
    cases : list of _Case
        Case 0 has the model's own parameters, the others have perturbed ones.
    """

    n_case = 2

    def __init__(self, model, n_node, seed=0, layouts_only=False):
        self.model, self.n_node, self._random = model, n_node, np.random.RandomState(seed)
        self.reasons, self.regional_layouts = [], {}
        x, coupling = self._random_states()
        failure = dfun_failure(model, x, coupling)
        if failure is not None:
            self.reasons.append(f"Simulator.model: {type(model).__name__}.dfun itself fails: {failure}.")
            return
        self._find_layouts()
        if not (self.reasons or layouts_only):
            self._draw_cases()

    def _find_layouts(self):
        """Set, for each parameter, a layout in which TVB accepts regional values and applies each to its region."""
        own = {p.name: p for p in traits.parameters(self.model) if p.shape is None and not p.is_scalar}
        if not derives_attributes(self.model):
            if not _is_tvbs_own(self.model):
                self.regional_layouts = {name: "column" if self._is_accepted(p) else None for name, p in own.items()}
                self.reasons += [
                    self._not_regional(p)
                    for name, p in own.items()
                    if self.regional_layouts[name] is None and self._is_regional(p)
                ]
            return
        regional = [name for name, p in own.items() if self.n_node > 1 and self._is_regional(p)]
        if not self._reproduce_derived(own, regional):
            self.reasons.append(
                f"Simulator.model: the attributes that {type(self.model).__name__} derives from regional "
                f"{', '.join(regional)} cannot be derived again from the values that it holds. Give one value for all "
                "regions."
            )
            return
        for name, parameter in own.items():
            if name in regional:
                if not self._is_local(parameter):
                    self.reasons.append(self._not_regional(parameter))
                continue
            for layout in LAYOUTS:
                self.regional_layouts[name] = layout
                if self._is_local(parameter):
                    break
            else:
                self.regional_layouts[name] = None

    def _reproduce_derived(self, own, regional):
        """Set the layouts of parameters that are regional already, such that TVB derives what the model holds.

        Returns
        -------
        bool
            False if no combination of layouts does.
        """
        attributes = vars(self.model)
        for layouts in itertools.islice(itertools.product(LAYOUTS, repeat=len(regional)), _MAX_COMBINATIONS):
            self.regional_layouts = dict(zip(regional, layouts, strict=True))
            fresh = self._reconfigured({name: own[name].read(self.model) for name in regional})
            if fresh is not None and all(
                _same_values(vars(fresh).get(name), value) for name, value in attributes.items()
            ):
                return True
        return False

    def _is_regional(self, parameter):
        return np.size(parameter.read(self.model)) > 1

    def _not_regional(self, parameter):
        count, cls = np.size(parameter.read(self.model)), type(self.model).__name__
        what = (
            f"of which TVB's {cls} uses the first for all regions"
            if derives_attributes(self.model)
            else f"but the code of {cls} does not accept regional values"
        )
        return f"Simulator.model.{parameter.name}: {count} values, {what}. Give one value."

    def _regional_copy(self, parameter):
        """A parameter's value in the shape (n_node,), as a new array."""
        return np.broadcast_to(np.ravel(parameter.read(self.model)).astype(float), (self.n_node,)).copy()

    def _is_accepted(self, parameter):
        """Check whether the model's code runs with a regional value."""
        if self.n_node == 1:
            return True
        value = self._regional_copy(parameter)
        x, coupling = self._random_states()
        fresh = self._reconfigured({parameter.name: value})
        dx = None if fresh is None else reference_dfun(fresh, x, coupling)
        return dx is not None and dx.shape == x.shape

    def _is_local(self, parameter):
        """Check whether a regional value is accepted, and changes its own region alone."""
        if self.n_node == 1:
            return True
        value = self._regional_copy(parameter)
        x, coupling = self._random_states()
        results = []
        for change in (0.0, 0.05):
            value[0] += change * (abs(value[0]) or 1.0)
            fresh = self._reconfigured({parameter.name: value})
            if fresh is None:
                return False
            results.append(reference_dfun(fresh, x, coupling))
        before, after = results
        if before is None or after is None or before.shape != x.shape:
            return False
        return np.array_equal(before[:, 1:], after[:, 1:], equal_nan=True)

    def _reconfigured(self, values):
        """Copy of the model with other values, configured by TVB; None if TVB fails."""
        fresh = clone(self.model)
        simulator = types.SimpleNamespace(surface=None, number_of_nodes=self.n_node)
        try:
            for p in traits.parameters(fresh):
                value = np.asarray(values.get(p.name, p.read(fresh)), float)
                if p.is_scalar:
                    setattr(fresh, p.name, float(value))
                elif p.shape is None:
                    shape = LAYOUTS[self.regional_layouts.get(p.name) or "column"] if value.size > 1 else (1,)
                    setattr(fresh, p.name, value.reshape(shape))
                else:
                    setattr(fresh, p.name, value.reshape(p.shape))
            with np.errstate(all="ignore"):
                fresh.configure()
                fresh._spatialize_model_parameters(simulator)
        except Exception:
            return None
        return fresh

    def _random_states(self):
        """States of the integrated variables, uniform in TVB's ranges, and coupling; (n_var, n_node, n_mode) each."""
        model = self.model
        integrated = np.flatnonzero(model.state_variable_mask)
        ranges = np.array([model.state_variable_range[model.state_variables[i]] for i in integrated])
        shape = (len(integrated), self.n_node, model.number_of_modes)
        low, high = ranges[:, :1, None], ranges[:, 1:, None]
        # A range of one value is only where the variable starts.
        high = np.where(low == high, high + 0.1, high)
        x = self._random.uniform(low, high, size=shape)
        return x, self._random.uniform(-0.5, 2.0, size=(len(model.cvar), *shape[1:]))

    def _draw_cases(self):
        """Draw `cases`."""
        self.cases = []
        for case in range(self.n_case):
            values, copy = {}, self.model
            if case:
                values = {p.name: self._perturbed(p) for p in traits.parameters(self.model)}
                copy = self._reconfigured(values)
                if copy is None:
                    continue
            x, coupling = self._random_states()
            dx = reference_dfun(copy, x, coupling)
            if dx is None:
                if not case:
                    self.reasons.append(
                        f"Simulator.model: {type(self.model).__name__}.dfun itself fails on states of shape {x.shape}."
                    )
                    return
                continue
            nearby = [reference_dfun(copy, x * factor, coupling * factor) for factor in (1.0 + 1e-8, 1.0 - 1e-8)]
            # With so small a change, a second difference consists of rounding errors only.
            with np.errstate(invalid="ignore"):
                rounding_error = np.abs(nearby[0] + nearby[1] - 2.0 * dx)
            self.cases.append(_Case(values, x, coupling, dx, rounding_error))

    def _perturbed(self, parameter):
        value = broadcast_regional(parameter, self.model, self.n_node, self.regional_layouts)
        width = 0.05 * np.where(value == 0.0, 1.0, value)
        return value + width * self._random.uniform(-1.0, 1.0, size=value.shape)

    @cached_property
    def is_nonlocal(self) -> bool:
        """True if the state or the parameters of one region change the vector field of another."""
        values, x, coupling, dx, _ = self.cases[-1]
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
        changed = reference_dfun(copy, x, coupling)
        return not np.array_equal(changed[:, 1:], dx[:, 1:], equal_nan=True)

    def mismatch(self, field) -> str | None:
        """Reason why a translated vector field does not equal TVB's; None if it does.

        Parameters
        ----------
        field : VectorField
        """
        name = type(self.model).__name__
        worst, nodewise_tables = 0.0, None
        for case in self.cases:
            try:
                theta = field.constants_in_double(case.values)
                results = [field.in_double(theta, case.x, case.coupling)]
                # Also with tables repeated for each node, as the reverse pass evaluates the field.
                once = nodewise_tables is None and not (
                    field.flag_groups or field.is_nonlocal or field.in_double.is_slow_to_trace
                )
                if theta["shared"] and once:
                    tables = theta["shared"].items()
                    nodewise_tables = {name: np.broadcast_to(v, _nodewise(v.shape, self.n_node)) for name, v in tables}
                    nodewise = {"by_node": theta["by_node"], "shared": nodewise_tables}
                    results.append(field.in_double(nodewise, case.x, case.coupling))
            except (Untranslatable, ValueError, TypeError) as error:
                return f"Simulator.model: {name} is not translated: {error}."
            worst = max([worst, *(max_row_error(dx, case.dx, case.rounding_error) for dx in results)])
        if worst <= _TOLERANCE:
            return None if _is_tvbs_own(self.model) else self._not_a_function()
        return (
            f"Simulator.model: the translated vector field differs from {name}.dfun by {worst:.1e} of its "
            "maximum. Either its code uses something that is not translated, or TVB's formula loses "
            "these digits with its parameters."
        )

    def _not_a_function(self):
        """Reason why TVB's own field is no function of its arguments; None if it is one."""
        case = self.cases[0]
        if np.array_equal(*_two_calls(self.model, case.x, case.coupling), equal_nan=True):
            return None
        return (
            f"Simulator.model: a second call of {type(self.model).__name__}.dfun with the same arguments gives another "
            "value: the model keeps something from call to call. Make that a state variable."
        )


def _nodewise(shape, n_node):
    return (*shape[:-2], n_node, shape[-1])


def dfun_failure(model: Model, x, coupling) -> str | None:
    """Error of TVB's own vector field, or the wrong shape of its result; None if it works."""
    try:
        with np.errstate(all="ignore"):
            shape = np.shape(clone(model).dfun(x.copy(), coupling.copy(), 0.0))
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        return f"on states of shape {x.shape} and a coupling of shape {coupling.shape}, {type(error).__name__}: {first}"
    if shape != x.shape:
        return f"it gives shape {shape} for states of shape {x.shape} and a coupling of shape {coupling.shape}"
    return None


def reference_dfun(model: Model, x, coupling) -> np.ndarray | None:
    """TVB's own vector field, as a new array; None if it fails. Runs on a copy, since dfun may set attributes."""
    try:
        with np.errstate(all="ignore"):
            return np.array(clone(model).dfun(x.copy(), coupling.copy(), 0.0), dtype=float)
    except Exception:
        return None


def _two_calls(model, x, coupling):
    """Results of two calls of one copy of the model."""
    copy = clone(model)
    with np.errstate(all="ignore"):
        return [np.array(copy.dfun(x.copy(), coupling.copy(), 0.0), dtype=float) for _ in range(2)]


def _same_values(derived, original):
    """Compare a derived attribute with the one that a model has, if that is an array of floats."""
    if isinstance(original, np.ndarray) and original.dtype.kind == "f":
        return (
            isinstance(derived, np.ndarray)
            and derived.size == original.size
            and np.array_equal(derived.ravel(), original.ravel())
        )
    return True
