"""Loop of a fit: evaluations and updates, one after the other, and the record of them."""

import time
import warnings
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..dependents import dependent_parameters_of, free_parameters_of
from ..dynamics.real_state import refuse_lost_precision
from ..errors import FitFailed, caller_stacklevel
from ..parameters import path_name, resolve_dependents, strip_parameters, with_parameters, with_values
from ..runtime.programs import Program
from ..runtime.progress import bar_status
from ..state import State, n_regions
from .callbacks import stateful_callbacks
from .domains import outside, refuse_starts
from .first_step import refuse_large_first_step
from .history import History, Validation
from .losses import refuse_no_scalar
from .stopping import StopKind, StopReason

# Attributes that change during a fit; a checkpoint stores them, beside the state of the optimizer.
_STATE_FIELDS = (
    *("step", "unconstrained", "last_finite", "best", "best_step", "lowest"),
    *("losses", "aux", "validated", "validated_aux", "stop_reason", "diverged"),
)


class FitLoop:
    """A running fit.

    Parameters
    ----------
    optimizer : OptaxOptimizer
    state : State
        With `Parameter`s.

    Attributes
    ----------
    step : int
        Number of updates.
    unconstrained, last_finite, best : dict of str to Array
        Unconstrained parameter values by path: the next ones to evaluate; the last ones whose loss and gradient were
        finite; the best ones.
    losses, aux : list of float, dict of str to list of float
        Record of the evaluations.
    validated, validated_aux : dict of int to float, dict of str to list of float
        Record of the validations, by step.
    stop_reason : StopReason or None
        None while the fit runs.
    diverged : str
        Explanation of values that were not finite.
    """

    def __init__(self, optimizer, state: State):
        refuse_lost_precision(state, "OptaxOptimizer.run")
        self.optimizer, self.state, self.start_time = optimizer, state, time.perf_counter()
        self.parameters, self.plain_state = checked_parameters(state), strip_parameters(state)
        self.dependents = dependent_parameters_of(state)
        refuse_starts(state)
        start = {path: parameter.to_unconstrained() for path, parameter in self.parameters.items()}
        self.step, self.optimizer_state = 0, cast_like(optimizer.optimizer.init(start))
        self.unconstrained = self.last_finite = self.best = start
        self.losses, self.aux, self.validated, self.validated_aux = [], {}, {}, {}
        self.lowest, self.best_step, self.stop_reason, self.diverged = np.inf, 0, None, ""
        refuse_large_first_step(optimizer.optimizer, state, self.parameters, start)
        self._evaluate, self._validate = (Program(f, True) for f in (self._evaluation, self._validation))
        self._update = Program(self._following, True)
        optimizer.callback.reset()

    def is_running(self, max_steps: int) -> bool:
        """True if there is another step to do."""
        return self.stop_reason is None and self.step <= max_steps

    def advance(self):
        """Evaluate the current values, record the evaluation, and update the values."""
        step, unconstrained = self.step, self.unconstrained
        with nullcontext() if len(self._evaluate) else bar_status("compiling"):
            plain_state = self._refreshed(step, unconstrained)
        value, aux, gradients, unconstrained_gradients = self._evaluate(unconstrained, plain_state)
        following = self._update(unconstrained, self.optimizer_state, plain_state, value, unconstrained_gradients)
        if not self._record(step, unconstrained, float(value), aux, gradients):
            return
        if self.optimizer.validate is not None and step % self.optimizer.validate_every == 0:
            self._record_validation(step)
        callback = self.optimizer.callback
        if callback(step, self.state_of(unconstrained), self.losses[-1], gradients) is True:
            self.stop_reason = StopReason(StopKind.CALLBACK, step, callback.reason)
        # The step is assigned last: an interrupt that finds the old step may have found half of the others changed.
        (self.unconstrained, self.optimizer_state), self.step = following, step + 1

    @property
    def is_between_steps(self) -> bool:
        """True if all attributes belong to the same step: an interrupt may arrive within a step."""
        n_validated = len(self.validated)
        return self.step == len(self.losses) and all(len(each) == n_validated for each in self.validated_aux.values())

    def last_loss(self) -> float:
        """Loss of the last finite values, computed again."""
        plain_state = self._refreshed(len(self.losses) - 1, self.last_finite)
        return float(self._evaluate(self.last_finite, plain_state)[0])

    def state_dict(self) -> dict:
        """State of the loop between two steps, for `load_state_dict`."""
        return {name: getattr(self, name) for name in _STATE_FIELDS} | {
            "optimizer_state": jax.tree.leaves(self.optimizer_state),
            "callbacks": [callback.resume_state for callback in stateful_callbacks(self.optimizer.callback)],
            "wall_time": time.perf_counter() - self.start_time,
        }

    def load_state_dict(self, stored: dict):
        """Continue from the `state_dict` of another loop."""
        for name in _STATE_FIELDS:
            setattr(self, name, stored[name])
        self.optimizer_state = jax.tree.unflatten(jax.tree.structure(self.optimizer_state), stored["optimizer_state"])
        for callback, state in zip(stateful_callbacks(self.optimizer.callback), stored["callbacks"], strict=True):
            callback.reset(state)
        self.start_time -= stored["wall_time"]

    def _evaluation(self, unconstrained, plain_state):
        """Loss, recorded scalars, and gradients in physical and in unconstrained values."""
        values, vjp = jax.vjp(self._physical, unconstrained)
        (value, aux), gradients = jax.value_and_grad(
            lambda values: self._loss(self._with_values(plain_state, values)), has_aux=True
        )(values)
        return value, aux, gradients, *vjp(gradients)

    def _following(self, unconstrained, optimizer_state, plain_state, value, gradients):
        """Unconstrained values and optimizer state after an update.

        A program of its own, so that another optimizer does not recompile the loss.
        """

        def value_of(unconstrained):
            return self._loss(self._with_values(plain_state, self._physical(unconstrained)))[0]

        # Optax mixes dtypes and ranks; a user's strict promotion mode applies to our arithmetic only.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, new_state = self.optimizer.optimizer.update(
                gradients, optimizer_state, unconstrained, value=value, grad=gradients, value_fn=value_of
            )
        return cast_like(optax.apply_updates(unconstrained, updates), unconstrained), cast_like(
            new_state, optimizer_state
        )

    def _loss(self, state):
        """(value, aux) of a plain state."""
        out = self.optimizer.loss(state)
        if self.optimizer.has_aux and not _is_pair(out):
            raise ValueError("OptaxOptimizer: loss, with has_aux: let it return (scalar, dict of scalars).")
        value, aux = out if self.optimizer.has_aux else (out, {})
        _refuse_no_scalars("loss", value, aux)
        return value, aux

    def _validation(self, unconstrained, plain_state):
        out = self.optimizer.validate(self._with_values(plain_state, self._physical(unconstrained)))
        value, aux = out if _is_pair(out) else (out, {})
        _refuse_no_scalars("validate", value, aux)
        return value, aux

    def _physical(self, unconstrained):
        return {path: parameter.from_unconstrained(unconstrained[path]) for path, parameter in self.parameters.items()}

    def state_of(self, unconstrained: dict) -> State:
        """State with the parameters at unconstrained values."""
        values = {path: each.with_unconstrained(unconstrained[path]) for path, each in self.parameters.items()}
        return resolve_dependents(with_parameters(self.state, values))

    def _with_values(self, plain_state, values):
        """Plain state with other values of the free parameters, and those that follow from them."""
        return strip_parameters(with_parameters(with_values(plain_state, values), self.dependents))

    def _refreshed(self, step, unconstrained):
        """Plain state of a step; its structure never changes, so that nothing is recompiled."""
        if self.optimizer.refresh is None:
            return self.plain_state
        new = self.optimizer.refresh(step, self._with_values(self.plain_state, self._physical(unconstrained)))
        if jax.tree.structure(new) != jax.tree.structure(self.plain_state):
            raise ValueError(
                f"refresh: its result at step {step} has another structure than the state that it was given. Return "
                "that state with other values, e.g. resample(state, jax.random.key(step))."
            )
        changed = [
            f"{path_name(path)} {jnp.shape(leaf)} for {jnp.shape(own)}"
            for (path, leaf), own in zip(
                jax.tree_util.tree_leaves_with_path(new), jax.tree.leaves(self.plain_state), strict=True
            )
            if jnp.shape(leaf) != jnp.shape(own) and path_name(path) not in self.parameters
        ]
        if changed:
            raise ValueError(f"refresh: at step {step} it changed shapes ({', '.join(changed)}). Keep them.")
        return cast_like(new, self.plain_state)

    def _record(self, step, unconstrained, value, aux, gradients):
        """Record an evaluation; False if it is not finite."""
        bad = [path for path, g in gradients.items() if not bool(jnp.all(jnp.isfinite(g)))]
        if not np.isfinite(value) or bad:
            problem = (
                f"the loss was {value}"
                if not np.isfinite(value)
                else f"the gradient in {', '.join(bad)} was not finite"
            )
            out_of_domain = outside(self.state_of(unconstrained), self.state_of(self.last_finite))
            self._end_diverged(step, unconstrained, f"{problem} after {step} updates", out_of_domain)
            return False
        if step == 0:
            idle = [path for path, g in gradients.items() if not bool(jnp.any(g))]
            if idle:
                message = f"the loss does not depend on {', '.join(idle)}: nothing to fit there."
                warnings.warn(message, stacklevel=caller_stacklevel())
        self.losses.append(value)
        _append(self.aux, aux)
        self.last_finite = unconstrained
        if self.optimizer.validate is None:
            self._update_best(step, value)
        return True

    def _end_diverged(self, step, unconstrained, problem, out_of_domain):
        """End with the last finite values and an explanation; raise FitFailed at the start values."""
        values = self._physical(unconstrained)
        state = self._with_values(self._refreshed(step, unconstrained), values)
        explanation = (self.optimizer.explain or self._explain)(state)
        if step == 0:
            raise FitFailed(
                f"fit: {problem}, at the start values{out_of_domain}, so that there is nothing to fit. "
                f"{explanation}".rstrip()
            )
        found = ", ".join(f"{path} {_range(value)}" for path, value in values.items())
        remedy = "Smaller steps of the optimizer (its learning rate) help, too."
        self.stop_reason = StopReason(StopKind.DIVERGED, detail=f"{problem}{out_of_domain}")
        self.diverged = " ".join(filter(None, (f"{problem}, at {found}{out_of_domain}.", explanation, remedy)))

    def _explain(self, state):
        """Message that the loss raises outside of a trace, where it sees its values; empty if it raises none."""
        try:
            self._loss(state)
        # A user's function may fail in any way.
        except Exception as error:
            return str(error)
        return ""

    def _record_validation(self, step):
        """Validate the last finite values."""
        value, aux = self._validate(self.last_finite, self.plain_state)
        value = float(value)
        self._update_best(step, value)
        _append(self.validated_aux, aux)
        # Last, as the number of the step is in `advance`.
        self.validated[step] = value
        n_waited = sum(validated > self.best_step for validated in self.validated)
        if self.optimizer.patience is not None and n_waited >= self.optimizer.patience:
            self.stop_reason = StopReason(StopKind.PATIENCE, n_waited, str(self.best_step))

    def validate_last(self):
        """Validate the last finite values, if they have not been validated."""
        last = len(self.losses) - 1
        if self.optimizer.validate is not None and last >= 0 and last not in self.validated:
            stop_reason = self.stop_reason
            self._record_validation(last)
            self.stop_reason = stop_reason

    def _update_best(self, step, value):
        """Keep the last finite values as the best ones, if they are."""
        if value < self.lowest:
            self.lowest, self.best, self.best_step = value, self.last_finite, step

    def close(self, max_steps: int) -> tuple[State, History]:
        """Fitted state and history."""
        if self.validated and not np.any(np.isfinite(list(self.validated.values()))):
            self.diverged = self.diverged or "no value of the validation is finite, so that no state is the best."
        # An interrupt may have left a record half written.
        n_recorded = min(map(len, [self.losses, *self.aux.values()]))
        history = History(
            loss=np.array(self.losses[:n_recorded]),
            aux=_arrays(self.aux, n_recorded),
            best=self.state_of(self.best),
            best_step=self.best_step,
            stop_reason=self.stop_reason or StopReason(StopKind.MAX_STEPS, max_steps),
            wall_time=time.perf_counter() - self.start_time,
            validation=Validation(
                np.array(list(self.validated), int),
                np.array(list(self.validated.values())),
                _arrays(self.validated_aux, len(self.validated)),
            ),
            saved=self.optimizer.callback.saved,
            diverged=self.diverged,
        )
        return self.state_of(self.last_finite), history


