"""Summary of a fit as text, numbers and arrays: without its simulator, so that it can be stored."""

import platform
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import jax
import numpy as np

from .. import __version__
from ..certificate.certify import certify
from ..certificate.result import Certificate
from ..constraints import MaskedParameter
from ..evaluation.baselines import hemispheres
from ..evaluation.fc_monitor import is_noisy
from ..evaluation.runs import at_state
from ..evaluation.scores import Evaluation
from ..parameters import parameters_of
from ..persistence import serialisable
from ..persistence.versions import package_versions
from ..uncertainty.standard_errors import StandardErrors
from .parameter_table import coefficients_of, format_constraint, units_and_domains
from .reproduction import fit_call, tvb_values

# Title of the command that repeats a fit from the command line.
COMMAND = "The same command"
# Title of the code with the fitted values.
VALUES = "The fitted values, in TVB alone"
# Maximum length of the run of a certificate [ms]: TVB is slow.
_MAX_CERTIFIED = 10_000.0
# Options that a table does not show, since they do not change the fit.
_HIDDEN_SETTINGS = ("run.progress", "run.resume")


class Stage(StrEnum):
    """Stages of a fit, by their titles."""

    LINEAR = "Linear response"
    SIMULATION = "Simulation"


@serialisable
@dataclass(frozen=True, eq=False)
class FittedParameter:
    """One parameter before and after a fit.

    Attributes
    ----------
    path, unit, domain, constraint : str
        Attribute path; TVB's unit and domain, if TVB has them; class and bounds.
    initial, fitted : ndarray
        Values in TVB's unit.
    mask : ndarray of bool or None
        Entries that were free; None if all were.
    coefficients : dict of str to (float, float)
        Initial and fitted coefficients of maps by name; empty for other parameters.
    standard_error : ndarray or None
        Of the fitted values, in their shape: NaN for entries that are not free. None if they are not known, and for a
        parameter with coefficients.
    is_determined : ndarray of bool or None
        True for values about which FC says more than the prior; as `standard_error`.
    """

    path: str
    unit: str
    domain: str
    constraint: str
    initial: np.ndarray
    fitted: np.ndarray
    mask: np.ndarray | None = None
    coefficients: dict = field(default_factory=dict)
    standard_error: np.ndarray | None = None
    is_determined: np.ndarray | None = None

    def free_values(self) -> tuple[np.ndarray, np.ndarray]:
        """Initial and fitted values of the free entries, as vectors."""
        free = ... if self.mask is None else self.mask
        return self.initial[free].ravel(), self.fitted[free].ravel()

    def with_standard_errors(self, errors: StandardErrors | None) -> "FittedParameter":
        """Copy with the standard errors of its values; None removes them."""
        if errors is None or self.path not in errors.names or self.coefficients:
            return replace(self, standard_error=None, is_determined=None)
        free = ... if self.mask is None else self.mask
        error, is_determined = np.full(self.fitted.shape, np.nan), np.zeros(self.fitted.shape, bool)
        error[free] = errors.standard_error[self.path].reshape(error[free].shape)
        is_determined[free] = errors.is_determined[self.path].reshape(error[free].shape)
        return replace(self, standard_error=error, is_determined=is_determined)


