"""Feedback inhibition control: a parameter that keeps the firing rate of each region at a target."""

import warnings
import weakref
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks.arrays import real_array
from ..checks.maps import label_text, listed
from ..checks.options import check, instance, optional, string
from ..dynamics.simulate import Simulate
from ..errors import BalanceWarning, caller_stacklevel
from ..linear_response.balance import BalancedPoint, balanced_point
from ..parameters import Parameter
from ..persistence import serialisable
from ..runtime.processes import refuse_forked
from ..runtime.programs import Program
from ..state import State
from ..translate.components import model as model_component
from ..translate.model_expression import model_expression

# Cost of a value near 0: 0 from _MARGIN times the typical size of the values on, and 1 where one of them is 0.
_MARGIN = 0.02
_TARGET = 3.0
# Deviation of mean rates under noise from the target, relative to it, that is accepted: 2.7 to 3.3 Hz.
_ACCEPTED = 0.1


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class Balanced(Parameter):
    r"""A regional parameter that follows from all others: each region has a target rate at the fixed point.

    Feedback inhibition control (FIC): in place of ``model.J_i`` of ``ReducedWongWangExcInh`` or ``DecoBalancedExcInh``,
    the excitatory population of each region fires at 3 Hz, whatever the coupling, the weights and the other parameters.

    Parameters
    ----------
    target : array_like, optional
        Of all regions, or of each, in the unit of the rate: 3 [Hz]. Not 0.
    rate : str, optional
        Expression of the variables that the code of the model's equations computes, of state variables and of
        parameters; "H_e" is the excitatory rate of both models. Another model's rate is named in the same way.
    simulate : Simulate, optional
        Of `prepare`, for the state that the parameter is put into. `fit` knows its own.

    Raises
    ------
    ValueError
        A target that is 0, not finite, or of another number of regions; a rate that is no expression of the model's
        variables; a model with several modes.

    Warns
    -----
    BalanceWarning
        Values below 0, with their regions: an inhibition that excites. A fit has a cost for them. No value that
        balances the network: the values are NaN.

    Attributes
    ----------
    value : Array, shape (n_region,)
        As of the last time that it was worked out.
    rest : Array, shape (n_var, n_region, 1)
        Fixed point of the network that belongs to it.

    Notes
    -----
    The unknowns of each region are its state variables and the parameter; the equations, that the model's derivative is
    0 and that the rate is the target. They are solved by Newton's iteration for the network as a whole, with the
    derivative of the implicit function, whenever the state is simulated or linearised. For the Wong-Wang models it is
    the closed form: the rate gives S_e, its current, and, with the root S_i of the inhibitory population,
    J_i from the balance of currents.

    The value is that of the fixed point. Under noise, mean rates differ from the target; see `mean_rates`.

    References
    ----------
    Deco, G. et al. (2014). J. Neurosci. 34(23), 7886-7898.
    Demirtas, M. et al. (2019). Neuron 101(6), 1181-1194.

    Examples
    --------
    >>> from tvb_jaxfit import Balanced
    >>> Balanced()
    Balanced(H_e = 3 at the fixed point)
    """

    is_dependent = True
    # A file holds the values, and no simulator.
    _transient = ("simulate",)
    simulate = None

    def __init__(self, target: ArrayLike = _TARGET, rate: str = "H_e", simulate: Simulate | None = None):
        refuse_forked("Balanced")
        check("Balanced", rate=(rate, string), simulate=(simulate, optional(instance(Simulate, "of prepare(sim)"))))
        target = np.asarray(real_array(target, "Balanced: target", finite=True))
        if target.ndim > 1 or target.size == 0 or not np.all(target):
            raise ValueError(f"Balanced: target = {target}; give one number, or one for each region, and not 0.")
        self._set_static_fields(True, rate, tuple(map(float, target.ravel())), simulate)
        self.value = self.rest = None

    @property
    def formula(self) -> str:
        """The condition that the value meets."""
        low, high = min(self.target), max(self.target)
        return f"{self.rate} = {f'{low:g}' if low == high else f'{low:g} to {high:g}'} at the fixed point"

    @property
    def accepted(self) -> tuple[float, float]:
        """Range of mean rates under noise that counts as balanced: a tenth around the targets, as published."""
        low, high = min(self.target), max(self.target)
        return low - _ACCEPTED * abs(low), high + _ACCEPTED * abs(high)

    def bind(self, simulate: Simulate) -> Self:
        """Copy for a state of a simulator."""
        return self.tree_unflatten((self.regional, self.rate, self.target, simulate), (self.value, self.rest))

    def reshape_like(self, former: Any, n_node: int | None = None) -> "Balanced":
        """Parameter as it replaces a value of a state. The value is where the search starts.

        Parameters
        ----------
        former : Array or Parameter
        n_node : int, optional
            Number of regions, if the state knows it.

        Raises
        ------
        ValueError
            In place of a value that cannot be regional; a target of another number of regions.
        """
        former = former.value if isinstance(former, Parameter) else former
        n_node = max(jnp.size(former), len(self.target)) if n_node is None else n_node
        if jnp.shape(former) not in ((), (1,), (n_node,)) or len(self.target) not in (1, n_node):
            raise ValueError(
                f"Balanced: in place of a value of shape {jnp.shape(former)}, with {len(self.target)} targets, in a "
                f"state of {n_node} regions. Put it in place of a global or regional value, with one target or one for "
                "each region."
            )
        if self.value is not None:
            return self
        value = jnp.broadcast_to(jnp.ravel(jnp.asarray(former, jnp.result_type(float))), (n_node,))
        return self.tree_unflatten(self.static_fields(), (value, None))

    def resolve(self, state: State, path: str) -> Self:
        """Copy with the value that follows from the other leaves of a plain state.

        Parameters
        ----------
        state : State
            With the value from which the search starts in the place of this parameter.
        path : str
            Of this parameter.

        Raises
        ------
        ValueError
            No simulator is known.
        """
        if self.simulate is None:
            if self.rest is not None:
                return self
            raise ValueError(f"{path}: Balanced() does not know the simulator. Give Balanced(simulate=simulate).")
        point = _equations(self.simulate, self.rate, path)(state, self.target, self.rest)
        if not isinstance(point.parameter, jax.core.Tracer):
            _report(point, path, state)
        value = jnp.where(point.converged, point.parameter, jnp.nan)
        return self.tree_unflatten(self.static_fields(), (value, point.x))

    def cost(self, value: jax.Array) -> jax.Array:
        """Cost of values near or below 0, which a fit adds to its loss; 0 where they are well above."""
        margin = _MARGIN * jax.lax.stop_gradient(jnp.maximum(jnp.median(jnp.abs(value)), 1e-12))
        return jnp.sum(jax.nn.relu(1.0 - value / margin) ** 2)

    def check(self) -> None:
        """Nothing to check: the value is worked out."""

    def with_value(self, value: jax.Array) -> Self:
        """Copy with another value as the start of the search."""
        return self.tree_unflatten(self.static_fields(), (value, self.rest))

    def static_fields(self) -> tuple:
        """Fields beside the value and the fixed point."""
        return (self.regional, self.rate, self.target, self.simulate)

    def _set_static_fields(self, regional, rate, target, simulate):
        self.regional, self.rate, self.target = regional, rate, target
        if simulate is not None:
            self.simulate = simulate

    def tree_flatten_with_keys(self):
        """Value and fixed point with their keys, and the static fields, for JAX."""
        children = [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in ("value", "rest")]
        return children, self.static_fields()

    @classmethod
    def tree_unflatten(cls, static_fields, children):
        """Parameter from the static fields, the value and the fixed point, for JAX."""
        new = object.__new__(cls)
        new.value, new.rest = children
        new._set_static_fields(*static_fields)
        return new

    def _description(self):
        return self.formula if self.value is None else f"{super()._description()}, {self.formula}"


