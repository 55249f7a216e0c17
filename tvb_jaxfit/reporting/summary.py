"""What there is to tell of a fit, as text, numbers and arrays: without its simulator, so that it can be kept."""

import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import jax
import numpy as np

from .. import __version__
from ..certificate.certify import Certificate, certify
from ..constraints import MaskedParameter
from ..evaluation.baselines import hemispheres
from ..evaluation.fc_monitor import is_noisy
from ..evaluation.runs import at_state
from ..evaluation.scores import Evaluation
from ..fitting.fit import TRAINING_KEY, VALIDATION_KEY
from ..fitting.linear import refinement
from ..parameters import parameters_of
from ..persistence import serialisable
from ..persistence.versions import package_versions
from .parameter_table import format_constraint, units_and_domains
from .reproduction import fit_call, tvb_values

# What the code of a fit from the command line does.
COMMAND = "The same command"
# What the other code of a fit does.
VALUES = "The fitted values, in TVB alone"
# Length of the run that a certificate is made of [ms], where the simulator's is longer: TVB takes its time.
_CERTIFIED = 10_000.0


@serialisable
@dataclass(frozen=True, eq=False)
class FittedParameter:
    """One parameter, before and after.

    Attributes
    ----------
    path, unit, domain, kind : str
        Attribute path; TVB's unit and domain, where it names them; what it is kept to.
    initial, fitted : ndarray
        [in TVB's unit]
    mask : ndarray of bool or None
        Which entries were free, where not all of them were.
    """

    path: str
    unit: str
    domain: str
    kind: str
    initial: np.ndarray
    fitted: np.ndarray
    mask: np.ndarray | None = None

    def numbers(self):
        """(initial, fitted) numbers that were free, as vectors."""
        free = ... if self.mask is None else self.mask
        return self.initial[free].ravel(), self.fitted[free].ravel()


@serialisable
@dataclass(frozen=True, eq=False)
class FitSummary:
    """What there is to tell of a fit.

    Attributes
    ----------
    description : str
        Of the simulator.
    created : str
    labels : list of str
        Of the regions.
    weights, lengths : ndarray, shape (n_node, n_node)
        Of the connectome, before the fit; lengths in mm.
    matrices : dict of str to ndarray
        FC by title: the empirical one first, the fitted one last.
    missing : dict of str to str
        Why there is no FC, by title.
    stages : dict of str to History
        What happened, by stage; without states.
    parameters : list of FittedParameter
    evaluation : Evaluation or None
    certificate : Certificate or None
    is_noisy : bool
        Whether there is noise to evaluate the fit on.
    details : dict of str to dict of str to str
        How it was made, by subject.
    code : dict of str to str
        By what it does.
    hemispheres : ndarray of bool or None, shape (n_node,)
        True for right; None where the connectivity does not say.
    """

    description: str
    created: str
    labels: list
    weights: np.ndarray
    lengths: np.ndarray
    matrices: dict
    missing: dict
    stages: dict
    parameters: list
    evaluation: Evaluation | None
    certificate: Certificate | None
    is_noisy: bool
    details: dict
    code: dict
    hemispheres: np.ndarray | None = None


def summarise(result, certificate=None, command=None, simulated=True):
    """FitSummary of a fit.

    Parameters
    ----------
    result : FitResult
    certificate : Certificate, optional
    command : str, optional
        The command that made the fit, where it was one.
    simulated : bool, optional
        Whether FC are simulated for it, which takes time that a process that was told to end may not have.

    Returns
    -------
    FitSummary

    Raises
    ------
    ValueError
        Where the result holds no simulator.
    """
    sim = result.simulator
    if sim is None:
        raise ValueError("report: this FitResult holds no simulator, of which there is much to tell. Fit with fit().")
    stages = {} if result.linear_stage is None else {"Linear response": result.linear_stage}
    stages[_stage(result)] = result
    first = next(iter(stages.values()))
    matrices, missing = {"Empirical": result.target}, {}
    states = {"Initial": (first, "initial")}
    states |= {title: (stage, "best") for title, stage in stages.items() if stage is not result}
    for title, (stage, name) in (states | {"Fitted": (result, "best")}).items():
        if not simulated:
            missing[title] = "interrupted before it was simulated"
            continue
        try:
            matrices[title] = np.asarray(stage.fc(getattr(stage, name)), float)
        except ValueError as error:
            missing[title] = str(error)
    sides = hemispheres(sim.connectivity)
    again = {COMMAND: command} if command else {"The fit": fit_call(result.options, first.initial, sim)}
    return FitSummary(
        description=result.simulate.description,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        labels=[label.decode() if isinstance(label, bytes) else str(label) for label in sim.connectivity.region_labels],
        weights=np.array(sim.connectivity.weights, float),
        lengths=np.array(sim.connectivity.tract_lengths, float),
        matrices=matrices,
        missing=missing,
        stages={title: replace(stage.history, best=None, saved={}) for title, stage in stages.items()},
        parameters=_parameters(first.initial, result.best, sim),
        evaluation=result.evaluation,
        certificate=certificate,
        is_noisy=is_noisy(result.initial),
        details={"The run": _run(result), "Data": result.data, "The fit": _options(result), "Versions": versions()},
        code=again | {VALUES: tvb_values(result.best, sim)},
        hemispheres=None if sides is None else sides == "right",
    )


