"""A report is one whole page that says what the result says, asks for nothing, and costs no file of anybody's."""

import base64
import html.parser
import io
import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

from tvb_jaxfit import Certificate, Parameter, certify, fc_corr, plot, rmse
from tvb_jaxfit.certificate import Comparison
from tvb_jaxfit.fitting import account, recipe
from tvb_jaxfit.fitting import report as reports
from tvb_jaxfit.fitting.fit import FitResult
from tvb_jaxfit.fitting.store import read, write
from tvb_jaxfit.page import tag
from tvb_jaxfit.parameters import parameters_of, plain
from tvb_jaxfit.translate.clone import clone

KINDS = (
    *("evaluated", "not evaluated", "linear", "linear and simulated"),
    *("no step", "nothing finite", "deterministic", "weights"),
)


class Page(html.parser.HTMLParser):
    """A page as its elements, texts, tables and folds."""

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
        """The rows of the one table that has these heads."""
        (found,) = [table for table in self.tables if table and table[0][: len(heads)] == list(heads)]
        return found[1:]


@pytest.fixture(scope="module")
def pages(kinds, tmp_path_factory):
    """Reports of every kind: (path, page)."""
    folder = tmp_path_factory.mktemp("reports")
    made = {kind: result.report(folder / f"{kind.replace(' ', '_')}.html") for kind, result in kinds.items()}
    return {kind: (path, Page(path.read_text(encoding="utf-8"))) for kind, path in made.items()}


@pytest.fixture
def unprinted(monkeypatch):
    """Figures are drawn, and what their axes hold is told, but no pictures are made of them: that takes seconds."""

    def told(drawn, caption):
        lines = [line.get_xydata().tolist() for ax in drawn.axes for line in ax.lines]
        images = [np.ma.filled(image.get_array(), np.nan).tolist() for ax in drawn.axes for image in ax.images]
        clouds = [cloud.get_offsets().tolist() for ax in drawn.axes for cloud in ax.collections]
        return tag("p", "drawn: ", caption, lines, images, clouds)

    monkeypatch.setattr(reports, "figure", told)


def test_every_kind_of_fit_has_a_page(kinds):
    assert tuple(kinds) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_asks_for_nothing_outside_it_and_runs_nothing(pages, kind):
    path, page = pages[kind]
    for name, attributes in page.elements:
        assert name not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for attribute, value in attributes.items():
            assert not attribute.startswith("on")
            if attribute in ("src", "href", "srcset", "data", "action", "poster"):
                assert value.startswith(("data:", "#"))
    style = path.read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style and "@media print" in style


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_a_picture_that_stands_by_itself(pages, kind):
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


def test_each_figure_shows_what_the_fit_says(fitted, monkeypatch):
    drawn = {}

    def kept(figure, caption):
        drawn[caption.partition(" ")[0], len(drawn)] = figure.axes
        return tag("p", caption)

    monkeypatch.setattr(reports, "figure", kept)
    compared = (Comparison("Raw", 9, True, 1e-15, 1e-14),)
    told = account.account_of(fitted, Certificate("it", 9, compared, (), {}, 1e-9, 1e-6))
    reports.report(told)
    fc, scatter, regional, course, connectome, certificate = drawn.values()
    off, upper = ~np.eye(5, dtype=bool), np.triu_indices(5, 1)
    for ax, matrix in zip(fc, (fitted.target, fitted.fc(fitted.initial), fitted.fc()), strict=False):
        np.testing.assert_array_equal(ax.images[0].get_array()[off], np.asarray(matrix)[off])
    expected = np.column_stack([fitted.target[upper], fitted.fc()[upper]])
    np.testing.assert_array_equal(scatter[0].collections[0].get_offsets(), expected)
    strength = fitted.sim.connectivity.weights.sum(axis=1)
    expected = np.column_stack([strength, fitted.best.model.w.value])
    np.testing.assert_array_equal(regional[0].collections[0].get_offsets(), expected)
    np.testing.assert_array_equal(regional[0].lines[0].get_ydata(), 0.6)
    for ax, values in zip(course, (fitted.loss, fitted.r), strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), values)
    for ax, matrix in zip(connectome, (told.weights, told.lengths), strict=False):
        np.testing.assert_array_equal(ax.images[0].get_array()[off], matrix[off])
    np.testing.assert_array_equal(certificate[0].lines[0].get_xdata(), 1e-14)


