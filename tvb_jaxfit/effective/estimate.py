"""effective_connectivity: directed weights of a simulator's connections from recordings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..checks import options as allowed
from ..checks.options import check
from ..evaluation.fc_monitor import choose_monitor, signal_problems
from ..fitting.free import mark
from ..parameters import Parameter
from ..runtime.blas import single_blas_thread
from ..runtime.processes import refuse_forked
from ..runtime.progress import progress_bar
from ..translate.parameter_map import parameter_map
from ..translate.prepare_linear import prepare_linear
from .objective import WEIGHTS, Objective
from .observed import agreement, difference, mean_of, observe, read_recordings
from .path import FACTORS, follow, scale_weights
from .result import EffectiveConnectivity

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

_PENALTIES = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 0.0)


def effective_connectivity(
    sim: "Simulator",
    recordings: ArrayLike | Sequence[ArrayLike],
    *,
    lag: int = 1,
    free: dict[str, Parameter] | None = None,
    penalties: Sequence[float] = _PENALTIES,
    max_evaluations: int = 100,
    monitor: int | None = None,
    skip_t: int = 0,
    progress: bool = True,
) -> EffectiveConnectivity:
    r"""Estimate directed connection weights from FC and lagged correlations of recordings.

    The connections of the simulator keep their places, and each direction gets its own weight. Each half of the
    sessions is fitted, and the other half decides how closely; the result is fitted to all.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        With structural weights of at least 0, noise, and a monitor whose period is that of the recordings. Not
        modified.
    recordings : array_like of shape (n_time, n_node), or list of such
        Signals of each session, in the order of the regions. A single recording is cut into two halves.
    lag : int, optional
        Lag [samples].
    free : dict of str to Parameter, optional
        Other values to fit, by attribute path, as for `fit`: time constants, noise of each region.
    penalties : sequence of float, optional
        Penalties to choose from: factors of the mean squared deviation of the weights from scaled structural ones,
        relative to their mean square.
    max_evaluations : int, optional
        Evaluations of the linear response with each penalty, at most.
    monitor : int, optional
        Index of the monitor; by default the only one of BOLD, or the only one.
    skip_t : int, optional
        Number of samples to skip at the beginning of each session.
    progress : bool, optional
        Progress bar.

    Returns
    -------
    EffectiveConnectivity

    Raises
    ------
    ValueError
        Options of another kind, all in one message; recordings that do not fit the regions; weights below 0 or none
        above; a monitor of other signals than those of the regions; ``free`` as in `fit`.
    TypeError
        Recordings that are not of a floating dtype.
    NoStableFixedPoint
        With none of many scales of the structural weights.
    UnsupportedComponent
        As of `prepare_linear`.

    Notes
    -----
    With the correlations r of the recordings and :math:`\hat r` of the linear response, at the lags 0 and
    :math:`\tau`, minimised is

    .. math:: \mathrm{mean}_{i \ne j} (\hat r_{ij}(0) - r_{ij}(0))^2 + \mathrm{mean}_{ij} (\hat r_{ij}(\tau) -
        r_{ij}(\tau))^2 + \lambda\, \mathrm{mean} (w - g w_0)^2 / \mathrm{mean}(g w_0)^2,

    where :math:`\hat r_{ij}(\tau)` is the correlation of region i with region j a lag earlier, and
    :math:`w_{ij} \ge 0` the weight of the connection from j to i. The common scale g of the structural weights
    :math:`w_0`, and the values of ``free``, are fitted first with :math:`w = g w_0`. Then the penalty
    :math:`\lambda` decreases, and each minimisation starts from the one before. The path stops where the mean
    difference from the halves that were held out is smallest. All sessions are fitted with half of that penalty, since
    their sampling error has half the variance.

    FC alone does not determine directions. Lagged correlations do if activity is correlated over about a lag, by
    its own dynamics and not by the hemodynamic response alone, which is common to all regions.

    References
    ----------
    Gilson, M. et al. (2016). PLoS Comput. Biol. 12(3), e1004762. Deco, G. et al. (2019). PNAS 116(36), 18088-18097.
    """
    refuse_forked("effective_connectivity")
    check(
        "effective_connectivity",
        sim=(sim, allowed.simulator),
        lag=(lag, allowed.integer(1)),
        free=(free, allowed.optional(allowed.instance(dict, 'of paths and parameters, e.g. {"model.gamma": ...}'))),
        penalties=(penalties, _penalties),
        max_evaluations=(max_evaluations, allowed.integer(1)),
        monitor=(monitor, allowed.optional(allowed.integer(0))),
        skip_t=(skip_t, allowed.integer(0)),
        progress=(progress, allowed.boolean),
    )
    linear, state = prepare_linear(sim)
    place = choose_monitor(linear.simulate.monitors, monitor)
    _refuse_unsuitable(sim, linear.simulate, state, place, free or {})
    sessions = read_recordings(recordings, int(lag), int(skip_t), len(state.connectivity.weights))
    if len(sessions) == 1:
        middle = len(sessions[0]) // 2
        sessions = [sessions[0][:middle], sessions[0][middle:]]
    sessions = [observe(each, int(lag)) for each in sessions]
    if free:
        paths = {each.path: each.allowed_shapes(sim) for each in parameter_map(sim)}
        state = mark(state, free, paths, sim.connectivity.region_labels, linear.simulate)
    with linear.simulate.precision(), single_blas_thread():
        objective = Objective(linear, state, place, int(lag))
        return _estimate(
            objective, sessions, sorted(map(float, penalties), reverse=True), int(max_evaluations), progress
        )


def _estimate(objective, sessions, penalties, max_evaluations, progress):
    """Fits of both halves, choice of the penalty, and fit of all sessions."""
    halves = [mean_of(sessions[0::2]), mean_of(sessions[1::2])]
    everything, held_out = mean_of(sessions), halves[::-1]
    total = 3 * (len(FACTORS) + max_evaluations * (1 + len(penalties)))
    with progress_bar("effective connectivity", "evaluation", total, progress) as bar:

        def path(observed, penalties):
            start = scale_weights(objective, observed, max_evaluations, bar.update)
            return start, follow(objective, observed, start, penalties, max_evaluations, bar.update)

        starts, paths = zip(*(path(half, penalties) for half in halves), strict=True)
        losses = [
            [float(difference(end.predicted, observed)) for end in ends]
            for ends, observed in zip(paths, held_out, strict=True)
        ]
        place = int(np.argmin(np.mean(losses, axis=0)))
        # The sampling error of all sessions has half the variance of that of a half.
        start, to_final = path(everything, [*penalties[: place + 1], 0.5 * penalties[place]])
    final, ends = to_final[-1], [ends[place] for ends in paths]

    def scores(values, observed):
        return mean_of([agreement(value.predicted, each) for value, each in zip(values, observed, strict=True)])

    return EffectiveConnectivity(
        weights=np.asarray(final.weights),
        structural_weights=np.asarray(start.weights),
        weights_of_halves=np.array([end.weights for end in ends]),
        lag=objective.lag,
        penalty=penalties[place],
        penalties=np.array(penalties),
        training_losses=np.mean([[end.loss for end in ends] for ends in paths], axis=0),
        held_out_losses=np.mean(losses, axis=0),
        scores={
            "all sessions": scores([final], [everything]),
            "training half": scores(ends, halves),
            "held-out half": scores(ends, held_out),
            "held-out half, weakest penalty": scores([ends[-1] for ends in paths], held_out),
            "held-out half, structural weights": scores(starts, held_out),
            "held-out half, by the other half": agreement(*halves),
        },
        nonlinearity=final.nonlinearity,
        predicted=final.predicted,
        state=objective.state_of(final),
        linear=objective.linear,
    )


def _penalties(value):
    is_list = isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) == 1 and len(value) > 0
    rule = allowed.number(minimum=0.0)
    return None if is_list and all(rule(each) is None for each in value) else "numbers of at least 0, such as [0.01, 0]"


def _refuse_unsuitable(sim, simulate, state, monitor, free):
    """Refuse simulators that have no connections to estimate, or a monitor of other signals than the regions'."""
    _, problems = signal_problems(sim, simulate, state, monitor)
    weights = np.asarray(state.connectivity.weights)
    if not np.any(weights) or np.min(weights) < 0.0:
        found = "no weight above 0" if not np.any(weights) else f"weights down to {np.min(weights):g}"
        problems.append(f"connectivity.weights: {found}; give structural weights of at least 0")
    if WEIGHTS in free:
        problems.append(f"free: {WEIGHTS!r} is estimated in any case; leave it out")
    if problems:
        raise ValueError(f"effective_connectivity: {'; '.join(problems)}.")
