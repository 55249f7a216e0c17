"""The headline of a report is one r with its meaning; all other r are listed beside it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tvb_jaxfit.evaluation.sessions import Targets
from tvb_jaxfit.fitting.fresh import FreshNoise
from tvb_jaxfit.fitting.history import History, Validation
from tvb_jaxfit.markup import tag
from tvb_jaxfit.reporting import html as html_pages
from tvb_jaxfit.reporting import report as reports
from tvb_jaxfit.reporting.headline import headline


@pytest.fixture
def unprinted(monkeypatch):
    """Replace figures by their captions."""
    monkeypatch.setattr(html_pages, "figure_html", lambda drawn, caption: tag("p", caption))


def test_the_headline_is_r_on_fresh_noise_with_its_standard_deviation(fit_summary):
    first = headline(fit_summary)
    assert first.value == "r = 0.5000 ± 0.1000"
    assert "on fresh noise: mean ± standard deviation over 3 seeds, runs of 40 s" in first.meaning


def test_the_other_r_are_listed_with_their_meaning(fit_summary):
    rows = {name: (value, meaning) for name, value, meaning in headline(fit_summary).others}
    assert list(rows) == ["fresh noise", "windows", "training", "validation", "figures"]
    assert [value for value, _ in rows.values()] == ["0.5000 ± 0.1000", "0.3000 ± 0.0000", "0.9000", "0.8000", "1.0000"]
    assert "FC of windows of 10 s" in rows["windows"][1] and "which the fit has used" in rows["training"][1]
    assert "by which the best of 2 states was chosen" in rows["validation"][1]
    of_tvb = [row | {"simulator": "TVB", "r": 0.25} for row in fit_summary.evaluation.rows[:1]]
    both = replace(
        fit_summary.evaluation,
        rows=fit_summary.evaluation.rows + of_tvb,
        fc=fit_summary.evaluation.fc | {"TVB": np.ones((1, 2, 2))},
    )
    rows = {name: (value, meaning) for name, value, meaning in headline(replace(fit_summary, evaluation=both)).others}
    assert rows["TVB, fresh noise"] == ("0.2500", "TVB itself, 1 run")


def test_the_headline_says_that_a_group_is_better(fit_summary):
    better = replace(fit_summary.evaluation, group_baseline={"target": 0.8})
    first = headline(replace(fit_summary, evaluation=better))
    assert first.meaning.endswith("that the fit never saw. r is below that of the group's FC (0.8000).")
    # Negative control: a group that r exceeds is no part of the headline.
    worse = replace(fit_summary.evaluation, group_baseline={"target": 0.2})
    assert headline(replace(fit_summary, evaluation=worse)) == headline(fit_summary)


def test_without_an_evaluation_the_headline_is_r_of_the_training(fit_summary):
    first = headline(replace(fit_summary, evaluation=None))
    assert first.value == "r = 0.9000 on training noise only"
    assert first.meaning.endswith("not evaluated on fresh noise.") and "which the fit has used" in first.meaning
    assert "fresh noise" not in [name for name, *_ in first.others]


def test_a_fit_with_the_same_noise_in_all_steps(fit_summary):
    fixed = replace(fit_summary.stages["Simulation"], validation=Validation())
    first = headline(replace(fit_summary, evaluation=None, stages={"Simulation": fixed}))
    assert first.meaning == "On the noise that every step has used; not evaluated on fresh noise."
    assert "validation" not in [name for name, *_ in first.others]


def test_a_linear_fit_has_no_training_noise(fit_summary):
    r = np.array([0.1, 0.7])
    linear = History(1.0 - r, {"r": r, "nonlinearity": r}, None, 1, "1 start followed", 1.0, Validation())
    first = headline(replace(fit_summary, evaluation=None, stages={"Linear response": linear}))
    assert first.value == "r = 0.7000 without noise only"
    meant = (
        "By the linear response, without noise; not evaluated on fresh noise. The fit's own check: 1 start followed."
    )
    assert first.meaning == meant


def test_without_noise_there_is_one_r(fit_summary):
    first = headline(replace(fit_summary, evaluation=None, is_noisy=False))
    assert first.value == "r = 0.9000" and "has no noise" in first.meaning


def test_a_fit_without_result_has_no_r_but_a_reason(fit_summary):
    nothing = History(np.array([]), {}, None, 0, "the loss was nan after 0 updates", 1.0)
    first = headline(
        replace(fit_summary, evaluation=None, stages={"Simulation": nothing}, matrices={"Empirical": np.eye(30)})
    )
    assert (first.value, first.others) == ("no r", []) and "the loss was nan" in first.meaning


def test_an_evaluation_without_any_fc_is_no_headline(fit_summary):
    failed = [row | {"r": np.nan} for row in fit_summary.evaluation.rows]
    first = headline(replace(fit_summary, evaluation=replace(fit_summary.evaluation, rows=failed)))
    assert first.value == "r = 0.9000 on training noise only" and "no run on fresh noise has FC" in first.meaning


def test_one_seed_has_no_standard_deviation_and_another_target_is_named(fit_summary):
    (row, *_), fc = fit_summary.evaluation.rows, fit_summary.matrices["Empirical"]
    targets = Targets({"a": fc, "held out": fc}, sessions=("a",))
    one = replace(
        fit_summary.evaluation,
        rows=[row | {"target": "held out"}],
        fc={"JAX": fc[None]},
        targets=targets,
        structural_baseline={"held out": 0.1},
    )
    first = headline(replace(fit_summary, evaluation=one))
    assert first.value == "r = 0.4000" and "of 1 seed," in first.meaning and "target 'held out'" in first.meaning


def test_the_headline_comes_first_and_numbers_have_at_most_six_digits(fit_summary, unprinted):
    text = reports.report_html(fit_summary)
    assert text.index('class="headline"') < text.index("<h2")
    read = re.sub(r"<style>.*?</style>|<pre.*?</pre>", "", text, flags=re.DOTALL)
    numbers = re.findall(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?", re.sub("<[^>]*>", " ", read))
    digits = [len(re.sub(r"e.*|\D", "", number).lstrip("0")) for number in numbers]
    assert len(numbers) > 500 and max(digits) == 6
    assert "0.3333333333333333" in text


def test_hemispheres_are_in_tables_and_captions(fit_summary, unprinted):
    text = reports.report_html(fit_summary)
    assert text.count("Lines separate the hemispheres, by which the regions are ordered.") == 2
    assert '<th class="text">side</th>' in text and '<td class="text">left</td>' in text
    unknown = reports.report_html(replace(fit_summary, hemispheres=None))
    assert "hemispheres" not in unknown and ">side<" not in unknown
    blocks = reports.report_html(replace(fit_summary, hemispheres=np.arange(30) >= 15))
    assert blocks.count("Lines separate the hemispheres.") == 2


def test_without_an_evaluation_the_headline_is_the_r_that_the_fit_has_simulated(fit_summary):
    fresh = FreshNoise(np.array([0.5, 0.6]), 40_000.0, "jax.random.key(0)")
    first = headline(replace(fit_summary, evaluation=None, fresh=fresh))
    assert first.value == "r = 0.5500 ± 0.0707"
    assert first.meaning == (
        "on fresh noise: mean ± standard deviation over 2 runs of 40 s from the best state on noise that the fit never "
        "saw."
    )
    assert str(fresh) == "r 0.5500 on noise that the fit never saw (2 runs of 40 s)"
    # An evaluation has more runs.
    both = headline(replace(fit_summary, fresh=fresh))
    assert both.value == "r = 0.5000 ± 0.1000" and "end of the fit, fresh noise" in [name for name, *_ in both.others]