def _png(source):
    return io.BytesIO(base64.b64decode(source.partition(",")[2]))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_results_fc(kinds, pages, kind):
    result = kinds[kind]
    rows = {title: (float(r), float(e)) for title, r, e in pages[kind][1].table("FC", "r (off-diagonal)")}
    first = result if result.before is None else result.before
    expected = {"Initial": result.fc(first.initial), "Fitted": result.fc()}
    if result.before is not None:
        expected["Linear response"] = result.before.fc()
    assert set(rows) == set(expected)
    for title, fc in expected.items():
        told = (float(fc_corr(fc, result.target)), float(rmse(fc, result.target)))
        np.testing.assert_allclose(rows[title], told, atol=1e-6)


def test_every_fitted_value_is_there_to_its_last_digit_beside_its_region(kinds, pages):
    result, page = kinds["evaluated"], pages["evaluated"][1]
    labels = result.sim.connectivity.region_labels.tolist()
    rows = page.table("region", "model.w initial", "model.w fitted")
    assert [row[0] for row in rows] == labels
    np.testing.assert_array_equal([float(row[1]) for row in rows], result.initial.model.w.value)
    np.testing.assert_array_equal([float(row[2]) for row in rows], result.best.model.w.value)
    (single,) = page.table("parameter", "initial", "fitted")
    assert single[0] == "coupling.a"
    assert [float(cell) for cell in single[1:]] == [0.02, float(result.best.coupling.a.value[0])]
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
    np.testing.assert_allclose(float(by_path["coupling.a"][1][4]), result.best.coupling.a.value[0], rtol=1e-5)


def test_fitted_weights_are_listed_by_their_two_regions(kinds, pages):
    result = kinds["weights"]
    rows = pages["weights"][1].table("target", "source", "initial", "fitted")
    labels = result.sim.connectivity.region_labels.tolist()
    fitted = np.asarray(result.best.connectivity.weights.value)
    assert len(rows) == np.sum(fitted != 0.0) == 20
    for target, source, _, value in rows:
        assert float(value) == fitted[labels.index(target), labels.index(source)]


def test_units_of_tvb_are_told(fitted):
    told = account.account_of(replace(fitted, initial=_with_current(fitted), best=_with_current(fitted)))
    assert [(each.path, each.unit) for each in told.parameters] == [("model.I_o", "[nA]")]


def _with_current(fitted):
    state = plain(fitted.initial)
    return state.replace(model=state.model.replace(I_o=Parameter(state.model.I_o)))


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_text_and_no_markup(pages, kind):
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


def test_where_a_state_has_no_fc_the_reason_is_in_its_place(kinds, tmp_path, monkeypatch, unprinted):
    result, real = kinds["not evaluated"], FitResult.fc

    def fc(self, state=None, key=None):
        if state is self.best:
            raise ValueError("the signal of node 2 is constant")
        return real(self, state, key)

    monkeypatch.setattr(FitResult, "fc", fc)
    page = Page(result.report(tmp_path / "report.html").read_text())
    assert "Fitted: no FC. the signal of node 2 is constant" in page.text
    assert [row[0] for row in page.table("FC", "r (off-diagonal)")] == ["Initial"]


def test_the_course_has_a_figure_for_each_stage_or_says_why_not(kinds, pages):
    for kind, stages in {"evaluated": 1, "linear": 1, "linear and simulated": 2, "no step": 1}.items():
        captions = [attributes["alt"] for name, attributes in pages[kind][1].elements if name == "img"]
        assert sum("loss and correlation" in caption for caption in captions) == stages
    assert kinds["linear"].history.stop_reason in pages["linear"][1].text
    assert (
        "nothing to draw" in pages["nothing finite"][1].text and "the loss was nan" in pages["nothing finite"][1].text
    )


def test_versions_precision_noise_and_options_are_told(kinds, pages):
    told = {row[0]: row[1] for table in pages["evaluated"][1].tables for row in table if len(row) == 2}
    assert told["jax"] == jax.__version__ and told["numpy"] == np.__version__ and told["precision"] == "float64"
    assert (
        told["noise"] in ("tvb", "Additive, nsig 1e-05, noise_seed 3") and "1500 steps of 4 ms (6 s)" in told["length"]
    )
    assert told["max_steps"] == "3" and told["optimizer"] == "given by the script" and told["skip_t"] == "10"
    assert "noise_seed 3" in pages["evaluated"][1].text


