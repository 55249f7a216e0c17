"""A fit of the linear response: without noise, and without believing it where it does not hold."""

import time
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from tqdm.auto import tqdm

from ..dynamics.monitors import Bold
from ..loss import fc_corr
from ..parameters import BoundedParameter, Parameter, parameters_of, plain, with_values
from ..state import State
from .callbacks import as_callback
from .history import History

# How far fluctuations may reach into the curvature before it costs, one descent after the other. Noise kicks a network
# out of a well whose rim is 1 / reach standard deviations away at a rate that falls as exp(-1 / (6 reach^2)): hardly
# ever at 0.15. Beyond, it depends on whether there is anywhere to go; the simulation tells.
REACH = (0.15, 0.3, 0.6)
# Points of the coarse sweep; starts that are followed for a while; share of the evaluations that this takes.
_POINTS, _STARTS, _SHARE = 256, 3, 0.25
# Correlations of that much less in the simulation than by the linear response confirm it.
_GAP = 0.05
# L-BFGS begins anew where its memory leads nowhere, and ends where this brings less than that.
_GAIN, _MEMORY = 1e-3, 30


@dataclass(frozen=True)
class Attempt:
    """One descent, and what the simulation said of it.

    Attributes
    ----------
    fitted : State
        Where it ended, at its fixed point.
    trace : ndarray, shape (n, 3)
        Loss, r and reach at the start values and at each improvement.
    limit : float
        On the reach.
    loss, r : float
        Of a simulation on fresh noise.
    """

    fitted: State = field(repr=False)
    trace: np.ndarray = field(repr=False)
    limit: float
    loss: float
    r: float

    @property
    def is_confirmed(self):
        """Whether the simulation agrees with the linear response."""
        return self.r >= self.trace[-1, 1] - _GAP

    def __str__(self):
        agrees = "" if self.is_confirmed else ", which it does not confirm"
        return f"simulation on fresh noise: r {self.r:.3f}; linear response: {self.trace[-1, 1]:.3f}{agrees}"


class Objective:
    """Loss of a linear response over the images of the free values, as one vector of comparable entries.

    Parameters
    ----------
    linear : Linear
    state : State
        With `Parameter`s.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray
    monitor : int
    """

    def __init__(self, linear, state, loss, target, monitor):
        self.state, self.parameters, self._simulate = state, parameters_of(state), linear.simulate
        images = {path: parameter.to_unconstrained() for path, parameter in self.parameters.items()}
        sizes = {path: jnp.full_like(image, _size(self.parameters[path])) for path, image in images.items()}
        self.start, self._tree = ravel_pytree(images)
        self._sizes = ravel_pytree(sizes)[0]
        self.x = state.initial_conditions[-1]
        self._rest = plain(state)

        def value(flat, rest, x, limit):
            response = linear(self._with(rest, flat), x)
            fc = response.fc(monitor)
            beyond = jnp.maximum(response.reach / limit - 1.0, 0.0)
            plain_loss = loss(fc, target)
            seen = plain_loss, fc_corr(fc, target), jnp.max(response.reach), response.is_stable, response.fixed_point.x
            return plain_loss + jnp.sum(beyond**2), seen

        self._evaluate = jax.jit(jax.value_and_grad(value, has_aux=True))

    def _with(self, rest, flat):
        images = self._tree(flat * self._sizes)
        return with_values(rest, {path: p.from_unconstrained(images[path]) for path, p in self.parameters.items()})

    def __call__(self, point, limit, x):
        """(value, gradient, (loss, r, reach, stable, x)) at a point."""
        flat = jnp.asarray(point, self.start.dtype)
        (value, seen), gradient = self._evaluate(flat, self._rest, x, limit)
        loss, r, reach, stable, x = seen
        gradient = np.asarray(gradient, float)
        stable = bool(stable) and np.isfinite(float(value)) and bool(np.all(np.isfinite(gradient)))
        return float(value), gradient, (float(loss), float(r), float(reach), stable, x)

    @property
    def first(self):
        """The point of the start values."""
        return np.asarray(self.start / self._sizes, float)

    def state_of(self, point, x=None):
        """State with the values of a point; where their fixed point is given, it has been there for ever."""
        state = self._with(self.state, jnp.asarray(point, self.start.dtype))
        return state if x is None else at_rest(self._simulate, state, x)

    def gradients(self, gradient):
        """Gradient of a point by path, in images."""
        return self._tree(jnp.asarray(gradient, self.start.dtype) / self._sizes)

    def points(self, n, seed=0):
        """Points of a Latin hypercube over the values that are the same in all regions; see `_somewhere`."""
        from scipy.stats import qmc

        wide = [path for path, parameter in self.parameters.items() if _is_uniform(parameter)]
        if not wide:
            return
        for row in qmc.LatinHypercube(len(wide), seed=seed).random(n):
            moved = dict(self.parameters)
            for path, share in zip(wide, row, strict=True):
                moved[path] = _somewhere(moved[path], share)
            images = {path: parameter.to_unconstrained() for path, parameter in moved.items()}
            yield np.asarray(ravel_pytree(images)[0] / self._sizes, float)


