"""``refresh`` changes the state at each step; ``validate`` selects the best state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tvb_jaxfit import BoundedParameter, OptaxOptimizer, Parameter, State
from tvb_jaxfit.parameters import parameters_of, strip_parameters, with_values


def _state():
    return State(x=Parameter([3.0, -1.0]), target=jnp.zeros(2))


def _distance(state):
    return jnp.sum((state.x - state.target) ** 2)


def _fresh(step, state):
    return state.replace(target=jax.random.normal(jax.random.key(step), (2,)))


def _run(loss=_distance, optimizer=None, steps=10, state=None, **options):
    loop = OptaxOptimizer(loss, optimizer or optax.sgd(0.25), progress=False, **options)
    return loop.run(_state() if state is None else state, max_steps=steps)


def test_each_step_uses_the_result_of_refresh():
    """Expected values: x <- x - 0.5 (x - target)."""
    fitted, history = _run(refresh=_fresh, steps=5)
    x, losses = np.array([3.0, -1.0]), []
    for step in range(6):
        target = np.asarray(jax.random.normal(jax.random.key(step), (2,)))
        losses.append(np.sum((x - target) ** 2))
        last, x = x, x - 0.5 * (x - target)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-12)
    np.testing.assert_allclose(fitted.x.value, last, rtol=1e-12)
    np.testing.assert_array_equal(fitted.target, 0.0)


def test_refresh_is_given_the_plain_start_with_the_current_values():
    given = []
    _run(refresh=lambda step, state: given.append((step, state)) or _fresh(step, state), steps=3)
    assert [step for step, _ in given] == [0, 1, 2, 3]
    assert all(not parameters_of(state) for _, state in given)
    assert all(np.all(state.target == 0.0) for _, state in given)
    assert len({float(state.x[0]) for _, state in given}) == 4 and float(given[0][1].x[0]) == 3.0


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.lbfgs(), optax.adamaxw(0.1)])
def test_nothing_is_recompiled(optimizer):
    traces, after = {"loss": 0, "validate": 0}, []

    def counted(name):
        def function(state):
            traces[name] += 1
            return _distance(state)

        return function

    def refresh(step, state):
        # Weak types and NumPy arrays are accepted, too.
        return state.replace(target=[np.full(2, 0.5), 0.5 + jnp.zeros(2), jnp.full(2, 0.5)][step % 3])

    _run(
        counted("loss"),
        optimizer,
        6,
        refresh=refresh,
        validate=counted("validate"),
        validate_every=2,
        callback=lambda *_: after.append(traces["loss"]),
    )
    assert len(set(after)) == 1 and traces["validate"] == 1


def test_a_line_search_uses_the_loss_of_its_step():
    """A line search that saw another loss would miss the minimum."""
    fitted, _ = _run(optimizer=optax.lbfgs(), steps=8, refresh=lambda step, state: state.replace(target=jnp.ones(2)))
    np.testing.assert_allclose(fitted.x.value, [1.0, 1.0], atol=1e-6)


def test_changes_of_fitted_values_by_refresh_have_no_effect():
    _, history = _run(refresh=lambda step, state: state.replace(x=jnp.full(2, 100.0)), steps=2)
    np.testing.assert_array_equal(history.loss, _run(steps=2)[1].loss)


@pytest.mark.parametrize(
    "refresh,said",
    [
        (lambda step, state: state.replace(target=jnp.zeros(3)), r"step 0 it changed shapes \(target \(3,\) for \(2,"),
        (lambda step, state: None, "another structure than the state that it was given"),
        (lambda step, state: with_values(_state(), {}), "another structure"),
    ],
)
def test_refresh_changes_values_and_nothing_else(refresh, said):
    with pytest.raises(ValueError, match=f"refresh: .*{said}"):
        _run(refresh=refresh)


def _off(state):
    """Distance with its minimum on the path of sgd from (3, -1) to (0, 0)."""
    return jnp.sum((state.x - jnp.array([0.75, -0.25])) ** 2)


def test_the_best_state_has_the_smallest_validation():
    fitted, history = _run(validate=_off, validate_every=1, steps=6)
    assert history.best_step == 2 and history.loss.argmin() == 6
    np.testing.assert_allclose(history.best.x.value, [0.75, -0.25], atol=1e-12)
    np.testing.assert_array_equal(history.validation.steps, np.arange(7))
    route = [np.array([3.0, -1.0]) * 0.5**step for step in range(7)]
    np.testing.assert_allclose(history.validation.values, [_off(State(x=x)) for x in route], atol=1e-12)
    np.testing.assert_allclose(fitted.x.value, route[-1], rtol=1e-12)
    assert isinstance(history.best.x, Parameter) and "; validation 5.625 -> " in repr(history)


@pytest.mark.parametrize("steps,at", [(10, [0, 4, 8, 10]), (8, [0, 4, 8]), (0, [0])])
def test_validation_every_n_steps_and_of_the_first_and_last_state(steps, at):
    _, history = _run(validate=_off, validate_every=4, steps=steps)
    assert history.validation.steps.tolist() == at


def test_the_state_at_which_a_callback_stops_is_validated():
    _, history = _run(validate=_off, validate_every=4, callback=lambda step, *_: step == 5)
    assert history.validation.steps.tolist() == [0, 4, 5] and str(history.stop_reason).startswith("the callback asked")


def test_validation_does_not_use_refresh():
    _, history = _run(refresh=_fresh, validate=lambda state: jnp.sum(state.target**2), steps=3)
    np.testing.assert_array_equal(history.validation.values, 0.0)


def test_patience_ends_the_fit():
    _, history = _run(validate=_off, validate_every=1, patience=3, steps=100)
    assert history.validation.steps[-1] == 5
    assert str(history.stop_reason) == "3 validations brought nothing better than step 2"
    assert str(_run(validate=_distance, validate_every=1, patience=3, steps=9)[1].stop_reason) == "all 9 steps done"


def test_a_validation_that_is_not_a_number_is_never_the_best():
    def validate(state):
        return jnp.where(state.x[0] < 1.0, jnp.nan, _off(state))

    _, history = _run(validate=validate, validate_every=1, steps=4)
    assert history.best_step == 1 and np.isnan(history.validation.values[2:]).all()
    _, history = _run(validate=lambda state: jnp.where(state.x[0] > 2.0, jnp.nan, _off(state)), validate_every=1)
    assert history.best_step == 2
    _, history = _run(validate=lambda state: jnp.nan * state.x[0], validate_every=1, patience=2)
    assert history.best_step == 0 and "nothing better than step 0" in str(history.stop_reason)


def test_patience_needs_validate():
    with pytest.raises(ValueError, match=r"patience = 2 counts validations, and there is no validate.*StopOnPlateau"):
        _run(patience=2)
    with pytest.raises(ValueError, match="validate_every = 0; give a whole number of at least 1"):
        _run(validate=_off, validate_every=0)


def _raises(where):
    def when(step):
        if step == 4:
            raise RuntimeError("mine")

    return {
        "callback": {"callback": lambda step, *_: when(step)},
        "refresh": {"refresh": lambda step, state: when(step) or state},
    }[where]


@pytest.mark.parametrize("where,n", [("callback", 5), ("refresh", 4)])
def test_an_exception_ends_the_fit_and_holds_what_was_reached(where, n):
    state = State(x=BoundedParameter([3.0, 1.0], 0.0, 9.0), target=jnp.zeros(2))
    with pytest.raises(RuntimeError, match="mine") as caught:
        _run(state=state, **_raises(where))
    _, whole = _run(state=state, steps=n - 1)
    history = caught.value.history
    np.testing.assert_array_equal(history.loss, whole.loss)
    assert str(history.stop_reason) == f"RuntimeError after {n} evaluations"
    assert isinstance(caught.value.fitted.x, BoundedParameter)
    np.testing.assert_allclose(_distance(strip_parameters(caught.value.fitted)), history.loss[-1], rtol=1e-12)
    assert "kept in .fitted and .history" in caught.value.__notes__[0]


def test_an_exception_at_the_first_step_is_unchanged():
    with pytest.raises(ZeroDivisionError) as caught:
        _run(lambda state: 1 / 0)
    assert not hasattr(caught.value, "history")
