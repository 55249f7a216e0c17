"""A report is one complete page with the content of the result; it makes no requests and overwrites no file."""

import base64
import hashlib
import html.parser
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import tvb_jaxfit
from tvb_jaxfit import (
    BoundedParameter,
    Certificate,
    MaskedParameter,
    NoiseOptions,
    Parameter,
    PositiveParameter,
    RunOptions,
    SavingCallback,
    ScaledParameter,
    certify,
    fc_corr,
    fit,
    plot,
    prepare,
    rmse,
    write_back,
)
from tvb_jaxfit.certificate.result import Comparison
from tvb_jaxfit.fitting.free import mark
from tvb_jaxfit.fitting.keys import Purpose, key_as_code
from tvb_jaxfit.fitting.options import FitSettings
from tvb_jaxfit.fitting.result import FitResult
from tvb_jaxfit.markup import key_value_table, table, tag
from tvb_jaxfit.parameters import parameters_of, strip_parameters, with_values
from tvb_jaxfit.persistence.serialise import read, write
from tvb_jaxfit.reporting import html as html_pages
from tvb_jaxfit.reporting import report, reproduction, summary, value_tables
from tvb_jaxfit.reporting.html import figure_html
from tvb_jaxfit.translate.clone import clone


def target_of():
    """Target of the fits in conftest.py."""
    random = np.random.default_rng(7)
    return np.corrcoef(random.normal(size=(5, 40)) + random.normal(size=40))


KINDS = (
    *("evaluated", "not evaluated", "linear", "linear and simulated"),
    *("no step", "nothing finite", "deterministic", "weights"),
)


class Page(html.parser.HTMLParser):
    """Parser of a page: elements, texts, tables and code."""

    _VOID = ("img", "meta")

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.tables, self.headings, self.code = [], "", [], [], []
        self._open, self._cell = [], None
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in self._VOID:
            self._open.append(name)
        if name == "table":
            self.tables.append([])
        elif name == "tr":
            self.tables[-1].append([])
        elif name in ("td", "th"):
            self.tables[-1][-1].append("")
        elif name in ("pre", "h2"):
            (self.code if name == "pre" else self.headings).append("")

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self._open and self._open[-1] in ("pre", "h2"):
            (self.code if self._open[-1] == "pre" else self.headings)[-1] += data

    def images(self):
        return [attributes["src"] for name, attributes in self.elements if name == "img"]

    def table(self, *heads):
        """Rows of the one table with these column heads."""
        (found,) = [table for table in self.tables if table and table[0][: len(heads)] == list(heads)]
        return found[1:]


@pytest.fixture(scope="module")
def pages(kinds, tmp_path_factory):
    """Reports of fits of every kind: (path, page) by name."""
    folder, printed, real = tmp_path_factory.mktemp("reports"), {}, html_pages.figure_html

    def once(drawn, caption):
        """Print each different figure once, since printing takes a second per page."""
        key = caption, str(_held(drawn)), str([(ax.get_title(), ax.get_ylabel()) for ax in drawn.axes])
        if key not in printed:
            printed[key] = real(drawn, caption)
        return printed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html_pages, "figure_html", once)
        made = {kind: result.report(folder / f"{kind.replace(' ', '_')}.html") for kind, result in kinds.items()}
    return {kind: (path, Page(path.read_text(encoding="utf-8"))) for kind, path in made.items()}


@pytest.fixture(scope="module")
def given(fitted):
    """Certificate of the simulator of most fits."""
    return certify(fitted.simulator, simulation_length=2000.0)


@pytest.fixture
def unprinted(monkeypatch):
    """Replace figures by text with the data in their axes, since pictures take seconds."""

    monkeypatch.setattr(html_pages, "figure_html", lambda drawn, caption: tag("p", "drawn: ", caption, *_held(drawn)))


def _held(drawn):
    """Data in the axes of a figure: lines, images, points."""
    lines = [line.get_xydata().tolist() for ax in drawn.axes for line in ax.lines]
    images = [np.ma.filled(image.get_array(), np.nan).tolist() for ax in drawn.axes for image in ax.images]
    clouds = [cloud.get_offsets().tolist() for ax in drawn.axes for cloud in ax.collections]
    return lines, images, clouds


@pytest.fixture
def drawn(monkeypatch):
    """Figures that a page draws, as [(caption, figure)]; they are not printed."""
    kept = []

    def record(figure, caption):
        kept.append((caption, figure))
        return tag("p", caption)

    monkeypatch.setattr(html_pages, "figure_html", record)
    return kept


def test_every_kind_of_fit_has_a_page(kinds):
    assert tuple(kinds) == KINDS