def _size(parameter):
    """Scale of an image: the range of the values, or their own size."""
    if isinstance(parameter, BoundedParameter) and np.isfinite(parameter.upper_bound - parameter.lower_bound):
        return parameter.upper_bound - parameter.lower_bound
    if type(parameter) is Parameter or isinstance(parameter, BoundedParameter):
        return float(np.mean(np.abs(parameter.value))) or 1.0
    return 1.0


def _is_uniform(parameter):
    value = np.asarray(parameter.value)
    return bool(np.all(value == value.ravel()[0]))


def _somewhere(parameter, share):
    """Parameter at a share of its range; without one, between a quarter and four times its value."""
    if isinstance(parameter, BoundedParameter) and np.isfinite(parameter.upper_bound - parameter.lower_bound):
        low, high = parameter.lower_bound, parameter.upper_bound
        return parameter.with_value(jnp.full_like(parameter.value, low + (0.02 + 0.96 * share) * (high - low)))
    return parameter.with_value(parameter.value * 4.0 ** (2.0 * share - 1.0))


def descend(objective, begin, x, limit, n_evaluations, bar, record=None):
    """L-BFGS from a point, begun anew as long as that helps.

    Parameters
    ----------
    objective : Objective
    begin : ndarray
        A point with a stable fixed point.
    x : Array
        That fixed point, or a state from which it is found.
    limit : float
    n_evaluations : int
        At most so many.
    bar : tqdm
    record : callable, optional
        (point, gradient, seen) of each improvement; True ends it.

    Returns
    -------
    point : ndarray
        The best one.
    value : float
    seen : tuple
        See `Objective`.
    """
    from scipy.optimize import minimize

    best, used = [begin, np.inf, None], 0

    def at(point):
        nonlocal used
        used += 1
        bar.update()
        value, gradient, seen = objective(point, limit, x if best[2] is None else best[2][4])
        ended = False
        if not seen[3]:
            # A slope back to what is known, so that a line search turns round.
            away = point - best[0]
            distance = np.linalg.norm(away)
            value, gradient = best[1] + 1.0 + 10.0 * distance, 10.0 * away / max(distance, 1e-300)
        elif value < best[1]:
            best[:] = point.copy(), value, seen
            ended = record is not None and record(point, gradient, seen) is True
        if ended or used >= n_evaluations:
            raise StopIteration
        return value, gradient

    options = {"maxiter": n_evaluations, "maxfun": n_evaluations, "maxcor": _MEMORY, "ftol": 1e-10, "gtol": 1e-9}
    try:
        stalled = 0
        while stalled < 2:
            before = best[1]
            minimize(at, best[0], jac=True, method="L-BFGS-B", options=options)
            stalled = 0 if before - best[1] > _GAIN else stalled + 1
    except StopIteration:
        pass
    return tuple(best)


