"""Simulator of a command: from its options, or from a script."""

import argparse
import contextlib
import importlib
import logging
import sys
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..checks.suggestions import did_you_mean
from ..data import load_connectivity
from ..persistence.provenance import record_source
from ..translate.parameter_map import parameter_map
from .matrices import load_array
from .options import DEFAULTS, LENGTH, is_script
from .outcome import SCRIPT, Refused
from .path_options import parse_settings

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator


def make_simulator(options: argparse.Namespace, subject: Mapping | None = None) -> "Simulator":
    """Simulator of the options of a command.

    Parameters
    ----------
    options : argparse.Namespace
    subject : Mapping, optional
        Subject of a cohort, for a script with a function of it.

    Returns
    -------
    tvb.simulator.simulator.Simulator

    Raises
    ------
    Refused
        All reasons in one message.
    """
    _quieten_tvb()
    # TVB draws the initial conditions of deterministic simulators from the global stream.
    np.random.seed(DEFAULTS["seed"] if options.seed is None else options.seed)
    if options.simulator:
        sim = _from_script(options.simulator, subject)
    else:
        given = {name: getattr(options, name) for name in DEFAULTS}
        sim = _from_options(given, DEFAULTS | {name: value for name, value in given.items() if value is not None})
    if options.simulation_length is not None:
        sim.simulation_length = options.simulation_length
    return sim


def _quieten_tvb():
    """Reduce the messages of TVB to errors, since its loggers write to standard output."""
    import tvb.simulator.lab  # noqa: F401  creates the handlers

    for handler in logging.getLogger("tvb").handlers:
        handler.setLevel(logging.ERROR)


def _from_options(given, wanted):
    """Simulator of options; ``given`` without defaults, ``wanted`` with them."""
    from tvb.simulator.lab import coupling, integrators, models, monitors, noise, simulator

    problems = []

    def attempt(make, *names):
        """Part of the simulator, or None and another problem."""
        try:
            return make()
        except Refused as refused:
            problems.extend(refused.reasons)
        except Exception as error:
            # TVB's traits and readers raise errors of many kinds.
            given_options = " ".join(f"--{name.replace('_', '-')} {wanted[name]}" for name in names)
            problems.append(f"{given_options}: {_last_line(error)}")
        return None

    def additive():
        if given["nsig"] is None and wanted["model"] != DEFAULTS["model"]:
            raise Refused(
                f"--nsig: there is no usual noise for {wanted['model']}; give its dispersion, or choose a "
                "deterministic integrator such as --integrator HeunDeterministic"
            )
        return noise.Additive(nsig=np.array([wanted["nsig"]]), noise_seed=wanted["seed"])

    def integrator():
        kind = _class_of(integrators, wanted["integrator"], integrators.Integrator, "--integrator")
        if issubclass(kind, integrators.IntegratorStochastic):
            return kind(dt=wanted["dt"], noise=additive())
        if given["nsig"] is not None:
            raise Refused(f"--nsig: {kind.__name__} is deterministic; leave it, or choose {_stochastic(integrators)}")
        return kind(dt=wanted["dt"])

    parts = {
        "connectivity": attempt(lambda: _connectivity(wanted), "connectivity"),
        "model": attempt(lambda: _model(models, wanted), "model"),
        "coupling": attempt(
            lambda: _class_of(coupling, wanted["coupling"], coupling.Coupling, "--coupling")(), "coupling"
        ),
        "integrator": attempt(integrator, "integrator"),
        # A hemodynamic response of its own: TVB's default is one object for all monitors.
        "monitor": attempt(
            lambda: monitors.Bold(period=wanted["bold_period"], hrf_kernel=type(monitors.Bold.hrf_kernel.default)()),
            "bold_period",
        ),
    }
    if problems:
        raise Refused(*problems)
    monitor = parts.pop("monitor")
    sim = simulator.Simulator(monitors=[monitor], simulation_length=LENGTH, **parts)
    _apply_settings(parse_settings(wanted["set"])[0], sim)
    return sim


def _connectivity(wanted):
    from tvb.datatypes.connectivity import Connectivity

    name = wanted["connectivity"]
    if Path(name).exists():
        connectivity = Connectivity.from_file(str(Path(name).resolve()))
        record_source(name, connectivity.weights, connectivity.tract_lengths)
    else:
        try:
            connectivity = load_connectivity(name)
        except (ValueError, OSError, ImportError) as error:
            raise Refused(f"--connectivity {name}: no such file, and {error}") from error
    connectivity.weights = connectivity.scaled_weights(mode=wanted["weights_scaling"])
    connectivity.speed = np.array([wanted["speed"]])
    return connectivity


def _model(models, wanted):
    kind = _class_of(models, wanted["model"], models.Model, "--model")
    model, variable = kind(), wanted["variable"]
    if variable is not None:
        model.variables_of_interest = [variable]
    elif len(model.variables_of_interest) > 1:
        raise Refused(
            f"--variable: {kind.__name__} shows {', '.join(model.variables_of_interest)}; name the one that BOLD is of"
        )
    return model


