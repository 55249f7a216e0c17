"""Monitors: variables of interest, periods that dt does not divide, several at once, and the filter of BOLD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tvb.datatypes import equations
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics.decimated_filter import _banded_layout, filter_at
from tvb_jaxfit.state import get_path, with_path


def bold(period, **facts):
    return monitors.Bold(period=period, hrf_length=facts.pop("hrf_length", 2000.0), **facts)


@pytest.mark.parametrize(
    "dt, periods, named",
    [
        (0.3, {"TemporalAverage": 1.0, "SubSample": 2.0, "Bold": 301.0}, ["0.9 ms", "2.1 ms", "300.9 ms", "3.9 ms"]),
        (3.0, {"TemporalAverage": 10.0, "SubSample": 7.0, "Bold": 301.0}, ["9 ms", "6 ms", "300 ms", "3 ms"]),
        (5.0, {"TemporalAverage": 12.5, "SubSample": 7.5, "Bold": 300.0}, ["10 ms", "10 ms", "5 ms"]),
    ],
)
def test_periods_that_dt_does_not_divide_are_tvbs_rounded_ones_and_the_warning_names_them(
    build_small, float64_tvb, equal_runs, dt, periods, named
):
    sim = build_small(
        dt=dt,
        steps=2500 if dt < 1 else 400,
        monitors=[
            monitors.TemporalAverage(period=periods["TemporalAverage"]),
            monitors.SubSample(period=periods["SubSample"]),
            bold(periods["Bold"]),
        ],
    )
    with pytest.warns(tj.PeriodWarning) as caught:
        simulate, state = tj.prepare(sim)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == len(named)
    for real in named:
        assert any(f"rounds it to {real}" in message for message in messages), (real, messages)
    assert all("dt = " in message and "Simulator.monitors[" in message for message in messages)
    equal_runs(simulate(state), float64_tvb(sim).run(), kinds=sim.monitors)


def test_periods_that_dt_divides_give_no_warning(build_small, recwarn):
    tj.prepare(build_small(dt=0.1, steps=4000, monitors=[monitors.TemporalAverage(period=0.3), bold(100.0)]))
    assert not [warning for warning in recwarn if issubclass(warning.category, tj.PeriodWarning)]


@pytest.mark.parametrize(
    "voi", [[0, 0], pytest.param([0], marks=pytest.mark.slow), pytest.param([-1], marks=pytest.mark.slow)]
)
def test_variables_of_interest_of_a_monitor_are_the_rows_that_tvb_gives(build_small, float64_tvb, equal_runs, voi):
    rows = np.array(voi)
    sim = build_small(
        monitors=[
            monitors.SubSample(period=8.0, variables_of_interest=rows),
            monitors.TemporalAverage(period=40.0, variables_of_interest=rows),
            bold(100.0, variables_of_interest=rows),
            monitors.Raw(),
        ]
    )
    simulate, state = tj.prepare(sim)
    ours = simulate(state)
    assert [data.shape[1] for data in ours.data] == [len(voi)] * 3 + [1]
    equal_runs(ours, float64_tvb(sim).run(), kinds=sim.monitors)


@pytest.mark.parametrize(
    "dt, periods",
    [
        (1.0, [400.0, 500.0, 401.0, 1000.0]),
        (4.0, [20.0, 400.0, 4.0]),
        (1.0, [1.0, 2.0, 3.0, 4.0, 6.0]),
        (0.5, [2.5, 0.5]),
    ],
    ids=["slow", "fast", "faster than the interim average", "uneven and fast"],
)
def test_several_bold_monitors_at_even_and_uneven_periods_equal_tvb(build_small, float64_tvb, equal_runs, dt, periods):
    kernels = [equations.FirstOrderVolterra, equations.Gamma, equations.DoubleExponential, equations.MixtureOfGammas]
    sim = build_small(
        dt=dt,
        steps=1203 if max(periods) > 100 else 210,
        monitors=[
            bold(period, hrf_kernel=kernels[index % 4](), hrf_length=10_000.0) for index, period in enumerate(periods)
        ],
    )
    simulate, state = tj.prepare(sim)
    equal_runs(simulate(state), float64_tvb(sim).run(), kinds=sim.monitors)


@pytest.mark.parametrize(
    "steps", [3, 5, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_bold_samples_that_all_fall_into_one_interim_average_equal_tvb(build_small, float64_tvb, equal_runs, steps):
    """dt = 1 and a period of 1 ms: several samples before the first interim average of 4 ms."""
    sim = build_small(dt=1.0, steps=steps, monitors=[bold(1.0)])
    reference = float64_tvb(sim)
    simulate, state = tj.prepare(sim)
    ours = simulate(state)
    equal_runs(ours, reference.run(), kinds=sim.monitors)
    equal_runs(simulate(ours.final_state), reference.run(), kinds=sim.monitors)


OTHER_PARAMETERS = {
    "FirstOrderVolterra": {"tau_s": 0.7, "tau_f": 0.5, "k_1": 5.0, "V_0": 0.03},
    "Gamma": {"tau": 1.2, "n": 3.0, "a": 0.2},
    "DoubleExponential": {"tau_1": 6.0, "f_1": 0.02, "amp_2": 0.5, "a": 0.2},
    "MixtureOfGammas": {"a_1": 5.0, "a_2": 11.0, "l": 1.1, "c": 0.4},
}


def bold_with_other_parameters(kernel, hrf_length):
    equation = getattr(equations, kernel)()
    equation.parameters.update(OTHER_PARAMETERS[kernel])
    return bold(200.0, hrf_kernel=equation, hrf_length=hrf_length)


def test_bold_equals_tvb_with_another_hrf_length_and_other_parameters(build_small, float64_tvb, equal_runs, difference):
    sim = build_small(
        steps=1000,
        monitors=[
            *(bold_with_other_parameters(kernel, 16_000.0) for kernel in OTHER_PARAMETERS),
            bold_with_other_parameters("FirstOrderVolterra", 1234.0),
            bold_with_other_parameters("Gamma", 1234.0),
            bold_with_other_parameters("MixtureOfGammas", 4.0),
        ],
    )
    simulate, state = tj.prepare(sim)
    theirs = float64_tvb(sim).run()
    equal_runs(simulate(state), theirs, kinds=sim.monitors)
    for index, (kernel, parameters) in enumerate(OTHER_PARAMETERS.items()):
        for name in parameters:
            path = f"monitors[{index}].hrf_kernel.{name}"
            wrong = simulate(with_path(state, path, 1.01 * get_path(state, path)))
            assert difference(wrong, theirs)[index] > 1e-5, (kernel, name)


@pytest.mark.parametrize("kernel", ["Gamma", "DoubleExponential"])
def test_a_response_that_is_cut_before_it_rises_is_refused_where_tvb_gives_nan(build_small, float32_tvb, kernel):
    """The only sample is at time 0, where the response is 0: scaled to its peak that is 0 / 0."""
    sim = build_small(steps=100, monitors=[bold_with_other_parameters(kernel, 4.0)])
    with pytest.raises(tj.UnsupportedComponent, match="not finite"):
        tj.prepare(sim)
    with np.errstate(invalid="ignore"):
        assert np.isnan(float32_tvb(sim).run()[0][1]).all()


def test_a_single_monitor_that_is_in_no_list_is_taken_as_in_tvb(build_small, float64_tvb, equal_runs):
    sim = build_small()
    vars(sim)["monitors"] = monitors.TemporalAverage(period=40.0)
    try:
        simulate, state = tj.prepare(sim)
    except tj.UnsupportedComponent:
        pytest.fail("TVB takes it")
    equal_runs(simulate(state), float64_tvb(sim).run())


kernels = st.integers(1, 90)
gaps = st.lists(st.integers(0, 40), min_size=0, max_size=12)


def assert_filters(n_lag, gaps, first, even, tail):
    if even and gaps:
        gaps = [gaps[0]] * len(gaps)
    ends = n_lag - 1 + first + np.cumsum([0, *gaps])
    random = np.random.RandomState(n_lag + first)
    kernel, signal = random.normal(size=n_lag), random.normal(size=(ends[-1] + 1 + tail, 2))
    expected = np.array([kernel @ signal[end - np.arange(n_lag)] for end in ends])
    past, signal = jnp.asarray(signal[:n_lag]), jnp.asarray(signal[n_lag:])
    actual = jax.jit(lambda *arrays: filter_at(*arrays, ends - n_lag))(jnp.asarray(kernel), past, signal)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13)


cases = given(n_lag=kernels, gaps=gaps, first=st.integers(0, 30), even=st.booleans(), tail=st.integers(0, 5))


@settings(max_examples=2)
@cases
@example(n_lag=1, gaps=[], first=0, even=True, tail=0)
@example(n_lag=50, gaps=[7] * 9, first=3, even=True, tail=2)
@example(n_lag=50, gaps=[0, 0, 1, 0, 3], first=3, even=False, tail=2)
@example(n_lag=50, gaps=[0, 0, 0], first=3, even=False, tail=2)
def test_filter_at_is_the_causal_filter_at_the_ends(n_lag, gaps, first, even, tail):
    assert_filters(n_lag, gaps, first, even, tail)


@pytest.mark.slow
@settings(max_examples=150)
@cases
def test_filter_at_is_the_causal_filter_at_any_ends(n_lag, gaps, first, even, tail):
    assert_filters(n_lag, gaps, first, even, tail)


def test_filter_at_takes_one_band_for_even_ends_and_several_for_uneven_ones():
    """The property above reaches both branches: one band of the kernel for all blocks, and several bands."""
    assert _banded_layout(50, (60, 67, 74))[0].shape[0] == 1
    assert _banded_layout(50, (60, 67, 75, 130))[0].shape[0] > 1