def test_a_page_has_its_title_date_and_sections(kinds, pages):
    path, page = pages["evaluated"]
    raw, title = path.read_text(encoding="utf-8"), f"Fit of {kinds['evaluated'].simulate.description}"
    assert tag("title", title) in raw and tag("h1", title) in raw
    assert re.search(r"Fit to functional connectivity \(FC\), 20\d\d-\d\d-\d\d \d\d:\d\d UTC", page.text)
    sections = ["Functional connectivity", "Parameters", "On fresh noise", "Course of the fit"]
    for _, page in pages.values():
        assert page.headings == [*sections, "Connectome", "Certificate", "How it was made"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_makes_no_requests_and_has_no_scripts(pages, kind):
    path, page = pages[kind]
    for name, attributes in page.elements:
        assert name not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for attribute, value in attributes.items():
            assert not attribute.startswith("on")
            if attribute in ("src", "href", "srcset", "data", "action", "poster"):
                assert value.startswith(("data:", "#"))
    style = path.read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style and "@media print" in style


def test_print_rules(pages):
    style = pages["evaluated"][0].read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    screen, _, paper = style.partition("@media print {")
    assert style.count("@media") == 1
    assert "@page { size: A4; margin: 16mm 14mm; }" in screen
    for rules, selector, said in [
        (paper, "body", "max-width: none; margin: 0"),
        (paper, "details::details-content", "content-visibility: visible"),
        (paper, "thead", "display: table-header-group"),
        (paper, "figure, tr, table:not(.long)", "break-inside: avoid"),
        (paper, "h2, h3, h2 + p, summary", "break-after: avoid"),
        (paper, "figure img", "max-height: 95mm"),
        (paper, ".scroll", "overflow: visible"),
        (screen, ".scroll", "overflow-x: auto"),
        (screen, "figure img", "max-width: 100%"),
        (screen, ".number", "text-align: right"),
        (screen, "pre", "white-space: pre-wrap"),
    ]:
        values = dict(re.findall(r"([^{}]+?) *\{([^{}]*)\}", rules.replace("\n", " ")))
        assert said in {key.strip(): text for key, text in values.items()}[selector], selector


def test_a_page_declares_encoding_width_and_language(pages):
    path, page = pages["evaluated"]
    assert path.read_bytes().startswith(b'<!DOCTYPE html>\n<html lang="en">')
    assert ("meta", {"charset": "utf-8"}) in page.elements
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements


def test_collapsible_parts_have_titles(pages):
    _, page = pages["evaluated"]
    assert [name for name, _ in page.elements].count("details") == 4
    for said in (
        "All fitted values, by region",
        "Every run",
        "The fit, as code",
        "as code (all digits; tables have 6)",
    ):
        assert said in page.text
    for subject in ("The run", "Data", "The fit", "Versions"):
        assert tag("h3", subject) in pages["evaluated"][0].read_text(encoding="utf-8")


def test_numbers_in_parentheses_are_numbers():
    assert table(["a", "b"], [("(0.3)", "(0.3 a"), ("2", "(x)")], keys=0).count('class="number"') == 3


def test_numbers_are_right_aligned_and_long_tables_may_break_across_pages():
    def classes(rows):
        return [attributes.get("class") for name, attributes in Page(table("ab", rows)).elements if name != "tr"]

    # The box, the table, its head and body, and the cells: numbers or empty cells, and texts.
    rows = [["1.5 ± 0.1", "1.5"], ["", "no number"]]
    assert classes(rows) == ["scroll", None, None, "number", "text", None, *["number", "text"] * 2]
    assert classes([]) == ["scroll", None, None, "text", "text", None]
    assert classes(25 * [[1, 2]])[1] is None and classes(26 * [[1, 2]])[1] == "long"
    assert Page(key_value_table({"a": "b"})).elements[0] == ("div", {"class": "scroll"})
    assert ("th", {"scope": "row"}) in Page(key_value_table({"a": "b"})).elements


@pytest.mark.parametrize("n,pictures", [(500, 0), (501, 1)])
def test_many_points_are_rasterised_and_figures_are_reproducible(n, pictures):
    def drawn():
        figure = Figure()
        figure.subplots().scatter(np.arange(n), np.arange(n), clip_on=True)
        return figure_html(figure, "a cloud")

    (source,) = Page(drawn()).images()
    root = ElementTree.fromstring(base64.b64decode(source.partition(",")[2]))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == pictures
    assert drawn() == drawn() and b"<dc:date>" not in base64.b64decode(source.partition(",")[2])


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_a_self_contained_svg(pages, kind):
    images = pages[kind][1].images()
    assert len(images) >= 4
    for source in images:
        head, _, data = source.partition(",")
        assert head == "data:image/svg+xml;base64"
        root = ElementTree.fromstring(base64.b64decode(data, validate=True))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.get("width").removesuffix("pt")) > 100.0
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10
        for element in root.iter():
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    assert value.startswith(("data:image/png;base64,", "#"))
                    if value.startswith("data:"):
                        picture = plt.imread(_png(value))
                        assert picture.shape[0] > 4 and np.ptp(picture) > 0.0


