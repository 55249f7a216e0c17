"""Map between the state and TVB: every parameter of a simulator, over all components."""

from tvb.simulator.simulator import Simulator

from .components.registry import components_of
from .mapped_parameter import MappedParameter


def parameter_map(sim: Simulator) -> list[MappedParameter]:
    """Every parameter of a simulator, in the order of the state.

    Parameters
    ----------
    sim : Simulator
        Configured or not.

    Returns
    -------
    list of MappedParameter
    """
    return [parameter for component in components_of(sim) for parameter in component.parameters(sim)]
