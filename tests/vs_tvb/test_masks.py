"""Boolean masks as indices, in the code of users' models and couplings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling

import tvb_jaxfit as tj
from tvb_jaxfit.translate.tracing.method import trace
from tvb_jaxfit.translate.tracing.untranslatable import Untranslatable

X = np.random.RandomState(0).uniform(-1.0, 1.0, (2, 5, 1))


def chained(x):
    dx = np.zeros_like(x)
    dx[0][x[0] > 0.2] = 0.5
    dx[1][x[0] <= 0.2] = -x[1][x[0] <= 0.2]
    return dx


def in_place(x):
    y = x[0].copy()
    y[y < 0.0] *= 0.5
    y[y > 0.3] += 1.0
    y[~(y > 0.3) & (y > 0.1)] = 0.2
    return np.array([y, y])


def functions(x):
    y, positive = x[0].copy(), x[0] > 0.0
    y[positive] = np.log(y[positive]) * np.maximum(x[1][positive], 0.1)
    y[~positive] = np.exp(-y[~positive]) ** 2
    return np.array([y, -y])


def over_variables(x):
    y = x.copy()
    y[:, x[0] > 0.0] = 0.25
    y[1, x[1] > 0.5] = -1.0
    y[0, x[0][:, 0] < -0.5] = 3.0
    y[..., x[0, :, 0] < -0.8, :] = 4.0
    return y


def by_number(x):
    y = x[0].copy()
    where = np.where(y > 0.0)
    y[where] = y[where] / 2.0
    y[np.nonzero(y < -0.5)] = -0.5
    return np.array([y, np.sum(y[y > 0.0]) + 0.0 * y])


def by_function(x):
    y, z = x[0].copy(), x[1].copy()
    np.putmask(y, y < 0.0, 0.0)
    np.copyto(z, y, where=z < 0.0)
    return np.array([y, z])


@pytest.mark.parametrize("code", [chained, in_place, functions, over_variables, by_number, by_function])
def test_masks_have_the_meaning_that_they_have_in_numpy(code):
    with np.errstate(all="ignore"):
        expected = code(X.copy())
    assert not np.array_equal(expected, code(-X.copy()))
    np.testing.assert_allclose(jax.jit(lambda x: trace(None, code, {}, x)[0])(X), expected, rtol=1e-14)
    # Gradients equal finite differences of numpy's code; no mask changes between points so close.
    weight, h = np.random.RandomState(1).uniform(0.5, 1.5, expected.shape), 1e-6
    slope = jax.grad(lambda x: jnp.sum(weight * trace(None, code, {}, x)[0]))(X)
    numeric = np.zeros(X.shape)
    with np.errstate(all="ignore"):
        for index in np.ndindex(X.shape):
            step = np.zeros(X.shape)
            step[index] = h
            numeric[index] = np.sum(weight * (code(X + step) - code(X - step))) / (2.0 * h)
    np.testing.assert_allclose(slope, numeric, rtol=1e-7, atol=1e-8)
    assert np.any(numeric)


def of_other_shape(x):
    y = x[0].copy()
    y[y > 0.0] = x[0]
    return y


def beside_integers(x):
    y = x.copy()
    y[x[0, :, 0] > 0.0, np.array([0, 0])] = 1.0
    return y


def of_count(x):
    return x[0][x[0] > 0.0].argmax() + x[0]


@pytest.mark.parametrize("code", [of_other_shape, beside_integers, of_count])
def test_masks_that_are_not_translated_are_refused_with_the_remedy(code):
    with pytest.raises(Untranslatable, match=r"under the same mask|numpy\.where"):
        jax.jit(lambda x: trace(None, code, {}, x)[0])(X)


class Rectified(coupling.Linear):
    def pre(self, x_i, x_j):
        sent = x_j.copy()
        sent[sent < 0.3] = 0.0
        return sent

    def post(self, gx):
        out = self.a * gx
        out[out > 0.05] = 0.05
        return out


def test_masks_in_a_coupling_are_translated(build_small, float64_tvb, equal_runs, difference):
    sim = build_small(coupling=Rectified(a=np.array([0.07])), steps=50)
    simulate, state = tj.prepare(sim)
    equal_runs(simulate(state), float64_tvb(sim).run())
    linear = float64_tvb(build_small(coupling=coupling.Linear(a=np.array([0.07])), steps=50)).run()
    assert difference(simulate(state), linear)[0] > 1e-6