def test_each_figure_shows_the_data_of_the_fit(fitted, monkeypatch):
    drawn = {}

    def kept(figure, caption):
        drawn[caption.partition(" ")[0], len(drawn)] = figure.axes
        return tag("p", caption)

    monkeypatch.setattr(html_pages, "figure_html", kept)
    compared = (Comparison("Raw", 9, True, 1e-15, 1e-14),)
    fit_summary = summary.summarise(fitted, Certificate("it", 9, compared, (), {}, 1e-9, 1e-6))
    report.report_html(fit_summary)
    fc, scatter, regional, course, connectome, certificate = drawn.values()
    off, upper = ~np.eye(5, dtype=bool), np.triu_indices(5, 1)
    for ax, matrix in zip(fc, (fitted.target, fitted.fc(fitted.initial), fitted.fc()), strict=False):
        np.testing.assert_array_equal(ax.images[0].get_array()[off], np.asarray(matrix)[off])
    expected = np.column_stack([fitted.target[upper], fitted.fc()[upper]])
    np.testing.assert_array_equal(scatter[0].collections[0].get_offsets(), expected)
    strength = fitted.simulator.connectivity.weights.sum(axis=1)
    expected = np.column_stack([strength, fitted.best.model.w.value])
    np.testing.assert_array_equal(regional[0].collections[0].get_offsets(), expected)
    np.testing.assert_array_equal(regional[0].lines[0].get_ydata(), 0.6)
    for ax, values in zip(course, (fitted.loss, fitted.r), strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), values)
    for ax, matrix in zip(connectome, (fit_summary.weights, fit_summary.lengths), strict=False):
        np.testing.assert_array_equal(ax.images[0].get_array()[off], matrix[off])
    np.testing.assert_array_equal(certificate[0].lines[0].get_xdata(), 1e-14)


@pytest.mark.parametrize("n,rows,columns", [(1, 1, 1), (4, 1, 4), (5, 2, 3)])
def test_panels_are_side_by_side_or_in_rows(drawn, n, rows, columns):
    given = []
    html_pages.panels_html(n, (2.0, 1.0), given.extend, "panels")
    ((caption, figure),) = drawn
    assert caption == "panels" and figure.axes == given and len(given) == n
    assert figure.get_size_inches().tolist() == [2.0 * columns, 1.0 * rows]


def test_every_picture_has_its_caption(pages):
    _, page = pages["evaluated"]
    captions = [attributes["alt"] for name, attributes in page.elements if name == "img"]
    for caption in captions:
        assert page.text.count(caption) == 1
    for caption, said in zip(
        captions,
        ("FC of 5 regions, the diagonal left out", "Fitted against", "Fitted values", "Simulation", "Connectome"),
        strict=True,
    ):
        assert caption.startswith(said)


def _png(source):
    return io.BytesIO(base64.b64decode(source.partition(",")[2]))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_results_fc(kinds, pages, kind):
    result = kinds[kind]
    rows = {title: (float(r), float(e)) for title, r, e in pages[kind][1].table("FC", "r (off-diagonal)")}
    first = result if result.linear_stage is None else result.linear_stage
    expected = {"Initial": result.fc(first.initial), "Fitted": result.fc()}
    if result.linear_stage is not None:
        expected["Linear response"] = result.linear_stage.fc()
    assert set(rows) == set(expected)
    for title, fc in expected.items():
        values = (float(fc_corr(fc, result.target)), float(rmse(fc, result.target)))
        np.testing.assert_allclose(rows[title], values, atol=1e-6)


def test_the_noise_of_the_fc_is_named(pages):
    on, none = "On the noise of the simulator's own random stream.", "The simulator has no noise."
    for kind, (_, page) in pages.items():
        assert (on in page.text, none in page.text) == (kind != "deterministic", kind == "deterministic")


def test_every_fitted_value_is_listed_with_six_digits_by_region(kinds, pages):
    result, page = kinds["evaluated"], pages["evaluated"][1]
    labels = result.simulator.connectivity.region_labels.tolist()
    rows = page.table("region", "model.w initial", "model.w fitted")
    assert [row[0] for row in rows] == labels
    assert [row[1] for row in rows] == [f"{value:.6g}" for value in np.asarray(result.initial.model.w.value)]
    assert [row[2] for row in rows] == [f"{value:.6g}" for value in np.asarray(result.best.model.w.value)]
    assert np.ptp(result.best.model.w.value) > 0.0


def test_the_summary_has_ranges_units_bounds_and_tvbs_domains(kinds, pages):
    result = kinds["evaluated"]
    rows = pages["evaluated"][1].table("parameter", "unit")
    by_path = {path: rows[i : i + 2] for i, (path, *_) in enumerate(rows) if path}
    assert set(by_path) == {"coupling.a", "model.w"}
    initial, fitted = by_path["model.w"]
    assert initial[-2:] == ["BoundedParameter in [0, 1]", "[0, 1]"]
    w = np.asarray(result.best.model.w.value)
    np.testing.assert_allclose([float(cell) for cell in fitted[3:6]], [w.min(), np.median(w), w.max()], rtol=1e-5)
    np.testing.assert_allclose(float(by_path["coupling.a"][1][4]), float(result.best.coupling.a), rtol=1e-5)


def test_the_parameter_table_counts_values_and_shows_one_value_once(fitted, pages, unprinted):
    rows = pages["evaluated"][1].table("parameter", "unit")
    single, several = ([row for row in rows if row[6] == n] for n in ("1", "5"))
    assert [row[2:6] for row in single] == [["initial", "", "0.02", ""], ["fitted", "", single[1][4], ""]]
    assert several[0][2:6] == ["initial", "0.6", "0.6", "0.6"] and len(several) == 2
    fit_summary = summary.summarise(replace(fitted, initial=_with_current(fitted), best=_with_current(fitted)))
    (current, _) = Page(report.report_html(fit_summary)).table("parameter", "unit")
    assert current[:6] == ["model.I_o", "[nA]", "initial", "", "0.3", ""]


