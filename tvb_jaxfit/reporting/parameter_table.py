"""Table of the marked parameters of a state, for a terminal and for a notebook."""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..constraints import MaskedParameter
from ..maps import MapParameter
from ..markup import table
from ..parameters import parameters_of, resolve_dependents
from ..state import State
from ..text import min_median_max, value_range
from ..uncertainty.standard_errors import StandardErrors

# TVB names units in its descriptions: "[ms]. Time constant", "Maximum amplitude of EPSP [mV]".
_UNIT = re.compile(r"\[([A-Za-z][A-Za-z/^\-0-9]{0,9})\]")


class ParameterTree:
    """Marked parameters of a state, as a tree of text and as an HTML table in a notebook.

    Parameters
    ----------
    state, sim, standard_errors
        As of `show_parameters`.

    Raises
    ------
    ValueError
        If the state has a parameter that the simulator lacks, or an argument is of another kind.
    """

    def __init__(self, state: "State | FitWithErrors", sim=None, standard_errors=None):
        check(
            "show_parameters",
            state=(state, _state_or_fit),
            sim=(sim, allowed.optional(allowed.simulator)),
            standard_errors=(standard_errors, allowed.optional(_standard_errors)),
        )
        if isinstance(state, FitWithErrors):
            sim = state.simulator if sim is None else sim
            standard_errors = state.standard_errors if standard_errors is None else standard_errors
            state = state.best
        self.errors = getattr(standard_errors, "record", standard_errors)
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
            values = format_values(parameter, self._notes(path, parameter))
            texts = [f"{name} {unit}".strip() + f" = {values}", format_constraint(parameter)]
            node[name] = ", ".join(texts + ([f"TVB: {domain}"] if domain else []))
        return root

    def _repr_html_(self):
        # With standard errors, as many columns: wider tables would be split.
        with_errors = self.errors is not None
        heads = ["parameter", "unit", "minimum", "median ± standard error" if with_errors else "median", "maximum"]
        heads += ["determined" if with_errors else "values", "kept", "TVB's domain"]
        rows = []
        for path, parameter in self.parameters.items():
            unit, domain = self._traits.get(path, ("", ""))
            numbers = free_values(parameter)
            low, middle, high = format_range(numbers)
            count = str(numbers.size)
            if with_errors:
                error, count = error_cells(self.errors, path, parameter, np.median)
                middle += f" ± {error}" if error else ""
            rows.append([path, unit, low, middle, high, count, format_constraint(parameter), domain])
        return str(table(heads, rows, keys=2))

    def _notes(self, path, parameter):
        """Notes on the standard error of a parameter: the median, and how many of its values are determined."""
        error, count = ("", "") if self.errors is None else error_cells(self.errors, path, parameter, np.median)
        if not count:
            return []
        if free_values(parameter).size == 1:
            return [f"± {error}", *(["(not determined)"] if count == "no" else [])]
        return [*([f"median ± {error}"] if error else []), f"{count} determined"]


@runtime_checkable
class FitWithErrors(Protocol):
    """Attributes of a fit that are shown; `FitResult` has them."""

    best: State
    simulator: object
    standard_errors: StandardErrors | None


def _state_or_fit(value):
    """Rule of states and fits."""
    return None if isinstance(value, (State, FitWithErrors)) else "a State, or a FitResult"


def _standard_errors(value):
    """Rule of standard errors."""
    is_known = isinstance(getattr(value, "record", value), StandardErrors)
    return None if is_known else "a StandardErrors, or an Identifiability"


def show_parameters(state: "State | FitWithErrors", sim=None, standard_errors: StandardErrors | None = None) -> None:
    """Print the marked parameters of a state as a tree; regional values as minimum .. median .. maximum.

    Parameters
    ----------
    state : State or FitResult
        Of a fit, the best state, with its simulator and its standard errors.
    sim : tvb.simulator.simulator.Simulator, optional
        Simulator of the state; the tree then has TVB's units and domains.
    standard_errors : StandardErrors or Identifiability, optional
        Of the values: the tree then has the median standard error of each parameter, and the number of its values that
        are determined.

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
    tree = ParameterTree(state, sim, standard_errors)
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


def format_values(parameter, notes: Sequence[str] = ()) -> str:
    """Values of a parameter that are fitted, as text: one number, or minimum, median and maximum; then notes."""
    values = free_values(parameter)
    if values.size == 1:
        return " ".join([value_range(values), *notes])
    text = f"{values[0]:.6g}" if np.ptp(values) == 0.0 else value_range(values)
    return f"{text} ({', '.join([f'{values.size} values', *notes])})"


def error_cells(
    errors: StandardErrors, path: str, parameter, statistic: Callable[[np.ndarray], float] | None = None
) -> tuple[str, str]:
    """Standard errors of a parameter, and the number of its values that are determined, as text; empty if not known.

    Parameters
    ----------
    errors : StandardErrors
    path : str
    parameter : Parameter
        The standard errors of a `MapParameter` are those of its coefficients: their number alone is text.
    statistic : callable, optional
        Number to show of several standard errors. Default: their range.

    Returns
    -------
    error, count : str
    """
    if path not in errors.names:
        return "", ""
    if isinstance(parameter, MapParameter):
        return "", f"{errors.count(path)} coefficients"
    shown = errors.error_range(path) if statistic is None else f"{statistic(errors.standard_error[path]):.2g}"
    return shown, errors.count(path)


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
