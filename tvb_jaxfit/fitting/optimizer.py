"""The loop over gradients."""

import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

from ..parameters import parameters_of, path_name, plain, with_values
from .callbacks import as_callback
from .history import History, Validation


class OptaxOptimizer:
    """Minimise a loss of the state over the values marked as `Parameter`.

    Parameters
    ----------
    loss : callable
        State (plain arrays) to a scalar; or to (scalar, dict of scalars) with ``has_aux``.
    optimizer : optax.GradientTransformation
        Any, those with a line search included.
    callback : callable, optional
        (step, state, loss, gradients) after each evaluation; gradients by path, in physical units. True ends the fit.
        See `MultiCallback`, `SavingCallback`, `StopOnPlateau`.
    has_aux : bool, optional
    progress : bool, optional
        Whether to show a progress bar.
    refresh : callable, optional
        (step, state) to state: what else changes from step to step, such as noise: ``lambda step, state:
        resample(state, jax.random.key(step))``. It is given the plain state of the start with the current values, and
        what it returns is what the loss sees in that step. Let it depend on nothing else, so that a fit that is resumed
        sees the same.
    validate : callable, optional
        State (plain arrays) to a scalar, the smaller the better, that decides which state is the best: the loss on
        noise that the fit does not see. It is given the current values in the state of the start, without ``refresh``.
    validate_every : int, optional
        Steps from one validation to the next; the first and the last state are validated in any case.
    patience : int, optional
        Validations in a row without a better one that end the fit.

    Raises
    ------
    ValueError
        Where ``validate_every`` or ``patience`` is below 1, or there is a ``patience`` and nothing to validate by.

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

    def __init__(
        self,
        loss,
        optimizer,
        callback=None,
        has_aux=False,
        progress=True,
        *,
        refresh=None,
        validate=None,
        validate_every=10,
        patience=None,
    ):
        for name, number in (("validate_every", validate_every), ("patience", patience)):
            if number is not None and not number >= 1:
                raise ValueError(f"OptaxOptimizer: {name} = {number}; give at least 1.")
        if patience is not None and validate is None:
            raise ValueError(
                f"OptaxOptimizer: patience = {patience} counts validations, and there is no validate. Give one, or "
                "callback=StopOnPlateau(...)."
            )
        self.loss, self.callback, self.has_aux, self.progress = loss, as_callback(callback), has_aux, progress
        self.optimizer, self.refresh = optax.with_extra_args_support(optimizer), refresh
        self.validate, self.validate_every, self.patience = validate, validate_every, patience

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
            Its ``best`` is the state of the smallest loss, or of the smallest validation value.

        Raises
        ------
        ValueError
            Where nothing is marked for fitting, a start value lies outside its bounds, or ``refresh`` changes more than
            values.
        Exception
            Whatever the loss, ``refresh``, ``validate`` or the callback raises ends the fit. The exception has the
            ``fitted`` and ``history`` that were reached as attributes.

        Notes
        -----
        A loss or gradient that is not finite ends the fit; it never becomes a fitted value. An interrupt (Ctrl-C) ends
        it too, and keeps what was reached.
        """
        fit = _Fit(self, state)
        with tqdm(total=max_steps, initial=fit.step, desc="fit", unit="step", disable=not self.progress) as bar:
            try:
                while fit.step <= max_steps and fit.advance():
                    bar.set_postfix(loss=f"{fit.losses[-1]:.5g}", refresh=False)
                    bar.update(int(bar.n < max_steps))
                fit.validate_the_last()
            except KeyboardInterrupt:
                fit.reason = f"interrupted after {len(fit.losses)} evaluations"
            except Exception as error:
                fit.reason = f"{type(error).__name__} after {len(fit.losses)} evaluations"
                if fit.losses:
                    error.fitted, error.history = fit.close(max_steps)
                    error.add_note(f"What the fit reached is kept in .fitted and .history: {error.history!r}")
                raise
        return fit.close(max_steps)