def checked_parameters(state: State) -> dict:
    """Parameters of a state by path, checked; regional ones with a value for each region."""
    parameters, problems, n_node = {}, [], n_regions(state)
    for path, parameter in free_parameters_of(state).items():
        if parameter.value is None:
            problems.append(f"{path}: {parameter!r} has no value; give a start value")
        elif parameter.regional and n_node is None and parameter.value.size == 1:
            problems.append(
                f"{path}: {parameter!r} is regional, and this state does not say how many regions there are; set "
                "its shape, e.g. parameter.shape = (n_node,)"
            )
        else:
            try:
                parameters[path] = parameter.reshape_like(parameter.value, n_node)
                parameters[path].check()
            except ValueError as error:
                problems.append(f"{path}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    if not parameters:
        raise ValueError(
            "nothing to fit: no value of the state is marked. Mark one, e.g. state.model.w = Parameter(state.model.w)."
        )
    return parameters


def cast_like(tree, reference=None):
    """Arrays with the dtypes of a reference tree (default: their own), none of them weak.

    The jitted step is not retraced then.
    """
    reference = tree if reference is None else reference
    return jax.tree.map(lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), tree, reference)


def _is_pair(out):
    return isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], dict)


def _refuse_no_scalars(name, value, aux):
    refuse_no_scalar(f"OptaxOptimizer: {name}", value)
    for key, item in aux.items():
        if np.shape(item) != ():
            raise ValueError(f"OptaxOptimizer: {name}: {key!r} is of shape {np.shape(item)}; let it be a scalar.")


def _range(value):
    """Range of an array, as text."""
    low, high = float(jnp.min(value)), float(jnp.max(value))
    return f"{low:.6g}" if low == high or np.isnan(low) else f"{low:.6g} to {high:.6g}"


def _append(lists, new):
    """Append each new scalar to the list of its name."""
    for name, item in new.items():
        lists.setdefault(name, []).append(float(item))


def _arrays(lists, n):
    return {name: np.array(items[:n]) for name, items in lists.items()}
