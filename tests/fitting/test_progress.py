"""Progress bars name the work before the first step, and leave it out of the estimate of the remaining time."""

import re
import time

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.fitting.linear import confirmation
from tvb_jaxfit.fitting.linear import fit as linear_fit
from tvb_jaxfit.runtime.progress import bar_status, progress_bar, status_line

# Tracing time of the loss [s]; clock of a bar: steps done, and seconds since the first one.
SLOW = 2.0
CLOCK = re.compile(r" (\d+)/\d+ \[(\d+):(\d+)<")


def slow_loss(state):
    time.sleep(SLOW)
    return jnp.sum(state.x**2)


def optimised(progress):
    state = tj.State(x=tj.Parameter(np.arange(3.0)))
    return tj.OptaxOptimizer(slow_loss, optax.sgd(0.1), progress=progress).run(state, 4)


def swept(progress):
    space = tj.Space(tj.State(x=tj.GridAxis(-1.0, 2.0, 40)))
    return tj.ParallelExecution(slow_loss, space, n_pmap=1, batch_size=2, progress=progress).run()


def shown(capsys):
    """Texts of the bar, in order."""
    return [line.strip() for line in re.split("[\r\n]", capsys.readouterr().err) if line.strip()]


@pytest.mark.slow
@pytest.mark.parametrize(("run", "name"), [(optimised, "fit"), (swept, "explore")])
def test_compiling_is_shown_and_not_counted(run, name, capsys):
    run(True)
    lines = shown(capsys)
    # A line on the duration of a step is written above the bar.
    (announced,) = [line for line in lines if "per step" in line] or [None]
    assert (announced is not None) == (name == "fit")
    lines = [line for line in lines if line != announced]
    said = [line.startswith(f"{name}: compiling") for line in lines]
    assert any(said[:2]), lines
    # It is named before the first step, and not after it.
    first = next(index for index, line in enumerate(lines) if not CLOCK.search(line)[0].startswith(" 0/"))
    assert said.index(True) < first and not any(said[first:])
    for line in lines[first:]:
        _, minutes, seconds = map(int, CLOCK.search(line).groups())
        assert 60 * minutes + seconds < SLOW, line
    assert name == "explore" or all("loss=" in line for line in lines[first:])
    run(False)
    assert shown(capsys) == []


@pytest.mark.slow
def test_a_fit_and_an_evaluation_announce_the_translation(build_small, capsys):
    sim = build_small(steps=60, monitors=[monitors.TemporalAverage(period=8.0)])
    target = np.corrcoef(np.random.RandomState(0).randn(6, 40))
    result = tj.fit(
        sim,
        target,
        {"coupling.a": tj.Parameter()},
        method="simulate",
        max_steps=2,
        noise=tj.NoiseOptions(resample=False),
    )
    lines = shown(capsys)
    assert lines[0] == "fit: translating the simulator"
    assert [line for line in lines if "loss=" in line] and "fit: simulating the result on fresh noise" in lines
    assert any(line.startswith("fit: compiling") for line in lines)
    result.evaluate(n_seeds=2)
    lines = shown(capsys)
    assert lines[0] == "evaluate: translating the simulator"
    # The fit has compiled the simulation already.
    assert not any(line.startswith("JAX: compiling") for line in lines) and lines[-1].startswith("JAX: 100%")
    tj.fit(
        sim, target, {"coupling.a": tj.Parameter()}, method="simulate", max_steps=0, run=tj.RunOptions(progress=False)
    ).evaluate(n_seeds=1, progress=False)
    assert shown(capsys) == []


@pytest.mark.slow
def test_a_linear_fit_shows_its_stages(build_small, capsys, monkeypatch):
    monkeypatch.setattr(linear_fit, "_POINTS", 4)
    monkeypatch.setattr(linear_fit, "_STARTS", 1)
    monkeypatch.setattr(confirmation, "LONGEST", 2_000.0)
    sim = build_small(steps=60, monitors=[monitors.TemporalAverage(period=8.0)])
    target = np.corrcoef(np.random.RandomState(0).randn(6, 40))

    def run(progress):
        options = {"method": "linear", "max_evaluations": 2, "progress": progress}
        return tj.fit(sim, target, {"coupling.a": tj.Parameter()}, **options)

    run(True)
    told = [re.split(r":? +\d+%", line)[0] for line in shown(capsys)]
    assert told[0] == "fit: translating the simulator"
    order = list(dict.fromkeys(told))
    duration = order.pop(5)
    assert re.fullmatch(r"linear fit: [0-9.e-]+ s per evaluation, at most 7 evaluations", duration)
    assert order[1:] == [
        'fit: through the linear response (method="linear" asks for it)',
        *("linear fit: translating the simulator", "linear fit: compiling", "linear fit", "linear fit: simulating"),
        "fit: simulating the result on fresh noise",
    ]
    assert told.count("linear fit: compiling") >= 2
    run(False)
    assert shown(capsys) == []


def test_nested_statuses_are_shown_and_counted_once(capsys):
    with progress_bar("bar", "step", 2) as bar:
        began = bar.start_t
        with pytest.raises(ZeroDivisionError), bar_status("one"):
            time.sleep(0.2)
            with bar_status("another"):
                time.sleep(0.2)
            raise ZeroDivisionError
        assert 0.4 <= bar.start_t - began < 4.0
        bar.update(2)
    told = [line.split(":  ")[0] for line in shown(capsys)]
    assert told[:5] == ["bar", "bar: one", "bar: another", "bar: one", "bar"]


def test_without_a_bar_no_status_is_shown(capsys):
    with (
        bar_status("one"),
        status_line("another", progress=False),
        progress_bar("bar", "step", 2, False),
        bar_status("more"),
    ):
        pass
    assert shown(capsys) == []
