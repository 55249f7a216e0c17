"""Posterior of fitted values from FC, or from recordings: Laplace approximation, then NUTS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..dependents import free_parameters_of
from ..errors import NoStableFixedPoint
from ..linear_response.simulator import LinearizedSimulator
from ..runtime.progress import progress_bar, status_line
from ..state import State
from ..uncertainty.expected_response import ExpectedResponse
from ..uncertainty.free_values import FreeValues
from ..uncertainty.identifiability import number_of_samples, refuse_no_response, usable_pairs
from .coordinates import Coordinates
from .density import PosteriorDensity
from .importance import corrected_draws
from .laplace import Point, laplace
from .metric import scales, scales_at
from .nuts import Sampler, starts, whole_batches
from .observed_fc import ObservedFC
from .priors import JointPrior, joint_prior
from .recordings import ObservedRecordings, Recordings
from .result import Posterior
from .validity import Validity

# Number of draws at which the linear response is checked.
_N_CHECKED = 50
# Draws of each of the short chains, size of their first units, and at how many of their states there is a curvature.
_N_SHORT, _NARROW, _N_CURVATURES = 50, 0.3, 6
# Smallest number of draws of a chain that has a result.
_MIN_DRAWS = 4
# Eigenvalue of an FC, relative to the largest, below which it is no correlation matrix.
_NEGATIVE = -1e-8


@dataclass(frozen=True)
class Sampling:
    """Method and size of a posterior.

    Attributes
    ----------
    uses_nuts : bool
        False for draws of the Laplace approximation.
    n_chains, n_draws, n_warmup : int
    seed : int
    progress : bool
    """

    uses_nuts: bool
    n_chains: int
    n_draws: int
    n_warmup: int
    seed: int
    progress: bool


def observed_fc(
    linear: LinearizedSimulator, target: np.ndarray, monitor: int, length: float, has_discrepancy: bool
) -> tuple[ObservedFC, list[str]]:
    """FC as data, and what there is to say of it.

    Parameters
    ----------
    linear : LinearizedSimulator
    target : ndarray, shape (n_node, n_node)
        Pairs that are NaN have no data.
    monitor : int
        Index of the monitor that it belongs to.
    length : float
        Length of the recording [ms].
    has_discrepancy : bool

    Returns
    -------
    ObservedFC, list of str

    Raises
    ------
    ValueError
        Correlations of 1 between different regions; a recording of less than 10 samples.
    """
    n_samples = number_of_samples(linear.simulate, monitor, length, "posterior")
    pairs, remarks = usable_pairs(target)
    extreme = np.flatnonzero(np.abs(target[pairs]) >= 1.0)
    if extreme.size:
        first, second = (each[extreme[0]] for each in pairs)
        raise ValueError(
            f"posterior: target: {extreme.size} pairs have a correlation of 1 or more, such as regions {first} and "
            f"{second}: their Fisher z is infinite. Set them to NaN in the target, and fit again."
        )
    remarks = [remark.replace("standard errors are upper bounds", "the posterior is too wide") for remark in remarks]
    if np.all(np.isfinite(target)):
        values = np.linalg.eigvalsh(target - np.diag(np.diag(target)) + np.eye(len(target)))
        if values[0] < _NEGATIVE * values[-1]:
            remarks.append(
                f"the target is no correlation matrix: its smallest eigenvalue is {values[0]:.2g}. Its pairs are used "
                "as they are"
            )
    return ObservedFC(target, monitor, n_samples, pairs, has_discrepancy), remarks


def observed_recordings(linear: LinearizedSimulator, given: Recordings, monitor: int) -> ObservedRecordings:
    """Recordings as data of a monitor.

    Raises
    ------
    ValueError
        Another sampling interval or number of regions than those of the monitor.
    """
    simulate = linear.simulate
    period = simulate.monitors[monitor].istep * simulate.dt
    wrong = []
    if not np.isclose(given.period, period, rtol=1e-6):
        wrong.append(f"period: {given.period:g} ms, but monitors[{monitor}] samples every {period:g} ms")
    if wrong:
        raise ValueError("posterior: recordings: " + "; ".join(wrong) + ".")
    return ObservedRecordings(given, monitor)


def posterior(
    linear: LinearizedSimulator,
    state: State,
    initial: State,
    data: ObservedFC | ObservedRecordings,
    labels: Sequence[str],
    prior: dict,
    sampling: Sampling,
    remarks: Sequence[str] = (),
) -> Posterior:
    """Posterior of the free values of a state.

    Parameters
    ----------
    linear : LinearizedSimulator
    state, initial : State
        With `Parameter`s: at the fitted values, where the search for the maximum starts, and at those before the fit,
        from which default priors come.
    data : ObservedFC or ObservedRecordings
    labels : sequence of str
        Of the regions.
    prior : dict of str to numpyro.distributions.Distribution
        By path.
    sampling : Sampling
    remarks : sequence of str
        Shown with the result.

    Returns
    -------
    Posterior

    Raises
    ------
    NoStableFixedPoint
        The fitted values have no linear response.
    ValueError
        Priors that are not allowed; signals without noise; recordings of another number of regions.
    ImportError
        NUTS without NumPyro and ArviZ.
    """
    _require(sampling, prior)
    free = FreeValues(free_parameters_of(state), list(labels))
    priors = joint_prior(FreeValues(free_parameters_of(initial), list(labels)), prior)
    expected = ExpectedResponse(linear, state, free)
    with status_line("posterior: linear response", sampling.progress):
        response = expected.response
        refuse_no_response(response, data.monitor, "posterior")
        _refuse_other_size(response, data)
        data = data.at(response)
    further = data.nuisance(response)
    joint = JointPrior(priors.parts | {name: (of, start.size) for name, (of, start) in further.items()})
    validity = Validity().including(response)
    density = PosteriorDensity(expected, data, joint, validity)
    start = joint.variables(np.concatenate([free.vector, *(start for _, start in further.values())]))
    approximation = laplace(density.evaluate, _start(density, start), _bar("curvature", "value", sampling.progress))
    branch = density.branch(approximation.maximum)
    remarks = [*remarks, *_on_validity(validity)]
    chains, u, of_draws = (_nuts if sampling.uses_nuts else _corrected)(branch, approximation, sampling)
    return Posterior(branch, approximation, u, chains, _is_trusted(branch, u), (*remarks, *of_draws))


def _require(sampling, prior):
    """Import what is needed before anything is computed."""
    needed = (["numpyro", "arviz"] if sampling.uses_nuts else []) + (["numpyro"] if prior else [])
    missing = []
    for name in dict.fromkeys(needed):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ImportError(
            f"posterior: {', '.join(missing)} not found. Install tvb-jaxfit[posterior], or give method='laplace' and "
            "no prior."
        )


def _refuse_other_size(response, data):
    n_signal = response.covariance(data.monitor).shape[0]
    n_node = data.fc.shape[0] if isinstance(data, ObservedFC) else data.recordings.n_node
    if n_signal != n_node:
        raise ValueError(
            f"posterior: the data have {n_node} regions, but monitors[{data.monitor}] has {n_signal} signals."
        )


def _start(density, u) -> Point:
    """Fitted values as a point; nearer to the centre of the prior where a bound has moved them off the fixed point."""
    potential, _, x = density.evaluate(u, density.start)
    if not np.isfinite(potential):
        raise NoStableFixedPoint(
            "the likelihood of the fitted values is not finite",
            "Move values off their bounds, and fit again.",
            "posterior",
        )
    return Point(u, x, potential)


def _bar(name, unit, progress) -> Callable:
    """Iterator that shows a bar."""

    def each(items):
        with progress_bar(f"posterior: {name}", unit, len(items), progress, leave=False) as bar:
            for item in items:
                yield item
                bar.update(1)

    return each


def _corrected(branch, approximation, sampling):
    """No chains, the variables of draws of the Laplace approximation, corrected if possible, and remarks."""
    found = corrected_draws(
        branch.value,
        approximation,
        sampling.n_draws,
        sampling.seed,
        _bar("draws", "draw", sampling.progress),
    )
    effective = f"{found.n_effective:.0f} of {found.n_proposals} proposals count"
    if found.is_corrected:
        return None, found.u[None], [f"draws are corrected by importance weights: {effective}"]
    remark = (
        f"draws are those of a normal distribution, which is far from the posterior ({effective}): take method='nuts'"
    )
    return None, found.u[None], [remark]


def _nuts(branch, approximation, sampling):
    """Chains, their variables, and remarks; draws of the Laplace approximation after an early interrupt."""
    coordinates = Coordinates.at(branch.density, approximation.maximum)
    try:
        if coordinates is None:
            chains = _chains(branch, approximation, sampling)
        else:
            chains = _chains_in_coordinates(coordinates, sampling)
    except KeyboardInterrupt:
        chains = None
    n_draws = 0 if chains is None else chains.u.shape[1]
    if n_draws < _MIN_DRAWS:
        u = approximation.draws(sampling.n_draws, sampling.seed)[None]
        return None, u, ["interrupted in the warm-up: draws of the Laplace approximation"]
    cut = [f"interrupted: {n_draws} of {sampling.n_draws} draws"] if n_draws < sampling.n_draws else []
    return chains, chains.u, cut


def _chains(branch, approximation, sampling):
    """Chains in units of the Laplace approximation."""
    origin, root = approximation.maximum.u, approximation.root
    first = starts(branch.value, origin, root, sampling.n_chains, sampling.seed)
    return _without_warmup(Sampler(branch.potential, origin.size, sampling.n_warmup), first, root, sampling)


def _chains_in_coordinates(coordinates, sampling):
    """Chains in units of the curvature at states of short chains, which start near the maximum."""
    bar = _bar("coordinates", "value", sampling.progress)
    coordinates, found = coordinates.normal(bar)
    origin, root = found.maximum.u, _NARROW * scales(coordinates.evaluate, found)
    first = starts(lambda y: coordinates.evaluate(y, None)[0], origin, root, sampling.n_chains, sampling.seed)
    sampler = Sampler(coordinates.potential, origin.size, sampling.n_warmup)
    with progress_bar(
        "posterior: short chains", "draw", _N_SHORT * len(first), sampling.progress, leave=False
    ) as shown:
        short = sampler.chains(first, root, _N_SHORT, sampling.seed, shown.update)
    if short.u.shape[1] < _N_SHORT:
        raise KeyboardInterrupt
    chosen = short.u[:, np.linspace(_N_SHORT // 2, _N_SHORT - 1, -(-_N_CURVATURES // len(first))).astype(int)]
    points = [Point(y, coordinates.features.point.x, np.nan) for y in chosen.reshape(-1, origin.size)]
    root = scales_at(coordinates.evaluate, points, bar)
    chains = _without_warmup(sampler, short.u[:, -1], root, sampling)
    return replace(chains, u=coordinates.all_variables(chains.u))


def _without_warmup(sampler, first, root, sampling):
    n_warmup, n_draws = sampler.n_warmup, sampler.n_warmup + sampling.n_draws
    total = len(first) * whole_batches(n_draws)
    with progress_bar("posterior: NUTS", "draw", total, sampling.progress) as shown:
        # The seed of short chains, plus one.
        chains = sampler.chains(first, root, n_draws, sampling.seed + 1, shown.update)
    return chains.between(n_warmup, n_draws)


def _is_trusted(branch, u):
    """True for draws, evenly spaced, at which the linear response is within the default limits."""
    flat = u.reshape(-1, u.shape[-1])
    chosen = flat[np.linspace(0, len(flat) - 1, min(_N_CHECKED, len(flat))).round().astype(int)]
    return np.array([branch.density.is_trusted(each, branch.start(each)) for each in chosen])


def _on_validity(validity):
    if validity == Validity():
        return []
    return [
        "the fitted values themselves lie where the linear response is not trusted (nonlinearity or a second fixed "
        f"point): the limits were widened to {validity.nonlinearity:.2g} and {validity.residual:.2g}"
    ]
