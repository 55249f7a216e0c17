"""A fit under way: one evaluation and update after the other, and what comes of them."""

import time
import warnings
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..dynamics.real_state import refuse_lost_precision
from ..errors import FitFailed, caller_stacklevel
from ..parameters import parameters_of, path_name, strip_parameters, with_values
from ..runtime.programs import Program
from ..runtime.progress import bar_status
from ..state import n_regions
from .callbacks import deciding
from .domains import outside, refuse_starts
from .first_step import refuse_leaps
from .history import History, Validation
from .losses import refuse_no_scalar

# What of a fit changes as it goes on, beside the optimiser's state.
_HELD = (
    *("step", "images", "good", "best", "best_step", "lowest"),
    *("losses", "aux", "validated", "validated_aux", "reason", "diverged"),
)


class Fit:
    """A fit under way: where it stands, the last good images and the best ones, and why it ended."""

    def __init__(self, optimizer, state):
        refuse_lost_precision(state, "OptaxOptimizer.run")
        self.optimizer, self.state, self.began = optimizer, state, time.perf_counter()
        self.parameters, self.rest = _marked(state), strip_parameters(state)
        refuse_starts(state)
        start = {path: parameter.to_unconstrained() for path, parameter in self.parameters.items()}
        self.step, self.optimizer_state = 0, _as_before(optimizer.optimizer.init(start))
        self.images = self.good = self.best = start
        self.losses, self.aux, self.validated, self.validated_aux = [], {}, {}, {}
        self.lowest, self.best_step, self.reason, self.diverged = np.inf, 0, "", ""
        refuse_leaps(optimizer.optimizer, state, self.parameters, start)
        self._evaluate, self._validate = (Program(one, True) for one in (self._evaluation, self._validation))
        self._update = Program(self._following, True)
        optimizer.callback.begin()

    def goes_on(self, max_steps):
        """Whether there is a step to come."""
        return not self.reason and self.step <= max_steps

    def advance(self):
        """Evaluate, put it on record, and update."""
        step, images = self.step, self.images
        with nullcontext() if len(self._evaluate) else bar_status("compiling"):
            rest = self._refreshed(step, images)
        value, aux, gradients, of_images = self._evaluate(images, rest)
        following = self._update(images, self.optimizer_state, rest, value, of_images)
        if not self._take(step, images, float(value), aux, gradients):
            return
        if self.optimizer.validate is not None and step % self.optimizer.validate_every == 0:
            self._take_validation(step)
        if self.optimizer.callback(step, self.state_of(images), self.losses[-1], gradients) is True:
            self.reason = f"{self.optimizer.callback.reason} after {step} updates"
        # The step last: where an interrupt finds it behind, the others may be half of the next one.
        (self.images, self.optimizer_state), self.step = following, step + 1

    @property
    def is_between_steps(self):
        """Whether all that a step changes is of the same step: an interrupt may come within one."""
        return self.step == len(self.losses)

    def loss_of_the_last(self):
        """Loss of the last good images once more."""
        rest = self._refreshed(len(self.losses) - 1, self.good)
        return float(self._evaluate(self.good, rest)[0])

    def held(self):
        """What a fit that goes on later has to know, between two steps."""
        return {name: getattr(self, name) for name in _HELD} | {
            "optimizer_state": jax.tree.leaves(self.optimizer_state),
            "callbacks": [one.memory for one in deciding(self.optimizer.callback)],
            "wall_time": time.perf_counter() - self.began,
        }

    def take_up(self, held):
        """Go on from what another one `held`."""
        for name in _HELD:
            setattr(self, name, held[name])
        self.optimizer_state = jax.tree.unflatten(jax.tree.structure(self.optimizer_state), held["optimizer_state"])
        for one, memory in zip(deciding(self.optimizer.callback), held["callbacks"], strict=True):
            one.begin(memory)
        self.began -= held["wall_time"]

    def _evaluation(self, images, rest):
        """Loss, what is recorded beside it, and gradients in the values and in their images."""
        values, pull = jax.vjp(self._physical, images)
        (value, aux), gradients = jax.value_and_grad(
            lambda values: self._loss(with_values(rest, values)), has_aux=True
        )(values)
        return value, aux, gradients, *pull(gradients)

    def _following(self, images, before, rest, value, of_images):
        """Images and optimiser's state after an update: another optimiser is another program, and no other loss."""

        def value_of(images):
            return self._loss(with_values(rest, self._physical(images)))[0]

        # Optax mixes dtypes and ranks freely; a user's strict mode is for our arithmetic, not for its.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, optimizer_state = self.optimizer.optimizer.update(
                of_images, before, images, value=value, grad=of_images, value_fn=value_of
            )
        following = _as_before(optax.apply_updates(images, updates), images)
        return following, _as_before(optimizer_state, before)

    def _loss(self, state):
        """(value, aux) of a plain state."""
        out = self.optimizer.loss(state)
        if self.optimizer.has_aux and not _is_pair(out):
            raise ValueError("OptaxOptimizer: loss, with has_aux: let it return (scalar, dict of scalars).")
        value, aux = out if self.optimizer.has_aux else (out, {})
        _refuse_no_scalars("loss", value, aux)
        return value, aux

    def _validation(self, images, rest):
        out = self.optimizer.validate(with_values(rest, self._physical(images)))
        value, aux = out if _is_pair(out) else (out, {})
        _refuse_no_scalars("validate", value, aux)
        return value, aux

    def _physical(self, images):
        return {path: parameter.from_unconstrained(images[path]) for path, parameter in self.parameters.items()}

    def state_of(self, images):
        """State with the parameters at the values of some images."""
        return with_values(self.state, self._physical(images))

    def _refreshed(self, step, images):
        """Plain state of a step, of the same structure as ever: nothing is compiled anew."""
        if self.optimizer.refresh is None:
            return self.rest
        new = self.optimizer.refresh(step, with_values(self.rest, self._physical(images)))
        if jax.tree.structure(new) != jax.tree.structure(self.rest):
            raise ValueError(
                f"refresh: what it returned at step {step} is no state of the structure that it was given. Return "
                "that state with other values, e.g. resample(state, jax.random.key(step))."
            )
        other = [
            f"{path_name(path)} {jnp.shape(leaf)} for {jnp.shape(own)}"
            for (path, leaf), own in zip(
                jax.tree_util.tree_leaves_with_path(new), jax.tree.leaves(self.rest), strict=True
            )
            if jnp.shape(leaf) != jnp.shape(own) and path_name(path) not in self.parameters
        ]
        if other:
            raise ValueError(f"refresh: at step {step} it changed shapes ({', '.join(other)}). Keep them.")
        return _as_before(new, self.rest)

    def _take(self, step, images, value, aux, gradients):
        """Record an evaluation; False where it is not finite."""
        bad = [path for path, g in gradients.items() if not bool(jnp.all(jnp.isfinite(g)))]
        if not np.isfinite(value) or bad:
            what = (
                f"the loss was {value}"
                if not np.isfinite(value)
                else f"the gradient in {', '.join(bad)} was not finite"
            )
            left = outside(self.state_of(images), self.state_of(self.good))
            self._end_diverged(step, images, f"{what} after {step} updates", left)
            return False
        if step == 0:
            idle = [path for path, g in gradients.items() if not bool(jnp.any(g))]
            if idle:
                message = f"the loss does not depend on {', '.join(idle)}: nothing to fit there."
                warnings.warn(message, stacklevel=caller_stacklevel())
        self.losses.append(value)
        _record(self.aux, aux)
        self.good = images
        if self.optimizer.validate is None:
            self._compare(step, value)
        return True

    def _end_diverged(self, step, images, what, left):
        """End with the last good state, and with the reason; at the start values there is none to end with."""
        values = self._physical(images)
        why = (self.optimizer.explain or self._explain)(with_values(self._refreshed(step, images), values))
        if step == 0:
            raise FitFailed(f"fit: {what}, at the start values{left}, so that there is nothing to fit. {why}".rstrip())
        there = ", ".join(f"{path} {_range(value)}" for path, value in values.items())
        remedy = "Smaller steps of the optimizer (its learning rate) help, too."
        self.reason = f"{what}{left}; the last good state is kept"
        self.diverged = " ".join(filter(None, (f"{what}, at {there}{left}.", why, remedy)))

    def _explain(self, state):
        """What the loss says of a state where it sees its values; empty where it says nothing."""
        try:
            self._loss(state)
        # Outside of a trace, a user's function may fail in any way.
        except Exception as error:
            return str(error)
        return ""

    def _take_validation(self, step):
        """Validate the last good images."""
        value, aux = self._validate(self.good, self.rest)
        self.validated[step] = value = float(value)
        _record(self.validated_aux, aux)
        self._compare(step, value)
        waited = sum(validated > self.best_step for validated in self.validated)
        if self.optimizer.patience is not None and waited >= self.optimizer.patience:
            self.reason = f"{waited} validations brought nothing better than step {self.best_step}"

    def validate_the_last(self):
        """Validate the last good images, if they have not been."""
        last = len(self.losses) - 1
        if self.optimizer.validate is not None and last >= 0 and last not in self.validated:
            reason = self.reason
            self._take_validation(last)
            self.reason = reason

    def _compare(self, step, value):
        """Keep the last good images as the best, where they are."""
        if value < self.lowest:
            self.lowest, self.best, self.best_step = value, self.good, step

    def close(self, max_steps):
        """(fitted, history)."""
        if self.validated and not np.any(np.isfinite(list(self.validated.values()))):
            self.diverged = self.diverged or "no value of the validation is finite, so that no state is the best."
        history = History(
            loss=np.array(self.losses),
            aux=_arrays(self.aux),
            best=self.state_of(self.best),
            best_step=self.best_step,
            stop_reason=self.reason or f"all {max_steps} steps done",
            wall_time=time.perf_counter() - self.began,
            validation=Validation(
                np.array(list(self.validated), int),
                np.array(list(self.validated.values())),
                _arrays(self.validated_aux),
            ),
            saved=self.optimizer.callback.saved,
            diverged=self.diverged,
        )
        return self.state_of(self.good), history


def _is_pair(out):
    return isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], dict)


def _refuse_no_scalars(name, value, aux):
    refuse_no_scalar(f"OptaxOptimizer: {name}", value)
    for key, item in aux.items():
        if np.shape(item) != ():
            raise ValueError(f"OptaxOptimizer: {name}: {key!r} is of shape {np.shape(item)}; let it be a scalar.")


def _range(value):
    """Numbers of an array in short."""
    low, high = float(jnp.min(value)), float(jnp.max(value))
    return f"{low:.6g}" if low == high or np.isnan(low) else f"{low:.6g} to {high:.6g}"


def _record(lists, new):
    """Add to each list what is new."""
    for name, item in new.items():
        lists.setdefault(name, []).append(float(item))


def _arrays(lists):
    return {name: np.array(items) for name, items in lists.items()}


def _marked(state):
    """Parameters of a state by path, checked; regional ones with a value for each region."""
    parameters, problems, n_node = {}, [], n_regions(state)
    for path, parameter in parameters_of(state).items():
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


def _as_before(tree, before=None):
    """Arrays with the dtypes of another tree (or their own), none of them weak: the next step compiles nothing anew."""
    before = tree if before is None else before
    return jax.tree.map(lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), tree, before)
