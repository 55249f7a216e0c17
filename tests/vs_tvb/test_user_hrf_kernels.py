"""Users' hemodynamic responses give TVB's numbers: by scipy.stats, by a table, or by code that cannot be translated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy import stats
from scipy.interpolate import interp1d
from scipy.stats import gamma
from tvb.basic.neotraits.api import Attr
from tvb.datatypes import equations
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.state import get_path, with_path


class Response(equations.HRFKernelEquation):
    equation = Attr(field_type=str, default="by code")
    parameters = Attr(field_type=dict, default=lambda: {"peak": 6.0, "under": 16.0, "ratio": 0.2, "width": 0.9})


class ByFunction(Response):
    def evaluate(self, var):
        p = self.parameters
        return gamma.pdf(var, p["peak"], scale=p["width"]) - p["ratio"] * gamma.pdf(var, p["under"], 0.0, p["width"])


class ByModule(Response):
    def evaluate(self, var):
        p = self.parameters
        peak = stats.gamma(p["peak"], loc=0.1, scale=p["width"])
        return peak.pdf(var) - p["ratio"] * scipy.stats.norm.pdf(var, p["under"], p["width"])


class ByTable(Response):
    def evaluate(self, var):
        table = interp1d(np.arange(30.0), np.exp(-np.arange(30.0)) * np.arange(30.0))
        return self.parameters["ratio"] * table(var)


class WithoutText(equations.HRFKernelEquation):
    """Equation without the attribute ``equation``, which TVB reads only to evaluate it."""

    parameters = Attr(field_type=dict, default=lambda: {"ratio": 0.2})

    def evaluate(self, var):
        return self.parameters["ratio"] * np.interp(var, [0.0, 0.5, 2.0], [0.0, 1.0, 0.1])


def bold(kernel):
    return monitors.Bold(period=40.0, hrf_length=2000.0, hrf_kernel=kernel())


def simulator(build_small, kernel):
    return build_small(dt=4.0, steps=60, monitors=[bold(kernel)])


@pytest.mark.parametrize(
    "kernel",
    [*(pytest.param(kernel, marks=pytest.mark.slow) for kernel in (ByFunction, ByModule, WithoutText)), ByTable],
)
def test_translated_responses_are_functions_of_their_parameters(build_small, float64_tvb, equal_runs, recwarn, kernel):
    sim = simulator(build_small, kernel)
    simulate, state = tj.prepare(sim)
    assert not [warning for warning in recwarn if issubclass(warning.category, tj.FrozenWarning)]
    equal_runs(simulate(state), float64_tvb(sim).run(), kinds=sim.monitors)
    for name in ["ratio"] if kernel in (ByTable, WithoutText) else ["peak", "width"]:
        path = f"monitors[0].hrf_kernel.{name}"

        def total(value, path=path):
            return jnp.sum(simulate(with_path(state, path, value)).data[0] ** 2)

        value, small = get_path(state, path), 1e-5
        slope = jax.grad(total)(value)
        finite = (total(value + small) - total(value - small)) / (2.0 * small)
        np.testing.assert_allclose(slope, finite, rtol=1e-5, atol=1e-9)
        changed = with_path(state, path, 1.1 * value)
        tj.write_back(changed, sim)
        equal_runs(simulate(changed), float64_tvb(sim).run(), kinds=sim.monitors)
        tj.write_back(state, sim)


class ByOtherDistribution(Response):
    def evaluate(self, var):
        return stats.weibull_min.pdf(var, self.parameters["peak"], scale=self.parameters["width"])


class ByCumulative(Response):
    def evaluate(self, var):
        return np.gradient(stats.gamma.cdf(var, self.parameters["peak"]), var)


class ByOwnParameters(Response):
    def evaluate(self, var):
        self.parameters["degrees"] = float(np.frompyfunc(lambda x: x + 1, 1, 1)(self.parameters["peak"]))
        return stats.chi2.pdf(var, self.parameters["degrees"])


@pytest.mark.parametrize("kernel", [ByOtherDistribution, ByCumulative, ByOwnParameters])
def test_other_responses_are_constants_with_a_warning(build_small, float64_tvb, equal_runs, snapshot, kernel):
    sim = simulator(build_small, kernel)
    before = snapshot(sim)
    with pytest.warns(tj.FrozenWarning, match=r"Simulator.monitors\[0\].hrf_kernel: " + kernel.__name__):
        simulate, state = tj.prepare(sim)
    assert snapshot(sim) == before
    assert not list(state.monitors[0].hrf_kernel.items())
    equal_runs(simulate(state), float64_tvb(sim).run(), kinds=sim.monitors)
