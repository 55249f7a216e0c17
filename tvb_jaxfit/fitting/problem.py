"""A fit before its first step: the request of a user, checked; and the translated, marked problem."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import options as allowed
from ..checks.arrays import real_array
from ..checks.options import check
from ..dynamics.simulate import Simulate
from ..evaluation.diagnosis import refuse_constant_signal
from ..evaluation.fc_monitor import choose_monitor, refuse_no_fc, transient_samples
from ..evaluation.target import match_target, read_target
from ..persistence import serialisable
from ..persistence.provenance import data_provenance
from ..runtime.progress import status_line
from ..state import State
from ..targets import composite
from ..targets.read import split_targets
from ..translate.clone import configured_clone
from ..translate.parameter_map import parameter_map
from ..translate.prepare import prepare
from .costs import Costs
from .criterion import Criterion
from .domains import refuse_starts
from .free import mark
from .functions import is_lost, storable, travelling
from .linear.objective import no_penalty
from .losses import checked_loss, checked_penalty, with_costs_of_dependents
from .method import Method, conflicts
from .optimizer import gradient_transformation
from .options import FCOptions, FitSettings, NoiseOptions, RunOptions, SearchOptions

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

# Shortest recording that the linear response is fitted for [samples]: FC of a shorter one is mostly sampling error.
_SHORTEST = 100


@serialisable
@dataclass(frozen=True, eq=False)
class FitRequest:
    """Arguments of `fit`, checked together.

    Raises
    ------
    ValueError
        Arguments of another kind, all in one message.
    """

    sim: "Simulator"
    target: Any
    free: dict
    method: Method
    loss: Callable | str | None
    penalty: Callable | None
    optimizer: Any
    max_steps: int | None
    fc: FCOptions
    noise: NoiseOptions
    search: SearchOptions
    run: RunOptions

    def __post_init__(self):
        rules = {
            "method": allowed.choice(*(str(method) for method in Method)),
            "loss": allowed.optional(allowed.either(allowed.function, allowed.choice(*composite.NAMES))),
            "penalty": allowed.optional(allowed.function),
            "optimizer": allowed.optional(gradient_transformation),
            "max_steps": allowed.optional(allowed.integer(0)),
            "fc": allowed.instance(FCOptions, "such as tj.FCOptions(skip_t=10)"),
            "noise": allowed.instance(NoiseOptions, "such as tj.NoiseOptions(resample=False)"),
            "search": allowed.instance(SearchOptions, "such as tj.SearchOptions(seed=1)"),
            "run": allowed.instance(RunOptions, "such as tj.RunOptions(progress=False)"),
            "free": allowed.instance(dict, 'of paths and parameters, e.g. {"coupling.a": Parameter()}'),
        }
        check("fit", **{name: (getattr(self, name), rule) for name, rule in rules.items()})
        object.__setattr__(self, "method", Method(self.method))
        object.__setattr__(self, "max_steps", None if self.max_steps is None else int(self.max_steps))
        problems = conflicts(self.method, {name: name for name in self.given()}, self.search.n_starts)
        if problems:
            raise ValueError(f"fit: {'; '.join(problems)}.")

    def picklable(self) -> "FitRequest":
        """The same request for a pickle: see `functions.travelling`."""
        return self._keeping(travelling)

    def storable(self) -> "FitRequest":
        """The same request for a file: see `functions.storable`."""
        return self._keeping(storable)

    def _keeping(self, kept):
        """Request with what a function keeps of each function and target."""
        functions = {name: kept(getattr(self, name)) for name in ("loss", "penalty", "optimizer")}
        run = replace(self.run, callback=kept(self.run.callback), checkpoint=None, resume=False)
        target = self.target
        if isinstance(target, dict):
            target = {name: kept(each) for name, each in target.items()}
        return replace(self, **functions, run=run, target=target)

    def with_functions(self, functions: dict) -> "FitRequest":
        """The same request, with functions in place of those that were lost.

        Parameters
        ----------
        functions : dict of str to object
            By name: "loss", "penalty", "optimizer", "callback"; and targets whose functions were lost.

        Raises
        ------
        ValueError
            Functions that are still missing, or names of other options.
        """
        names = {name: getattr(self, name) for name in ("loss", "penalty", "optimizer")}
        names["callback"] = self.run.callback
        targets = self.target if isinstance(self.target, dict) else {}
        names |= {name: each for name, each in targets.items() if is_lost(each)}
        unknown = [name for name in functions if name not in names]
        lost = [name for name, value in names.items() if is_lost(value) and name not in functions]
        problems = [f"{name}: no function of a fit; give {', '.join(names)}" for name in unknown]
        problems += [f"{name}: lost when the result was pickled or saved; give it again, {name}=..." for name in lost]
        if problems:
            raise ValueError(f"spread: {'; '.join(problems)}.")
        names |= functions
        run = replace(self.run, callback=names.pop("callback"))
        given = {name: names.pop(name) for name in targets if name in names}
        target = self.target | given if given else self.target
        return replace(self, **names, run=run, target=target)

    def given(self) -> list[str]:
        """Names of the options that differ from their defaults, those of groups by their own names."""
        single = [name for name in ("loss", "penalty", "optimizer", "max_steps") if getattr(self, name) is not None]
        groups = (self.fc, self.noise, self.search, self.run)
        return single + [name for group in groups for name, _, is_default in group.entries() if not is_default]


@dataclass(frozen=True, eq=False)
class FitProblem:
    """A request, translated and marked: all that a fit needs, whatever its method.

    Attributes
    ----------
    request : FitRequest
    settings : FitSettings
        Options of the request, as text.
    simulate : Simulate
        Translated simulation.
    state : State
        Start of the fit, with `Parameter`s.
    monitor, skip_t : int
        Monitor that FC is computed from, and number of samples left out.
    target : ndarray, shape (n_node, n_node)
        Empirical FC.
    others : dict of str to Target
        Targets besides FC, by name.
    data : dict of str to str
        Sources of the empirical data.
    penalty : callable
        State (plain) to a scalar.
    simulator : Simulator
        Configured copy of the TVB simulator.
    resamples : bool
        Each step uses new noise.
    costs : Costs
        Seconds of the stages so far.
    """

    request: FitRequest
    settings: FitSettings
    simulate: Simulate
    state: State
    monitor: int
    skip_t: int
    target: np.ndarray
    others: dict
    data: dict
    penalty: Callable
    simulator: "Simulator"
    resamples: bool
    costs: Costs

    def criterion(self, default_loss: Callable) -> Criterion:
        """Criterion of the fit, with a loss of FC that is used if the request has none."""
        loss = composite.fc_loss(default_loss if self.request.loss is None else self.request.loss)
        monitor = self.simulate.monitors[self.monitor]
        n_time = monitor.steps(0, self.simulate.n_steps).size - self.skip_t
        period = monitor.istep * monitor.dt
        return Criterion(
            checked_loss(loss, self.target), self.target, self.others, self.monitor, self.skip_t, period, n_time
        )


def prepare_problem(request: FitRequest, defaults: dict) -> FitProblem:
    """Translate the simulator of a request, read its target, and mark its free values.

    Parameters
    ----------
    request : FitRequest
    defaults : dict of str to object
        Defaults of the keyword arguments of `fit`.

    Raises
    ------
    ValueError, UnsupportedComponent
        As of `fit`.
    """
    sim, fc, costs = request.sim, request.fc, Costs()
    arguments = {name: getattr(request, name) for name in defaults} | {"method": str(request.method)}
    settings = FitSettings.of(arguments, defaults)
    given, others = split_targets(request.target)
    given, others = read_target(given), composite.targets_of(request.loss, others)
    with status_line("fit: translating the simulator", request.run.progress), costs.of("translation"):
        simulate, state = prepare(sim, fc.simulation_length, request.noise.source)
    labels = sim.connectivity.region_labels
    monitor = choose_monitor(simulate.monitors, fc.monitor)
    skip_t = fc.skip_t
    if skip_t is None:
        skip_t = transient_samples(simulate.monitors[monitor], state.monitors[monitor])
    refuse_no_fc("fit", sim, simulate, state, monitor, skip_t)
    target = match_target(given, labels, fc.missing)
    others = _bound(others, sim, simulate, monitor, skip_t)
    data = data_provenance(real_array(given, "target", masked=np.nan), sim.connectivity)
    paths = {each.path: each.allowed_shapes(sim) for each in parameter_map(sim)}
    state = mark(state, request.free, paths, labels, simulate)
    refuse_starts(state)
    penalty = no_penalty if request.penalty is None else checked_penalty(request.penalty, state)
    penalty = with_costs_of_dependents(penalty, state)
    resamples = "noise" in state.integrator and request.noise.resample is not False
    _refuse_unused_noise_options(request.noise, resamples)
    refuse_constant_signal(sim, simulate, state, monitor, skip_t)
    return FitProblem(
        request=request,
        settings=settings,
        simulate=simulate,
        state=state,
        monitor=monitor,
        skip_t=skip_t,
        target=target,
        others=others,
        data=data,
        penalty=penalty,
        simulator=configured_clone(sim),
        resamples=resamples,
        costs=costs,
    )


def _bound(others, sim, simulate, monitor, skip_t):
    """Targets for the simulator; ValueError with all reasons why some do not fit its simulation."""
    recorder, configured = simulate.monitors[monitor], configured_clone(sim)
    n_node, n_time = len(sim.connectivity.weights), recorder.steps(0, simulate.n_steps).size - skip_t
    bound, problems = {}, []
    for name, each in others.items():
        found = each.problems(n_node, recorder.istep * recorder.dt, n_time)
        try:
            bound[name] = each.bound(configured)
        except ValueError as error:
            found.append(str(error).removesuffix("."))
        problems += [f"{name!r}: {problem}" for problem in found]
    if problems:
        raise ValueError(f"target: {'; '.join(problems)}.")
    return bound


def _refuse_unused_noise_options(noise, resamples):
    if noise.n_realisations > 1 and not resamples:
        raise ValueError(
            f"n_realisations: {noise.n_realisations}; give at least 1, and more than 1 only if noise is resampled."
        )
    if noise.patience is not None and not resamples:
        raise ValueError(
            f"patience: {noise.patience}; it counts validations on other noise, and this fit uses the same noise in "
            "all steps. Leave it out."
        )


def expected_length(request: FitRequest, simulate: Simulate, monitor: int, skip_t: int) -> float:
    """Length of the recording that the linear response predicts the loss of [ms]."""
    n_steps = simulate.n_steps
    if request.method in (Method.AUTO, Method.LINEAR_THEN_SIMULATE):
        # A long simulation serves a smoother refinement; the start of it is that of the simulator's own length.
        n_steps = int(np.ceil(request.sim.simulation_length / simulate.dt))
    recorder = simulate.monitors[monitor]
    n_samples = recorder.steps(0, n_steps).size - skip_t
    return max(n_samples, _SHORTEST) * recorder.istep * simulate.dt
