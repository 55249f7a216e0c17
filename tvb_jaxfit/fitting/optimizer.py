"""The loop over gradients."""

import time
import warnings
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

from ..parameters import parameters_of, plain, with_values
from ..state import State


@dataclass
class History:
    """What happened in a fit.

    Attributes
    ----------
    loss : ndarray, shape (n_steps + 1,)
        Loss after 0, 1, ... updates; finite.
    aux : dict of str to ndarray
        What the loss returned beside itself (``has_aux``), one value a step.
    best : State
        State of the smallest loss.
    best_step : int
    stop_reason : str
        Why the loop ended.
    wall_time : float
        [s], compilation included.
    """

    loss: np.ndarray
    aux: dict = field(repr=False)
    best: State = field(repr=False)
    best_step: int
    stop_reason: str
    wall_time: float

    def __repr__(self):
        if not self.loss.size:
            return f"History: nothing fitted; {self.stop_reason}"
        return (
            f"History: loss {self.loss[0]:.6g} -> {self.loss[-1]:.6g} in {self.loss.size - 1} steps "
            f"(best {self.loss[self.best_step]:.6g} at step {self.best_step}), {self.wall_time:.1f} s; "
            f"{self.stop_reason}"
        )


class OptaxOptimizer:
    """Minimise a loss of the state over the values marked as `Parameter`.

    Parameters
    ----------
    loss : callable
        State (plain arrays) to a scalar; or to (scalar, dict of scalars) with ``has_aux``.
    optimizer : optax.GradientTransformation
    callback : callable, optional
        (step, state, loss, gradients) after each step; gradients by path, in physical units. True ends the fit.
    has_aux : bool, optional
    progress : bool, optional
        Whether to show a progress bar.

    Examples
    --------
    >>> import jax.numpy as jnp, optax
    >>> from tvb_jaxfit import OptaxOptimizer, Parameter, State
    >>> state = State(x=Parameter(3.0), y=jnp.asarray(1.0))
    >>> optimizer = OptaxOptimizer(lambda s: (s.x - s.y) ** 2, optax.sgd(0.4), progress=False)
    >>> fitted, history = optimizer.run(state, max_steps=20)
    >>> round(float(fitted.x.value), 3), history.stop_reason
    (1.0, 'all 20 steps done')
    """

    def __init__(self, loss, optimizer, callback=None, has_aux=False, progress=True):
        self.loss, self.callback, self.has_aux, self.progress = loss, callback, has_aux, progress
        self.optimizer = optax.with_extra_args_support(optimizer)

    def run(self, state, max_steps=100):
        """Fit.

        Parameters
        ----------
        state : State
            With at least one `Parameter`; not modified.
        max_steps : int, optional

        Returns
        -------
        fitted : State
            After the last step whose loss and gradient were finite; parameters stay parameters.
        history : History
            Its ``best`` is the state of the smallest loss.

        Raises
        ------
        ValueError
            Where nothing is marked for fitting, or a start value lies outside its bounds.

        Notes
        -----
        A loss or gradient that is not finite ends the fit; it never becomes a fitted value. An interrupt (Ctrl-C) ends
        it too, and keeps what was reached.
        """
        parameters = parameters_of(state)
        if not parameters:
            raise ValueError(
                "nothing to fit: no value of the state is marked. "
                "Mark one, e.g. state.model.w = Parameter(state.model.w)."
            )
        for parameter in parameters.values():
            if hasattr(parameter, "check"):
                parameter.check()
        images = {path: parameter.to_unconstrained() for path, parameter in parameters.items()}
        loop = _Loop(self, state, images)
        advance = jax.jit(self._step(parameters))
        rest, optimizer_state = plain(state), _as_before(self.optimizer.init(images))
        with tqdm(total=max_steps, desc="fit", unit="step", disable=not self.progress) as bar:
            try:
                for step in range(max_steps + 1):
                    value, aux, gradients, following, optimizer_state = advance(images, optimizer_state, rest)
                    if not loop.take(step, images, float(value), aux, gradients):
                        break
                    bar.set_postfix(loss=f"{loop.losses[-1]:.5g}", refresh=False)
                    if step == max_steps:
                        break
                    images = following
                    bar.update()
            except KeyboardInterrupt:
                loop.reason = f"interrupted after {len(loop.losses)} evaluations"
        return loop.close(max_steps)

    def _step(self, parameters):
        """One evaluation and update: (images, optimiser state, plain state) to what the loop needs."""
        value_and_grad = jax.value_and_grad(
            lambda values, rest: self.loss(with_values(rest, values)), has_aux=self.has_aux
        )

        def physical(images):
            return {path: parameter.from_unconstrained(images[path]) for path, parameter in parameters.items()}

        def value_of(images, rest):
            out = self.loss(with_values(rest, physical(images)))
            return out[0] if self.has_aux else out

        def advance(images, before, rest):
            values, pull = jax.vjp(physical, images)
            out, gradients = value_and_grad(values, rest)
            value, aux = out if self.has_aux else (out, {})
            (of_images,) = pull(gradients)
            # Optax mixes dtypes and ranks freely; a user's strict mode is for our arithmetic, not for its.
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                updates, optimizer_state = self.optimizer.update(
                    of_images,
                    before,
                    images,
                    value=value,
                    grad=of_images,
                    value_fn=lambda candidate: value_of(candidate, rest),
                )
            following = _as_before(optax.apply_updates(images, updates), images)
            return value, aux, gradients, following, _as_before(optimizer_state, before)

        return advance


