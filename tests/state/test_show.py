"""Parameters are shown with their values, and with TVB's units and domains where these are known."""

import re
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

import tvb_jaxfit as tj
from tests.uncertainty.conftest import errors_of
from tvb_jaxfit import BoundedParameter, MaskedParameter, Parameter, State, show_parameters
from tvb_jaxfit.reporting.parameter_table import ParameterTree


@pytest.fixture
def prepared(build_small):
    sim = build_small(steps=10)
    _, state = tj.prepare(sim)
    state.model.w = BoundedParameter(np.linspace(0.2, 0.7, 6), 0.0, 1.0)
    state.model.I_o = Parameter(state.model.I_o)
    state.connectivity.weights = MaskedParameter(state.connectivity.weights, lower_bound=0.0)
    state.integrator.noise.nsig = Parameter(state.integrator.noise.nsig)
    return sim, state


def test_values_units_and_domains_are_in_the_tree(prepared, capsys):
    sim, state = prepared
    show_parameters(state, sim)
    weights = sim.connectivity.weights[sim.connectivity.weights > 0.0]
    assert capsys.readouterr().out.splitlines() == [
        "state",
        "├── model",
        "│   ├── w = 0.2 .. 0.45 .. 0.7 (6 values), BoundedParameter in [0, 1], TVB: [0, 1]",
        "│   └── I_o [nA] = 0.32, Parameter, TVB: [0, 1]",
        "├── connectivity",
        f"│   └── weights = {weights.min():.6g} .. {np.median(weights):.6g} .. {weights.max():.6g} "
        f"({weights.size} values), MaskedParameter in [0, inf]",
        "└── integrator",
        "    └── noise",
        f"        └── nsig = {state.integrator.noise.nsig.value.item():.6g}, Parameter, TVB: [0, 10]",
    ]


def test_without_a_simulator_there_are_values_alone(prepared, capsys):
    show_parameters(prepared[1])
    assert "I_o = 0.32, Parameter\n" in capsys.readouterr().out


@pytest.fixture
def errors(prepared):
    """Standard errors of two of the parameters."""
    found = {"model.w": np.array([0.02, 0.02, 0.04, 0.06, 0.28, 0.28]), "model.I_o": 0.28}
    prior = {"model.w": np.full(6, 0.29), "model.I_o": 0.29}
    return errors_of({"model.w": prepared[1].model.w.value, "model.I_o": 0.32}, found, prior, n_regions=6)


def test_standard_errors_are_in_the_tree(prepared, errors, capsys):
    sim, state = prepared
    fit = types.SimpleNamespace(best=state, simulator=sim, standard_errors=errors)
    for arguments in ((state, sim, errors), (state, sim, types.SimpleNamespace(record=errors)), (fit,)):
        show_parameters(*arguments)
        lines = capsys.readouterr().out.splitlines()
        assert lines[2:4] == [
            "│   ├── w = 0.2 .. 0.45 .. 0.7 (6 values, median ± 0.05, 4 of 6 determined), BoundedParameter in [0, 1], "
            "TVB: [0, 1]",
            "│   └── I_o [nA] = 0.32 ± 0.28 (not determined), Parameter, TVB: [0, 1]",
        ]
        # Others are as without.
        assert lines[-1].endswith(f"nsig = {state.integrator.noise.nsig.value.item():.6g}, Parameter, TVB: [0, 10]")
    fit.standard_errors = None
    show_parameters(fit)
    assert "I_o [nA] = 0.32, Parameter, TVB: [0, 1]" in capsys.readouterr().out


def test_of_maps_the_coefficients_are_counted(prepared, capsys):
    state = prepared[1]
    gradient = np.linspace(-1.0, 1.0, 6)
    maps = {"gradient": gradient / gradient.std()}
    state.model.w = tj.MapParameter(maps, coefficients=[-1.0, 0.1])
    of_maps = [{"model.w": np.array(each)} for each in ([-1.0, 0.1], [0.2, 0.2], [0.8, 0.25])]
    show_parameters(state, standard_errors=errors_of(*of_maps, n_regions=6))
    assert "(6 values, 1 of 2 coefficients determined), MapParameter" in capsys.readouterr().out


def test_a_table_has_standard_errors_in_as_many_columns(prepared, errors):
    sim, state = prepared
    table = ParameterTree(state, sim, errors)._repr_html_()
    assert table.count("<tr>") == 5 and table.count("<table>") == 1
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", table)
    assert cells[3] == "median ± standard error" and cells[5] == "determined"
    assert cells[8:14] == ["model.w", "", "0.2", "0.45 ± 0.05", "0.7", "4 of 6"]
    assert cells[16:22] == ["model.I_o", "[nA]", "", "0.32 ± 0.28", "", "no"]


def test_a_notebook_shows_a_table(prepared, monkeypatch, capsys):
    shown = []
    shell = types.SimpleNamespace(get_ipython=lambda: object())
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=shown.append))
    sim, state = prepared
    show_parameters(state, sim)
    assert capsys.readouterr().out == ""
    table = shown[0]._repr_html_()
    assert table.count("<tr>") == 5 and table.count("<table>") == 1
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table)
    assert cells[:6] == ["model.w", "", "0.2", "0.45", "0.7", "6"]
    assert "[nA]" in cells and "[0, 10]" in cells


def test_without_marked_values_the_text_explains_how_to_mark_one():
    tree = ParameterTree(State(x=jnp.ones(1)))
    assert repr(tree).startswith("nothing is marked: state.model.w = ") and tree._repr_html_().count("<tr>") == 1


def test_another_simulators_state_is_refused(prepared):
    with pytest.raises(ValueError, match="the simulator has no other. Give the simulator of this state"):
        show_parameters(State(other=Parameter(1.0)), prepared[0])
