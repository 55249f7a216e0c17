"""A fit that was killed and resumed gives the same numbers as one that was not, bit for bit."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tvb_jaxfit import (
    BoundedParameter,
    DefaultPrintCallback,
    MultiCallback,
    OptaxOptimizer,
    Parameter,
    SavingCallback,
    State,
    StopOnLoss,
    StopOnPlateau,
)
from tvb_jaxfit.fitting import loop
from tvb_jaxfit.fitting.callbacks import Callback
from tvb_jaxfit.fitting.stopping import StopKind
from tvb_jaxfit.persistence import serialise as store

OPTIMIZERS = {
    "adam": lambda: optax.adam(optax.cosine_decay_schedule(0.2, 40)),
    "lbfgs": optax.lbfgs,
    "noisy": lambda: optax.chain(optax.add_noise(0.1, 0.5, key=7), optax.sgd(0.05)),
}
STEPS = 23


class Killed(BaseException):
    """Exception that nothing in a fit catches."""


def _state(z=1.5):
    return State(
        x=Parameter([3.0, -1.0]),
        y=BoundedParameter(0.5, 0.0, 2.0),
        z=jnp.asarray(z),
        noise=jnp.zeros(2),
        big=jnp.ones(9),
    )


def _loss(state):
    curved = jnp.sum((state.x - state.noise) ** 2 * jnp.exp(0.1 * state.x)) + (state.y - state.z) ** 4
    return curved, {"y": state.y}


def _refresh(step, state):
    return state.replace(noise=0.1 * jax.random.normal(jax.random.key(step), (2,)))


def _run(path=None, kill=None, optimizer="adam", steps=STEPS, resume=True, state=None, loss=_loss, **options):
    def deadly(step, *_):
        if step == kill:
            raise Killed

    callback = MultiCallback([SavingCallback("state", every=3), StopOnPlateau(15, 1e-6), deadly])
    options = {"callback": callback, "refresh": _refresh, "checkpoint_every": 4} | options
    loop = OptaxOptimizer(
        loss,
        OPTIMIZERS[optimizer](),
        has_aux=True,
        progress=False,
        validate=lambda state: (jnp.sum(state.x**2), {"largest": jnp.max(state.x)}),
        validate_every=5,
        checkpoint=path,
        **options,
    )
    return loop.run(_state() if state is None else state, steps, resume=resume and path is not None)


def _assert_same(one, other):
    """Compare fitted state, history and saved values, bit for bit."""
    (fitted, history), (other_fitted, other_history) = one, other
    for mine, theirs in [
        (fitted, other_fitted),
        (history.best, other_history.best),
        (
            (history.loss, history.aux, list(history.validation), history.validation.aux),
            (other_history.loss, other_history.aux, list(other_history.validation), other_history.validation.aux),
        ),
        (history["state"].save, other_history["state"].save),
    ]:
        assert jax.tree.structure(mine) == jax.tree.structure(theirs)
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    assert history.best_step == other_history.best_step and history.stop_reason == other_history.stop_reason
    assert history["state"].step == other_history["state"].step


@pytest.mark.parametrize(
    "optimizer", [pytest.param(name, marks=[pytest.mark.slow] * (name != "noisy")) for name in OPTIMIZERS]
)
def test_a_fit_killed_at_random_steps_ends_as_one_that_was_not(tmp_path, optimizer):
    whole = _run(optimizer=optimizer)
    random, path, last = np.random.default_rng(len(optimizer)), tmp_path / "fit.npz", whole[1].loss.size - 1
    for kill in np.sort(random.integers(1, last, size=3)):
        with pytest.raises(Killed):
            _run(path, int(kill), optimizer)
        assert path.exists()
    _assert_same(_run(path, optimizer=optimizer), whole)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kill", [0, 4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5, STEPS))])
def test_a_fit_killed_at_any_step_ends_as_one_that_was_not(tmp_path, kill):
    with pytest.raises(Killed):
        _run(tmp_path / "fit.npz", kill)
    _assert_same(_run(tmp_path / "fit.npz"), _run())


@contextlib.contextmanager
def _interrupt_at(line):
    """Context that interrupts a fit at the ``line``-th line of its steps and validations; yields the lines so far."""
    lines, functions = [], ("advance", "_record", "_record_validation", "_update_best", "validate_last")

    def trace(frame, event, _):
        if frame.f_code.co_filename != loop.__file__ or frame.f_code.co_name not in functions:
            return None
        if event == "line":
            lines.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
            if len(lines) == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


@pytest.mark.slow
def test_a_fit_interrupted_at_any_line_ends_as_one_that_was_not(tmp_path):
    """Four steps, a checkpoint after each second one, and validations of the first and of the last one."""

    def run(path=None):
        return _run(path, steps=3, optimizer="lbfgs", checkpoint_every=2)

    whole, path, n_kept = run(), tmp_path / "fit.npz", 0
    with _interrupt_at(None) as lines:
        run()
    for line in range(1, len(lines) + 1):
        with _interrupt_at(line):
            interrupted = run(path)
        history = interrupted[1]
        assert history.stop_reason.kind is StopKind.INTERRUPTED, lines[line - 1]
        assert all(each.size == history.loss.size for each in history.aux.values())
        assert all(each.size == len(history.validation.values) for each in history.validation.aux.values())
        n_kept += path.exists()
        _assert_same(run(path), whole)
        path.unlink(missing_ok=True)
    assert len(lines) > 60 and 0.5 * len(lines) < n_kept < len(lines)


@pytest.mark.parametrize("step", [0, 4])
def test_a_fit_interrupted_within_a_step_that_has_a_checkpoint_ends_as_one_that_was_not(tmp_path, step):
    def interrupt(at, *_):
        if at == step:
            raise KeyboardInterrupt

    interrupted = _run(tmp_path / "fit.npz", callback=MultiCallback([SavingCallback("state", every=3), interrupt]))
    assert interrupted[1].stop_reason.kind is StopKind.INTERRUPTED
    callback = MultiCallback([SavingCallback("state", every=3)])
    _assert_same(_run(tmp_path / "fit.npz", callback=callback), _run(callback=callback))


def test_steps_before_the_checkpoint_are_not_repeated(tmp_path):
    seen = []

    def refresh(step, state):
        seen.append(step)
        return _refresh(step, state)

    with pytest.raises(Killed):
        _run(tmp_path / "fit.npz", kill=11, refresh=refresh)
    # The contents of a closure belong to the function.
    seen.clear()
    _run(tmp_path / "fit.npz", refresh=refresh)
    # The loss of the last step before the checkpoint is computed again, for comparison.
    assert seen == [7, *range(8, STEPS + 1)]


def test_patience_of_a_callback_is_resumed(tmp_path):
    def run(path=None, kill=None):
        def deadly(step, *_):
            if step == kill:
                raise Killed

        return _run(path, callback=MultiCallback([StopOnPlateau(6, 1.0), deadly]))[1]

    whole = run()
    # The loss improves last at step 16; the last checkpoint is that of step 20.
    assert str(whole.stop_reason).endswith("after 22 updates") and whole.loss.size == 23 < STEPS + 1
    with pytest.raises(Killed):
        run(tmp_path / "fit.npz", kill=21)
    resumed = run(tmp_path / "fit.npz")
    assert resumed.stop_reason == whole.stop_reason
    np.testing.assert_array_equal(resumed.loss, whole.loss)


def test_the_best_may_lie_before_the_kill(tmp_path):
    """All steps but the first are so long that the loss increases."""

    def run(path=None, kill=None):
        def deadly(step, *_):
            if step == kill:
                raise Killed

        options = {"callback": deadly, "checkpoint": path, "checkpoint_every": 1, "progress": False}
        optimizer = optax.sgd(lambda count: jnp.where(count < 1, 0.25, 1.1))
        loop = OptaxOptimizer(lambda state: jnp.sum(state.x**2), optimizer, **options)
        return loop.run(State(x=Parameter([3.0, -1.0])), 6, resume=path is not None)[1]

    with pytest.raises(Killed):
        run(tmp_path / "fit.npz", kill=4)
    whole, resumed = run(), run(tmp_path / "fit.npz")
    assert resumed.best_step == whole.best_step == 1 and np.all(np.diff(whole.loss[1:]) > 0.0)
    np.testing.assert_array_equal(resumed.best.x.value, whole.best.x.value)
    np.testing.assert_array_equal(resumed.loss, whole.loss)


def test_the_time_that_was_spent_before_counts(tmp_path, monkeypatch):
    now = 0.0

    def hour(step, *_):
        nonlocal now
        now += 3600.0 * (step > 0)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert _run(tmp_path / "fit.npz", steps=1, callback=hour)[1].wall_time == 3600.0
    assert _run(tmp_path / "fit.npz", steps=3, callback=hour)[1].wall_time == 3 * 3600.0


def test_a_fit_killed_by_the_system_is_resumed_in_another_process(tmp_path):
    script = f"""
