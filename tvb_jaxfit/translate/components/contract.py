"""Contract of the modules that translate the components of a TVB simulator.

A simulator passes every component module of its own (see `registry`) in three loops of `prepare`:

1. ``refusals`` reads the user's simulator, configured or not.
2. ``refusals_configured`` reads a configured copy of it, the reference.
3. ``translate`` translates the component of the reference and compares it with TVB's own code.

From then on the translated component carries what a simulation needs: constants, inputs, and its part of the network
step. ``parameters`` and ``node`` connect the component with the state, in both directions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from ...dynamics.noise import KeyStream
from ...state import State
from ..mapped_parameter import MappedParameter

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

    from ...dynamics.monitors import Monitor
    from .vector_field import VectorField

Constants = Callable[[State], dict]
Inputs = Callable[[State], tuple[dict, Any]]


@dataclass(frozen=True)
class RunSpan:
    """Steps of a run, and the source of its noise.

    Attributes
    ----------
    start : int
        The simulator's ``current_step`` before the run.
    n_steps : int
    key : Array or None
        JAX key of fresh noise; None replays TVB's own random streams.
    """

    start: int
    n_steps: int
    key: jax.Array | None = None

    @property
    def stop(self) -> int:
        """Step at which the run ends."""
        return self.start + self.n_steps

    def stream(self, index: int | None = None) -> KeyStream | None:
        """Stream of fresh noise; None for TVB's own.

        Parameters
        ----------
        index : int, optional
            Index of the monitor whose noise it is; the integrator's noise by default.
        """
        if self.key is None:
            return None
        return KeyStream(self.key if index is None else jax.random.fold_in(self.key, index))


def no_constants(state: State) -> dict:
    """No constants."""
    return {}


def no_inputs(n_steps: int) -> None:
    """No input."""
    return None


def no_position_shapes(n_steps: int | None) -> dict:
    """No arrays besides parameters."""
    return {}


@dataclass(frozen=True, eq=False, kw_only=True)
class TranslatedComponent:
    """One component as pure functions of the state.

    Attributes
    ----------
    constants : callable
        State to a dict of what the step needs of the parameters; evaluated once before the loop. The dicts of all
        components are merged.
    inputs : callable
        Number of steps to a function of the state, or to None for a component without input. The function returns a
        dict of inputs, each (n_steps, ...), and the component's node of the state after the run.
    position_shapes : callable
        Number of steps (None: any) to the shapes of the component's arrays that are no parameters, by path; None in a
        shape stands for any length.
    """

    constants: Constants = no_constants
    inputs: Callable[[int], Inputs | None] = no_inputs
    position_shapes: Callable[[int | None], dict] = no_position_shapes


@dataclass(frozen=True, eq=False, kw_only=True)
class TranslatedModel(TranslatedComponent):
    """Model: its part of the network step.

    Attributes
    ----------
    vector_field : VectorField
    observe : callable
        States (n_time, n_var, n_node, n_mode) to what monitors see, (n_time, n_voi, n_node, n_mode).
    """

    vector_field: "VectorField"
    observe: Callable


@dataclass(frozen=True, eq=False, kw_only=True)
class TranslatedCoupling(TranslatedComponent):
    """Coupling: its part of the network step (see `Step`).

    Attributes
    ----------
    post : callable
        (theta, s, y) to the coupling, from the weighted sum s and the target's own coupling variables y.
    channels : callable or None
        (theta, y) to what each source sends; None if it sends y.
    pairwise : callable or None
        (theta, weights, y_i, y_j) to the weighted sum, for a coupling that does not split into channels.
    """

    post: Callable
    channels: Callable | None = None
    pairwise: Callable | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class TranslatedConnectivity(TranslatedComponent):
    """Connectivity: its part of the network step.

    Attributes
    ----------
    delays : ndarray of int, shape (n_node, n_node), or None
        [steps], [target, source]; None without delays.
    sparsity_mask : ndarray of bool, shape (n_node, n_node), or None
        See `Step`.
    """

    delays: np.ndarray | None
    sparsity_mask: np.ndarray | None


@dataclass(frozen=True, eq=False, kw_only=True)
class TranslatedIntegrator(TranslatedComponent):
    """Integrator with its noise: its part of the network step.

    Attributes
    ----------
    local_map : callable
        Vector field to the node-local map (theta, x, c, u) to the next x.
    updates_model : bool
        True if the model's own updates run before and after each integration step.
    """

    local_map: "Callable[[VectorField], Callable]"
    updates_model: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class TranslatedMonitors(TranslatedComponent):
    """Monitors as pure functions.

    Attributes
    ----------
    monitors : tuple of Monitor
    """

    monitors: "tuple[Monitor, ...]"


class Component(Protocol):
    """Names that every component module has.

    Attributes
    ----------
    NAME : str
        Attribute of the Simulator, and child of the state, that the component is.
    POSITION : str
        Regular expression of the paths of its arrays that are no parameters: where a run starts, and its noise.
        Empty if there are none.
    """

    NAME: str
    POSITION: str

    def handles(self, sim: "Simulator") -> bool:
        """Return True if this module translates the simulator's component of this name.

        Of several modules with the same name, the first in the registry that handles the simulator is used.
        """

    def refusals(self, sim: "Simulator") -> Iterable[str]:
        """Reasons against translation that show in the user's simulator, configured or not.

        Each names the attribute, what was found, what is allowed, and the remedy.
        """

    def refusals_configured(self, sim: "Simulator") -> Iterable[str]:
        """Reasons against translation that show in a configured copy only."""

    def warn(self, sim: "Simulator", reference: "Simulator") -> None:
        """Warn of effects of TVB's that the translation reproduces, and of parameters that are constants of it.

        Parameters
        ----------
        sim : Simulator
            The user's own.
        reference : Simulator
            Its configured copy.
        """

    def translate(self, sim: "Simulator") -> TranslatedComponent:
        """Translate the component of a configured simulator, and compare it with TVB's own code.

        Raises
        ------
        UnsupportedComponent
            With all reasons, if TVB's code cannot be followed, or gives other numbers than the translation.
        """

    def parameters(self, sim: "Simulator") -> list[MappedParameter]:
        """Parameters of the component, in the order in which the state shows them."""

    def node(self, sim: "Simulator", span: RunSpan) -> Any:
        """Part of the state: None in place of each parameter, and the arrays of the position (see ``POSITION``)."""

    def position_problems(self, sim: "Simulator", state: State) -> Iterable[str]:
        """Reasons why `restore` cannot put the position of a state into a configured simulator."""

    def restore(self, sim: "Simulator", state: State) -> None:
        """Put the position of a state into a configured simulator; the inverse of `node`."""

    def unconfigure(self, sim: "Simulator") -> None:
        """Bring a copy of a configured simulator into a form from which configure() derives everything anew."""

    def rederive(self, sim: "Simulator") -> None:
        """Renew what TVB keeps outside configure(), after parameters have changed."""


# Functions for the names of the contract for which a component has nothing to do.


def handles_all(sim: "Simulator") -> bool:
    """Handle every simulator."""
    return True


def no_refusals(sim: "Simulator") -> Iterable[str]:
    """No reasons."""
    return ()


def no_warning(sim: "Simulator", reference: "Simulator") -> None:
    """No warning."""


def no_position_problems(sim: "Simulator", state: State) -> Iterable[str]:
    """No position, no reasons."""
    return ()


def nothing_to_restore(sim: "Simulator", state: State) -> None:
    """No position."""


def nothing_to_unconfigure(sim: "Simulator") -> None:
    """configure() derives everything anew in any case."""


def nothing_to_rederive(sim: "Simulator") -> None:
    """TVB keeps nothing outside configure()."""


def parameter_node(parameters: list[MappedParameter]) -> State:
    """Node of the state with None in place of each parameter."""
    return State(**dict.fromkeys(parameter.name for parameter in parameters))