@serialisable
@dataclass(frozen=True, eq=False)
class FitSummary:
    """Everything that a report shows of a fit.

    Attributes
    ----------
    description : str
        Of the simulator.
    created : str
        Date and time.
    labels : list of str
        Of the regions.
    weights, lengths : ndarray, shape (n_node, n_node)
        Of the connectome before the fit; lengths in mm.
    matrices : dict of str to ndarray, shape (n_node, n_node)
        FC by title: ``"Empirical"`` first, ``"Fitted"`` last.
    missing : dict of str to str
        Reasons why there is no FC, by title.
    stages : dict of str to History
        History by stage (see `Stage`), without states.
    parameters : list of FittedParameter
    evaluation : Evaluation or None
    certificate : Certificate or None
    is_noisy : bool
        True if the simulator has noise, so that the fit can be evaluated on fresh noise.
    details : dict of str to dict of str to str
        Names and values by subject: the run, the data, the options of the fit, versions.
    code : dict of str to str
        Code or command, by title.
    hemispheres : ndarray of bool or None, shape (n_node,)
        True for right; None if it is not known.
    fresh : FreshNoise or None
        r of the best state on noise that the fit never saw, as the fit itself has simulated it.
    terms : list of tuple
        Of a loss of more than FC: (name, target, weight, value at the start, at the best step, on fresh noise) of each
        term, the values without the weight.
    mean_rates : list of str
        Sentences on the mean rates of balanced regions under noise.
    standard_errors : StandardErrors or None
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
    # Of a class of `fitting`, which stands above this package.
    fresh: Any = None
    terms: list = field(default_factory=list)
    mean_rates: list = field(default_factory=list)
    standard_errors: StandardErrors | None = None

    def with_standard_errors(self, errors: StandardErrors | None) -> "FitSummary":
        """Copy with the standard errors of the fitted values; None removes them."""
        parameters = [each.with_standard_errors(errors) for each in self.parameters]
        return replace(self, parameters=parameters, standard_errors=errors)


def summarise(
    result, certificate: Certificate | None = None, command: str | None = None, simulate_fc: bool = True
) -> FitSummary:
    """Summary of a fit.

    Parameters
    ----------
    result : FitResult
    certificate : Certificate, optional
    command : str, optional
        Command line that made the fit.
    simulate_fc : bool, optional
        Simulate the FC of the initial and of the best states. This takes time that an interrupted process may not have.

    Returns
    -------
    FitSummary

    Raises
    ------
    ValueError
        If the result has no simulator.
    """
    sim = result.simulator
    if sim is None:
        raise ValueError(
            "report: this FitResult holds no simulator, which a report describes. Use the result of tj.fit()."
        )
    results = [result] if result.linear_stage is None else [result.linear_stage, result]
    stages = {_stage(each).value: each for each in results}
    initial = results[0].initial
    matrices, missing = _fc_matrices(result, stages, simulate_fc)
    right = hemispheres(sim.connectivity)
    call = fit_call(result.settings.call(), initial, sim, list(result.targets))
    repeat = {COMMAND: command} if command else {"The fit": call}
    return FitSummary(
        description=result.simulate.description,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        labels=[label.decode() if isinstance(label, bytes) else str(label) for label in sim.connectivity.region_labels],
        weights=np.array(sim.connectivity.weights, float),
        lengths=np.array(sim.connectivity.tract_lengths, float),
        matrices=matrices,
        missing=missing,
        stages={title: replace(each.history, best=None, saved={}) for title, each in stages.items()},
        parameters=_fitted_parameters(initial, result.best, sim),
        evaluation=result.evaluation,
        certificate=certificate,
        is_noisy=is_noisy(result.initial),
        details={
            "The run": _run_details(result),
            "Data": result.data,
            "The fit": _way_details(result) | _setting_details(result.settings),
            "Versions": versions(),
        },
        code=repeat | {VALUES: tvb_values(result.best, sim)},
        hemispheres=None if right is None else right == "right",
        fresh=result.fresh,
        terms=_terms(result),
        mean_rates=[f"{path}: {rates}" for path, rates in result.mean_rates.items()],
    ).with_standard_errors(result.standard_errors)


def certify_fit(result) -> Certificate:
    """Certificate of the fitted simulator, at its best state.

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
    longest_period = max(monitor.istep for monitor in simulate.monitors)
    n_steps = min(simulate.n_steps, max(_MAX_CERTIFIED / simulate.dt, 3 * longest_period))
    return certify(at_state(result.simulator, result.best), n_steps * simulate.dt)


def _stage(result):
    return Stage.LINEAR if result.is_linear else Stage.SIMULATION


