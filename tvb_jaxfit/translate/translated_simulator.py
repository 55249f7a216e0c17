"""A simulator whose components are all translated."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tvb.simulator.simulator import Simulator

from ..errors import UnsupportedComponent
from .components.contract import TranslatedComponent
from .components.registry import components_of


@dataclass(frozen=True, eq=False)
class TranslatedSimulator:
    """Configured copy of a simulator, and its translated components.

    Attributes
    ----------
    reference : Simulator
        Configured copy that stands where ``sim.run()`` would start; read only.
    components : dict of str to TranslatedComponent
        By name, in the order of the registry: ``translated["model"]``.
    """

    reference: Simulator
    components: Mapping[str, TranslatedComponent]

    def __getitem__(self, name: str) -> TranslatedComponent:
        return self.components[name]

    def with_component(self, name: str, component: TranslatedComponent) -> "TranslatedSimulator":
        """Copy with another translated component of a name."""
        return replace(self, components={**self.components, name: component})


def translate_components(reference: Simulator) -> TranslatedSimulator:
    """Translate all components of a configured simulator; each is compared with TVB's own code.

    Parameters
    ----------
    reference : Simulator

    Raises
    ------
    UnsupportedComponent
        With the reasons of all components. An error that a component does not foresee is a reason, too.
    """
    components, reasons, cause = {}, [], None
    for component in components_of(reference):
        try:
            components[component.NAME] = component.translate(reference)
        except UnsupportedComponent as error:
            reasons += error.reasons
        except Exception as error:
            cause = cause or error
            found = f"{type(error).__name__}: {error}".rstrip(".: ")
            reasons.append(
                f"Simulator.{component.NAME}: its translation fails: {found}. Give values with which TVB's configure() "
                "and run() succeed. If they do, the translation of the component is wrong."
            )
    if reasons:
        # The traceback of the first unforeseen error leads to the line that fails.
        raise UnsupportedComponent(reasons) from cause
    return TranslatedSimulator(reference, components)