def test_scalar_values_are_in_the_parameter_table(fitted, unprinted):
    _, state = prepare(fitted.simulator)
    path = "monitors[0].hrf_kernel.tau_s"
    began, ended = (mark(state, {path: Parameter(value)}, {path: ((1,), (5,))}, range(5), None) for value in (0.8, 0.7))
    page = Page(report.report_html(summary.summarise(replace(fitted, initial=began, best=ended))))
    assert [row[0] + row[4] for row in page.table("parameter", "unit")] == [f"{path}0.8", "0.7"]


@pytest.mark.slow
def test_a_common_start_value_of_the_regions_is_drawn(kinds, drawn):
    fit_summary = summary.summarise(kinds["not evaluated"])
    (w,) = [each for each in fit_summary.parameters if each.path == "model.w"]
    for initial, n in ((w.initial, 1), (np.linspace(0.1, 0.5, 5), 0)):
        drawn.clear()
        list(report._parameter_section(replace(fit_summary, parameters=[replace(w, initial=initial, unit="[nA]")])))
        ((caption, figure),) = drawn
        assert len(figure.axes[0].lines) == n == caption.count("dashed: the common initial value")
        assert figure.axes[0].get_ylabel() == "model.w [nA]"


def test_fitted_weights_are_listed_by_their_two_regions(kinds, pages):
    result = kinds["weights"]
    rows = pages["weights"][1].table("target", "source", "initial", "fitted")
    labels = result.simulator.connectivity.region_labels.tolist()
    fitted = np.asarray(result.best.connectivity.weights.value)
    assert len(rows) == np.sum(fitted != 0.0) == 20
    for target, source, _, value in rows:
        assert value == f"{fitted[labels.index(target), labels.index(source)]:.6g}"
    assert [row[6] for row in pages["weights"][1].table("parameter", "unit")] == ["20", "20"]


def test_listed_values_have_a_title_their_start_and_an_end(kinds, pages, monkeypatch, unprinted):
    result, page = kinds["weights"], pages["weights"][1]
    assert "All fitted values of connectivity.weights" in page.text
    rows = page.table("target", "source", "initial", "fitted")
    initial, fitted = (np.asarray(state.connectivity.weights.value) for state in (result.initial, result.best))
    assert [row[2] for row in rows] == [f"{value:.6g}" for value in initial[initial != 0.0]]
    assert np.all(initial[initial != 0.0] != fitted[initial != 0.0])
    monkeypatch.setattr(value_tables, "_MAX_LISTED", 19)
    assert "20 values are too many to be listed" in Page(report.report_html(summary.summarise(result))).text


def test_other_values_are_listed_by_index():
    values = np.arange(6.0).reshape(2, 3)
    odd = summary.FittedParameter("model.x", "", "", "Parameter", values, values + 0.5, values > 3.0)
    (table,) = value_tables.entry_table(odd, list("abcde"))
    assert Page(table).tables == [[["index", "initial", "fitted"], ["1, 1", "4", "4.5"], ["1, 2", "5", "5.5"]]]


def test_units_of_tvb_are_shown(fitted):
    fit_summary = summary.summarise(replace(fitted, initial=_with_current(fitted), best=_with_current(fitted)))
    assert [(each.path, each.unit) for each in fit_summary.parameters] == [("model.I_o", "[nA]")]


def _with_current(fitted):
    state = strip_parameters(fitted.initial)
    return state.replace(model=state.model.replace(I_o=Parameter(state.model.I_o)))


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_escaped(pages, kind):
    path, page = pages[kind]
    raw = path.read_text()
    assert "<b>" not in raw and "<script>" not in raw
    if kind != "weights":
        assert "&lt;b&gt;&amp;" in raw and "<b>&" in page.text and "été" in page.text


def test_the_evaluation_is_shown_run_by_run_or_how_to_make_it(kinds, pages):
    page, found = pages["evaluated"][1], kinds["evaluated"].evaluation
    rows = page.table("simulator", "seed", "target", "r")
    assert [(row[0], int(row[1])) for row in rows] == [(row["simulator"], row["seed"]) for row in found.rows]
    np.testing.assert_allclose([float(row[3]) for row in rows], [row["r"] for row in found.rows], atol=1e-6)
    assert [row[0] for row in rows] == ["JAX", "JAX", "TVB"]
    means = {row[0].strip(): row[1] for row in page.table("", "r (off-diagonal)", "RMSE")}
    assert means["target"].startswith(f"{found.mean(simulator='TVB'):.4f}")
    assert "result.evaluate(" in pages["not evaluated"][1].text
    assert "no fresh noise" in pages["deterministic"][1].text
    assert "result.evaluate(" not in pages["deterministic"][1].text


