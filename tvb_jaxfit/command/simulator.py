"""A live simulator, from the command line or from a script."""

import contextlib
import importlib
import logging
import sys
import traceback
import types
from pathlib import Path

import numpy as np

from ..checks.suggestions import did_you_mean
from ..data import load_connectivity
from ..persistence.provenance import record_source
from ..translate.parameter_map import parameter_map
from .matrices import load_array
from .options import DEFAULTS, LENGTH, SCRIPT, Refused, is_script, settings_of


def simulator_of(options):
    """Simulator that options ask for.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    tvb.simulator.simulator.Simulator

    Raises
    ------
    Refused
        With all reasons at once.
    """
    _quiet()
    # What TVB draws without a stream of its own: initial conditions of deterministic simulators.
    np.random.seed(DEFAULTS["seed"] if options.seed is None else options.seed)
    if options.simulator:
        sim = _live(options.simulator)
    else:
        given = {name: getattr(options, name) for name in DEFAULTS}
        sim = _built(given, DEFAULTS | {name: value for name, value in given.items() if value is not None})
    if options.simulation_length is not None:
        sim.simulation_length = options.simulation_length
    return sim


def _quiet():
    """Have TVB say what goes wrong, and no more: its loggers write to standard output."""
    import tvb.simulator.lab  # noqa: F401  makes the handlers

    for handler in logging.getLogger("tvb").handlers:
        handler.setLevel(logging.ERROR)


def _built(given, wanted):
    from tvb.simulator.lab import coupling, integrators, models, monitors, noise, simulator

    problems = []

    def tried(make, *names):
        """What a part is, or None and a problem more."""
        try:
            return make()
        except Refused as refused:
            problems.extend(refused.reasons)
        except Exception as error:
            # TVB's traits and readers raise errors of many kinds.
            told = " ".join(f"--{name.replace('_', '-')} {wanted[name]}" for name in names)
            problems.append(f"{told}: {_last_line(error)}")
        return None

    def additive():
        if given["nsig"] is None and wanted["model"] != DEFAULTS["model"]:
            raise Refused(f"--nsig: there is no usual noise for {wanted['model']}; give its dispersion")
        return noise.Additive(nsig=np.array([wanted["nsig"]]), noise_seed=wanted["seed"])

    def integrator():
        kind = _class_of(integrators, wanted["integrator"], integrators.Integrator, "--integrator")
        if issubclass(kind, integrators.IntegratorStochastic):
            return kind(dt=wanted["dt"], noise=additive())
        if given["nsig"] is not None:
            raise Refused(f"--nsig: {kind.__name__} is deterministic; leave it, or choose {_stochastic(integrators)}")
        return kind(dt=wanted["dt"])

    parts = {
        "connectivity": tried(lambda: _connectivity(wanted), "connectivity"),
        "model": tried(lambda: _model(models, wanted), "model"),
        "coupling": tried(
            lambda: _class_of(coupling, wanted["coupling"], coupling.Coupling, "--coupling")(), "coupling"
        ),
        "integrator": tried(integrator, "integrator"),
        # A response of its own: TVB's default is one object for all.
        "monitor": tried(
            lambda: monitors.Bold(period=wanted["bold_period"], hrf_kernel=type(monitors.Bold.hrf_kernel.default)()),
            "bold_period",
        ),
    }
    if problems:
        raise Refused(*problems)
    recorder = parts.pop("monitor")
    sim = simulator.Simulator(monitors=[recorder], simulation_length=LENGTH, **parts)
    _put(settings_of(wanted["set"])[0], sim)
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
    def is_one(found):
        kind = getattr(module, found, None)
        return isinstance(kind, type) and issubclass(kind, base) and kind is not base

    # Some of TVB's modules import their classes when they are asked for, and numba compiles them then, for seconds: the
    # others are looked for only to be named.
    if not is_one(name):
        there = list(filter(is_one, dir(module)))
        raise Refused(f"{option} {name}: TVB has none; there is: {', '.join(there)}.{did_you_mean(name, there)}")
    return getattr(module, name)


def _stochastic(integrators):
    kinds = [kind.__name__ for kind in integrators.IntegratorStochastic.__subclasses__()]
    return " or ".join(name for name in sorted(kinds) if name in ("EulerStochastic", "HeunStochastic"))


def _put(settings, sim):
    """Put values into a simulator, in TVB's own shapes, all of them or none."""
    n_node, places, problems, values = (
        len(sim.connectivity.weights),
        {leaf.path: leaf for leaf in parameter_map(sim)},
        [],
        {},
    )
    for path, value in settings.items():
        if path not in places:
            near = did_you_mean(path, places, match_last_part=True)
            problems.append(f"--set {path}: no such parameter (there is: {', '.join(places)}).{near}")
            continue
        try:
            values[path] = np.asarray(load_array(value[1:], path) if isinstance(value, str) else value, float)
        except Refused as refused:
            problems += [f"--set {path}: {reason}" for reason in refused.reasons]
            continue
        if values[path].size != 1 and values[path].shape not in ((n_node,), np.shape(places[path].state_value(sim))):
            problems.append(f"--set {path}: {values[path].shape} values; give one, or one for each of {n_node} regions")
        elif not np.all(np.isfinite(values[path])):
            problems.append(f"--set {path}: there are values that are not finite")
    if not problems:
        for path, value in values.items():
            try:
                places[path].write(sim, places[path].tvb_value(value, sim))
            except Exception as error:
                # As above: TVB's traits.
                problems.append(f"--set {path}: {_last_line(error)}")
    if problems:
        raise Refused(*problems)


def _live(told):
    """Simulator that a script or a module has."""
    from tvb.simulator.simulator import Simulator

    place, _, name = told.rpartition(":") if ":" in told and not Path(told).exists() else (told, "", "sim")
    option = f"--simulator {told}"
    try:
        if is_script(place):
            there = _names_of_script(Path(place))
        elif not all(part.isidentifier() for part in place.split(".")):
            raise Refused("neither a Python file nor a module; give FILE.py[:NAME], or module:attribute")
        else:
            with _importing_from(""):
                there = vars(importlib.import_module(place))
    except (Exception, SystemExit) as error:
        raise Refused(f"{option}: {_last_line(error)}{_line_of(error, place)}") from error
    if name not in there:
        found = [known for known, value in there.items() if isinstance(value, Simulator)]
        raise Refused(
            f"{option}: there is no {name!r}; simulators are: {', '.join(found) or 'none'}. Name it: FILE.py:NAME."
            f"{did_you_mean(name, found)}"
        )
    sim = there[name]
    if not isinstance(sim, Simulator):
        raise Refused(f"{option}: {name} is a {type(sim).__name__}; give a tvb.simulator.simulator.Simulator")
    return sim


def _names_of_script(path):
    """Names that a script leaves, run as Python runs it, but for its name: a module of classes that are followed."""
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
    """Within, modules of a folder can be imported; the path is as it was afterwards."""
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
    """Line of a script at which an error passed, and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == place]
    if not lines:
        return ""
    last = frames[-1]
    return f" (line {lines[-1]}" + (
        f"; raised in {last.filename}, line {last.lineno})" * (last.filename != place) or ")"
    )
