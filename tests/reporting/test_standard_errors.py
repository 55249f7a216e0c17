"""Reports, notebooks and files show the standard errors of a fit that knows them, and nothing of them otherwise."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.reporting.test_report import Page
from tests.uncertainty.conftest import errors_of
from tvb_jaxfit import MapParameter
from tvb_jaxfit.markup import tag
from tvb_jaxfit.parameters import strip_parameters
from tvb_jaxfit.persistence.serialise import read, write
from tvb_jaxfit.reporting import html as html_pages
from tvb_jaxfit.reporting import report
from tvb_jaxfit.reporting.result_files import result_files
from tvb_jaxfit.reporting.summary import summarise

ERRORS = np.array([0.02, 0.04, 0.28, 0.06, 0.271])


@pytest.fixture
def figures(monkeypatch):
    """Figures that a page draws, by the beginnings of their captions; they are not printed."""
    kept = {}

    def record(figure, caption):
        kept[caption.partition(" ")[0]] = figure
        return tag("p", caption)

    monkeypatch.setattr(html_pages, "figure_html", record)
    return kept


@pytest.fixture
def known(fitted):
    """Fit with standard errors: FC determines the coupling and three of the regional values."""
    values = {"model.w": np.asarray(fitted.best.model.w.value), "coupling.a": fitted.best.coupling.a.value}
    prior = {"model.w": np.full(5, 0.29), "coupling.a": 0.14}
    errors = errors_of(values, {"model.w": ERRORS, "coupling.a": 0.0123}, prior, n_regions=5)
    return replace(fitted, standard_errors=errors)


def test_a_report_has_the_standard_errors(known, figures):
    page = Page(report.report_html(summarise(known)))
    assert page.headings.index("Determined by FC") == page.headings.index("Parameters") + 1
    rows = page.table("parameter", "unit")
    of_w, of_a = [row for row in rows if row[2] == "standard error"]
    assert of_w[3:7] == ["0.02", "0.06", "0.28", "3 of 5"] and of_a[3:7] == ["", "0.012", "", "1 of 1"]
    by_region = page.table("region", "model.w initial", "model.w fitted", "model.w standard error")
    assert [row[3] for row in by_region] == ["0.02", "0.04", "(0.28)", "0.06", "(0.27)"]
    for said in ("4 of 6 directions determined by FC of 600 s (600 samples)", "first and second: correlation -0.50"):
        assert said in page.text
    assert "length: that of the simulator" in page.text
    clear, faint = [cloud for cloud in figures["Fitted"].axes[0].collections if len(cloud.get_offsets()) > 1]
    assert len(clear.get_offsets()) == 3 and len(faint.get_offsets()) == 2
    assert [len(figures[name].axes) for name in ("Information", "Correlation")] == [3, 2]


def test_a_report_without_them_is_as_before(known, fitted, figures):
    text = report.report_html(summarise(fitted))
    assert "Determined by FC" not in Page(text).headings and not {"Information", "Correlation"} & set(figures)
    assert "standard error" not in text and "parentheses" not in text
    # A summary that loses them, too.
    assert report.report_html(summarise(known).with_standard_errors(None)).count("standard error") == 0


def test_a_stored_summary_gives_the_same_page(known, figures, tmp_path):
    fit_summary = summarise(known)
    write(tmp_path / "summary.npz", fit_summary, "summary")
    assert report.report_html(read(tmp_path / "summary.npz", "summary")) == report.report_html(fit_summary)


def test_too_many_correlations_are_left_out(known, figures):
    errors = replace(known.standard_errors, correlation=None)
    report.report_html(summarise(replace(known, standard_errors=errors)))
    assert "Correlation" not in figures and "Information" in figures


def test_of_connections_only_the_free_ones_have_standard_errors(kinds, figures):
    result, path = kinds["weights"], "connectivity.weights"
    fitted = np.asarray(result.best.connectivity.weights.value)
    values = {path: fitted[fitted != 0.0]}
    errors = errors_of(values, {path: np.linspace(0.01, 0.2, 20)}, {path: np.full(20, 0.2)}, n_regions=5)
    fit_summary = summarise(
        replace(result, standard_errors=replace(errors, names={path: list("abcdefghijklmnopqrst")}))
    )
    rows = Page(report.report_html(fit_summary)).table("target", "source", "initial", "fitted", "standard error")
    assert rows[0][4] == "0.01" and rows[-1][4] == "(0.2)" and len(rows) == 20
    (stored,) = json.loads(result_files(fit_summary)["values.json"])["parameters"].values()
    shown = np.array(stored["standard_error"], float)
    np.testing.assert_array_equal(np.isnan(shown), fitted == 0.0)
    np.testing.assert_allclose(shown[fitted != 0.0], np.linspace(0.01, 0.2, 20))
    assert stored["determined"][0][0] is None and stored["determined"][0][1] is True


def test_of_maps_the_coefficients_have_standard_errors(fitted, figures):
    state, gradient = strip_parameters(fitted.initial), np.linspace(-1.0, 1.0, 5)
    maps = {"gradient": gradient / gradient.std()}
    state = state.replace(model=state.model.replace(w=MapParameter(maps, coefficients=[-1.0, 0.1])))
    of_maps = [{"model.w": np.array(each)} for each in ([-1.0, 0.1], [0.2, 0.21], [0.8, 0.25])]
    result = replace(fitted, initial=state, best=state, standard_errors=errors_of(*of_maps, n_regions=5))
    fit_summary = summarise(result)
    page = Page(report.report_html(fit_summary))
    rows = page.table("parameter", "coefficient", "initial", "fitted", "standard error")
    assert [[row[1], row[4]] for row in rows] == [["intercept", "0.2"], ["gradient", "(0.21)"]]
    assert [row for row in page.table("parameter", "unit") if row[2] == "standard error"] == []
    stored = json.loads(result_files(fit_summary)["values.json"])["parameters"]["model.w"]
    assert stored["coefficients"]["gradient"] == {
        "initial": 0.1,
        "fitted": 0.1,
        "standard_error": 0.21,
        "determined": False,
    }
    assert "standard_error" not in stored


def test_values_json_has_the_standard_errors_of_each_value(known, fitted):
    stored = json.loads(result_files(summarise(known))["values.json"])["parameters"]["model.w"]
    assert stored["standard_error"] == ERRORS.tolist() and stored["determined"] == [True, True, False, True, False]
    assert "standard_error" not in json.loads(result_files(summarise(fitted))["values.json"])["parameters"]["model.w"]


def test_a_notebook_and_a_terminal_show_them(known, fitted):
    line = "identifiability: 4 of 6 directions determined by FC of 600 s"
    assert line in known._repr_html_() and f"  {line}" in repr(known).splitlines()
    rows = Page(known._repr_html_()).table("parameter", "initial", "best", "kept", "standard error", "determined")
    assert {row[0]: row[4:] for row in rows} == {
        "model.w": ["0.02 .. 0.06 .. 0.28", "3 of 5"],
        "coupling.a": ["0.012", "yes"],
    }
    assert "identifiability" not in fitted._repr_html_() + repr(fitted)
