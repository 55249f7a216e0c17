"""OptaxOptimizer minimises, records what happened, and never returns a value that is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tvb_jaxfit import BoundedParameter, FitFailed, OptaxOptimizer, Parameter, State
from tvb_jaxfit.parameters import strip_parameters


def _state(**replaced):
    children = {"x": Parameter([3.0, -1.0]), "y": BoundedParameter(0.5, 0.0, 2.0), "z": jnp.asarray(1.0)} | replaced
    return State(model=State(**children))


def _bowl(state):
    """Loss with its minimum at x = (z, z) and y = 1.5."""
    model = state.model
    return jnp.sum((model.x - model.z) ** 2) + jnp.sum((model.y - 1.5) ** 2)


def _run(loss, optimizer=None, steps=10, state=None, **options):
    loop = OptaxOptimizer(loss, optax.sgd(0.1) if optimizer is None else optimizer, progress=False, **options)
    return loop.run(_state() if state is None else state, max_steps=steps)


@pytest.mark.parametrize(
    "optimizer,steps",
    [
        (optax.adam(optax.cosine_decay_schedule(0.3, 200)), 200),
        (optax.sgd(0.2), 60),
        (optax.adamaxw(optax.cosine_decay_schedule(0.3, 200), weight_decay=0.0), 200),
        (optax.lbfgs(), 15),
    ],
    ids=["adam", "sgd", "adamaxw", "lbfgs"],
)
def test_every_kind_of_optimiser_finds_the_minimum(optimizer, steps):
    fitted, history = _run(_bowl, optimizer, steps)
    np.testing.assert_allclose(fitted.model.x.value, [1.0, 1.0], atol=2e-3)
    np.testing.assert_allclose(fitted.model.y.value, 1.5, atol=2e-3)
    assert history.loss[-1] < 1e-5 < history.loss[0]


def test_sgd_gives_the_analytic_steps():
    fitted, history = _run(lambda state: jnp.sum(state.model.x**2), optax.sgd(0.25), 2, _state(y=jnp.asarray(1.0)))
    np.testing.assert_array_equal(fitted.model.x.value, [0.75, -0.25])
    np.testing.assert_array_equal(history.loss, [10.0, 2.5, 0.625])


def test_history_has_one_entry_before_each_update_and_one_after_the_last():
    seen = []

    def loss(state):
        value = _bowl(state)
        return value, {"twice": 2.0 * value}

    def callback(step, state, value, gradients):
        seen.append((step, value, float(_bowl_of(state))))

    fitted, history = _run(loss, steps=7, has_aux=True, callback=callback)
    assert [step for step, *_ in seen] == list(range(8))
    np.testing.assert_array_equal([value for _, value, _ in seen], history.loss)
    np.testing.assert_allclose([of_state for *_, of_state in seen], history.loss, rtol=1e-12)
    np.testing.assert_array_equal(history.aux["twice"], 2.0 * history.loss)
    assert history.loss.shape == (8,) and str(history.stop_reason) == "all 7 steps done" and history.wall_time > 0.0
    np.testing.assert_allclose(_bowl_of(fitted), history.loss[-1], rtol=1e-12)
    assert "in 7 steps" in repr(history) and "all 7 steps done" in repr(history)


def _bowl_of(state):
    return _bowl(strip_parameters(state))


def test_no_steps_evaluate_the_start_alone():
    fitted, history = _run(_bowl, steps=0)
    assert history.loss.shape == (1,)
    np.testing.assert_array_equal(fitted.model.x.value, [3.0, -1.0])


def test_best_is_the_smallest_loss_and_fitted_the_last():
    fitted, history = _run(
        lambda state: jnp.sum(jnp.abs(state.model.x)), optax.sgd(0.35), 20, _state(y=jnp.asarray(1.0))
    )
    assert history.best_step == np.argmin(history.loss) < 20
    np.testing.assert_allclose(np.sum(np.abs(history.best.model.x.value)), history.loss.min(), rtol=1e-14)
    np.testing.assert_allclose(np.sum(np.abs(fitted.model.x.value)), history.loss[-1], rtol=1e-14)
    assert history.loss[-1] > history.loss.min()


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.adam(optax.cosine_decay_schedule(0.1, 9))])
def test_the_loss_is_traced_once_and_never_again(optimizer):
    traces = []

    def loss(state):
        traces.append(1)
        return _bowl(state)

    _run(loss, optimizer, 9)
    assert len(traces) == 1


def test_a_line_search_is_compiled_once_too():
    traces, after_first = [], []

    def loss(state):
        traces.append(1)
        return _bowl(state)

    _run(loss, optax.lbfgs(), 6, callback=lambda *_: after_first.append(len(traces)))
    assert len(set(after_first)) == 1


def test_the_state_is_not_modified_and_only_parameters_change():
    state = _state()
    fitted, _ = _run(_bowl, state=state)
    np.testing.assert_array_equal(state.model.x.value, [3.0, -1.0])
    assert state.model.y.value == 0.5
    assert fitted.model.z is state.model.z
    assert isinstance(fitted.model.x, Parameter) and isinstance(fitted.model.y, BoundedParameter)
    assert jax.tree.structure(fitted) == jax.tree.structure(state)


def test_bounded_values_stay_within_their_bounds_even_if_the_minimum_is_outside():
    seen = []
    fitted, _ = _run(
        lambda state: jnp.sum((state.model.y - 9.0) ** 2),
        optax.sgd(5.0),
        30,
        _state(x=jnp.zeros(2)),
        callback=lambda step, state, *_: seen.append(float(state.model.y.value)),
    )
    assert all(0.0 <= value <= 2.0 for value in seen)
    assert fitted.model.y.value > 1.99


def _fails_below(limit, what):
    """sum(x^2), whose value, or gradient alone, is not finite below a limit."""

    def loss(state):
        value = jnp.sum(state.model.x**2)
        if what == "loss":
            return jnp.where(value < limit, jnp.nan, value)
        if what == "infinite loss":
            return jnp.where(value < limit, jnp.inf, value)
        # The root of zero adds 0 to the value, and infinity times 0 to the gradient.
        root = jnp.sqrt(jnp.where(value < limit, 0.0 * state.model.x[0], 1.0))
        return value + root - jax.lax.stop_gradient(root)

    return loss


WHATS = {"loss": "the loss was nan", "infinite loss": "the loss was inf", "gradient": "the gradient in model.x was"}


@pytest.mark.parametrize("what", WHATS)
def test_a_value_that_is_not_finite_ends_the_fit_and_the_last_finite_state_is_kept(what):
    # 10, 6.4, 4.096, 2.62, ...
    fitted, history = _run(_fails_below(4.0, what), steps=10, state=_state(y=jnp.asarray(1.0)))
    np.testing.assert_allclose(history.loss, [10.0, 6.4, 4.096], rtol=1e-14)
    assert str(history.stop_reason).startswith(WHATS[what]) and "after 3 updates" in str(history.stop_reason)
    assert history.diverged.startswith(WHATS[what]) and repr(history).endswith("DIVERGED")
    for state in (fitted, history.best):
        np.testing.assert_allclose(np.sum(state.model.x.value**2), 4.096, rtol=1e-14)


@pytest.mark.parametrize("what", WHATS)
def test_a_start_that_is_not_finite_raises(what):
    with pytest.raises(FitFailed, match=f"{WHATS[what]}.* after 0 updates, at the start values"):
        _run(_fails_below(100.0, what), steps=10, state=_state(y=jnp.asarray(1.0)))


def test_an_interrupt_keeps_what_was_reached():
    def callback(step, state, value, gradients):
        if step == 4:
            raise KeyboardInterrupt

    fitted, history = _run(_bowl, steps=10, callback=callback)
    assert history.loss.shape == (5,) and history.best_step == 4
    assert str(history.stop_reason) == "interrupted after 5 evaluations"
    for state in (fitted, history.best):
        np.testing.assert_allclose(_bowl_of(state), history.loss[4], rtol=1e-12)


def test_errors_of_a_callback_are_raised():
    def callback(*_):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        _run(_bowl, callback=callback)


def test_only_true_stops_the_fit():
    fitted, history = _run(_bowl, callback=lambda step, *_: step == 3)
    assert history.loss.shape == (4,)
    assert str(history.stop_reason) == "the callback asked to stop after 3 updates"
    np.testing.assert_allclose(_bowl_of(fitted), history.loss[-1], rtol=1e-12)
    assert _run(_bowl, callback=lambda *_: "go on")[1].loss.shape == (11,)


def test_a_callback_receives_gradients_by_path_in_physical_units():
    seen = {}
    _run(_bowl, steps=0, callback=lambda step, state, value, gradients: seen.update(gradients))
    assert set(seen) == {"model.x", "model.y"}
    np.testing.assert_allclose(seen["model.x"], [4.0, -4.0], rtol=1e-14)
    np.testing.assert_allclose(seen["model.y"], -2.0, rtol=1e-14)


def test_nothing_marked_is_refused():
    with pytest.raises(ValueError, match="nothing to fit: no value of the state is marked. Mark one"):
        _run(_bowl, state=_state(x=jnp.zeros(2), y=jnp.asarray(1.0)))


def test_a_value_moved_out_of_its_bounds_is_refused():
    state = _state()
    state.model.y.value = jnp.asarray(5.0)
    with pytest.raises(ValueError, match=r"1 of 1 start values lie outside \[0, 2\]"):
        _run(_bowl, state=state)


def test_a_parameter_without_effect_gives_one_warning():
    with pytest.warns(UserWarning, match="the loss does not depend on model.y: nothing to fit there") as caught:
        _run(lambda state: jnp.sum(state.model.x**2))
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_the_progress_bar_is_optional(capsys):
    OptaxOptimizer(_bowl, optax.sgd(0.1)).run(_state(), max_steps=3)
    shown = capsys.readouterr()
    assert "fit: 100%" in shown.err and "3/3" in shown.err and "loss=" in shown.err and shown.out == ""
    _run(_bowl, steps=3)
    assert capsys.readouterr() == ("", "")
