"""Scores of simulated FC on noise that no fit has seen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..runtime.processes import refuse_forked
from ..runtime.progress import progress_bar, status_line
from ..state import State
from ..targets.read import split_targets
from ..targets.target import Target
from .baselines import hemispheres, noise_ceiling, region_blocks, structural_baselines
from .fc_monitor import transient_samples
from .group import group_baselines
from .options import FCOptions
from .runs import FittedSimulator, Runs, prepare_runs, prepare_runs_of_fit
from .scores import Evaluation
from .scoring import Scoring, samples_per_window
from .sessions import named_targets

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator


def evaluate(
    simulator_or_fit: "Simulator | FittedSimulator",
    target: object = None,
    *,
    fc: FCOptions = FCOptions(),  # noqa: B008
    n_seeds: int = 8,
    n_tvb: int = 0,
    seed: int = 0,
    state: State | None = None,
    window: float | None = None,
    region_groups: Sequence | None = None,
    training_sessions: "int | str | Sequence | None" = None,
    group: object = None,
    progress: bool = True,
) -> Evaluation:
    """Score simulated FC against empirical FC on noise that no fit has seen.

    Parameters
    ----------
    simulator_or_fit : tvb.simulator.simulator.Simulator or FitResult
        Not modified. For a fit, runs start from its best state; target, monitor, ``skip_t`` and length are those of the
        fit, unless others are given.
    target : optional
        Empirical FC: an array_like or pandas.DataFrame of shape (n_node, n_node), or the path of a file (`load_fc`).
        Several sessions or subjects are given as an array of shape (n_session, n_node, n_node), a list of matrices, or
        a dict of matrices by name. Labelled matrices are matched to ``connectivity.region_labels``.

        A dict with targets besides FC has FC as ``"fc"``: ``{"fc": fc, "fcd": tj.FCDTarget(...)}``, as for `fit`. The
        distance of each run from each of them is a measure under its name, the KS distance of an FCD under
        ``"fcd KS"``. Default: those of the fit, unless a target is given.
    fc : FCOptions, optional
        Monitor, samples left out, length of each run, and treatment of missing data. Options that are left out are
        those of the fit. The target of a fit is used as the fit used it, whatever ``fc.missing`` is.
    n_seeds : int, optional
        Number of runs in JAX, each with its own noise.
    n_tvb : int, optional
        Number of runs of TVB itself, from the same state; each seeds TVB's own random stream. TVB computes thousands of
        steps per second, so this may take a while.
    seed : int, optional
        Seed from which the seeds of the runs are derived. The first runs are the same for every ``n_seeds``.
    state : State, optional
        State to start from, with its parameters, in place of the simulator's or the best one.
    window : float, optional
        Length of consecutive windows [ms]. The FC of each window is scored too, and the scores are averaged over the
        windows of a run: comparable with the FC of short recordings. An incomplete last window is not used.
    region_groups : sequence, shape (n_node,), optional
        Group of each region; r is also reported for each block of the FC matrix. By default the hemispheres, if
        ``connectivity.hemispheres`` is set or TVB can infer it from the labels.
    training_sessions : int, str, or sequence of these, optional
        Sessions of ``target`` that the fit was made with: indices, or names for a dict. The mean of the others (held
        out) becomes the primary target. By default the primary target is the mean of all sessions.
    group : optional
        FC of other subjects: one matrix, as for ``target``, or several, whose mean is used. Its correlation with each
        target needs no model, and is what a fit of one subject has to exceed. An FC that is that of a target is left
        out. A mean that includes the subject cannot be recognised: leave the subject out of it.
    progress : bool, optional
        Show progress bars.

    Returns
    -------
    Evaluation
        Printable. After an interrupt (Ctrl-C) it has the runs that were completed.

    Raises
    ------
    ValueError
        If a target, the group or the sessions do not fit the regions, the simulator is deterministic, the monitor does
        not exist, runs or windows are too short for FC, or an option has a value that is not allowed.
    UnsupportedComponent
        As in `prepare`.

    Notes
    -----
    r is the correlation of off-diagonal entries (`fc_corr`); RMSE is over all entries (`rmse`). Means over sessions are
    means of correlations, not of Fisher's z. All runs start from one state, so they are independent only if they are
    long compared with the model's memory. Runs are made one after the other, so that memory is that of one run.
    """
    refuse_forked("evaluate")
    check(
        "evaluate",
        simulator_or_fit=(simulator_or_fit, _simulator_or_fit),
        fc=(fc, allowed.instance(FCOptions, "such as FCOptions(skip_t=20)")),
        n_seeds=(n_seeds, allowed.integer(1)),
        n_tvb=(n_tvb, allowed.integer(0)),
        seed=(seed, allowed.integer(0)),
        state=(state, allowed.optional(allowed.instance(State))),
        window=(window, allowed.optional(allowed.number(above=0.0))),
        progress=(progress, allowed.boolean),
    )
    fit = simulator_or_fit if isinstance(simulator_or_fit, FittedSimulator) else None
    target, given, missing = _split(target, fit, fc.missing)
    with status_line("evaluate: translating the simulator", progress):
        prepare = prepare_runs if fit is None else prepare_runs_of_fit
        runs = prepare(simulator_or_fit, state, fc.monitor, fc.simulation_length)
    # The connectome before the fit: its weights may have been fitted.
    connectivity = runs.sim.connectivity if fit is None else fit.simulator.connectivity
    skip_t = _first_sample(runs, fit, fc.skip_t)
    n_window = samples_per_window(runs, skip_t, window)
    targets = named_targets(target, connectivity.region_labels, training_sessions, missing)
    used, remarks = _observables_of(given, runs, skip_t)
    scoring = Scoring(targets, _blocks(runs.sim.connectivity, region_groups), skip_t, n_window, used, runs.period)
    interrupted = _score_runs(runs, scoring, int(n_seeds), int(n_tvb), int(seed), progress)
    is_best = fit is not None and state is None
    return Evaluation(
        description=runs.simulate.description,
        length=runs.length,
        n_samples=runs.n_time - skip_t,
        skip_t=skip_t,
        window=window,
        targets=targets,
        rows=scoring.rows,
        fc={simulator: np.array(matrices) for simulator, matrices in scoring.fc.items()},
        training_scores=_training_scores(fit) if is_best else None,
        validation_scores=_validation_scores(fit) if is_best else None,
        structural_baseline=structural_baselines(connectivity.weights, targets),
        noise_ceiling=noise_ceiling(targets),
        group_baseline=group_baselines(group, targets, connectivity.region_labels, fc.missing),
        failed=scoring.failed,
        interrupted=interrupted,
        observables={name: str(each) for name, each in used.items()},
        left_out=remarks,
    )


def _split(target, fit, missing):
    """(FC or sessions, targets besides FC, rule for missing data) as they are given, or those of the fit."""
    if fit is None and target is None:
        raise ValueError("evaluate: a simulator has no target of its own. Give the empirical FC.")
    if target is None:
        return fit.target, getattr(fit, "targets", {}), "ignore"
    if isinstance(target, dict) and any(isinstance(each, Target) for each in target.values()):
        return *split_targets(target), missing
    return target, {}, missing


def _observables_of(given, runs, skip_t):
    """(observables that are computed from signals, sentences on the others); ValueError if some do not fit the runs."""
    n_node, n_time = len(runs.sim.connectivity.weights), runs.n_time - skip_t
    used = {name: each for name, each in given.items() if not each.observes_states}
    problems = [
        f"{name}: {problem}" for name, each in used.items() for problem in each.problems(n_node, runs.period, n_time)
    ]
    if problems:
        raise ValueError(f"evaluate: target: {'; '.join(problems)}.")
    return used, [f"{name}: not evaluated, as no monitor records it; see tj.mean_rates" for name in given.keys() - used]


def _simulator_or_fit(value):
    """Rule of simulators and fits."""
    if isinstance(value, FittedSimulator):
        return None
    simulator = allowed.simulator(value)
    return simulator and f"{simulator}, or a FitResult"


def _first_sample(runs, fit, skip_t):
    """Number of samples left out: as given, as in the fit, or as the buffer of the monitor requires."""
    if skip_t is not None:
        return int(skip_t)
    if fit is not None and runs.monitor == fit.monitor:
        return int(fit.skip_t)
    return transient_samples(runs.simulate.monitors[0], runs.state.monitors[0])


def _blocks(connectivity, region_groups):
    """Blocks of the FC matrix by group of regions; by default by hemisphere, if it is known."""
    groups = hemispheres(connectivity) if region_groups is None else region_groups
    return {} if groups is None else region_blocks(groups, len(connectivity.weights))


def _score_runs(runs: Runs, scoring: Scoring, n_seeds, n_tvb, seed, progress):
    """Score all runs in turn; return True if an interrupt ended them early."""
    words = np.random.SeedSequence(seed).generate_state(max(n_seeds, n_tvb)) >> 1
    seeds = [int(word) for word in words]
    try:
        for simulator, run, n in (("JAX", runs.run_jax, n_seeds), ("TVB", runs.run_tvb, n_tvb)):
            total = n * runs.simulate.n_steps
            with progress_bar(simulator, "step", total, progress and n > 0, unit_scale=True) as bar:
                for run_seed in seeds[:n]:
                    signal = run(run_seed, bar.update)
                    scoring.add(simulator, run_seed, signal, runs.explain_no_fc)
    except KeyboardInterrupt:
        if not scoring.rows:
            raise
        return True
    return False


def _training_scores(fit):
    """Training r and loss recorded at the best step."""
    best = fit.history.best_step
    return {"r": float(fit.r[best]), "loss": float(fit.loss[best])} if fit.loss.size else None


def _validation_scores(fit):
    """Validation r and loss at the best step, which was chosen by that loss; None for a fit without validation."""
    steps, values = fit.history.validation
    if not steps.size:
        return None
    at_best = steps == fit.history.best_step
    r = fit.history.validation.aux.get("r", np.full(steps.shape, np.nan))
    return {"r": float(r[at_best][0]), "loss": float(values[at_best][0])}
