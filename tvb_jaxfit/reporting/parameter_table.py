"""Table of the marked parameters of a state, for a terminal and for a notebook."""

import re
import sys

import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..constraints import MaskedParameter
from ..maps import MapParameter
from ..markup import table
from ..parameters import parameters_of, resolve_dependents
from ..state import State
from ..text import min_median_max, value_range

# TVB names units in its descriptions: "[ms]. Time constant", "Maximum amplitude of EPSP [mV]".
_UNIT = re.compile(r"\[([A-Za-z][A-Za-z/^\-0-9]{0,9})\]")


class ParameterTree:
    """Marked parameters of a state, as a tree of text and as an HTML table in a notebook.

    Parameters
    ----------
    state : State
    sim : tvb.simulator.simulator.Simulator, optional
        Simulator of the state, which gives units and domains.

    Raises
    ------
    ValueError
        If the state has a parameter that the simulator lacks, or an argument is of another kind.
    """

    def __init__(self, state: State, sim=None):
        check("show_parameters", state=(state, allowed.instance(State)), sim=(sim, allowed.optional(allowed.simulator)))
        self.parameters = parameters_of(resolve_dependents(state))
        self._traits = {} if sim is None else units_and_domains(sim)
        missing = [path for path in self.parameters if sim is not None and path not in self._traits]
        if missing:
            raise ValueError(
                f"show_parameters: the simulator has no {', '.join(missing)}. Give the simulator of this state."
            )

    def __repr__(self):
        if not self.parameters:
            return "nothing is marked: state.model.w = Parameter(state.model.w) marks a value."
        return "\n".join(["state", *_tree_lines(self._tree(), "")])

    def _tree(self):
        root = {}
        for path, parameter in self.parameters.items():
            *components, name = path.split(".")
            node = root
            for component in components:
                node = node.setdefault(component, {})
            unit, domain = self._traits.get(path, ("", ""))
            texts = [f"{name} {unit}".strip() + f" = {format_values(parameter)}", format_constraint(parameter)]
            node[name] = ", ".join(texts + ([f"TVB: {domain}"] if domain else []))
        return root

    def _repr_html_(self):
        heads = ["parameter", "unit", "minimum", "median", "maximum", "values", "kept", "TVB's domain"]
        rows = []
        for path, parameter in self.parameters.items():
            unit, domain = self._traits.get(path, ("", ""))
            numbers = free_values(parameter)
            range_cells = format_range(numbers)
            rows.append([path, unit, *range_cells, str(numbers.size), format_constraint(parameter), domain])
        return str(table(heads, rows, keys=2))


def show_parameters(state: State, sim=None) -> None:
    """Print the marked parameters of a state as a tree; regional values as minimum .. median .. maximum.

    Parameters
    ----------
    state : State
    sim : tvb.simulator.simulator.Simulator, optional
        Simulator of the state; the tree then has TVB's units and domains.

    Raises
    ------
    ValueError
        If the state has a parameter that the simulator lacks, or an argument is of another kind.

    Notes
    -----
    A notebook shows a table.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit import BoundedParameter, Parameter, State, show_parameters
    >>> model = State(w=BoundedParameter([0.2, 0.3, 0.6], 0.0, 1.0), I_o=jnp.ones(1))
    >>> show_parameters(State(model=model, coupling=State(a=Parameter(0.15))))
    state
    ├── model
    │   └── w = 0.2 .. 0.3 .. 0.6 (3 values), BoundedParameter in [0, 1]
    └── coupling
        └── a = 0.15, Parameter
    """
    tree = ParameterTree(state, sim)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        print(tree)
    else:
        from IPython.display import display

        display(tree)


def coefficients_of(parameter) -> dict[str, float]:
    """Coefficients of a parameter by name; empty for one that has none."""
    if not isinstance(parameter, MapParameter):
        return {}
    return dict(zip(parameter.names, map(float, parameter.coefficients), strict=True))


def free_values(parameter) -> np.ndarray:
    """Values of a parameter that are fitted, as a vector."""
    value = np.asarray(parameter.value)
    return value[parameter.mask] if isinstance(parameter, MaskedParameter) else value.ravel()


def format_range(values) -> tuple[str, str, str]:
    """Minimum, median and maximum of values as text; for one value the median alone."""
    low, middle, high = min_median_max(values)
    return (low, middle, high) if values.size > 1 else ("", low, "")


def format_values(parameter) -> str:
    """Values of a parameter that are fitted, as text: one number, or minimum, median and maximum."""
    values = free_values(parameter)
    if values.size == 1:
        return value_range(values)
    text = f"{values[0]:.6g}" if np.ptp(values) == 0.0 else value_range(values)
    return f"{text} ({values.size} values)"


def format_constraint(parameter) -> str:
    """Class of a parameter, and its formula or bounds, as text."""
    if parameter.formula:
        return f"{type(parameter).__name__} {parameter.formula}"
    low, high = getattr(parameter, "lower_bound", -np.inf), getattr(parameter, "upper_bound", np.inf)
    bounds = "" if np.isinf(low) and np.isinf(high) else f" in [{low:g}, {high:g}]"
    return type(parameter).__name__ + bounds


def units_and_domains(sim) -> dict[str, tuple[str, str]]:
    """Unit and domain of each parameter of a simulator as text, by path; empty where TVB has none.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator

    Returns
    -------
    dict of str to (str, str)
    """
    # TVB takes seconds to import, and parameters are shown without it.
    from ..translate.parameter_map import parameter_map

    found = {}
    for mapped in parameter_map(sim):
        trait = None if mapped.in_equation_dict else getattr(type(mapped.owner(sim)), mapped.name)
        unit, domain = _UNIT.search(str(getattr(trait, "doc", ""))), mapped.domain(sim)
        found[mapped.path] = (unit[0] if unit else "", f"[{domain.lo:g}, {domain.hi:g}]" if domain else "")
    return found


def _tree_lines(node, indent):
    """Lines of a tree, with its branches drawn."""
    for index, (name, child) in enumerate(node.items()):
        is_last = index == len(node) - 1
        yield f"{indent}{'└── ' if is_last else '├── '}{child if isinstance(child, str) else name}"
        if not isinstance(child, str):
            yield from _tree_lines(child, indent + ("    " if is_last else "│   "))
