"""Files of fits: a result without its simulator, as arrays and JSON; and a result with its simulator again."""

import re
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Self

import jax
import numpy as np

from .. import __version__
from ..balance.balanced import Balanced
from ..checks import options as allowed
from ..checks.options import check
from ..dynamics.simulate import Simulate
from ..parameters import parameters_of
from ..persistence import serialisable
from ..persistence.atomic import atomic_write
from ..persistence.fingerprint.hasher import digests_by_path
from ..persistence.fingerprint.objects import attributes
from ..persistence.serialise import NotSerialisable, kind_of, read, to_bytes
from ..persistence.versions import package_versions
from ..reporting.report import refuse_existing
from ..reporting.summary import FitSummary, summarise
from ..state import State, with_path
from ..translate.clone import configured_clone
from ..translate.prepare import prepare
from .draws import Redrawing

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

_KIND = "result of a fit"
# Version of the contents. A file of a later version is refused.
_FORMAT = 1
_STATES = ("fitted", "best", "initial")
# Depth at which messages name what differs: "monitors[0].period".
_DEPTH = 2
_MAX_NAMES = 10
# A child of a State, or a value of a dict, in a path of the file's tree.
_CHILD = re.compile(r"(\._children)?\['(\w+)'\]")


@serialisable
@dataclass(frozen=True, eq=False)
class StoredSimulator:
    """Place of the simulation of a result that was loaded without its simulator.

    Attributes
    ----------
    summary : FitSummary
        For a report, without the simulator.
    digests : dict of str to str
        Of the parts of the TVB simulator before the fit, by path.
    uncompared : dict of str to str
        Parts that no digest covers.
    is_double : bool
        The fit was made in double precision.
    n_steps : int
        Of a run.
    """

    summary: FitSummary
    digests: dict
    uncompared: dict
    is_double: bool
    n_steps: int

    @property
    def description(self) -> str:
        """One line that describes the simulator."""
        return self.summary.description

    def __call__(self, *_):
        """Not available."""
        raise ValueError(
            "this FitResult was loaded without its simulator, which fc, score, evaluate, spread and identifiability "
            "need. Load it with the simulator: FitResult.load(path, sim)."
        )

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        self()

    def restored(self, sim: "Simulator", request, path) -> tuple[Simulate, "Simulator"]:
        """(simulation, configured copy) of the TVB simulator of the fit.

        Parameters
        ----------
        sim : Simulator
            As it was before the fit. Not modified.
        request : FitRequest
        path : path-like
            Of the file, for messages.

        Raises
        ------
        ValueError
            Another simulator.
        """
        own = configured_clone(sim)
        digests, uncompared = _digests(own)
        paths = [name for name in self.digests | digests if self.digests.get(name) != digests.get(name)]
        if paths:
            raise ValueError(
                f"load: {path} is of another simulator (differences: {_named(paths)}){self._other_versions()}. Give "
                "the simulator as it was before the fit, or leave it out: values and report need none."
            )
        if uncompared:
            warnings.warn(
                f"load: {path} may be of another simulator in what cannot be compared: {_named([*uncompared])}. Make "
                "sure that nothing of this has changed.",
                stacklevel=4,
            )
        with jax.enable_x64(self.is_double):
            simulate, _ = prepare(sim, request.fc.simulation_length, request.noise.source)
        return simulate.with_factory(simulate.factory, self.is_double, is_unpickled=True), own

    def _other_versions(self):
        then, now = self.summary.details["Versions"], _versions()
        changed = [f"{name} {then.get(name)}, now {now[name]}" for name in now if then.get(name) != now[name]]
        return f", and was written with other versions ({'; '.join(changed)})" if changed else ""


class SavableMixin:
    """Saving of a `FitResult` in a file, and loading."""

    def save(self, path, simulate_fc: bool = True, force: bool = False) -> Path:
        """Write the result into a file of arrays and JSON, from which `load` restores it; reading it executes nothing.

        Parameters
        ----------
        path : path-like
            File, such as "fit.npz". A missing folder is created.
        simulate_fc : bool, optional
            Simulate the FC of the initial and of the best states, which a report without the simulator shows.
        force : bool, optional
            Replace an existing file.

        Returns
        -------
        Path

        Raises
        ------
        FileExistsError
            The file exists, and ``force`` is not set.
        TypeError
            An object of a class that is not of tvb_jaxfit, such as a parameter of your own; the message has its path.
        ValueError
            A result without a simulator or without the arguments of its fit.
        OSError
            The file cannot be written; an existing file is left as it was.

        Notes
        -----
        Three things are not in the file. The TVB simulator, which may contain any code: its digests are, so that `load`
        recognises it. Functions that are not of tvb_jaxfit (``loss``, ``penalty``, ``optimizer``, ``callback``, and
        those of targets): ``spread`` asks for them. Noise draws that the random stream of the state, which is in the
        file, gives again.
        """
        check("save", path=(path, allowed.path), simulate_fc=(simulate_fc, allowed.boolean))
        check("save", force=(force, allowed.boolean))
        refuse_existing("save", path, force)
        return _write(path, self, simulate_fc)

    @classmethod
    def load(cls, path, sim: "Simulator | None" = None) -> Self:
        """Result of a fit from the file that `save` has written.

        Parameters
        ----------
        path : path-like
        sim : Simulator, optional
            The TVB simulator as it was before the fit; not modified. With it, the result is as before: the same
            numbers, bit for bit on the same machine. Without it, the result has values, history and scores, and can be
            reported, shown and written back; what simulates (``fc``, ``score``, ``evaluate``, ``spread``,
            ``identifiability``) raises an error.

        Returns
        -------
        FitResult

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            Another simulator, with the names of what differs; a file that is damaged, or of a later format.
        UnsupportedComponent
            As of `prepare`.
        """
        check("load", path=(path, allowed.path), sim=(sim, allowed.optional(allowed.simulator)))
        return _read(path, cls, sim)


