"""HRF kernels equal TVB's, and their gradients equal central differences, also at t = 0."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes import equations
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics import blocks, hrf
from tvb_jaxfit.dynamics.bold import Bold
from tvb_jaxfit.parameters import with_values

# TVB's own sampling of 20 s at 250 Hz; its first sample is at 0.
TIME = np.arange(0.0, 20.0, 0.004)
KERNELS = {
    "volterra": (equations.FirstOrderVolterra, hrf.first_order_volterra, {}),
    "volterra, slow": (equations.FirstOrderVolterra, hrf.first_order_volterra, {"tau_s": 1.3, "tau_f": 0.9}),
    "gamma": (equations.Gamma, hrf.gamma, {}),
    "gamma, others": (equations.Gamma, hrf.gamma, {"tau": 0.8, "n": 4.0, "a": 0.7}),
    "gamma, first order": (equations.Gamma, hrf.gamma, {"n": 1.0}),
    "gamma, broken order": (equations.Gamma, hrf.gamma, {"n": 2.5}),
    "double exponential": (equations.DoubleExponential, hrf.double_exponential, {}),
    "double exponential, others": (
        equations.DoubleExponential,
        hrf.double_exponential,
        {"tau_1": 5.0, "f_1": 0.05, "amp_2": 0.3, "a": 0.4},
    ),
    "mixture of gammas": (equations.MixtureOfGammas, hrf.mixture_of_gammas, {}),
    "mixture of gammas, others": (
        equations.MixtureOfGammas,
        hrf.mixture_of_gammas,
        {"a_1": 5.5, "a_2": 10.0, "l": 1.2, "c": 0.5},
    ),
}
DERIVED = {"factorial", "gamma_a_1", "gamma_a_2"}


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request):
    """(TVB's equation, our function, its parameters)."""
    kind, function, changed = KERNELS[request.param]
    equation = kind()
    equation.parameters = equation.parameters | changed
    parameters = {name: jnp.asarray(float(v)) for name, v in equation.parameters.items() if name not in DERIVED}
    return equation, jax.jit(partial(function, jnp.asarray(TIME))), parameters


def test_kernel_is_tvbs_own(kernel):
    equation, function, parameters = kernel
    theirs = equation.evaluate(TIME.copy())
    np.testing.assert_allclose(function(**parameters), theirs, rtol=0, atol=1e-14 * np.max(np.abs(theirs)))


def test_gradient_in_every_parameter_equals_central_differences(kernel):
    _, function, parameters = kernel
    jacobian = jax.jit(jax.jacfwd(lambda p: function(**p)))(parameters)
    for name, value in parameters.items():
        if name == "n" and value == 1.0:
            continue  # 0^(n - 1) jumps there: TVB's kernel has no derivative in n

        def difference(h, name=name, value=value):
            return (function(**parameters | {name: value + h}) - function(**parameters | {name: value - h})) / (2 * h)

        # A step so small that the peak, by which TVB scales the kernel, stays at the same sample.
        h = 1e-5 * float(value)
        numeric = (4 * difference(h / 2) - difference(h)) / 3
        scale = max(np.max(np.abs(numeric)), 1e-3)
        np.testing.assert_allclose(jacobian[name], numeric, rtol=0, atol=1e-9 * scale, err_msg=name)


@pytest.mark.parametrize(
    "name",
    [
        "volterra",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gamma", "double exponential", "mixture of gammas")),
        pytest.param("gamma, first order", marks=pytest.mark.slow),
    ],
)
def test_reverse_mode_is_forward_mode_at_time_zero(name):
    """In particular of 0 ** exponent. Forward mode is compared with central differences above, also at time zero."""
    equation, function, changed = KERNELS[name]
    parameters = {n: jnp.asarray(float(v)) for n, v in (equation().parameters | changed).items() if n not in DERIVED}
    for index in (0, 1):
        sample = jax.jit(lambda p, index=index: function(jnp.asarray(TIME[::100]), **p)[index])
        reverse, forward = jax.grad(sample)(parameters), jax.jacfwd(sample)(parameters)
        assert all(np.isfinite(g) for g in reverse.values()), reverse
        for name in reverse:
            np.testing.assert_allclose(reverse[name], forward[name], rtol=1e-10, atol=1e-300, err_msg=name)
    # Negative control: a hundred samples later the kernel depends on its parameters.
    assert any(reverse.values())


def test_a_gamma_kernel_of_order_below_one_is_infinite_at_zero_as_in_tvb():
    """prepare() needs the infinite value to refuse the kernel."""
    equation = equations.Gamma()
    equation.parameters = equation.parameters | {"n": 0.5}
    with np.errstate(all="ignore"):
        assert not np.all(np.isfinite(equation.evaluate(TIME.copy())))
    ours = hrf.gamma(jnp.asarray(TIME), tau=jnp.asarray(1.08), n=jnp.asarray(0.5), a=jnp.asarray(0.1))
    assert not np.all(np.isfinite(ours))


@pytest.mark.parametrize("block", [pytest.param(4, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow), 6])
def test_bold_filtered_by_blocks_has_the_samples_and_gradients_of_one_filter(build_small, monkeypatch, block):
    """For blocks of whole sampling periods, and for others, which are not filtered by blocks."""
    bold = monitors.Bold(period=16.0, hrf_length=200.0)
    simulate, state = tj.prepare(build_small(steps=24, monitors=[bold]))
    n_node, n_step = 6, simulate.monitors[0].istep
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", block * n_node)
    free = {"model.w": state.model.w, "monitors[0].hrf_kernel.tau_s": state.monitors[0].hrf_kernel.tau_s}
    prepared, prepare_blocks = [], Bold.prepare_blocks

    def loss(free):
        return jnp.sum(jnp.sin(simulate(with_values(state, free)).data[0]))

    def recorded(self, *arguments):
        prepared.append(prepare_blocks(self, *arguments))
        return prepared[-1]

    monkeypatch.setattr(Bold, "prepare_blocks", recorded)
    simulate.__dict__.pop("_run")
    by_blocks = jax.value_and_grad(loss)(free)
    simulate.__dict__.pop("_run")
    monkeypatch.setattr(Bold, "prepare_blocks", lambda self, *arguments: None)
    at_once = jax.value_and_grad(loss)(free)
    assert (prepared[0] is not None) == (block % n_step == 0)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10), by_blocks, at_once)
    assert all(np.any(leaf != 0.0) for leaf in by_blocks[1].values()), by_blocks
