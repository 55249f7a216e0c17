"""What a fit is judged by: noise that it never saw."""


import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..loss import MISSING, rmse
from ..observation import compute_fc
from ..runtime.processes import refuse_forked
from ..runtime.progress import progress_bar, status_line
from ..state import State
from . import baselines
from .fc_monitor import transient_samples
from .scores import Evaluation


def evaluate(
    simulator_or_fit,
    target=None,
    *,
    n_seeds=8,
    simulation_length=None,
    skip_t=None,
    monitor=None,
    seed=0,
    n_tvb=False,
    window=None,
    region_groups=None,
    training_sessions=None,
    state=None,
    progress=True,
    missing="refuse",
):
    """Score simulated FC against empirical FC on noise that no fit has seen, beside what the scores are held against.

    Parameters
    ----------
    simulator_or_fit : tvb.simulator.simulator.Simulator or FitResult
        Not modified. Of a fit: its best state, target, monitor, skip_t and length, unless others are given.
    target : optional
        Empirical FC: array_like or pandas.DataFrame of shape (n_node, n_node), or the path of a file (`load_fc`); or
        several sessions or subjects, as an array (n_session, n_node, n_node), a list of matrices, or a dict of them by
        name. Labelled ones are matched to ``connectivity.region_labels``.
    n_seeds : int, optional
        Number of runs, each on noise of its own.
    simulation_length : float, optional
        Of each run [ms].
    skip_t, monitor : int, optional
        As for `fit`.
    seed : int, optional
        What the seeds of the runs come from: the first runs are the same however many there are.
    n_tvb : bool or int, optional
        Whether TVB itself runs, too, from the same state: as many runs (True: ``n_seeds``) with these seeds of its own
        random stream. At thousands of steps a second, that may take a while.
    window : float, optional
        [ms] Also score the FC of consecutive windows of this length, averaged over the windows of a run, as FC of short
        recordings is compared with; what is left at the end is not used.
    region_groups : sequence, shape (n_node,), optional
        Group of each region, for r by block of the matrix; by default hemispheres, where ``connectivity.hemispheres``
        says which or TVB can tell from the labels.
    training_sessions : int, str, or sequence of them, optional
        Of several sessions, the index (of a dict: the name) of those that the fit was made with. Then the mean of the
        others, held out, is the target that counts; else the mean of all.
    state : State, optional
        Another state to start from, with its parameters.
    progress : bool, optional
        Whether to show progress bars.
    missing : {"refuse", "ignore"}, optional
        Whether pairs of regions without data in a target (NaN, or masked; of a labelled one, regions that it lacks) are
        refused or left out of every score, of the baseline and of the noise ceiling. A fit's own target is taken as the
        fit has taken it.

    Returns
    -------
    Evaluation
        ``print`` it. An interrupt (Ctrl-C) keeps the runs that were done.

    Raises
    ------
    ValueError
        A target or sessions that do not fit, a deterministic simulator, a monitor that is not there, runs or windows
        too short for FC, numbers of runs below 1.
    UnsupportedComponent
        As `prepare`.

    Notes
    -----
    r is the correlation of off-diagonal entries (`fc_corr`), RMSE is over all (`rmse`); means of sessions are of
    correlations, not of Fisher's z. Runs start from one state, so a run long against the model's memory is needed for
    runs to be independent. They are done one after the other: memory is that of one.
    """
    from ..fitting.fit import FitResult
    from .runs import prepare_runs, prepare_runs_of_fit

    refuse_forked("evaluate")
    check(
        "evaluate",
        n_seeds=(n_seeds, allowed.integer(1)),
        simulation_length=(simulation_length, allowed.optional(allowed.number(above=0.0))),
        skip_t=(skip_t, allowed.optional(allowed.integer(0))),
        monitor=(monitor, allowed.optional(allowed.integer(0))),
        seed=(seed, allowed.integer(0)),
        n_tvb=(n_tvb, allowed.either(allowed.boolean, allowed.integer(0))),
        window=(window, allowed.optional(allowed.number(above=0.0))),
        state=(state, allowed.optional(allowed.instance(State))),
        progress=(progress, allowed.boolean),
        missing=(missing, MISSING),
    )
    n_seeds, seed = int(n_seeds), int(seed)
    n_tvb = n_seeds if n_tvb is True else int(n_tvb)
    result = simulator_or_fit if isinstance(simulator_or_fit, FitResult) else None
    if result is None and target is None:
        raise ValueError("evaluate: a simulator has no target of its own. Give the empirical FC.")
    with status_line("evaluate: translating the simulator", progress):
        runs = (prepare_runs if result is None else prepare_runs_of_fit)(
            simulator_or_fit, state, monitor, simulation_length
        )
    if skip_t is None:
        as_fitted = result is not None and runs.monitor == result.monitor
        skip_t = result.skip_t if as_fitted else transient_samples(runs.simulate.monitors[0], runs.state.monitors[0])
    skip_t = int(skip_t)
    n_window = _samples_of(window, runs, skip_t)
    # As it was before the fit: weights may have been fitted.
    connectivity = runs.sim.connectivity if result is None else result.simulator.connectivity
    if target is None:
        target, missing = result.target, "ignore"
    targets = baselines.named_targets(target, connectivity.region_labels, training_sessions, missing)
    groups = baselines.hemispheres(runs.sim.connectivity) if region_groups is None else region_groups
    among = {} if groups is None else baselines.region_blocks(groups, len(connectivity.weights))

    seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(max(n_seeds, n_tvb)) >> 1]
    rows, fc, failed, interrupted = [], {}, {}, False
    try:
        for simulator, run, n in (("JAX", runs.run_jax, n_seeds), ("TVB", runs.run_tvb, n_tvb)):
            total = n * runs.simulate.n_steps
            with progress_bar(simulator, "step", total, progress and n > 0, unit_scale=True) as bar:
                for one in seeds[:n]:
                    signal = run(one, bar.update)
                    whole, windows, why = _fc_of(signal, skip_t, n_window)
                    why = why and f"{why} {runs.explain_no_fc(simulator, one, signal, skip_t)}".rstrip()
                    rows += [
                        {"simulator": simulator, "seed": one, "target": name} | _scores(whole, windows, matrix, among)
                        for name, matrix in targets.matrices.items()
                    ]
                    fc.setdefault(simulator, []).append(whole)
                    failed |= {(simulator, one): why} if why else {}
    except KeyboardInterrupt:
        if not rows:
            raise
        interrupted = True

    return Evaluation(
        description=runs.simulate.description,
        length=runs.length,
        n_samples=runs.n_time - skip_t,
        skip_t=skip_t,
        window=window,
        targets=targets,
        rows=rows,
        fc={simulator: np.array(matrices) for simulator, matrices in fc.items()},
        training_scores=None if result is None or state is not None else _training(result),
        validation_scores=None if result is None or state is not None else _validation(result),
        structural_baseline={
            name: baselines.structural_baseline(connectivity.weights, matrix)
            for name, matrix in targets.matrices.items()
        },
        noise_ceiling=baselines.noise_ceiling(targets),
        failed=failed,
        interrupted=interrupted,
    )


