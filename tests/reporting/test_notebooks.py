"""In a notebook, results are short, escaped tables without long arrays."""

import html.parser
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit import BoundedParameter, GridAxis, Parameter, SequentialExecution, Space, State
from tvb_jaxfit.fitting.history import Validation
from tvb_jaxfit.fitting.result import FitResult
from tvb_jaxfit.linear_response.response import LinearResponse
from tvb_jaxfit.reporting.parameter_table import ParameterTree

MARKUP = "<script>alert('1')</script>"


class Parsed(html.parser.HTMLParser):
    """Parser of elements and texts; checks that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], "", []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, name, attributes):
        self.elements.append(name)
        self._open.append(name)

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, data):
        self.text += f"{data}\n"


def state_of(n_node=200):
    """State with marked parameters and large arrays."""
    of_model = State(w=BoundedParameter(np.linspace(0.1, 0.9, n_node), 0.0, 1.0), I_o=Parameter(0.3), a=jnp.ones(1))
    return State(
        static=(("origin", MARKUP), ("stream", object())),
        model=of_model,
        monitors=[State(stock=jnp.zeros((5000, n_node)))],
        history=jnp.full((40, n_node), 1 / 3),
    )


def result_of(fit_summary):
    """Fit result with the history and evaluation of a summary."""

    class Simulate:
        description = MARKUP

    history = replace(fit_summary.stages["Simulation"], stop_reason=MARKUP)
    initial, best = state_of(), state_of()
    return FitResult(best, best, initial, history, None, Simulate(), 0, evaluation=fit_summary.evaluation)


@pytest.fixture
def shown(fit_summary):
    """Objects by name, and the texts that they must show."""
    space = Space(State(x=GridAxis(0.0, 1.0, 2), y=GridAxis(5.0, 7.0, 300)))
    explored = SequentialExecution(lambda state: state.x + state.y, space, progress=False).run()
    evaluation = replace(fit_summary.evaluation, description=MARKUP, failed={("TVB", 3): MARKUP})
    return {
        "FitResult": (
            result_of(fit_summary),
            ["r, training", "0.9", "r, fresh noise", "0.5000 ± 0.1000", "(200 values)"],
        ),
        "State": (state_of(), ["model.w", "BoundedParameter(0.1 .. 0.5 .. 0.9", "history", "monitors[0].stock"]),
        "Evaluation": (evaluation, ["fresh noise, 3 runs", "0.5000 ± 0.1000", "TVB, seed 3: no FC"]),
        "Certificate": (
            replace(fit_summary.certificate, simulator=MARKUP, negative_controls={"shifted": 0.5, "idle": MARKUP}),
            ["PASSED", "TVB, history in float64: Raw", "agrees", "noticed", "not applicable"],
        ),
        "Exploration": (explored, ["600 points", "GridAxis(5 .. 7, 300 values)", "smallest: 5 at x = 0, y = 5"]),
        "ParameterTree": (ParameterTree(state_of()), ["model.w", "BoundedParameter in [0, 1]"]),
    }


@pytest.mark.parametrize("name", ["FitResult", "State", "Evaluation", "Certificate", "Exploration", "ParameterTree"])
def test_each_html_is_short_and_escaped_and_has_the_main_results(shown, name):
    value, expected = shown[name]
    for text in (value._repr_html_(), Parsed(value._repr_html_()).text):
        assert len(text) < 6000
    parsed = Parsed(value._repr_html_())
    assert "script" not in parsed.elements and "table" in parsed.elements
    assert MARKUP in parsed.text or name in ("ParameterTree", "Exploration")
    for said in expected:
        assert said in parsed.text, said


@pytest.mark.parametrize("name", ["FitResult", "State", "Evaluation", "Certificate", "Exploration", "ParameterTree"])
def test_each_text_is_short(shown, name):
    text = repr(shown[name][0])
    assert len(text.splitlines()) < 40 and max(map(len, text.splitlines())) < 250
    assert "array(" not in text and " object at 0x" not in text


def test_parts_of_results_are_short_texts(fit_summary):
    validation, targets = fit_summary.stages["Simulation"].validation, fit_summary.evaluation.targets
    assert repr(validation) == "Validation: 0.3 -> 0.2 in 2 evaluations" and repr(Validation()) == "Validation: none"
    assert repr(targets) == "Targets: target (30 regions)"


def test_a_certificate_names_what_failed(fit_summary):
    control = replace(fit_summary.certificate, negative_controls={"shifted": 1e-12, "lost": np.nan})
    text = Parsed(control._repr_html_()).text
    assert "FAILED" in text and text.count("NOT NOTICED") == 1 and text.count("noticed") == 1
    apart = replace(fit_summary.certificate, tolerance=1e-20)
    assert "DIFFERS" in Parsed(apart._repr_html_()).text


def test_a_fit_without_result_shows_the_reason(fit_summary):
    result = result_of(fit_summary)
    nothing = replace(result.history, loss=np.array([]), aux={}, best_step=0, stop_reason="the loss was nan")
    text = Parsed(replace(result, history=nothing, evaluation=None)._repr_html_()).text
    assert "the loss was nan" in text and "r, training" not in text


def test_a_linear_response_shows_its_text_and_computes_nothing():
    class Response(LinearResponse):
        def __init__(self):
            pass

        def __repr__(self):
            return f"LinearResponse: {MARKUP}\n  fixed point: stable"

    parsed = Parsed(Response()._repr_html_())
    assert MARKUP in parsed.text and "fixed point: stable" in parsed.text and "script" not in parsed.elements
