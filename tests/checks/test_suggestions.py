"""Misspelt names are refused with a suggestion."""

import jax.numpy as jnp
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.checks import options
from tvb_jaxfit.checks.suggestions import nearest
from tvb_jaxfit.command.main import main
from tvb_jaxfit.fitting.free import mark
from tvb_jaxfit.state import get_path, with_path

PATHS = ["model.w", "model.I_o", "model.J_N", "coupling.a", "monitors[0].hrf_kernel.tau_s"]


def _state():
    model = tj.State(w=jnp.ones(1), I_o=jnp.ones(1), J_N=jnp.ones(1))
    return tj.State(model=model, coupling=tj.State(a=jnp.ones(1)))


def _set(state):
    state.model.I_0 = jnp.ones(1)


@pytest.mark.parametrize(
    "asked,meant",
    [
        ("model.W", "model.w"),
        ("w", "model.w"),
        ("I_O", "model.I_o"),
        ("model.Io", "model.I_o"),
        ("coupling.w", "model.w"),
        ("copling.a", "coupling.a"),
        ("tau_s", "monitors[0].hrf_kernel.tau_s"),
        ("monitors[0].hrf_kernel.taus", "monitors[0].hrf_kernel.tau_s"),
        ("something else", None),
        ("", None),
    ],
)
def test_a_path_is_known_by_its_last_name_and_by_its_likeness(asked, meant):
    assert nearest(asked, PATHS, match_last_part=True) == meant


@pytest.mark.parametrize(
    "wrong,meant",
    [
        (lambda: _state().model.io, "I_o"),
        (lambda: _state().modell, "model"),
        (lambda: _set(_state()), "I_o"),
        (lambda: get_path(_state(), "model.W"), "w"),
        (lambda: with_path(_state(), "coupling.A", 1.0), "a"),
        (lambda: _state().replace(copling=1), "coupling"),
        (lambda: mark(_state(), {"w": tj.Parameter()}, PATHS, range(4), None), "model.w"),
        (lambda: options.check("fit", method=("linar", options.choice("simulate", "linear"))), "linear"),
        (lambda: tj.load_functional_connectivity("dk_avarage"), "dk_average"),
        (lambda: tj.load_connectivity("connectivity76"), "connectivity_76.zip"),
        (lambda: tj.Paramter, "Parameter"),
        (lambda: tj.load_FC, "load_fc"),
    ],
)
def test_errors_of_names_say_what_was_meant(wrong, meant):
    with pytest.raises((AttributeError, ValueError), match=rf"(?i)did you mean {meant!r}\?"):
        wrong()


@pytest.mark.parametrize(
    "arguments,meant",
    [
        (["fti"], "fit"),
        (["fit", "--fc", "x", "--free", "y", "--out", "z", "--lerning-rate", "1"], "--learning-rate"),
        (["fit", "--fc", "x", "--free", "y", "--out", "z", "--method", "linar"], "linear"),
        (["certify", "--weights-scaling", "trac"], "tract"),
    ],
)
def test_so_does_the_command_line(arguments, meant, capsys):
    assert main(arguments) == 2
    assert f"Did you mean {meant!r}?" in capsys.readouterr().err


def test_what_resembles_nothing_has_no_suggestion(capsys):
    assert main(["fit", "--fc", "x", "--free", "y", "--out", "z", "--xyzzy"]) == 2
    assert "Did you mean" not in capsys.readouterr().err
    with pytest.raises(AttributeError) as caught:
        getattr(_state().model, "something_else")  # noqa: B009
    assert "Did you mean" not in str(caught.value)