def test_evaluated_and_failed_runs_are_described(kinds, unprinted):
    fit_summary = summary.summarise(kinds["evaluated"])
    failed = replace(fit_summary.evaluation, failed={("JAX", 3): "bold is not finite"})
    failed = replace(failed, group_baseline={"target": 0.9999})
    text = Page(report.report_html(replace(fit_summary, evaluation=failed))).text
    assert "group's FC, target" in text and "that of the group's FC (0.9999)" in text
    assert "Runs of 6 s from the best state, on noise that the fit never saw: 50 samples, after 10 left out" in text
    assert "JAX, seed 3: no FC: bold is not finite" in text


def test_a_missing_fc_is_replaced_by_its_reason(kinds, tmp_path, monkeypatch, unprinted):
    result, real = kinds["not evaluated"], FitResult.fc

    def fc(self, state=None, key=None):
        if state is self.best:
            raise ValueError("the signal of node 2 is constant")
        return real(self, state, key)

    monkeypatch.setattr(FitResult, "fc", fc)
    page = Page(result.report(tmp_path / "report.html").read_text())
    assert "Fitted: no FC. the signal of node 2 is constant" in page.text
    assert [row[0] for row in page.table("FC", "r (off-diagonal)")] == ["Initial"]


def test_the_course_has_a_figure_for_each_stage_or_a_reason(kinds, pages):
    for kind, stages in {"evaluated": 1, "linear": 1, "linear and simulated": 2, "no step": 1}.items():
        captions = [attributes["alt"] for name, attributes in pages[kind][1].elements if name == "img"]
        assert sum("loss and correlation" in caption for caption in captions) == stages
    assert str(kinds["linear"].history.stop_reason) in pages["linear"][1].text
    assert (
        "nothing to draw" in pages["nothing finite"][1].text and "the loss was nan" in pages["nothing finite"][1].text
    )


def test_the_course_of_each_stage_is_its_own_in_words_and_figure(kinds, drawn):
    result = kinds["linear and simulated"]
    later = replace(result.history, loss=2.0 * result.loss, best_step=2, wall_time=12.34, stop_reason="enough")
    fit_summary = summary.summarise(replace(result, history=later))
    text, of_linear = (
        Page(report.report_html(fit_summary)).text,
        replace(result.linear_stage.history, best_step=1, wall_time=0.56),
    )
    assert "Simulation: 3 steps, the best of them 2, in 12.3 s; enough." in text
    text = Page(
        report.report_html(replace(fit_summary, stages=fit_summary.stages | {"Linear response": of_linear}))
    ).text
    assert f"Linear response: 3 steps, the best of them 1, in 0.6 s; {of_linear.stop_reason}." in text
    course = [(caption, figure) for caption, figure in drawn if "loss and correlation" in caption]
    for (caption, figure), (stage, history) in zip(course, 2 * list(fit_summary.stages.items()), strict=True):
        assert caption.startswith(f"{stage}: ") and ("(validation)" in caption) == (stage == "Simulation")
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), history.loss)


def test_a_network_without_connections_is_described_and_not_drawn(kinds, drawn):
    fit_summary = summary.summarise(kinds["not evaluated"])
    text = Page(report.report_html(replace(fit_summary, weights=0.0 * fit_summary.weights))).text
    assert "There are no connections." in text and not any(caption.startswith("Connectome") for caption, _ in drawn)


def test_versions_precision_noise_and_options_are_listed(kinds, pages):
    values = {row[0]: row[1] for table in pages["evaluated"][1].tables for row in table if len(row) == 2}
    assert values["jax"] == jax.__version__ and values["numpy"] == np.__version__ and values["precision"] == "float64"
    assert (
        values["noise"] in ("tvb", "Additive, nsig 1e-05, noise_seed 3")
        and "1500 steps of 4 ms (6 s)" in values["length"]
    )
    assert values["max_steps"] == "3" and values["optimizer"] == "given by the script" and values["fc.skip_t"] == "10"
    assert "noise_seed 3" in pages["evaluated"][1].text


def test_details_of_the_run(kinds):
    result = kinds["evaluated"]
    details = summary.summarise(result).details["The run"]
    assert details == {
        "simulator": result.simulate.description,
        "regions": "5",
        "length": "1500 steps of 4 ms (6 s)",
        "FC of": "monitors[0] (Bold, every 100 ms), after 10 samples",
        "conduction speed": "inf mm/ms",
        "noise": "Additive, nsig 1e-05, noise_seed 3",
    }
    beside = replace(result.simulate, monitors=(None, *result.simulate.monitors))
    of_two = replace(result, monitor=1, simulate=beside, simulator=clone(result.simulator))
    of_two.simulator.integrator.noise.nsig = np.array([1e-5, 2e-5])
    details = summary._run_details(of_two)
    assert details["FC of"].startswith("monitors[1] (Bold") and "nsig 1e-05 to 2e-05, " in details["noise"]
    assert summary._run_details(kinds["deterministic"])["noise"] == "none: the integrator is deterministic"


def test_sources_of_fc_and_connectome_are_listed(kinds, pages):
    result = kinds["evaluated"]
    details = summary.summarise(result).details["Data"]
    given = {"empirical FC": target_of(), "weights": result.simulator.connectivity.weights}
    given["tract lengths"] = result.simulator.connectivity.tract_lengths
    assert list(details) == list(given)
    for name, array in given.items():
        assert hashlib.sha256(array.tobytes()).hexdigest() in details[name] and "5 x 5" in details[name]
        assert details[name] in pages["evaluated"][1].text