class _Fit:
    """A fit under way: where it stands, the last good images and the best ones, and why it ended."""

    def __init__(self, optimizer, state):
        self.optimizer, self.state, self.began = optimizer, state, time.perf_counter()
        self.parameters, self.rest = _marked(state), plain(state)
        start = {path: parameter.to_unconstrained() for path, parameter in self.parameters.items()}
        # One attribute, so that an interrupt leaves nothing half done.
        self.position = 0, start, _as_before(optimizer.optimizer.init(start))
        self.good = self.best = start
        self.losses, self.aux, self.validated = [], {}, {}
        self.lowest, self.best_step, self.reason = np.inf, 0, ""
        self._update, self._validate = jax.jit(self._step), jax.jit(self._validation)
        optimizer.callback.begin()

    @property
    def step(self):
        """Number of the evaluation that comes next: updates done before it."""
        return self.position[0]

    def advance(self):
        """Evaluate, put it on record, and update; False ends the fit."""
        step, images, optimizer_state = self.position
        value, aux, gradients, *following = self._update(images, optimizer_state, self._refreshed(step, images))
        if not self._take(step, images, float(value), aux, gradients):
            return False
        if self.optimizer.validate is not None and step % self.optimizer.validate_every == 0:
            self._take_validation(step)
        if self.optimizer.callback(step, self.state_of(images), self.losses[-1], gradients) is True:
            self.reason = f"{self.optimizer.callback.reason} after {step} updates"
        self.position = step + 1, *following
        return not self.reason

    def _step(self, images, before, rest):
        """One evaluation and update."""
        values, pull = jax.vjp(self._physical, images)
        out, gradients = jax.value_and_grad(
            lambda values: self.optimizer.loss(with_values(rest, values)), has_aux=self.optimizer.has_aux
        )(values)
        value, aux = out if self.optimizer.has_aux else (out, {})
        (of_images,) = pull(gradients)

        def value_of(images):
            out = self.optimizer.loss(with_values(rest, self._physical(images)))
            return out[0] if self.optimizer.has_aux else out

        # Optax mixes dtypes and ranks freely; a user's strict mode is for our arithmetic, not for its.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, optimizer_state = self.optimizer.optimizer.update(
                of_images, before, images, value=value, grad=of_images, value_fn=value_of
            )
        following = _as_before(optax.apply_updates(images, updates), images)
        return value, aux, gradients, following, _as_before(optimizer_state, before)

    def _validation(self, images, rest):
        return self.optimizer.validate(with_values(rest, self._physical(images)))

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
        if self.optimizer.validate is None:
            self._compare(step, value)
        return True

    def _take_validation(self, step):
        """Validate the last good images."""
        value = float(self._validate(self.good, self.rest))
        self.validated[step] = value
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
        history = History(
            loss=np.array(self.losses),
            aux={name: np.array(items) for name, items in self.aux.items()},
            best=self.state_of(self.best),
            best_step=self.best_step,
            stop_reason=self.reason or f"all {max_steps} steps done",
            wall_time=time.perf_counter() - self.began,
            validation=Validation(np.array(list(self.validated), int), np.array(list(self.validated.values()))),
            saved=self.optimizer.callback.saved,
        )
        return self.state_of(self.good), history


def _marked(state):
    """Parameters of a state by path, checked."""
    parameters = parameters_of(state)
    if not parameters:
        raise ValueError(
            "nothing to fit: no value of the state is marked. Mark one, e.g. state.model.w = Parameter(state.model.w)."
        )
    for parameter in parameters.values():
        if hasattr(parameter, "check"):
            parameter.check()
    return parameters


def _as_before(tree, before=None):
    """Arrays with the dtypes of another tree (or their own), none of them weak: the next step compiles nothing anew."""
    before = tree if before is None else before
    return jax.tree.map(lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), tree, before)