def _samples_of(window, runs, skip_t):
    """Samples of a window; 0 for none. Refuses runs and windows that are too short."""
    left = runs.n_time - skip_t
    if skip_t < 0 or left < 3:
        raise ValueError(
            f"evaluate: {runs.n_time} samples in {runs.length:g} ms, and skip_t = {skip_t}, leave {max(left, 0)}; FC "
            "needs at least 3. Give a larger simulation_length, or a smaller skip_t of at least 0."
        )
    if window is None:
        return 0
    n_window = round(window / runs.period)
    if not 3 <= n_window <= left:
        raise ValueError(
            f"window: {window:g} ms are {n_window} samples; give at least 3 ({3 * runs.period:g} ms) and at most the "
            f"{left} of a run ({left * runs.period:g} ms)."
        )
    return n_window


def _fc_of(signal, skip_t, n_window):
    """FC of a run and of its windows, and why there is none (it is NaN then)."""
    starts = range(skip_t, len(signal) - n_window + 1, n_window) if n_window else ()
    try:
        whole = compute_fc(signal, skip_t)
        windows = [compute_fc(signal[start : start + n_window]) for start in starts]
    except ValueError as error:
        whole = np.full((signal.shape[1],) * 2, np.nan)
        return whole, [whole for _ in starts], str(error)
    return np.asarray(whole, float), [np.asarray(window, float) for window in windows], None


def _scores(whole, windows, target, among):
    def difference(fc):
        return float(rmse(fc, target, missing="ignore"))

    scores = {"r": baselines.correlation(whole, target), "rmse": difference(whole)}
    if windows:
        scores["window_r"] = float(np.mean([baselines.correlation(window, target) for window in windows]))
        scores["window_rmse"] = float(np.mean([difference(window) for window in windows]))
    return scores | {f"r {name}": baselines.correlation(whole, target, pairs) for name, pairs in among.items()}


def _training(result):
    """Training r and loss recorded at the best step."""
    best = result.history.best_step
    return {"r": float(result.r[best]), "loss": float(result.loss[best])} if result.loss.size else None


def _validation(result):
    """Validation r and loss at the best step, which was chosen by that loss; None for a fit without validation."""
    steps, values = result.history.validation
    if not steps.size:
        return None
    at = steps == result.history.best_step
    r = result.history.validation.aux.get("r", np.full(steps.shape, np.nan))
    return {"r": float(r[at][0]), "loss": float(values[at][0])}