def test_options_that_were_left_out_are_listed_by_their_meaning(kinds):
    def details_of(kind, **options):
        settings = kinds[kind].settings
        for name, code in options.items():
            settings = settings.with_code(name, code)
        return summary._setting_details(settings)

    simulated, still = (details_of(kind, optimizer="None") for kind in ("evaluated", "deterministic"))
    assert simulated["loss"] == "rmse" and simulated["optimizer"] == "optax.adam(0.01)"
    training, unseen = (key_as_code(0, purpose) for purpose in (Purpose.TRAINING, Purpose.VALIDATION))
    seen = f"jax.random.fold_in({training}, step)"
    assert simulated["noise.resample"] == f"noise of its own for each step, {seen}; held out: {unseen}"
    assert still["noise.resample"] == "no: there is no noise"
    assert details_of("evaluated", loss="loss")["loss"] == "given by the script"
    assert set(simulated) == set(kinds["evaluated"].settings.codes) - {"run.progress", "run.resume"}
    assert list(summary.summarise(kinds["linear"]).stages) == ["Linear response"]


def test_versions_that_numbers_depend_on_are_listed(fitted):
    details = summary.summarise(fitted).details["Versions"]
    assert details["tvb_jaxfit"] == tvb_jaxfit.__version__ and details["Python"] == platform.python_version()
    for name in ("tvb-library", "jax", "jaxlib", "numpy", "optax"):
        assert details[name] == importlib.metadata.version(name)
    assert details["computed on"] == f"{jax.default_backend()}, {platform.system()} {platform.machine()}"
    with jax.enable_x64(False):
        assert summary.versions()["precision"] == "float32"


def test_the_code_does_the_same_fit_again(kinds, pages):
    """The code on the page, run in place of a script."""
    code = next(text for text in pages["evaluated"][1].code if "tj.fit(" in text)
    result = kinds["evaluated"]
    names = {"sim": clone(result.simulator), "fc_target": result.target, "optimizer": optax.adam(0.02)}
    exec(code, names)
    np.testing.assert_array_equal(names["result"].loss, result.loss)
    np.testing.assert_array_equal(names["sim"].model.w, result.best.model.w.value)


def test_the_values_can_be_put_into_tvb_alone(kinds, pages):
    for kind, shape in {"evaluated": (5,), "weights": (5, 5)}.items():
        result, sim = kinds[kind], clone(kinds[kind].simulator)
        exec(next(text for text in pages[kind][1].code if "before sim.configure()" in text), {"sim": sim})
        written = clone(kinds[kind].simulator)
        result.write_back(written)
        for path in parameters_of(result.best):
            component, name = path.split(".")
            ours, theirs = (getattr(getattr(one, component), name) for one in (sim, written))
            np.testing.assert_array_equal(ours, theirs)
            assert np.any(ours != getattr(getattr(result.simulator, component), name))
            assert theirs.shape in (shape, (1,))


def test_the_code_has_the_best_state(kinds):
    result = kinds["evaluated"]
    code = summary.summarise(replace(result, fitted=result.initial)).code
    assert code == summary.summarise(result).code and len(code) == 2


def test_two_stages_are_described_from_the_start_of_the_first(kinds):
    result = kinds["linear and simulated"]
    initial = with_values(result.initial, {"coupling.a": np.array([0.03])})
    fit_summary = summary.summarise(replace(result, linear_stage=replace(result.linear_stage, initial=initial)))
    np.testing.assert_array_equal(fit_summary.matrices["Initial"], result.fc(initial))
    assert {each.path: each.initial[0] for each in fit_summary.parameters} == {"coupling.a": 0.03, "model.w": 0.6}
    assert "'coupling.a': tj.Parameter(value=np.array([0.03]))" in fit_summary.code["The fit"]


def test_zero_noise_counts_as_no_noise(fitted):
    own = fitted.initial.integrator
    still = own.replace(noise=own.noise.replace(nsig=0.0 * own.noise.nsig))
    noisy, silent = (
        summary.summarise(replace(fitted, initial=fitted.initial.replace(integrator=i))) for i in (own, still)
    )
    assert noisy.is_noisy and not silent.is_noisy


def test_options_and_free_values_are_code():
    assert (
        reproduction.options_as_code({"noise": jax.random.key(3)})["noise"]
        == "jax.random.wrap_key_data(np.array([0, 3], np.uint32))"
    )
    assert reproduction.options_as_code({"checkpoint": Path("here")}) == {"checkpoint": "'here'"}
    assert reproduction.options_as_code({"loss": lambda fc, target: 0.0, "patience": None}) == {
        "loss": "loss",
        "patience": "None",
    }


def test_arrays_and_functions_are_code():
    def mine(fc, target):
        return 0.0

    assert reproduction.options_as_code({"loss": rmse}) == {"loss": "tj.rmse"} and reproduction.options_as_code(
        {"loss": mine}
    ) == {"loss": "mine"}
    assert reproduction.options_as_code({"callback": SavingCallback("state")}) == {"callback": "callback"}
    assert reproduction.options_as_code({"a": np.array([1, 2])}) == {"a": "np.array([1, 2], np.int64)"}
    assert reproduction.options_as_code({"a": np.float32(0.5), "b": jnp.ones(1)}) == {
        "a": "0.5",
        "b": "np.array([1.0])",
    }