import os, signal, sys
import jax
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_checkpoint as t
def deadly(step, *_):
    if step == 14:
        os.kill(os.getpid(), signal.SIGKILL)
callback = t.MultiCallback([t.SavingCallback("state", every=3), t.StopOnPlateau(15, 1e-6), deadly])
t._run({str(tmp_path / "fit.npz")!r}, callback=callback)
"""
    died = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL
    _assert_same(_run(tmp_path / "fit.npz"), _run())


def test_a_finished_fit_is_returned_and_continues_with_more_steps(tmp_path):
    path, seen = tmp_path / "fit.npz", []
    first = _run(path, steps=7)
    _assert_same(_run(path, steps=7), first)
    _assert_same(_run(path), _run())
    stop = {"callback": StopOnLoss(5.0)}
    _, ended = _run(tmp_path / "stopped.npz", **stop)
    assert str(ended.stop_reason).startswith("the loss fell to")
    _, again = _run(
        tmp_path / "stopped.npz", steps=100, callback=MultiCallback([StopOnLoss(5.0), lambda *_: seen.append(1)])
    )
    assert not seen and again.stop_reason == ended.stop_reason
    np.testing.assert_array_equal(again.loss, ended.loss)


def test_resume_without_a_checkpoint_begins_a_fit(tmp_path):
    _assert_same(_run(tmp_path / "new" / "fit"), _run())
    assert (tmp_path / "new" / "fit").exists()


def test_a_checkpoint_is_not_overwritten_without_resume(tmp_path):
    path = tmp_path / "fit.npz"
    _run(path, steps=2)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"fit.npz exists. run\(..., resume=True\) continues from it"):
        _run(path, resume=False)
    assert path.read_bytes() == before


def test_resume_without_a_path_is_refused():
    with pytest.raises(ValueError, match="nothing to go on from. Give OptaxOptimizer"):
        OptaxOptimizer(_loss, optax.sgd(0.1), has_aux=True).run(_state(), resume=True)


@pytest.mark.parametrize("spoil", ["cut", "bit", "empty", "text", "pickle", "other kind"])
def test_a_damaged_or_foreign_file_is_refused_and_unchanged(tmp_path, spoil):
    path = tmp_path / "fit.npz"
    _run(path, steps=2)
    whole = path.read_bytes()
    if spoil == "other kind":
        store.write(path, {"fit": 1}, "something else")
    elif spoil == "pickle":
        np.savez(path, json=np.array([{"format": 1}], dtype=object), a0=np.zeros(3))
    else:
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 16
        path.write_bytes({"cut": whole[:-50], "bit": bytes(flipped), "empty": b"", "text": b"a,b\n1,2\n"}[spoil])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"fit.npz is damaged, or no checkpoint of a fit.*Delete it, or name another"):
        _run(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "other,named",
    [
        ({"state": _state(z=1.6)}, "differences: z"),
        ({"optimizer": "lbfgs"}, "differences: optimizer"),
        ({"state": _state().replace(y=BoundedParameter(0.5, 0.0, 3.0))}, r"differences: y \(bounds\)"),
    ],
    ids=["start", "optimizer", "bounds"],
)
def test_a_checkpoint_of_another_fit_is_refused_with_the_differences(tmp_path, other, named):
    _run(tmp_path / "fit.npz", steps=2)
    with pytest.raises(ValueError, match=f"of another fit .*{named}"):
        _run(tmp_path / "fit.npz", **other)


def _same_value(state):
    """Loss with the value of `_loss` and another gradient."""
    value, aux = _loss(state)
    return 2.0 * jax.lax.stop_gradient(value) - value, aux


@pytest.mark.parametrize(
    "other,named",
    [
        ({"loss": lambda state: (2.0 * _loss(state)[0], {"y": state.y})}, "loss"),
        ({"loss": lambda state: (_loss(state)[0] * (1.0 + 1e-7), {"y": state.y})}, "loss"),
        ({"loss": _same_value}, "loss"),
        ({"optimizer": "faster"}, "optimizer"),
        ({"refresh": lambda step, state: _refresh(step + 1, state)}, "refresh"),
        ({"patience": 7}, "patience"),
        ({"state": _state().replace(y=Parameter(0.5))}, r"y \(bounds\)"),
        ({"state": _state().replace(x=Parameter([3.0, -1.0], regional=True))}, r"x \(bounds\)"),
        ({"callback": None}, "callback SavingCallback state, callback StopOnPlateau"),
        ({"callback": SavingCallback("other")}, "callback SavingCallback state, .*, callback SavingCallback other"),
        ({"callback": MultiCallback([SavingCallback("state", every=2), StopOnPlateau(15, 1e-6)])}, "callback Saving"),
        ({"callback": MultiCallback([StopOnPlateau(15, 1e-6), SavingCallback("state", every=3)])}, "order of callb"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_checkpoint_of_another_fit_is_refused_even_if_the_loss_is_equal(tmp_path, monkeypatch, other, named):
    path = tmp_path / "fit.npz"
    monkeypatch.setitem(OPTIMIZERS, "faster", lambda: optax.adam(optax.cosine_decay_schedule(0.3, 40)))
    _run(path, steps=2)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"fit.npz is of another fit \(differences: {named}"):
        _run(path, **other)
    assert path.read_bytes() == before


def test_printing_and_checkpoint_interval_may_change(tmp_path):
    with pytest.raises(Killed):
        _run(tmp_path / "fit.npz", kill=11)
    printed = MultiCallback([DefaultPrintCallback(100), SavingCallback("state", every=3), StopOnPlateau(15, 1e-6)])
    _assert_same(_run(tmp_path / "fit.npz", callback=printed, checkpoint_every=7), _run())


class _Watching(Callback):
    """Callback with attributes, but without a resume state."""

    def __init__(self):
        self.losses = []

    def __call__(self, step, state, loss, gradients):
        self.losses.append(loss)


def test_a_callback_without_a_resume_state_may_change(tmp_path):
    watching = _Watching()
    _run(tmp_path / "fit.npz", callback=watching, steps=4)
    _run(tmp_path / "fit.npz", callback=watching, steps=6)
    assert len(watching.losses) == 7
    _run(tmp_path / "fit.npz", callback=None, steps=8)


def _loss_of_a_file(path):
    def loss(state):
        value, aux = _loss(state)
        return value * float(np.load(path)), aux

    return loss


def test_parts_that_cannot_be_compared_are_named_and_the_loss_is_compared(tmp_path):
    np.save(tmp_path / "scale.npy", 1.0)
    options = {"path": tmp_path / "fit.npz", "loss": _loss_of_a_file(tmp_path / "scale.npy")}
    _run(steps=2, **options)
    with pytest.warns(UserWarning, match="cannot be compared: loss -> np.load.*numpy.load") as caught:
        _run(steps=3, **options)
    assert caught[0].filename == __file__
    np.save(tmp_path / "scale.npy", 2.0)
    with pytest.raises(ValueError, match="has a loss of .* at its step 3, where this loss gives"):
        with pytest.warns(UserWarning, match="cannot be compared"):
            _run(**options)


def test_a_generator_in_a_loss_is_named(tmp_path):
    numbers = (i for i in range(3))

    def loss(state):
        assert numbers is not None
        return _loss(state)

    _run(tmp_path / "fit.npz", steps=2, loss=loss)
    with pytest.warns(UserWarning, match=r"cannot be compared: loss -> numbers \(a builtins.generator\)"):
        _run(tmp_path / "fit.npz", steps=3, loss=loss)


def test_another_precision_is_another_fit(tmp_path):
    with jax.enable_x64(True):
        _run(tmp_path / "fit.npz", steps=2, state=_state().replace(big=jnp.ones(9, jnp.float32)))
    with jax.enable_x64(False), pytest.raises(ValueError, match="of another fit .*precision"):
        _run(tmp_path / "fit.npz", state=_state().replace(big=jnp.ones(9, jnp.float32)))


def test_a_checkpoint_of_a_former_form_is_refused(tmp_path):
    path = tmp_path / "fit.npz"
    store.write(path, {"facts": {}, "fit": {}}, "checkpoint of a fit")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="written by another version of tvb_jaxfit.*delete it and begin a new fit"):
        _run(path)
    assert path.read_bytes() == before


def test_changed_versions_are_named_if_the_fit_differs(tmp_path, monkeypatch):
    path = tmp_path / "fit.npz"
    _run(path, steps=2)
    held = store.read(path, "checkpoint of a fit")
    held["versions"]["optax"] = "0.0.1"
    store.write(path, held, "checkpoint of a fit")
    with pytest.raises(ValueError, match=r"written with other versions \(optax 0.0.1, now "):
        _run(path, optimizer="lbfgs")
    _run(path, steps=2)


def test_a_full_disk_does_not_end_a_fit(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"PK")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "fit.npz"
    _run(path, steps=8)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", full)
        with pytest.warns(
            UserWarning, match="was not written .*No space left on device.*; the fit continues"
        ) as caught:
            result = _run(path)
    assert caught[0].filename == __file__
    _assert_same(result, _run())
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    _assert_same(_run(path), result)


def test_values_that_cannot_be_stored_raise_after_the_first_step(tmp_path):
    with pytest.raises(store.NotSerialisable, match=r"SavingCallback|cannot be stored") as caught:
        _run(tmp_path / "fit.npz", callback=SavingCallback("it", lambda *_: object()))
    assert caught.value.history.loss.size == 1


def test_shared_arrays_are_stored_once(tmp_path):
    state = _state().replace(big=jnp.ones(100_000))
    _run(tmp_path / "fit.npz", state=state, callback=SavingCallback("state"), steps=20)
    assert (tmp_path / "fit.npz").stat().st_size < 1.2e6
