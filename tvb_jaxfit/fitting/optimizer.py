"""OptaxOptimizer: minimisation of a loss by gradients."""

from collections.abc import Callable
from os import PathLike

import numpy as np
import optax

from ..checks import options as allowed
from ..checks.options import check
from ..runtime.processes import refuse_forked
from ..runtime.progress import progress_bar, status_line
from ..state import State
from .callbacks import as_callback
from .checkpoint import Checkpoint
from .history import History
from .loop import FitLoop
from .stopping import StopKind, StopReason


def gradient_transformation(value):
    """Rule for Optax's optimizers: an instance, as ``optax.adam(0.01)``; ``optax.adam`` is none."""
    is_made = callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))
    return None if is_made and not isinstance(value, type) else "an optimiser that is made, such as optax.adam(0.01)"


class OptaxOptimizer:
    """Minimise a loss of a state over the values that are marked as `Parameter`.

    Parameters
    ----------
    loss : callable
        State (plain arrays) to a scalar; or, with ``has_aux``, to (scalar, dict of scalars).
    optimizer : optax.GradientTransformation
        Any optimizer of Optax, including those with a line search.
    callback : callable, optional
        (step, state, loss, gradients), called after each evaluation; gradients by path, in physical units. True ends
        the fit. See `MultiCallback`, `SavingCallback`, `StopOnPlateau`.
    has_aux : bool, optional
        The loss returns further scalars, which the history records.
    progress : bool, optional
        Show a progress bar.
    refresh : callable, optional
        (step, state) to state: changes other values at each step, such as the noise: ``lambda step, state:
        resample(state, jax.random.key(step))``. It is given the plain start state with the current values; the loss of
        that step sees its result. It should depend on nothing else, so that a resumed fit sees the same.
    validate : callable, optional
        State (plain arrays) to a scalar that selects the best state, such as the loss on noise that no step uses; or to
        (scalar, dict of scalars), which are recorded, too. Smaller is better. It is given the current values in the
        start state, without ``refresh``.
    validate_every : int, optional
        Number of steps between two validations. The first and the last state are always validated.
    patience : int, optional
        Number of validations in a row without a better one after which the fit ends.
    checkpoint : path-like, optional
        File in which the fit stores what it needs to be resumed: see ``resume`` of `run`.
    checkpoint_every : int, optional
        Number of steps between two checkpoints. The first and the last step are always stored.

    Raises
    ------
    ValueError
        Invalid options, all in one message; ``patience`` without ``validate``.

    Examples
    --------
    >>> import jax.numpy as jnp, optax
    >>> from tvb_jaxfit import OptaxOptimizer, Parameter, State
    >>> state = State(x=Parameter(3.0), y=jnp.asarray(1.0))
    >>> optimizer = OptaxOptimizer(lambda s: (s.x - s.y) ** 2, optax.sgd(0.4), progress=False)
    >>> fitted, history = optimizer.run(state, max_steps=20)
    >>> round(float(fitted.x.value), 3), str(history.stop_reason)
    (1.0, 'all 20 steps done')
    """

    def __init__(
        self,
        loss: Callable,
        optimizer: optax.GradientTransformation,
        callback: Callable | None = None,
        has_aux: bool = False,
        progress: bool = True,
        *,
        refresh: Callable | None = None,
        validate: Callable | None = None,
        validate_every: int = 10,
        patience: int | None = None,
        checkpoint: str | PathLike | None = None,
        checkpoint_every: int = 10,
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
        # Explains a plain state whose loss is not finite. None: the message of the loss itself, outside of any trace.
        self.explain = None
        # Name of the progress bar.
        self.name = "fit"

    def run(self, state: State, max_steps: int = 100, resume: bool = False) -> tuple[State, History]:
        """Run the fit.

        Parameters
        ----------
        state : State
            With at least one `Parameter`; not modified.
        max_steps : int, optional
            Number of updates.
        resume : bool, optional
            Continue from the checkpoint, if there is one. The fit must be the same: state, loss and optimizer, with all
            that their functions use; ``refresh``, ``validate``, and callbacks that save values or end the fit.
            ``progress``, ``checkpoint_every``, printing callbacks and functions as callbacks may differ. A fit that was
            killed at any time ends with the same numbers, bit for bit, as one that was not. A larger ``max_steps``
            continues beyond the former end.

        Returns
        -------
        fitted : State
            State after the last step whose loss and gradient were finite; parameters stay parameters.
        history : History
            Its ``best`` is the state of the smallest validation value; without a validation, of the smallest loss.

        Raises
        ------
        ValueError
            No value is marked as `Parameter`; a start value is outside its bounds; the first step is more than ten
            times a parameter's size (of an optimizer such as Adam, whose first step does not depend on the gradient);
            the loss returns no scalar; ``refresh`` changes more than values; there is nothing to resume from; the
            checkpoint is damaged, or of another fit (the message names the differences).
        FitFailed
            Loss or gradient are not finite at the start values.
        FileExistsError
            The checkpoint exists, and ``resume`` is not set.
        Exception
            Any exception of the loss, ``refresh``, ``validate`` or the callback ends the fit. Its attributes ``fitted``
            and ``history`` hold what was reached.

        Warns
        -----
        UserWarning
            The loss does not depend on a parameter; the first step is more than a parameter's size; the checkpoint was
            not written, as on a full disk (the fit continues); the identity of a resumed fit cannot be compared in some
            part, such as a file that the loss reads (the message names it).

        Notes
        -----
        A loss or gradient that is not finite ends the fit, and ``history.diverged`` explains it, with the values that
        are outside their domain; such a value never becomes a fitted value. An interrupt (Ctrl-C) ends the fit, too,
        and keeps what was reached.
        """
        refuse_forked("OptaxOptimizer.run")
        check(
            "OptaxOptimizer.run",
            state=(state, allowed.instance(State)),
            max_steps=(max_steps, allowed.integer(0)),
            resume=(resume, allowed.boolean),
        )
        loop = FitLoop(self, state)
        # The loss of the last stored step is computed again.
        with status_line("fit: reading the checkpoint", self.progress and resume):
            self.checkpoint.begin(loop, resume)
        with progress_bar(self.name, "step", max_steps, self.progress, True, initial=loop.step) as bar:
            try:
                while loop.is_running(max_steps):
                    loop.advance()
                    bar.set_postfix(loss=f"{loop.losses[-1] if loop.losses else np.nan:.5g}", refresh=False)
                    bar.update(min(loop.step, max_steps) - bar.n)
                    self.checkpoint.save(loop, ended=not loop.is_running(max_steps))
                loop.validate_last()
            except KeyboardInterrupt:
                # The checkpoint is saved before the stop reason is set: a resumed fit continues.
                if loop.is_between_steps:
                    self.checkpoint.save(loop, ended=True)
                loop.stop_reason = StopReason(StopKind.INTERRUPTED, len(loop.losses))
            except Exception as error:
                loop.stop_reason = StopReason(StopKind.ERROR, len(loop.losses), type(error).__name__)
                if loop.losses:
                    error.fitted, error.history = loop.close(max_steps)
                    error.add_note(f"What the fit reached is kept in .fitted and .history: {error.history!r}")
                raise
        return loop.close(max_steps)
