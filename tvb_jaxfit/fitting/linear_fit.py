"""A fit of the linear response: without noise, and without believing it where it does not hold."""

import time
from dataclasses import dataclass, field
from functools import cached_property

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

# Costs of being far from what can be trusted: of the mean fourth power of the reach in parts of _REACH, and of the mean
# square by which regional values differ from each other, in parts of their range. Values that differ more than FC asks
# for end in corners of their bounds, where regions have second stable states that the fixed point does not see. That
# cost is lowered from one descent to the next, as long as simulations gain by it.
_CURVED, _REACH = 0.01, 0.4
PRIORS = (0.1, 0.05, 0.025)
# Points of the coarse sweep; starts that are followed for a while, share of the evaluations that each of them takes,
# and starts that are followed to the end: which of them is best, only simulations tell.
_POINTS, _STARTS, _SHARE, _FOLLOWED = 256, 6, 0.25, 3
# Correlations of that much less in the simulation than by the linear response confirm it.
_GAP = 0.05
# Fixed points are different beyond that share of their size.
_APART = 1e-3
# Improvements after which a descent looks whether there are others: they come, and may go again.
_LOOK = 10
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
    prior : float
        Cost of values that differ between regions.
    loss, r : float
        Of a simulation on fresh noise.
    """

    fitted: State = field(repr=False)
    trace: np.ndarray = field(repr=False)
    prior: float
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
    """What a linear fit descends, over the images of the free values, as one vector of comparable entries.

    It is the loss that is expected of a recording of some length, and what it costs to be far from what can be trusted.

    Parameters
    ----------
    linear : Linear
    state : State
        With `Parameter`s.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray
    monitor : int
    length : float
        Of the recording [ms].
    """

    def __init__(self, linear, state, loss, target, monitor, length):
        self.state, self.parameters, self._linear = state, parameters_of(state), linear
        images = {path: parameter.to_unconstrained() for path, parameter in self.parameters.items()}
        sizes = {path: jnp.full_like(image, _size(self.parameters[path])) for path, image in images.items()}
        self.start, self._tree = ravel_pytree(images)
        self._sizes = ravel_pytree(sizes)[0]
        self.x = state.initial_conditions[-1]
        self._rest = plain(state)
        # One draw for all pairs, and its opposite: neither favours a pair, and there is no slope along the draw.
        draw = np.triu(np.random.default_rng(0).normal(size=np.shape(target)), 1)
        draw = jnp.asarray(draw + draw.T, self.start.dtype)

        def of_values(values, rest, x):
            response = linear(with_values(rest, values), x)
            fc, error = response.fc(monitor), response.fc_error(length, monitor) * draw
            expected = 0.5 * (loss(fc + error, target) + loss(fc - error, target))
            curved = _CURVED * jnp.mean((response.reach / _REACH) ** 4)
            reach, x = jnp.max(response.reach), response.fixed_point.x
            return expected + curved, (loss(fc, target), fc_corr(fc, target), reach, response.is_stable, x)

        def differing(point):
            """Mean square by which regional values have come to differ."""
            apart = self._tree(point - self.start / self._sizes)
            return sum(jnp.mean((values - jnp.mean(values)) ** 2) for values in apart.values())

        def evaluate(point, rest, x, prior):
            values, pull = jax.vjp(self._values, point)
            (value, seen), gradients = jax.value_and_grad(of_values, has_aux=True)(values, rest, x)
            apart, slope = jax.value_and_grad(differing)(point)
            return value + prior * apart, pull(gradients)[0] + prior * slope, gradients, seen

        def is_alone(point, rest, x):
            others = linear.from_afar(with_values(rest, self._values(point)))
            apart = jnp.max(jnp.abs(others.x - x[None]), axis=(2, 3))
            scale = jnp.maximum(jnp.max(jnp.abs(x), axis=(1, 2)), 1e-3)
            return ~jnp.any(others.converged[:, None] & (apart > _APART * scale[None]))

        self._evaluate, self._is_alone = jax.jit(evaluate), jax.jit(is_alone)

    def _values(self, point):
        images = self._tree(point * self._sizes)
        return {path: parameter.from_unconstrained(images[path]) for path, parameter in self.parameters.items()}

    def __call__(self, point, prior, x):
        """(value, slope, gradients by path, (loss, r, reach, stable, x)) at a point."""
        point = jnp.asarray(point, self.start.dtype)
        value, slope, gradients, (loss, r, reach, stable, x) = self._evaluate(point, self._rest, x, prior)
        slope = np.asarray(slope, float)
        stable = bool(stable) and np.isfinite(float(value)) and bool(np.all(np.isfinite(slope)))
        return float(value), slope, gradients, (float(loss), float(r), float(reach), stable, x)

    @cached_property
    def first(self):
        """The point of the start values."""
        return np.asarray(self.start / self._sizes, float)

    def state_of(self, point, x=None):
        """State with the values of a point; where their fixed point is given, it has been there for ever."""
        state = with_values(self.state, self._values(jnp.asarray(point, self.start.dtype)))
        return state if x is None else at_rest(self._linear.simulate, state, x)

    def is_alone(self, point, x):
        """Whether the network comes to a fixed point from afar, too."""
        return bool(self._is_alone(jnp.asarray(point, self.start.dtype), self._rest, x))

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
        return parameter.with_value(jnp.full_like(parameter.value, low + (0.1 + 0.8 * share) * (high - low)))
    return parameter.with_value(parameter.value * 4.0 ** (2.0 * share - 1.0))


def descend(objective, begin, x, prior, n_evaluations, bar, record=None):
    """L-BFGS from a point, begun anew as long as that helps, to the best point that is alone (or the best, if none is).

    Parameters
    ----------
    objective : Objective
    begin : ndarray
        A point with a stable fixed point.
    x : Array
        That fixed point, or a state from which it is found.
    prior : float
        See `Objective`.
    n_evaluations : int
        At most so many.
    bar : tqdm
    record : callable, optional
        (point, gradients by path, seen) of each improvement; True ends it.

    Returns
    -------
    point : ndarray
    value : float
    seen : tuple
        See `Objective`.
    """
    from scipy.optimize import minimize

    best, alone, used, improved = (begin, np.inf, None), None, 0, 0

    def looked():
        """The best point so far that is alone, the last one looked at."""
        return best if objective.is_alone(best[0], best[2][4]) else alone

    def at(point):
        nonlocal best, alone, used, improved
        used += 1
        bar.update()
        value, slope, gradients, seen = objective(point, prior, x if best[2] is None else best[2][4])
        ended = False
        if not seen[3]:
            # A slope back to what is known, so that a line search turns round.
            away = point - best[0]
            distance = np.linalg.norm(away)
            value, slope = best[1] + 1.0 + 10.0 * distance, 10.0 * away / max(distance, 1e-300)
        elif value < best[1]:
            best, improved = (point.copy(), value, seen), improved + 1
            if improved % _LOOK == 0:
                alone = looked()
            ended = record is not None and record(point, gradients, seen) is True
        if ended or used >= n_evaluations:
            raise StopIteration
        return value, slope

    options = {"maxiter": n_evaluations, "maxfun": n_evaluations, "maxcor": _MEMORY, "ftol": 1e-10, "gtol": 1e-9}
    try:
        stalled = 0
        while stalled < 2:
            before = best[1]
            minimize(at, best[0], jac=True, method="L-BFGS-B", options=options)
            stalled = 0 if before - best[1] > _GAIN else stalled + 1
    except StopIteration:
        pass
    return looked() or best


def fit_linear(linear, state, loss, target, monitor, length, confirm, *, max_evaluations, callback=None, progress=True):
    """Fit marked values of a state by the linear response.

    A coarse sweep finds starts, the best of them are followed for a while, and the best of these to their ends; the
    simulation tells which is best. From there values may differ more between regions, as long as that helps in the
    simulation. A descent ends at the best point where the network has no other fixed point, if there was any.

    Parameters
    ----------
    linear : Linear
    state : State
        With `Parameter`s.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray, shape (n_node, n_node)
    monitor : int
    length : float
        Of the recording that the loss is expected of [ms].
    confirm : callable
        State to (loss, r) of a simulation on fresh noise.
    max_evaluations : int
        Of the linear response, for each descent.
    callback : callable, optional
        (step, state, loss, gradients) at each improvement; True ends the fit.
    progress : bool, optional

    Returns
    -------
    fitted : State
        At its fixed point; parameters stay parameters.
    history : History
        Loss, r and reach (`LinearResponse.reach`) at the start values, and at each improvement of the descent that was
        kept.
    attempts : list of Attempt

    Raises
    ------
    ValueError
        Where no point of the sweep has a stable fixed point.
    """
    began, callback = time.perf_counter(), as_callback(callback)
    callback.begin()
    objective = Objective(linear, state, loss, target, monitor, length)
    attempts, reason = [], ""

    def attempt(point, x, prior, bar):
        trace = list(first)

        def record(point, gradients, seen):
            trace.append(seen[:3])
            bar.set_postfix(loss=f"{seen[0]:.5g}", r=f"{seen[1]:.3f}", refresh=False)
            return callback(len(trace) - 1, objective.state_of(point), seen[0], gradients)

        point, _, seen = descend(objective, point, x, prior, max_evaluations, bar, record)
        # Up to the point that was kept: others may have looked better, and were not alone.
        del trace[trace.index(seen[:3]) + 1 :]
        fitted = objective.state_of(point, seen[4])
        attempts.append(Attempt(fitted, np.array(trace), prior, *confirm(fitted)))
        return point, seen

    with tqdm(total=max_evaluations, desc="linear fit", unit="evaluation", disable=not progress) as bar:
        try:
            first, starts = _starts(objective, bar)
            few = int(max_evaluations * _SHARE)
            tried = [descend(objective, *start, PRIORS[0], few, bar) for start in starts]
            ends = []
            tried.sort(key=lambda each: (not objective.is_alone(each[0], each[2][4]), each[1]))
            for point, _, seen in tried[:_FOLLOWED]:
                ends.append(attempt(point, seen[4], PRIORS[0], bar))
            point, seen = ends[int(np.argmin([each.loss for each in attempts]))]
            for prior in PRIORS[1:]:
                point, seen = attempt(point, seen[4], prior, bar)
                if attempts[-1].loss > min(each.loss for each in attempts):
                    break
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


def _starts(objective, bar):
    """(loss, r, reach) of the start values, if they are stable; the best points of a coarse sweep, and fixed points."""
    found, first = [], []
    for point in [objective.first, *objective.points(_POINTS)]:
        value, *_, seen = objective(point, PRIORS[0], objective.x)
        bar.set_postfix(sweep=len(found), refresh=False)
        if seen[3]:
            found.append((value, point, seen[4]))
            if point is objective.first:
                first.append(seen[:3])
    if not found:
        raise ValueError(
            f"fit: no stable fixed point at the start values, nor at any of {_POINTS} points around; there is no "
            'linear response to fit. Use method="simulate", or other bounds.'
        )
    found.sort(key=lambda each: each[0])
    # Apart from each other: neighbours lead to the same end.
    chosen = []
    for _, point, x in found:
        apart = all(np.max(np.abs(point - other)) > 0.1 for other, _ in chosen)
        if apart and objective.is_alone(point, x):
            chosen.append((point, x))
        if len(chosen) == _STARTS:
            break
    return first, chosen or [found[0][1:]]


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
