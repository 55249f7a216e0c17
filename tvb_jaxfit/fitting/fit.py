"""fit: a simulator, a target and what is free, in one call."""

import copy
from dataclasses import dataclass, field, replace

import jax
import numpy as np
import optax

from ..checks import options as allowed
from ..checks.arrays import real_array
from ..checks.options import check
from ..dynamics.simulate import Simulate
from ..errors import FitFailed
from ..evaluation.diagnosis import explain_no_fc, explain_not_finite, fc_or_explanation, refuse_constant_signal
from ..evaluation.evaluate import evaluate, resample
from ..evaluation.fc_monitor import choose_monitor, refuse_no_fc, transient_samples
from ..evaluation.scores import Evaluation
from ..evaluation.target import match_target, read_target
from ..loss import MISSING, fc_corr, rmse, rmse_corr
from ..observation import compute_fc
from ..parameters import parameters_of, strip_parameters
from ..persistence.provenance import data_provenance
from ..reporting.reproduction import options_as_code
from ..runtime.processes import PicklableMixin, refuse_forked
from ..runtime.progress import status_line
from ..state import State
from ..translate.clone import PackedSimulator, clone, configured_clone
from ..translate.parameter_map import parameter_map
from ..translate.prepare import prepare
from ..translate.prepare_linear import prepare_linear
from .domains import refuse_starts
from .free import mark
from .history import History
from .linear import refinement
from .linear.confirmation import confirmation
from .linear.fit import fit_linear
from .linear.objective import free_of_charge
from .losses import checked_loss, checked_penalty
from .optimizer import OptaxOptimizer, gradient_transformation

_METHODS = ("simulate", "linear", "linear+simulate")
# Keys of the noise that a fit sees, and of the noise that it is held against.
TRAINING_KEY, VALIDATION_KEY = 1, 2
# The shortest recording that a linear fit is made for [steps]: of less, FC is all chance.
_SHORTEST = 25_000