def certify_fit(result):
    """Certificate of the fitted simulator, from where the best state stands.

    Parameters
    ----------
    result : FitResult

    Returns
    -------
    Certificate

    Raises
    ------
    RuntimeError
        Without 64-bit mode.
    """
    simulate = result.simulate
    slowest = max(monitor.istep for monitor in simulate.monitors)
    n_steps = min(simulate.n_steps, max(_CERTIFIED / simulate.dt, 3 * slowest))
    return certify(at_state(result.simulator, result.best), n_steps * simulate.dt)


def _stage(result):
    return "Linear response" if "nonlinearity" in result.history.aux else "Simulation"


def _parameters(initial, best, sim):
    traits, began = units_and_domains(sim), parameters_of(initial)
    return [
        FittedParameter(
            path,
            *traits[path],
            format_constraint(parameter),
            np.asarray(began[path].value),
            np.asarray(parameter.value),
            parameter.mask if isinstance(parameter, MaskedParameter) else None,
        )
        for path, parameter in parameters_of(best).items()
    ]


def _run(result):
    simulate, sim = result.simulate, result.simulator
    monitor = simulate.monitors[result.monitor]
    noise = getattr(sim.integrator, "noise", None)
    told = "none: the integrator is deterministic"
    if noise is not None:
        nsig = np.unique(np.asarray(noise.nsig))
        sizes = f"{nsig[0]:g}" if nsig.size == 1 else f"{nsig[0]:g} to {nsig[-1]:g}"
        told = f"{type(noise).__name__}, nsig {sizes}, noise_seed {noise.noise_seed}"
    sides = hemispheres(sim.connectivity)
    counted = "" if sides is None else f" ({np.sum(sides == 'left')} left, {np.sum(sides == 'right')} right)"
    return {
        "simulator": simulate.description,
        "regions": f"{len(sim.connectivity.weights)}{counted}",
        "length": f"{simulate.n_steps} steps of {simulate.dt:g} ms ({simulate.n_steps * simulate.dt / 1000.0:g} s)",
        "FC of": f"monitors[{result.monitor}] ({monitor.name}, every {monitor.istep * monitor.dt:g} ms), after "
        f"{result.skip_t} samples",
        "conduction speed": f"{float(np.ravel(sim.connectivity.speed)[0]):g} mm/ms",
        "noise": told,
    }


def _options(result):
    """Options of the fit, with what was meant by those that were left out."""
    linear, method = _stage(result) == "Linear response", result.options.get("method")
    meant = {
        "loss": {"'linear'": "rmse_corr", "'linear+simulate'": "rmse_corr, then 1 - fc_corr"}.get(method, "rmse"),
        "optimizer": "none: L-BFGS on the linear response"
        if linear
        else {"'linear+simulate'": refinement.TOLD}.get(method, "optax.adam(0.01)"),
        "penalty": "none",
        "skip_t": str(result.skip_t),
        "monitor": str(result.monitor),
        "simulation_length": "the simulator's own",
        "fresh": f"noise of its own for each step, jax.random.fold_in(jax.random.key({TRAINING_KEY}), step); held out: "
        f"jax.random.key({VALIDATION_KEY})"
        if "noise" in result.initial.integrator
        else "no: there is no noise",
        "patience": "none",
        "callback": "none",
        "checkpoint": "none",
    }
    told = {}
    for name, text in result.options.items():
        if text == "None":
            text = meant.get(name, text)
        elif text == name:
            text = "given by the script"
        told[name] = text.strip("'")
    return {name: text for name, text in told.items() if name not in ("progress", "resume")}


def versions():
    """Versions that numbers depend on, precision, and what computed them, as text.

    Returns
    -------
    dict of str to str
    """
    return {
        "tvb_jaxfit": __version__,
        **package_versions(),
        "Python": platform.python_version(),
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
        "computed on": f"{jax.default_backend()}, {platform.system()} {platform.machine()}",
    }