def test_the_code_does_the_same_fit_again(kinds, pages):
    """What is told of a fit is run, in a script's place."""
    code = next(text for text in pages["evaluated"][1].code if "tj.fit(" in text)
    result = kinds["evaluated"]
    names = {"sim": clone(result.sim), "fc_target": result.target, "optimizer": optax.adam(0.02)}
    exec(code, names)
    np.testing.assert_array_equal(names["result"].loss, result.loss)
    np.testing.assert_array_equal(names["sim"].model.w, result.best.model.w.value)


def test_the_values_can_be_put_into_tvb_alone(kinds, pages):
    for kind, shape in {"evaluated": (5,), "weights": (5, 5)}.items():
        result, sim = kinds[kind], clone(kinds[kind].sim)
        exec(next(text for text in pages[kind][1].code if "before sim.configure()" in text), {"sim": sim})
        written = clone(kinds[kind].sim)
        result.write_back(written)
        for path in parameters_of(result.best):
            component, name = path.split(".")
            ours, theirs = (getattr(getattr(one, component), name) for one in (sim, written))
            np.testing.assert_array_equal(ours, theirs)
            assert np.any(ours != getattr(getattr(result.sim, component), name))
            assert theirs.shape in (shape, (1,))


def test_options_and_free_values_are_code():
    assert recipe.told({"noise": jax.random.key(3)})["noise"] == "jax.random.wrap_key_data(np.array([0, 3], np.uint32))"
    assert recipe.told({"checkpoint": Path("here")}) == {"checkpoint": "'here'"}
    assert recipe.told({"loss": lambda fc, target: 0.0, "patience": None}) == {"loss": "loss", "patience": "None"}


def test_a_certificate_is_shown_that_is_given_or_made(kinds, tmp_path, unprinted):
    result = kinds["not evaluated"]
    given = certify(result.sim, simulation_length=2000.0)
    shown = Page(result.report(tmp_path / "given.html", certificate=given).read_text())
    assert repr(given) in shown.code and "500 steps" in repr(given)
    made = Page(result.report(tmp_path / "made.html", certificate=True).read_text())
    (text,) = [code for code in made.code if code.startswith("Certificate")]
    assert text.startswith("Certificate: PASSED") and text != repr(given)
    failed = Page(result.report(tmp_path / "failed.html", replace(given, lifted_tolerance=0.0)).read_text())
    assert any(code.startswith("Certificate: FAILED") for code in failed.code)
    none = Page(result.report(tmp_path / "none.html", certificate=False).read_text())
    assert not any(code.startswith("Certificate") for code in none.code) and "certificate=True" in none.text


def test_what_is_there_is_replaced_by_force_alone(kinds, tmp_path, monkeypatch, unprinted):
    result, path = kinds["not evaluated"], tmp_path / "report.html"
    path.write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(account, "account_of", lambda *_: pytest.fail("refused before any work"))
        with pytest.raises(FileExistsError, match="is there already. Name another file, or give force=True"):
            result.report(path)
    assert path.read_text() == "mine"
    assert result.report(path, force=True) == path
    assert path.read_text().startswith("<!DOCTYPE html>") and os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize("name", ["functional_connectivity", "structural_connectivity", "regional"])
def test_a_figure_that_fails_costs_no_file(kinds, tmp_path, monkeypatch, unprinted, name):
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


def test_a_disk_that_is_full_costs_no_file(kinds, tmp_path, monkeypatch, unprinted):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kinds["not evaluated"].report(tmp_path / "report.html")
    assert os.listdir(tmp_path) == []


def test_a_report_leaves_pyplot_and_the_result_alone(kinds, tmp_path, unprinted):
    result = kinds["not evaluated"]
    before = (plt.get_fignums(), repr(result), result.evaluation, result.history.best)
    result.report(tmp_path / "report.html")
    assert (plt.get_fignums(), repr(result), result.evaluation, result.history.best) == before


def test_an_account_that_was_kept_gives_the_same_page(kinds, tmp_path, unprinted):
    for kind, result in kinds.items():
        told = account.account_of(result, certify(result.sim, 2000.0) if kind == "evaluated" else None)
        write(tmp_path / "account.npz", told, "account")
        page = reports.report(told)
        assert reports.report(read(tmp_path / "account.npz", "account")) == page and "drawn: " in page


def test_a_result_without_a_simulator_is_refused(kinds, tmp_path):
    with pytest.raises(ValueError, match="holds no simulator"):
        replace(kinds["evaluated"], sim=None).report(tmp_path / "report.html")
    assert os.listdir(tmp_path) == []


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
