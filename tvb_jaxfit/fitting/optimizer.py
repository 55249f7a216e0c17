"""The loop over gradients."""

import numpy as np
import optax

from ..checks import options as allowed
from ..checks.options import check
from ..runtime.processes import refuse_forked
from ..runtime.progress import progress_bar, status_line
from ..state import State
from .callbacks import as_callback
from .checkpoint import Checkpoint
from .loop import Fit


def gradient_transformation(value):
    """Rule of Optax's optimisers: made already, as ``optax.adam(0.01)`` is and ``optax.adam`` is not."""
    made = callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))
    return None if made and not isinstance(value, type) else "an optimiser that is made, such as optax.adam(0.01)"


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
        noise that the fit does not see; or to (scalar, dict of scalars), which are recorded too. It is given the
        current values in the state of the start, without ``refresh``.
    validate_every : int, optional
        Steps from one validation to the next; the first and the last state are validated in any case.
    patience : int, optional
        Validations in a row without a better one that end the fit.
    checkpoint : path-like, optional
        File in which the fit keeps what it needs to go on, should it be killed: see ``resume`` of `run`.
    checkpoint_every : int, optional
        Steps from one writing of it to the next. It is written after the first and the last one, too.

    Raises
    ------
    ValueError
        Options of another kind: all of them at once; a ``patience`` and nothing to validate by.

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
        checkpoint=None,
        checkpoint_every=10,
    ):
        check(
            "OptaxOptimizer",
            loss=(loss, allowed.function),
            optimizer=(optimizer, gradient_transformation),
            callback=(callback, allowed.optional(allowed.function)),
            has_aux=(has_aux, allowed.boolean),
            progress=(progress, allowed.boolean),
            refresh=(refresh, allowed.optional(allowed.function)),
            validate=(validate, allowed.optional(allowed.function)),
            validate_every=(validate_every, allowed.integer(1)),
            patience=(patience, allowed.optional(allowed.integer(1))),
            checkpoint=(checkpoint, allowed.optional(allowed.path)),
            checkpoint_every=(checkpoint_every, allowed.integer(1)),
        )
        if patience is not None and validate is None:
            raise ValueError(
                f"OptaxOptimizer: patience = {patience} counts validations, and there is no validate. Give one, or "
                "callback=StopOnPlateau(...)."
            )
        self.loss, self.callback, self.has_aux, self.progress = loss, as_callback(callback), has_aux, progress
        self.optimizer, self.refresh = optax.with_extra_args_support(optimizer), refresh
        self.validate, self.validate_every, self.patience = validate, validate_every, patience
        self.checkpoint = Checkpoint(checkpoint, checkpoint_every)
        # State (plain) to sentences on why it has no finite loss; None asks the loss itself, outside of any trace.
        self.explain = None

    def run(self, state, max_steps=100, resume=False):
        """Fit.

        Parameters
        ----------
        state : State
            With at least one `Parameter`; not modified.
        max_steps : int, optional
        resume : bool, optional
            Whether to go on from the checkpoint, where there is one. The fit has to be the one that it was: the same
            state, loss and optimiser, with all that their functions use, ``refresh``, ``validate``, and callbacks that
            keep or end something. ``progress``, ``checkpoint_every``, what prints and callbacks that are functions may
            be others. Whenever it was killed, it ends with the same numbers, bit for bit, as one that was not. With a
            larger ``max_steps`` it goes on beyond where it had ended.

        Returns
        -------
        fitted : State
            After the last step whose loss and gradient were finite; parameters stay parameters.
        history : History
            Its ``best`` is the state of the smallest loss, or of the smallest validation value.

        Raises
        ------
        ValueError
            Where nothing is marked for fitting, a start value lies outside its bounds, the first step is more than ten
            times a value's size (of an optimiser such as Adam, whose step no slope changes), the loss gives no scalar,
            or ``refresh`` changes more than values; where there is nothing to resume from, or a checkpoint that is
            damaged or of another fit (what differs is named).
        FitFailed
            Where the loss or its gradient is not finite at the start values.
        FileExistsError
            Where there is a checkpoint, or another file in its place, and the fit is not to go on from it.
        Exception
            Whatever the loss, ``refresh``, ``validate`` or the callback raises ends the fit. The exception has the
            ``fitted`` and ``history`` that were reached as attributes.

        Warns
        -----
        UserWarning
            Where the loss does not depend on a parameter, the first step is more than a value's size, or the checkpoint
            could not be written (a full disk): the fit goes on. Where a fit is resumed and something in it cannot be
            compared with what it was, such as a file that the loss reads: it is named.

        Notes
        -----
        A loss or gradient that is not finite ends the fit, and ``history.diverged`` says so, with the values that lie
        outside their domain; it never becomes a fitted value. An interrupt (Ctrl-C) ends it too, and keeps what was
        reached.
        """
        refuse_forked("OptaxOptimizer.run")
        check(
            "OptaxOptimizer.run",
            state=(state, allowed.instance(State)),
            max_steps=(max_steps, allowed.integer(0)),
            resume=(resume, allowed.boolean),
        )
        fit = Fit(self, state)
        # The loss of its last step is computed once more.
        with status_line("fit: reading the checkpoint", self.progress and resume):
            self.checkpoint.begin(fit, resume)
        with progress_bar("fit", "step", max_steps, self.progress, initial=fit.step) as bar:
            try:
                while fit.goes_on(max_steps):
                    fit.advance()
                    bar.set_postfix(loss=f"{fit.losses[-1] if fit.losses else np.nan:.5g}", refresh=False)
                    bar.update(min(fit.step, max_steps) - bar.n)
                    self.checkpoint.keep(fit, ended=not fit.goes_on(max_steps))
                fit.validate_the_last()
            except KeyboardInterrupt:
                # Before the reason: the fit goes on from the checkpoint.
                self.checkpoint.keep(fit, ended=fit.is_between_steps)
                fit.reason = f"interrupted after {len(fit.losses)} evaluations"
            except Exception as error:
                fit.reason = f"{type(error).__name__} after {len(fit.losses)} evaluations"
                if fit.losses:
                    error.fitted, error.history = fit.close(max_steps)
                    error.add_note(f"What the fit reached is kept in .fitted and .history: {error.history!r}")
                raise
        return fit.close(max_steps)
