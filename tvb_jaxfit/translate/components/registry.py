"""Registry of the component modules, in the order of the state.

To add a component, write a module that follows `contract.Component`. Import it here, and enter it before the module of
the same name that handles every other simulator.
"""

from types import ModuleType

from tvb.simulator.simulator import Simulator

from . import connectivity, coupling, history, integrator, model, monitors, stimulus

REGISTRY: tuple[ModuleType, ...] = (
    model,
    coupling,
    connectivity,
    integrator,
    monitors,
    history,
    stimulus,
)


def components_of(sim: Simulator) -> tuple[ModuleType, ...]:
    """Component modules of a simulator: of each name the first one that handles it.

    Parameters
    ----------
    sim : Simulator
        With all components that TVB needs (see `complete`).

    Returns
    -------
    tuple of modules that follow `contract.Component`
    """
    chosen = {}
    for component in REGISTRY:
        if component.NAME not in chosen and component.handles(sim):
            chosen[component.NAME] = component
    return tuple(chosen.values())