def _class_of(module, name, base, option):
    def is_supported(found):
        kind = getattr(module, found, None)
        return isinstance(kind, type) and issubclass(kind, base) and kind is not base

    # Some of TVB's modules import a class when it is first used, and numba compiles it then, which takes seconds: the
    # other classes are loaded only for the message.
    if not is_supported(name):
        known = list(filter(is_supported, dir(module)))
        raise Refused(f"{option} {name}: TVB has none; there is: {', '.join(known)}.{did_you_mean(name, known)}")
    return getattr(module, name)


def _stochastic(integrators):
    kinds = [kind.__name__ for kind in integrators.IntegratorStochastic.__subclasses__()]
    return " or ".join(name for name in sorted(kinds) if name in ("EulerStochastic", "HeunStochastic"))


def _apply_settings(settings, sim):
    """Write values into a simulator, in TVB's own shapes: all of them, or none."""
    n_node, problems, values = len(sim.connectivity.weights), [], {}
    parameters = {parameter.path: parameter for parameter in parameter_map(sim)}
    for path, value in settings.items():
        if path not in parameters:
            near = did_you_mean(path, parameters, match_last_part=True)
            problems.append(f"--set {path}: no such parameter (there is: {', '.join(parameters)}).{near}")
            continue
        try:
            values[path] = np.asarray(load_array(value[1:], path) if isinstance(value, str) else value, float)
        except Refused as refused:
            problems += [f"--set {path}: {reason}" for reason in refused.reasons]
            continue
        if values[path].size != 1 and values[path].shape not in (
            (n_node,),
            np.shape(parameters[path].state_value(sim)),
        ):
            problems.append(f"--set {path}: {values[path].shape} values; give one, or one for each of {n_node} regions")
        elif not np.all(np.isfinite(values[path])):
            problems.append(f"--set {path}: there are values that are not finite")
    if not problems:
        for path, value in values.items():
            try:
                parameters[path].write(sim, parameters[path].tvb_value(value, sim))
            except Exception as error:
                # TVB's traits raise errors of many kinds.
                problems.append(f"--set {path}: {_last_line(error)}")
    if problems:
        raise Refused(*problems)


def _from_script(text, subject=None):
    """Simulator of a script or a module; of a function there, for a subject."""
    from tvb.simulator.simulator import Simulator

    place, _, name = (
        text.rpartition(":")
        if ":" in text and not Path(text).exists()
        else (text, "", "sim" if subject is None else "make_simulator")
    )
    option = f"--simulator {text}"
    try:
        if is_script(place):
            names = _names_of_script(Path(place))
        elif not all(part.isidentifier() for part in place.split(".")):
            raise Refused("neither a Python file nor a module; give FILE.py[:NAME], or module:attribute")
        else:
            with _importing_from(""):
                names = vars(importlib.import_module(place))
    except (Exception, SystemExit) as error:
        raise Refused(f"{option}: {_last_line(error)}{_line_of(error, place)}") from error
    if name not in names:
        found = [known for known, value in names.items() if isinstance(value, Simulator)]
        raise Refused(
            f"{option}: there is no {name!r}; simulators are: {', '.join(found) or 'none'}. Name it: FILE.py:NAME."
            f"{did_you_mean(name, found)}"
        )
    sim = names[name]
    if subject is not None:
        if not callable(sim):
            raise Refused(f"{option}: {name} is a {type(sim).__name__}; give a function of the subject")
        # Its errors are the subject's, with their traceback.
        sim = sim(subject)
    if not isinstance(sim, Simulator):
        raise Refused(f"{option}: {name} is a {type(sim).__name__}; give a tvb.simulator.simulator.Simulator")
    return sim


def _names_of_script(path):
    """Global names of a script, which is run as Python runs it, but under a name that marks its classes as a user's."""
    if not path.exists():
        raise Refused("no such file")
    module = sys.modules[SCRIPT] = types.ModuleType(SCRIPT)
    module.__file__ = str(path)
    with _importing_from(str(path.resolve().parent)):
        arguments, sys.argv = sys.argv, [str(path)]
        try:
            exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
            return vars(module)
        finally:
            sys.argv = arguments


@contextlib.contextmanager
def _importing_from(folder):
    """Context in which modules of a folder can be imported."""
    before = sys.path[:]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = before


def _last_line(error):
    if isinstance(error, Refused):
        return str(error)
    return " ".join(traceback.format_exception_only(error)[-1].split())


def _line_of(error, place):
    """Line of a script that an error has passed, and the line where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == place]
    if not lines:
        return ""
    last = frames[-1]
    return f" (line {lines[-1]}" + (
        f"; raised in {last.filename}, line {last.lineno})" * (last.filename != place) or ")"
    )