@dataclass
class FitResult(PicklableMixin):
    """A fit, and how it came about.

    Attributes
    ----------
    fitted, best : State
        After the last good step, and of the smallest loss; fitted values are `Parameter`s in them.
    initial : State
        Where it began.
    history : History
        Loss and, in ``history.aux["r"]``, correlation after each step, why it stopped, wall time.
    target : ndarray, shape (n_node, n_node)
        As it was compared: in the order of the regions, zero diagonal; NaN for pairs without data.
    simulate : Simulate
    skip_t : int
        BOLD samples left out before FC is computed.
    monitor : int
        Index of the monitor that FC is computed from.
    simulator : Simulator
        Copy of the simulator, as it was.
    evaluation : Evaluation or None
        What `evaluate` found of the best state, once it was asked.
    linear_stage : FitResult or None
        The linear fit that the simulation went on from.
    options : dict of str to str
        Of `fit`, as code.
    data : dict of str to str
        Where empirical FC and connectome came from: files, shapes and SHA-256 hashes.
    """

    fitted: State
    best: State
    initial: State
    history: History
    target: np.ndarray
    simulate: Simulate
    skip_t: int
    monitor: int = field(default=0)
    simulator: object = field(default=None, repr=False)
    evaluation: Evaluation | None = field(default=None, repr=False)
    linear_stage: "FitResult | None" = field(default=None, repr=False)
    options: dict = field(default_factory=dict, repr=False)
    data: dict = field(default_factory=dict, repr=False)

    @property
    def diverged(self):
        """Why the fit is no result, or is one up to some step only: empty where all was finite."""
        return self.history.diverged

    @property
    def loss(self):
        """Loss after each step."""
        return self.history.loss

    @property
    def r(self):
        """Correlation (off-diagonal) with the target after each step."""
        return self.history.aux.get("r", np.array([]))

    def __getstate__(self):
        return super().__getstate__() | {
            "simulator": None if self.simulator is None else PackedSimulator(self.simulator)
        }

    def __setstate__(self, held):
        super().__setstate__(held | {"simulator": held["simulator"] and held["simulator"].unpack()})

    def __deepcopy__(self, memo):
        # TVB's own deepcopy forgets what configure() worked out.
        memo.setdefault(id(self.simulator), clone(self.simulator))
        new = copy.copy(self)
        vars(new).update({name: copy.deepcopy(value, memo) for name, value in vars(self).items()})
        return new

    def fc(self, state=None, key=None):
        """FC of a state (the best by default), on the training noise or, with a JAX key, on fresh noise.

        Returns
        -------
        Array, shape (n_node, n_node)
        """
        state = strip_parameters(self.best if state is None else state)
        state = state if key is None else resample(state, key)
        return fc_or_explanation(self.simulator, self.simulate, state, self.monitor, self.skip_t)

    def score(self, state=None, key=None):
        """r (off-diagonal) of a state's FC with the target; see `fc`."""
        return float(fc_corr(self.fc(state, key), self.target, missing="ignore"))

    def evaluate(self, target=None, **options):
        """Scores on noise that the fit never saw, see `evaluate`; those of the best state are kept in `evaluation`.

        Returns
        -------
        Evaluation
        """
        found = evaluate(self, target, **options)
        if options.get("state") is None and (target is None or found.targets.sessions):
            self.evaluation = found
        return found

    def write_back(self, sim, state=None):
        """Put the best state's values (or another's) into a simulator; see `write_back`."""
        from ..writeback import write_back

        return write_back(self.best if state is None else state, sim)

    def report(self, path, certificate=None, force=False):
        """Put all that there is to tell of the fit on one page: figures, values, and how it was made.

        Parameters
        ----------
        path : path-like
            Ends in ``.html``; its folder is made where there is none. One file that asks for no other; for a PDF, print
            it from a browser. `evaluate` first, to have r on fresh noise as its headline.
        certificate : Certificate or bool, optional
            As `certify` gave it; True has one made, of the fitted simulator and 10 s or a few samples.
        force : bool, optional
            Whether a file of that name is replaced.

        Returns
        -------
        Path

        Raises
        ------
        FileExistsError
            Where there is a file of that name, without ``force``.
        ValueError
            Another ending, such as ``.pdf``; where the result holds no simulator.
        RuntimeError
            As `certify`, where a certificate is to be made.
        OSError
            As of any writing; there is no file then, or the one that was there before.
        """
        from ..certificate.certify import Certificate
        from ..reporting.report import refuse_existing, refuse_unusable_path, write_report
        from ..reporting.summary import certify_fit, summarise

        check(
            "report",
            path=(path, allowed.path),
            certificate=(certificate, allowed.optional(allowed.either(allowed.boolean, allowed.instance(Certificate)))),
            force=(force, allowed.boolean),
        )
        refuse_unusable_path(path)
        refuse_existing(path, force)
        # One that failed is false, and is shown.
        if isinstance(certificate, bool) or certificate is None:
            certificate = certify_fit(self) if certificate else None
        return write_report(path, summarise(self, certificate), force)

    def __repr__(self):
        h = self.history
        lines = [f"FitResult: {self.simulate.description}"]
        if h.loss.size:
            lines.append(
                f"  loss {h.loss[0]:.5f} -> {h.loss[h.best_step]:.5f}, r {self.r[0]:.4f} -> {self.r[h.best_step]:.4f}"
            )
        if self.diverged:
            lines.append(f"  DIVERGED: {self.diverged}")
        if self.evaluation is not None:
            lines.append(f"  {self.evaluation.summary()}")
        lines.append(f"  {max(0, h.loss.size - 1)} steps, best at {h.best_step}, {h.wall_time:.1f} s; {h.stop_reason}")
        began = parameters_of(self.initial)
        for path, parameter in parameters_of(self.best).items():
            lines.append(f"  {path}: {began[path]} -> {parameter}")
        return "\n".join(lines)

    def _repr_html_(self):
        from ..reporting.notebook import fit_html

        return fit_html(self)


