"""Callbacks: what they receive, what they save, and when they end a fit."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tvb_jaxfit import (
    DefaultPrintCallback,
    MultiCallback,
    OptaxOptimizer,
    Parameter,
    SavingCallback,
    State,
    StopOnLoss,
    StopOnPlateau,
)


def _run(callback, loss=lambda state: jnp.sum(state.x**2), steps=6, learning_rate=0.25, progress=False):
    optimizer = OptaxOptimizer(loss, optax.sgd(learning_rate), callback=callback, progress=progress)
    return optimizer.run(State(x=Parameter([1.0, 2.0]), y=jnp.ones(3)), max_steps=steps)


def test_saved_states_match_the_losses():
    state = State(x=Parameter([1.0, 2.0]), y=jnp.ones(3))
    optimizer = OptaxOptimizer(
        lambda state: jnp.sum(state.x**2), optax.sgd(0.25), callback=SavingCallback("state"), progress=False
    )
    _, history = optimizer.run(state, max_steps=6)
    assert history["state"].step == list(range(7)) and len(history["state"]) == 7
    route = np.array([state.x.value for state in history["state"].save])
    np.testing.assert_allclose(np.sum(route**2, axis=1), history.loss, rtol=1e-12)
    assert all(kept.y is state.y for kept in history["state"].save)


def test_save_fun_is_called_every_n_steps():
    seen = SavingCallback("g", lambda step, state, loss, gradients: (loss, float(gradients["x"][0])), every=3)
    _, history = _run(seen)
    assert history["g"].step == [0, 3, 6]
    assert history["g"].save == [(history.loss[i], g) for i, g in zip([0, 3, 6], [2.0, 0.25, 0.03125], strict=True)]
    assert seen.saved_values is history["g"]
    table = history["g"].to_pandas()
    assert list(table.columns) == ["step", "save"] and table["save"][1] == history["g"].save[1]


def test_a_callback_serves_several_fits():
    callback = MultiCallback([SavingCallback("loss", lambda *seen: seen[2]), StopOnPlateau(3, 0.1)])
    _, first = _run(callback, steps=30)
    kept = list(first["loss"].save)
    _, second = _run(callback, steps=30)
    assert first["loss"].save == kept == second["loss"].save == list(second.loss)
    assert first.stop_reason == second.stop_reason


def test_patience_is_reset_for_each_fit():
    def higher(state):
        return 10.0 + jnp.sum(state.x**2)

    callback = StopOnPlateau(3, 0.1)
    _run(callback, steps=30)
    _, history = _run(callback, higher, steps=30)
    assert history.stop_reason == _run(StopOnPlateau(3, 0.1), higher, steps=30)[1].stop_reason
    assert "no loss below 10.0" in str(history.stop_reason)


def test_an_unknown_key_is_refused_with_the_saved_keys():
    _, history = _run(MultiCallback([SavingCallback("loss"), SavingCallback("state")]), steps=1)
    with pytest.raises(KeyError, match=r"'stat'.*the saved keys are 'loss', 'state'.*SavingCallback\('stat'"):
        history["stat"]
    with pytest.raises(KeyError, match="the saved keys are nothing"):
        _run(None, steps=1)[1]["state"]


def test_lines_are_printed_as_often_as_asked(capsys):
    _, history = _run(DefaultPrintCallback(every=2), steps=5)
    assert capsys.readouterr().out.splitlines() == [f"step {i}: loss {history.loss[i]:.6g}" for i in (0, 2, 4)]


def test_lines_do_not_mix_with_a_progress_bar(capsys):
    _run(DefaultPrintCallback(every=5), steps=5, progress=True)
    assert [line.partition(":")[0] for line in capsys.readouterr().out.split("\n")] == ["step 0", "step 5", ""]


def test_a_small_loss_ends_the_fit():
    _, history = _run(StopOnLoss(0.5))
    np.testing.assert_array_equal(history.loss, [5.0, 1.25, 0.3125])
    assert str(history.stop_reason) == "the loss fell to 0.3125 after 2 updates"


def test_a_plateau_ends_the_fit_once_patience_is_over():
    # Losses 5, 1.25, 0.3125, 0.078, ...: after the second one, the loss cannot decrease by more than 1.25.
    _, history = _run(StopOnPlateau(patience=2, min_change=1.3))
    assert history.loss.size == 4
    assert str(history.stop_reason) == "2 steps brought no loss below 1.25 by more than 1.3 after 3 updates"
    assert str(_run(StopOnPlateau(patience=2))[1].stop_reason) == "all 6 steps done"


def test_a_loss_that_rises_and_falls_is_compared_with_the_smallest():
    _, history = _run(StopOnPlateau(patience=3), learning_rate=1.0, steps=20)
    assert history.loss.size == 4 and np.ptp(history.loss) == 0.0


def test_several_callbacks_are_all_called_and_the_one_that_ends_the_fit_says_why():
    seen = []
    _, history = _run(
        MultiCallback([lambda step, *_: step == 2, StopOnLoss(1e-9), lambda *_: seen.append(1) or "go on"])
    )
    assert len(seen) == 3 and str(history.stop_reason) == "the callback asked to stop after 2 updates"
    _, history = _run(MultiCallback([lambda *_: None, StopOnLoss(0.5)]))
    assert str(history.stop_reason).startswith("the loss fell to 0.3125")


@pytest.mark.parametrize(
    "make,said",
    [
        (lambda: DefaultPrintCallback(every=0), "DefaultPrintCallback: every = 0; give a whole number"),
        (lambda: SavingCallback("state", every=2.5), "SavingCallback: every = 2.5"),
        (lambda: StopOnPlateau(-1), "StopOnPlateau: patience = -1"),
    ],
)
def test_steps_are_counted_in_whole_numbers(make, said):
    with pytest.raises(ValueError, match=said):
        make()