def _as_before(tree, before=None):
    """Arrays with the dtypes of another tree (or their own), none of them weak: the next step compiles nothing anew."""
    before = tree if before is None else before
    return jax.tree.map(lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), tree, before)


class _Loop:
    """Bookkeeping of a run: losses, the last good images and the best ones, and why it ended."""

    def __init__(self, optimizer, state, images):
        self.optimizer, self.state, self.start = optimizer, state, time.perf_counter()
        self.good = self.best = images
        self.losses, self.aux, self.best_step, self.reason = [], {}, 0, ""

    def state_of(self, images):
        """State with the parameters at the values of some images."""
        parameters = parameters_of(self.state)
        return with_values(
            self.state, {path: parameter.from_unconstrained(images[path]) for path, parameter in parameters.items()}
        )

    def take(self, step, images, value, aux, gradients):
        """Record an evaluation; False ends the fit."""
        bad = [path for path, g in gradients.items() if not bool(jnp.all(jnp.isfinite(g)))]
        if not np.isfinite(value) or bad:
            what = (
                f"the loss was {value}"
                if not np.isfinite(value)
                else f"the gradient in {', '.join(bad)} was not finite"
            )
            self.reason = f"{what} after {step} updates; the last good state is kept"
            return False
        if step == 0:
            idle = [path for path, g in gradients.items() if not bool(jnp.any(g))]
            if idle:
                warnings.warn(f"the loss does not depend on {', '.join(idle)}: nothing to fit there.", stacklevel=4)
        self.losses.append(value)
        for name, item in aux.items():
            self.aux.setdefault(name, []).append(float(item))
        self.good = images
        if value < self.losses[self.best_step] or step == 0:
            self.best, self.best_step = images, step
        callback = self.optimizer.callback
        if callback is not None and callback(step, self.state_of(images), value, gradients) is True:
            self.reason = f"the callback asked to stop after {step} updates"
            return False
        return True

    def close(self, max_steps):
        """(fitted, history)."""
        history = History(
            loss=np.array(self.losses),
            aux={name: np.array(items) for name, items in self.aux.items()},
            best=self.state_of(self.best),
            best_step=self.best_step,
            stop_reason=self.reason or f"all {max_steps} steps done",
            wall_time=time.perf_counter() - self.start,
        )
        return self.state_of(self.good), history