def fit(
    sim,
    target,
    free,
    *,
    method="simulate",
    loss=None,
    penalty=None,
    optimizer=None,
    max_steps=100,
    skip_t=None,
    monitor=None,
    simulation_length=None,
    noise="tvb",
    fresh=None,
    n_noise=1,
    patience=None,
    max_evaluations=600,
    callback=None,
    progress=True,
    checkpoint=None,
    resume=False,
    missing="refuse",
):
    """Fit parameters of a TVB simulator to an empirical FC, by gradients.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified; `FitResult.write_back` does that.
    target : array_like, pandas.DataFrame or path-like, shape (n_node, n_node)
        Empirical FC; a labelled one is matched to ``connectivity.region_labels``. Of a path, the FC in that file (see
        `load_fc`).
    free : dict of str to Parameter
        What to fit, by attribute path: ``{"coupling.a": Parameter(), "model.w": BoundedParameter(lower_bound=0,
        upper_bound=1, regional=True)}``. A value left out (None) starts from the simulator's own.
    method : "simulate", "linear" or "linear+simulate", optional
        Through the simulation; by the linear response, without noise and a hundred times faster, confirmed by a
        simulation (see `prepare_linear`, `fit_linear`); or the second first, and on from there through the simulation.
        The linear response gives the loss that is expected of a simulation of that length, without running it: the
        shorter (25,000 steps at least), the less a fit relies on slow fluctuations, which only long recordings
        determine. What the simulation goes on from is expected of the simulator's own length, so that
        ``simulation_length`` may be longer: ten minutes have half the noise of two and a half.
    loss : callable, optional
        (fc, target) to a scalar. By default `rmse`; with the linear response `rmse_corr`, and 1 - `fc_corr` in a
        simulation that goes on from there. For ``missing="ignore"``, see there.
    penalty : callable, optional
        State (plain arrays) to a scalar that is added to the loss, whatever the FC is. For connectome weights,
        ``{"connectivity.weights": MaskedParameter(lower_bound=0.0)}`` and ``penalty=lambda state: jnp.mean((
        state.connectivity.weights - measured) ** 2)`` fit those of the connections that there are, near what they are.
    optimizer : optax.GradientTransformation, optional
        Of the simulation: Adam with a learning rate of 0.01 by default; after the linear response one of up to 0.005 of
        each value's range, which falls to a tenth.
    max_steps : int, optional
        Of the optimizer.
    skip_t : int, optional
        Samples to leave out before FC. By default as many as see the part of the BOLD stock that is still empty: as the
        hemodynamic response is long before a first run, none after a long one.
    monitor : int, optional
        Which monitor's signal FC is computed from; by default the only Bold, or the only one.
    simulation_length, noise
        As for `prepare`.
    fresh : bool, optional
        Whether each step of the optimizer sees noise of its own, as it does by default: the best state is that of the
        smallest loss on noise that no step has seen. Otherwise all steps see the draws of ``noise``.
    n_noise : int, optional
        Realisations of the noise over which each step's gradient is averaged.
    patience : int, optional
        Looks at the unseen noise, every tenth step, without a better one, after which the fit ends.
    max_evaluations : int, optional
        Of the linear response, from each start.
    callback, progress, checkpoint
        As for `OptaxOptimizer`; the checkpoint is the simulation's.
    resume : bool, optional
        As for `OptaxOptimizer.run`.
    missing : {"refuse", "ignore"}, optional
        Whether pairs of regions without data in the target (NaN, or masked; of a labelled one, regions that it lacks)
        are refused, or have a weight of 0 in the loss, in r and in every score; these regions are simulated all the
        same. A loss with an argument
        ``missing``, as `rmse`, `fc_corr` and `rmse_corr` have, is called with ``missing="ignore"``. Any other loss is
        given the target with NaN for these pairs, and has to leave them out itself.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError
        An unknown method, options that do not go together, a target that does not fit the regions, a path that the
        simulator does not have, bounds that exclude the start, a dispersion or correlation time of 0 or less to begin
        with; a first step of many times a value's size, with the parameter to give in its place; a monitor whose
        samples have no FC; no stable fixed point anywhere, or an FC that depends on nothing that is free, for a linear
        fit.
    FitFailed
        Where the loss or its gradient is not finite at the start values: with the sample, the state variable, the
        region and the time at which the run stops being finite. It holds the linear fit that it went on from, if any,
        as ``linear_stage``.
    UnsupportedComponent
        As `prepare`.
    """
    refuse_forked("fit")
    options = options_as_code(
        {name: value for name, value in locals().items() if name not in ("sim", "target", "free")}
    )
    check(
        "fit",
        method=(method, allowed.choice(*_METHODS)),
        loss=(loss, allowed.optional(allowed.function)),
        penalty=(penalty, allowed.optional(allowed.function)),
        optimizer=(optimizer, allowed.optional(gradient_transformation)),
        max_steps=(max_steps, allowed.integer(0)),
        skip_t=(skip_t, allowed.optional(allowed.integer(0))),
        monitor=(monitor, allowed.optional(allowed.integer(0))),
        simulation_length=(simulation_length, allowed.optional(allowed.number(above=0.0))),
        noise=(noise, allowed.either(allowed.choice("tvb"), allowed.random_key)),
        fresh=(fresh, allowed.optional(allowed.boolean)),
        n_noise=(n_noise, allowed.integer(1)),
        patience=(patience, allowed.optional(allowed.integer(1))),
        max_evaluations=(max_evaluations, allowed.integer(1)),
        callback=(callback, allowed.optional(allowed.function)),
        progress=(progress, allowed.boolean),
        checkpoint=(checkpoint, allowed.optional(allowed.path)),
        resume=(resume, allowed.boolean),
        missing=(missing, MISSING),
        free=(free, allowed.instance(dict, 'of paths and parameters, e.g. {"coupling.a": Parameter()}')),
    )
    max_steps, n_noise, max_evaluations = int(max_steps), int(n_noise), int(max_evaluations)
    is_fixed = fresh is not None and not fresh
    given = read_target(target)
    with status_line("fit: translating the simulator", progress):
        simulate, state = prepare(sim, simulation_length, noise)
    labels = sim.connectivity.region_labels
    monitor = choose_monitor(simulate.monitors, monitor)
    skip_t = transient_samples(simulate.monitors[monitor], state.monitors[monitor]) if skip_t is None else int(skip_t)
    refuse_no_fc("fit", sim, simulate, state, monitor, skip_t)
    target = match_target(given, labels, missing)
    data = data_provenance(real_array(given, "target", masked=np.nan), sim.connectivity)
    state = mark(state, free, {leaf.path: leaf.allowed_shapes(sim) for leaf in parameter_map(sim)}, len(labels))
    refuse_starts(state)
    penalty = free_of_charge if penalty is None else checked_penalty(penalty, state)
    is_fresh = "noise" in state.integrator and not is_fixed
    if n_noise > 1 and not is_fresh:
        raise ValueError(f"n_noise: {n_noise}; give at least 1, and more than 1 for fresh noise alone.")
    if patience is not None and not is_fresh:
        raise ValueError(f"patience: {patience}; it counts looks at unseen noise, and this fit sees but one. Leave it.")
    refuse_constant_signal(sim, simulate, state, monitor, skip_t)
    held, before = configured_clone(sim), None
    # What makes the simulation's fit this one, as its checkpoint names it.
    deciding = {"method": method, "target": target, "penalty": penalty, "skip_t": skip_t, "monitor": monitor}
    deciding |= {"fresh": is_fresh, "n_noise": n_noise, "simulator": held, "simulate": simulate}
    deciding["simulation_length"] = simulate.n_steps * simulate.dt
    if method != "simulate":
        of_linear = checked_loss(rmse_corr if loss is None else loss, target)
        with status_line("linear fit: translating the simulator", progress):
            linear, _ = prepare_linear(sim)
        confirm = confirmation(held, simulate, of_linear, target, monitor, jax.random.key(VALIDATION_KEY))
        # Long simulations have less noise to refine by; what they begin with is that of the simulator's own length.
        n_steps = simulate.n_steps if method == "linear" else int(np.ceil(sim.simulation_length / simulate.dt))
        used = simulate.monitors[monitor].steps(0, n_steps).size - skip_t
        length = max(used * simulate.monitors[monitor].istep, _SHORTEST) * simulate.dt
        limits = {"max_evaluations": max_evaluations, "penalty": penalty, "callback": callback, "progress": progress}
        fitted, history, _ = fit_linear(linear, state, of_linear, target, monitor, length, confirm, **limits)
        if history.diverged:
            unseen = resample(history.best, jax.random.key(VALIDATION_KEY))
            why = explain_no_fc(sim, simulate, unseen, monitor, skip_t)
            history = replace(history, diverged=f"{history.diverged} {why}".rstrip())
        whole = {"options": options, "data": data}
        before = FitResult(fitted, history.best, state, history, target, simulate, skip_t, monitor, held, **whole)
        if method == "linear" or history.stop_reason.startswith("interrupted"):
            return before
        state = fitted
        loss = refinement.pattern if loss is None else loss
        if optimizer is None:
            # Its learning rate falls over all steps.
            deciding["max_steps"] = max_steps
        optimizer = refinement.adam(parameters_of(state), max_steps) if optimizer is None else optimizer
    loss = checked_loss(rmse if loss is None else loss, target)
    optimizer = optax.adam(0.01) if optimizer is None else optimizer
    deciding |= {"loss": loss, "optimizer": optimizer}
    if n_noise > 1:
        optimizer, max_steps = optax.MultiSteps(optimizer, n_noise).gradient_transformation(), n_noise * max_steps

    def objective(state):
        fc = compute_fc(simulate(state).data[monitor], skip_t)
        return loss(fc, target) + penalty(state), {"r": fc_corr(fc, target, missing="ignore")}

    unseen = {}
    if is_fresh:
        unseen = {
            "refresh": lambda step, state: resample(state, jax.random.fold_in(jax.random.key(TRAINING_KEY), step)),
            "validate": lambda state: objective(resample(state, jax.random.key(VALIDATION_KEY))),
            "patience": patience,
        }
    loop = OptaxOptimizer(
        objective, optimizer, callback=callback, has_aux=True, progress=progress, checkpoint=checkpoint, **unseen
    )
    loop.checkpoint.named = deciding
    loop.explain = lambda state: explain_not_finite(sim, simulate, state, monitor, skip_t, loss, target, penalty)
    try:
        fitted, history = loop.run(state, max_steps, resume)
    except FitFailed as error:
        error.linear_stage = before
        raise
    whole = {"linear_stage": before, "options": options, "data": data}
    return FitResult(fitted, history.best, state, history, target, simulate, skip_t, monitor, held, **whole)