def test_the_code_of_a_fit_has_the_changed_options_and_names_of_the_script(fitted):
    chosen = {"max_steps": 3, "optimizer": optax.adam(0.1), "noise": NoiseOptions(patience=3, n_realisations=1)}
    of_a_place = {"run": RunOptions(progress=False, callback=print, checkpoint="here", resume=True)}
    settings = FitSettings.of(fit.__kwdefaults__ | chosen | of_a_place, fit.__kwdefaults__)
    code = reproduction.fit_call(settings.call(), fitted.initial, fitted.simulator)
    assert "\n# sim, fc_target, optimizer: as in your script\n" in code
    call = "optimizer=optimizer, max_steps=3, noise=tj.NoiseOptions(patience=3))"
    call = f"result = tj.fit(sim, fc_target, free, {call}"
    assert code.endswith(f"\n{call}\nresult.write_back(sim)")
    assert "    'coupling.a': tj.Parameter(),\n" in code


@pytest.mark.parametrize(
    "parameter,own,code",
    [
        (Parameter([0.3]), [0.3], "Parameter()"),
        (Parameter([0.3]), [0.31], "Parameter(value=np.array([0.3]))"),
        (Parameter([0.3, 0.3], regional=True), [0.3], "Parameter(regional=True)"),
        (Parameter([0.3, 0.3]), [0.1], "Parameter(value=0.3)"),
        (Parameter([0.3, 0.4]), [0.1], "Parameter(value=np.array([0.3, 0.4]))"),
        (Parameter([0.3, 0.4, 0.5]), [0.1], "Parameter(value=start)"),
        (Parameter([0.3]), None, "Parameter(value=np.array([0.3]))"),
        (PositiveParameter([0.3]), [0.3], "PositiveParameter()"),
        (ScaledParameter([0.3], scale=2.5), [0.3], "ScaledParameter(scale=2.5)"),
        (BoundedParameter([0.3], 0.0, np.inf), [0.3], "BoundedParameter(lower_bound=0)"),
        (
            BoundedParameter([0.3], 0.123456789, 1e7),
            [0.3],
            "BoundedParameter(lower_bound=0.123456789, upper_bound=10000000)",
        ),
        (MaskedParameter([0.0, 0.3]), [0.0, 0.3], "MaskedParameter()"),
        (MaskedParameter([0.2, 0.3], [False, True]), [0.2, 0.3], "MaskedParameter(mask=mask)"),
    ],
)
def test_parameters_as_code_have_a_value_unless_it_is_the_simulators(monkeypatch, parameter, own, code):
    monkeypatch.setattr(reproduction, "_MAX_NUMBERS", 2)
    assert reproduction._parameter_as_code(parameter, None if own is None else np.array(own)) == f"tj.{code}"


def test_code_for_tvb_uses_its_attributes_and_shapes(fitted, monkeypatch):
    sim, (_, state) = clone(fitted.simulator), prepare(fitted.simulator)
    free = {"monitors[0].hrf_kernel.tau_s": Parameter(0.7), "model.w": Parameter(0.55, regional=True)}
    free |= {"integrator.noise.nsig": Parameter(2e-5, regional=True)}
    state = mark(state, free, dict.fromkeys(free, ((1,), (5,))), range(5), None)
    code = reproduction.tvb_values(state, sim)
    exec(code, {"sim": sim})
    assert sim.monitors[0].hrf_kernel.parameters["tau_s"] == 0.7
    np.testing.assert_array_equal(sim.model.w, np.full(5, 0.55))
    written = clone(fitted.simulator)
    write_back(state, written)
    assert sim.integrator.noise.nsig.shape == written.integrator.noise.nsig.shape
    monkeypatch.setattr(reproduction, "_MAX_NUMBERS", 4)
    assert "# sim.model.w: 5 values" in reproduction.tvb_values(state, sim)


def test_a_given_or_new_certificate_is_shown(kinds, given, tmp_path, unprinted):
    result = kinds["not evaluated"]
    shown = Page(result.report(tmp_path / "given.html", certificate=given).read_text())
    assert repr(given) in shown.code and "500 steps" in repr(given)
    made = Page(result.report(tmp_path / "made.html", certificate=True).read_text())
    (text,) = [code for code in made.code if code.startswith("Certificate")]
    assert text.startswith("Certificate: PASSED") and text != repr(given)
    failed = Page(result.report(tmp_path / "failed.html", replace(given, tolerance=0.0)).read_text())
    assert any(code.startswith("Certificate: FAILED") for code in failed.code)
    none = Page(result.report(tmp_path / "none.html", certificate=False).read_text())
    assert not any(code.startswith("Certificate") for code in none.code) and "certificate=True" in none.text