def _write(path, result, simulate_fc):
    if result.request is None:
        raise ValueError("save: this FitResult does not hold the arguments of its fit. Use the result of tj.fit().")
    with atomic_write(path) as file:
        file.write(file_content(result, None if _is_stored(result) else summarise(result, simulate_fc=simulate_fc)))
    return Path(path)


def file_content(result, summary: FitSummary | None) -> bytes:
    """Content of the file of a result.

    Parameters
    ----------
    result : FitResult
        With the arguments of its fit.
    summary : FitSummary or None
        Summary of the result. Not used for a result that was loaded without its simulator.

    Returns
    -------
    bytes

    Raises
    ------
    TypeError
        As of `SavableMixin.save`.
    """
    stored = result.simulate if _is_stored(result) else _stored(result, summary)
    noise = Redrawing(stored.n_steps, stored.is_double)
    try:
        # The state of a hemodynamic response, thousands of steps, is mostly zeros.
        return to_bytes(_as_tree(result, stored, _EachOnce(noise.without_draws)), _kind(), compressed=True)
    except NotSerialisable as error:
        # The attribute path that users know.
        raise NotSerialisable(_CHILD.sub(r".\2", error.path), error.found, _REMEDY) from None


def _is_stored(result):
    return isinstance(result.simulate, StoredSimulator)


_REMEDY = (
    "Fit with parameters, targets and saved values of tvb_jaxfit's own classes, or pickle the result with cloudpickle, "
    "which keeps objects of any class."
)


def _read(path, result_class, sim):
    kind = kind_of(path)
    if kind.startswith(_KIND) and kind != _kind():
        raise ValueError(
            f"load: {path} is a {kind}; this tvb_jaxfit {__version__} reads format {_FORMAT}. Update tvb_jaxfit."
        )
    with jax.enable_x64(True):
        # Arrays keep their precision in either mode.
        tree = read(path, _kind())
    stored, request = tree["simulate"], tree["request"]
    simulate, own = (stored, None) if sim is None else stored.restored(sim, request, path)

    noise = Redrawing(stored.n_steps, stored.is_double)

    def restored(state):
        state = noise.with_draws(state)
        return state if sim is None else _bound(state, simulate)

    return _from_tree(tree, result_class, {"simulate": simulate, "simulator": own}, _EachOnce(restored))


def _kind():
    return f"{_KIND}, format {_FORMAT}"


def _stored(result, summary):
    is_double = result.best.initial_conditions.dtype == np.float64
    return StoredSimulator(summary, *_digests(result.simulator), is_double, result.simulate.n_steps)


def _as_tree(result, stored, stripped):
    """Attributes of a result that files contain, by name."""
    stage, request = result.linear_stage, result.request
    return {each.name: getattr(result, each.name) for each in fields(result)} | {
        **{name: stripped(getattr(result, name)) for name in _STATES},
        "history": _with_best(result.history, stripped),
        "simulate": stored,
        "simulator": None,
        "linear_stage": None if stage is None else _as_tree(stage, stored, stripped),
        "request": None if request is None else request.storable(),
    }


def _from_tree(tree, result_class, simulation, restored):
    stage = tree["linear_stage"]
    return result_class(
        **tree
        | {name: restored(tree[name]) for name in _STATES}
        | {"history": _with_best(tree["history"], restored)}
        | {"linear_stage": None if stage is None else _from_tree(stage, result_class, simulation, restored)}
        | simulation
    )


def _with_best(history, changed):
    return replace(history, best=changed(history.best))


class _EachOnce:
    """Function of a state that is called once for each state: equal ones remain one object.

    Parameters
    ----------
    function : callable
    """

    def __init__(self, function):
        self._function, self._done = function, {}

    def __call__(self, state):
        if id(state) not in self._done:
            # The state is kept with its result, so that its id is not reused.
            self._done[id(state)] = state, self._function(state)
        return self._done[id(state)][1]


def _bound(state: State, simulate: Simulate) -> State:
    """State whose balanced parameters know the simulation."""
    for path, parameter in parameters_of(state).items():
        if isinstance(parameter, Balanced):
            state = with_path(state, path, parameter.bind(simulate))
    return state


def _digests(sim):
    """Digests of the parts of a configured simulator by path, and names of what they do not cover."""
    digests, uncompared = {}, {}
    # A bound method, as TVB keeps that of the integrator, has no content of its own.
    parts = {name: part for name, part in attributes(sim) if not isinstance(part, MethodType)} | {"class": type(sim)}
    past, model = sim.history, parts["model"]
    # TVB holds the arrays in descriptors of the class, and compiles the observer from text that the model has, too.
    parts["history"] = [past.weights, past.delays, past.cvars, past.n_mode, past.buffer]
    parts["model"] = {name: value for name, value in attributes(model) if name != "observe"} | {"class": type(model)}
    for name, part in parts.items():
        found, missing = digests_by_path(part, name, _DEPTH, versions=False)
        digests |= found
        uncompared |= {path: each.name for path, each in missing.items()}
    return digests, uncompared


def _named(paths):
    """The deepest of the paths, as text."""
    deepest = [path for path in paths if not any(other.startswith(path) and other != path for other in paths)]
    more = [f"{len(deepest) - _MAX_NAMES} more"] * (len(deepest) > _MAX_NAMES)
    return ", ".join(deepest[:_MAX_NAMES] + more)


def _versions():
    return {"tvb_jaxfit": __version__, **package_versions()}
