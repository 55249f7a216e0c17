"""What is to be fitted, for people: in a terminal, and in a notebook."""

import re
import sys

import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..constraints import MaskedParameter
from ..markup import tag
from ..parameters import parameters_of
from ..state import State

# TVB names units in its descriptions: "[ms]. Time constant", "Maximum amplitude of EPSP [mV]".
_UNIT = re.compile(r"\[([A-Za-z][A-Za-z/^\-0-9]{0,9})\]")


class ParameterTree:
    """The parameters of a state, summarised: as text, and as HTML where a notebook asks for it.

    Parameters
    ----------
    state : State
    sim : tvb.simulator.simulator.Simulator, optional
        Of which the state is: its traits know units and domains.

    Raises
    ------
    ValueError
        Where the state has a parameter that the simulator has not, or they are none.
    """

    def __init__(self, state, sim=None):
        check("show_parameters", state=(state, allowed.instance(State)), sim=(sim, allowed.optional(allowed.simulator)))
        self.parameters = parameters_of(state)
        self._traits = {} if sim is None else units_and_domains(sim)
        missing = [path for path in self.parameters if sim is not None and path not in self._traits]
        if missing:
            raise ValueError(
                f"show_parameters: the simulator has no {', '.join(missing)}. Give the one that the state is of."
            )

    def __repr__(self):
        if not self.parameters:
            return "nothing is marked: state.model.w = Parameter(state.model.w) marks a value."
        return "\n".join(["state", *_branches(self._tree(), "")])

    def _tree(self):
        root = {}
        for path, parameter in self.parameters.items():
            *above, name = path.split(".")
            node = root
            for step in above:
                node = node.setdefault(step, {})
            unit, domain = self._traits.get(path, ("", ""))
            told = [f"{name} {unit}".strip() + f" = {format_values(parameter)}", format_constraint(parameter)]
            node[name] = ", ".join(told + ([f"TVB: {domain}"] if domain else []))
        return root

    def _repr_html_(self):
        heads = ["parameter", "unit", "minimum", "median", "maximum", "values", "kept", "TVB's domain"]
        rows = []
        for path, parameter in self.parameters.items():
            unit, domain = self._traits.get(path, ("", ""))
            numbers = free_values(parameter)
            low, middle, high = (f"{f(numbers):.6g}" for f in (np.min, np.median, np.max))
            row = [path, unit, *((low, middle, high) if numbers.size > 1 else ("", low, ""))]
            rows.append([*row, str(numbers.size), format_constraint(parameter), domain])
        lines = [_row("th", heads), *(_row("td", row) for row in rows)]
        return "<table>\n" + "\n".join(lines) + "\n</table>"


def show_parameters(state, sim=None):
    """Print what is to be fitted: the tree of its values, those of regions as minimum .. median .. maximum.

    Parameters
    ----------
    state : State
    sim : tvb.simulator.simulator.Simulator, optional
        Of which the state is: then with TVB's units and domains.

    Raises
    ------
    ValueError
        Where the state has a parameter that the simulator has not.

    Notes
    -----
    In a notebook it is a table.

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


def free_values(parameter):
    """Numbers of a parameter that are fitted, as one vector."""
    value = np.asarray(parameter.value)
    return value[parameter.mask] if isinstance(parameter, MaskedParameter) else value.ravel()


def format_values(parameter):
    """Numbers of a parameter that are fitted, as text: one, or the least, the median and the largest."""
    numbers = free_values(parameter)
    if numbers.size == 1:
        return f"{numbers.item():.6g}"
    if np.ptp(numbers) == 0.0:
        return f"{numbers[0]:.6g} ({numbers.size} values)"
    return f"{numbers.min():.6g} .. {np.median(numbers):.6g} .. {numbers.max():.6g} ({numbers.size} values)"


def format_constraint(parameter):
    """What a parameter is kept to, in words."""
    low, high = getattr(parameter, "lower_bound", -np.inf), getattr(parameter, "upper_bound", np.inf)
    bounds = "" if np.isinf(low) and np.isinf(high) else f" in [{low:g}, {high:g}]"
    return type(parameter).__name__ + bounds


def units_and_domains(sim):
    """Unit and domain of each parameter of a simulator, by path, as text."""
    from ..translate.parameter_map import parameter_map

    found = {}
    for leaf in parameter_map(sim):
        trait = None if leaf.in_equation_dict else getattr(type(leaf.owner(sim)), leaf.name)
        unit, domain = _UNIT.search(str(getattr(trait, "doc", ""))), leaf.domain(sim)
        found[leaf.path] = (unit[0] if unit else "", f"[{domain.lo:g}, {domain.hi:g}]" if domain else "")
    return found


def _branches(node, indent):
    """Lines of a tree."""
    for index, (name, child) in enumerate(node.items()):
        last = index == len(node) - 1
        yield f"{indent}{'└── ' if last else '├── '}{child if isinstance(child, str) else name}"
        if not isinstance(child, str):
            yield from _branches(child, indent + ("    " if last else "│   "))


def _row(name, cells):
    return tag("tr", *(tag(name, cell) for cell in cells))