@pytest.mark.parametrize("steps,istep,expected", [(1500, 25, 1500), (9000, 25, 2500), (9000, 1000, 3000)])
def test_a_certificate_uses_the_best_state_and_some_samples(fitted, monkeypatch, steps, istep, expected):
    made = []
    monkeypatch.setattr(summary, "certify", lambda *arguments: made.append(arguments))
    simulate = SimpleNamespace(n_steps=steps, dt=4.0, monitors=[SimpleNamespace(istep=istep)])
    summary.certify_fit(replace(fitted, simulate=simulate))
    ((sim, length),) = made
    np.testing.assert_array_equal(sim.model.w, fitted.best.model.w.value)
    assert length == expected * 4.0 and np.all(fitted.best.model.w.value != 0.6)


def test_the_figure_of_a_certificate_has_a_row_for_each_comparison(kinds, drawn):
    compared, controls = (Comparison("Raw", 9, True, 1e-15, 1e-14),), {"wrong": 0.1, "neither": "not applicable"}
    fit_summary = summary.summarise(
        kinds["not evaluated"], Certificate("it", 9, compared, compared, controls, 1e-9, 1e-6)
    )
    assert "TVB against its translation, 9 steps on the same draws" in Page(report.report_html(fit_summary)).text
    assert drawn[-1][1].get_size_inches()[1] == 1.2 + 0.45 * 3


def test_an_existing_file_is_replaced_with_force_only(kinds, tmp_path, monkeypatch, unprinted):
    result, path = kinds["not evaluated"], tmp_path / "report.html"
    path.write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(summary, "summarise", lambda *_: pytest.fail("refused before any work"))
        with pytest.raises(FileExistsError, match="is there already. Name another file, or give force=True"):
            result.report(path)
    assert path.read_text() == "mine"
    assert result.report(path, force=True) == path
    assert path.read_text().startswith("<!DOCTYPE html>") and os.listdir(tmp_path) == ["report.html"]


def test_a_file_that_appears_in_the_meantime_is_kept(kinds, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    monkeypatch.setattr(report, "report_html", lambda _: path.write_text("mine") and "page")
    with pytest.raises(FileExistsError, match="is there already"):
        report.write_report(path, None)
    assert path.read_text() == "mine"
    monkeypatch.setattr(report, "report_html", lambda _: pytest.fail("refused before any work"))
    with pytest.raises(FileExistsError, match="is there already"):
        report.write_report(path, None)


def test_the_path_of_the_page_is_returned(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "report_html", lambda _: "page")
    path = report.write_report(str(tmp_path / "report.html"), None)
    assert path == tmp_path / "report.html" and isinstance(path, Path)


@pytest.mark.parametrize("name", ["functional_connectivity", "structural_connectivity", "regional"])
def test_a_failing_figure_changes_no_file(kinds, tmp_path, monkeypatch, unprinted, name):
    def fails(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(plot, name, fails)
    result, path = kinds["not evaluated"], tmp_path / "report.html"
    with pytest.raises(RuntimeError, match="no ink"):
        result.report(path)
    assert os.listdir(tmp_path) == []
    path.write_text("mine")
    with pytest.raises(RuntimeError, match="no ink"):
        result.report(path, force=True)
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["report.html"]


def test_a_full_disk_changes_no_file(kinds, tmp_path, monkeypatch, unprinted):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kinds["not evaluated"].report(tmp_path / "report.html")
    assert os.listdir(tmp_path) == []


def test_a_report_changes_neither_pyplot_nor_the_result(kinds, tmp_path, unprinted):
    result = kinds["not evaluated"]
    before = (plt.get_fignums(), repr(result), result.evaluation, result.history.best)
    result.report(tmp_path / "report.html")
    assert (plt.get_fignums(), repr(result), result.evaluation, result.history.best) == before


def test_a_stored_summary_gives_the_same_page(kinds, given, tmp_path, unprinted):
    for kind, result in kinds.items():
        fit_summary = summary.summarise(result, given if kind == "evaluated" else None)
        write(tmp_path / "summary.npz", fit_summary, "summary")
        page = report.report_html(fit_summary)
        assert report.report_html(read(tmp_path / "summary.npz", "summary")) == page and "drawn: " in page


def test_a_result_without_a_simulator_is_refused(kinds, tmp_path):
    with pytest.raises(ValueError, match="holds no simulator"):
        replace(kinds["evaluated"], simulator=None).report(tmp_path / "report.html")
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
@pytest.mark.parametrize("kind", ["evaluated", "weights"])
def test_a_browser_opens_the_page_and_all_of_its_pictures(pages, tmp_path, kind):
    path, page = pages[kind]
    probe = """<script>addEventListener("load", () => {
      const seen = [...document.images].map(i => i.naturalWidth + "x" + i.naturalHeight + "x" + i.clientWidth);
      const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
      document.body.setAttribute("data-seen", JSON.stringify([seen, performance.getEntriesByType("resource")
        .map(e => e.name.slice(0, 5)), wide]));
    });</script></body>"""
    probed = tmp_path / "probed.html"
    probed.write_text(path.read_text().replace("</body>", probe), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=5000 --window-size=900,1200 --dump-dom"
    )
    command = ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", probed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    body = next(attributes for name, attributes in Page(done.stdout).elements if name == "body")
    seen, asked, is_wide = json.loads(body["data-seen"])
    assert len(seen) == len(page.images()) and not is_wide
    assert all(int(side) > 100 for picture in seen for side in picture.split("x"))
    assert set(asked) <= {"data:"}