def _fc_matrices(result, stages, simulate_fc):
    """Empirical and simulated FC by title, and the reasons for those that are missing."""
    matrices, missing = {"Empirical": result.target}, {}
    first = next(iter(stages.values()))
    states = {"Initial": (first, first.initial)}
    states |= {title: (each, each.best) for title, each in stages.items() if each is not result}
    states["Fitted"] = result, result.best
    for title, (each, state) in states.items():
        if not simulate_fc:
            missing[title] = "interrupted before it was simulated"
            continue
        try:
            matrices[title] = np.asarray(each.fc(state), float)
        except ValueError as error:
            missing[title] = str(error)
    return matrices, missing


def _fitted_parameters(initial, best, sim):
    traits, start = units_and_domains(sim), parameters_of(initial)
    return [
        FittedParameter(
            path,
            *traits[path],
            format_constraint(parameter),
            np.asarray(start[path].value),
            np.asarray(parameter.value),
            parameter.mask if isinstance(parameter, MaskedParameter) else None,
            {name: (coefficients_of(start[path])[name], fitted) for name, fitted in coefficients_of(parameter).items()},
        )
        for path, parameter in parameters_of(best).items()
    ]


def _terms(result):
    """Rows of `FitSummary.terms`."""
    history, fresh, rows = result.history, {} if result.fresh is None else result.fresh.terms, []
    if not result.targets or not history.loss.size:
        return rows
    for name, target in {"fc": None, **result.targets}.items():
        what, weight = ("loss of FC", 1.0) if target is None else (str(target), target.weight)
        values = [float(history.aux[name][0]), float(history.aux[name][history.best_step])]
        rows.append((name, what, weight, *values, float(np.mean(fresh[name])) if name in fresh else np.nan))
    return rows


def _run_details(result):
    """Names and values of the simulation and of its FC."""
    simulate, sim = result.simulate, result.simulator
    monitor = simulate.monitors[result.monitor]
    side = hemispheres(sim.connectivity)
    counts = "" if side is None else f" ({np.sum(side == 'left')} left, {np.sum(side == 'right')} right)"
    return {
        "simulator": simulate.description,
        "regions": f"{len(sim.connectivity.weights)}{counts}",
        "length": f"{simulate.n_steps} steps of {simulate.dt:g} ms ({simulate.n_steps * simulate.dt / 1000.0:g} s)",
        "FC of": f"monitors[{result.monitor}] ({monitor.name}, every {monitor.istep * monitor.dt:g} ms), after "
        f"{result.skip_t} samples",
        "conduction speed": f"{float(np.ravel(sim.connectivity.speed)[0]):g} mm/ms",
        "noise": _format_noise(getattr(sim.integrator, "noise", None)),
    }


def _format_noise(noise):
    """Class, dispersion and seed of TVB's noise as text."""
    if noise is None:
        return "none: the integrator is deterministic"
    nsig = np.unique(np.asarray(noise.nsig))
    sizes = f"{nsig[0]:g}" if nsig.size == 1 else f"{nsig[0]:g} to {nsig[-1]:g}"
    return f"{type(noise).__name__}, nsig {sizes}, noise_seed {noise.noise_seed}"


def _way_details(result):
    """Names and values of the way that a fit has taken, and of its costs."""
    if result.way is None:
        return {}
    costs = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.costs.items())
    return {"way": f"{result.way}: {result.why}", "cost": costs}


def _setting_details(settings):
    """Names and values of the options of a fit; those that were left out by their meaning."""
    details = {}
    for name, code, _ in settings.items():
        option = name.rpartition(".")[2]
        if name in _HIDDEN_SETTINGS:
            continue
        if code == "None":
            details[name] = settings.resolved.get(name, "none")
        elif code == option:
            details[name] = "given by the script"
        else:
            details[name] = code.strip("'")
    return details


def versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on, precision, and machine, as text.

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