class _Equations:
    """Equations of a balanced network, compiled once for each simulator, rate and path."""

    def __init__(self, simulate, rate, path):
        component, _, self._name = path.rpartition(".")
        reference = simulate.factory.reference
        model, n_node = reference.model, reference.connectivity.weights.shape[0]
        if component != "model" or model.number_of_modes != 1:
            raise ValueError(
                f"{path}: Balanced takes a parameter of a model of one mode, such as 'model.J_i' (here: "
                f"{type(model).__name__}, {model.number_of_modes} modes)."
            )
        self._step, self._constants = simulate.step, simulate.constants
        self._state_range = np.array([model.state_variable_range[name] for name in model.state_variables], float).T
        try:
            self._rate = model_expression(model, n_node, rate)
        except ValueError as error:
            raise ValueError(f"{path}: Balanced: rate: {error}") from error
        self._field = model_component.translate(reference).vector_field
        self._dt = simulate.dt
        self._solve = Program(self._balanced_point)

    def __call__(self, state, target, rest) -> BalancedPoint:
        x = state.initial_conditions[-1] if rest is None else rest
        target = jnp.asarray(target if len(target) > 1 else target[0], x.dtype)
        # The step count is no part of the equations.
        return self._solve(state.replace(static={"current_step": 0}), target, jax.lax.stop_gradient(x))

    def _balanced_point(self, state, target, x):
        start = jax.lax.stop_gradient(jnp.broadcast_to(getattr(state.model, self._name), x.shape[1:2]))
        theta = {**self._constants(state), "model of the state": state.model}

        def local(theta, parameter, x, coupling):
            node = theta["model of the state"].replace(**{self._name: parameter})
            of_model = self._field.constants(node)
            change = self._dt * self._field(of_model, x, coupling)
            return change, self._rate(of_model, x, coupling)

        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            weights = state.connectivity.weights
            return balanced_point(self._step, local, theta, weights, target, (start, x), self._state_range)


_KNOWN = weakref.WeakKeyDictionary()


def _equations(simulate, rate, path):
    known = _KNOWN.setdefault(simulate, {})
    if (rate, path) not in known:
        with jax.ensure_compile_time_eval():
            known[rate, path] = _Equations(simulate, rate, path)
    return known[rate, path]


def _report(point, path, state):
    """Warn of a search without a result, and of negative values, with the regions."""
    labels = [label_text(label) for label in state.origin.region_labels]
    value, message = np.asarray(point.parameter), ""
    if not bool(point.converged):
        error = np.abs(np.asarray(point.error))
        message = (
            f"no value balances the network: the search ended {error.max():.3g} away from the target, in "
            f"{labels[int(error.argmax())]}. The values are NaN. Give another target"
        )
    elif np.any(value < 0.0):
        names = listed([label for label, each in zip(labels, value, strict=True) if each < 0.0])
        message = (
            f"{np.sum(value < 0.0)} of {value.size} balanced values are below 0 (to {value.min():.4g}), in {names}: "
            "these regions miss the target even without inhibition. Give another target, or more excitation"
        )
    if message:
        warnings.warn(f"{path}: {message}.", BalanceWarning, stacklevel=caller_stacklevel())