def fit_linear(
    linear, state, loss, target, monitor, confirm, *, reach=REACH, max_evaluations=2000, callback=None, progress=True
):
    """Fit marked values of a state by the linear response.

    A coarse sweep finds starts, the best of them are followed for a while, and the best of these to its end; the next
    one, where the simulation does not confirm it. Then the limit on the reach is loosened, as long as that helps in the
    simulation.

    Parameters
    ----------
    linear : Linear
    state : State
        With `Parameter`s.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray, shape (n_node, n_node)
    monitor : int
    confirm : callable
        State to (loss, r) of a simulation on fresh noise.
    reach : sequence of float, optional
        Limits on how far fluctuations reach into the curvature (see `LinearResponse.reach`), the tightest first.
    max_evaluations : int, optional
        Of the linear response, for each limit.
    callback : callable, optional
        (step, state, loss, gradients) at each improvement; True ends the fit.
    progress : bool, optional

    Returns
    -------
    fitted : State
        At its fixed point; parameters stay parameters.
    history : History
        Loss, r and reach at the start values, and at each improvement of the descent that was kept.
    attempts : list of Attempt

    Raises
    ------
    ValueError
        Where no point of the sweep has a stable fixed point.
    """
    began, callback = time.perf_counter(), as_callback(callback)
    callback.begin()
    objective = Objective(linear, state, loss, target, monitor)
    *first, is_stable, _ = objective(objective.first, reach[0], objective.x)[2]
    attempts, reason = [], ""

    def attempt(point, x, limit, bar):
        trace = [first] if is_stable else []

        def record(point, gradient, seen):
            trace.append(seen[:3])
            bar.set_postfix(loss=f"{seen[0]:.5g}", r=f"{seen[1]:.3f}", refresh=False)
            return callback(len(trace) - 1, objective.state_of(point), seen[0], objective.gradients(gradient))

        point, _, seen = descend(objective, point, x, limit, max_evaluations, bar, record)
        fitted = objective.state_of(point, seen[4])
        attempts.append(Attempt(fitted, np.array(trace), limit, *confirm(fitted)))
        return point, seen

    with tqdm(total=max_evaluations, desc="linear fit", unit="evaluation", disable=not progress) as bar:
        try:
            starts = _starts(objective, reach[0], bar)
            few = int(max_evaluations * _SHARE / len(starts))
            tried = [descend(objective, *start, reach[0], few, bar) for start in starts]
            for point, _, seen in sorted(tried, key=lambda each: each[1]):
                point, seen = attempt(point, seen[4], reach[0], bar)
                if attempts[-1].is_confirmed:
                    break
            for limit in reach[1:]:
                if not attempts[-1].is_confirmed or attempts[-1].loss > min(each.loss for each in attempts):
                    break
                point, seen = attempt(point, seen[4], limit, bar)
        except KeyboardInterrupt:
            reason = "interrupted; "
            if not attempts:
                raise
    best = min(attempts, key=lambda each: each.loss)
    history = History(
        loss=best.trace[:, 0],
        aux={"r": best.trace[:, 1], "reach": best.trace[:, 2]},
        best=best.fitted,
        best_step=len(best.trace) - 1,
        stop_reason=f"{reason}{len(attempts)} descents; {best}",
        wall_time=time.perf_counter() - began,
    )
    return best.fitted, history, attempts


def _starts(objective, reach, bar):
    """The most promising points of a coarse sweep, the start values among them, and their fixed points."""
    found = []
    for point in [objective.first, *objective.points(_POINTS)]:
        value, _, seen = objective(point, reach, objective.x)
        bar.set_postfix(sweep=len(found), refresh=False)
        if seen[3]:
            found.append((value, point, seen[4]))
    if not found:
        raise ValueError(
            f"fit: no stable fixed point at the start values, nor at any of {_POINTS} points around; there is no "
            'linear response to fit. Use method="simulate", or other bounds.'
        )
    found.sort(key=lambda each: each[0])
    # Apart from each other: neighbours lead to the same end.
    chosen = []
    for _, point, x in found:
        if all(np.max(np.abs(point - other)) > 0.1 for other, _ in chosen):
            chosen.append((point, x))
    return chosen[:_STARTS]


def at_rest(simulate, state, x):
    """State that has always been at x: its history, and what Bold monitors keep of it."""
    past, seen = state.initial_conditions, simulate.observed(x[None])
    monitors = [
        leaves.replace(stock=jnp.broadcast_to(monitor.watch(seen), leaves.stock.shape).astype(leaves.stock.dtype))
        if isinstance(monitor, Bold)
        else leaves
        for monitor, leaves in zip(simulate.monitors, state.monitors, strict=True)
    ]
    return state.replace(initial_conditions=jnp.broadcast_to(x, past.shape).astype(past.dtype), monitors=monitors)
