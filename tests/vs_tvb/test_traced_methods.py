"""A method's own code, traced on JAX arrays, gives numpy's numbers, also with views and writing in place."""

import math

import jax
import jax.numpy as jnp
import numexpr
import numpy
import numpy as np
import pytest
from numba import jit
from scipy import special

from tvb_jaxfit.translate.tracing.method import trace
from tvb_jaxfit.translate.tracing.untranslatable import Untranslatable


def helper(x, k):
    return np.tanh(k * x)


@jit(nopython=True)
def compiled(x):
    return x**2 + 1.0


class Methods:
    """Idioms of numpy that occur in models."""

    k = 1.5
    table = np.array([[1.0, 2.0], [3.0, 4.0]])

    def view(self, x):
        d = np.zeros_like(x)
        row = d[0]
        row[:] = x[1] * self.k
        row += 1.0
        d[1][...] = x[0]
        d[-1][1:] *= 2.0
        return d

    def view_through_reshape_and_transpose(self, x):
        d = np.empty_like(x)
        d.T[...] = x.T * 2.0
        d.reshape(-1)[:3] = 0.0
        return d

    def copy_is_not_a_view(self, x):
        d = x.copy()
        d[0] = 0.0
        e = np.array(x)
        e[1] = 1.0
        return d + e + x

    def mask(self, x):
        y = x.copy()
        y[x < 0.0] *= 0.5
        y[y > 0.3] = 0.3
        y[np.where(x < -0.5)] = -self.k
        return y

    def rows(self, x):
        a, b, c = x
        return np.array([a + b, b * c, np.array(a)])

    def out(self, x):
        d = np.empty_like(x)
        np.multiply(x, 2.0, out=d)
        np.add(d[0], 1.0, out=d[0])
        return d

    def where_argument(self, x):
        return np.divide(1.0, x - x[0], out=np.zeros_like(x), where=x != x[0])

    def numexpr_out(self, x):
        V, W, d = x[0], x[1], np.empty_like(x)  # noqa: F841
        k = self.k  # noqa: F841
        ev = numexpr.evaluate
        ev("k * V**2 + where(W > 0, W, 0)", out=d[0])
        d[1] = numexpr.evaluate("sin(V) / (1.0 + exp(W))")
        d[2] = ev("x0 - 2.0", {"x0": x[2]})
        return d

    def helpers(self, x):
        def inner(y, scale=2.0):
            return scale * helper(y, self.k)

        return inner(x) + compiled(x) + special.erfc(x) + math.sqrt(self.k)

    def loops(self, x):
        total = numpy.zeros(x.shape[1:])
        for index, row in enumerate(x):
            total += (index + 1) * row
        for j in range(len(x)):
            total = total - x[j] / (j + 1)
        return np.stack([total, total.sum() * np.ones_like(total), x.mean(axis=0)])

    def numbers(self, x):
        m = np.dot(self.table, self.table.T)
        return x * m[0, 1] + max(self.k, 2.0) + np.pi + np.max(x) + max(x[0])

    def complex_roots(self, x):
        return np.real((x / 2.0 + np.sqrt(x**2 - 1.0 + 0 * 1j)) ** (1.0 / 3.0))

    def defaults(self, x, array=np.array, where=np.where):
        return array([where(row < 0.0, -row, row) for row in x])

    @property
    def twice(self):
        return 2.0 * self.k

    @staticmethod
    def plus_one(x):
        return x + 1.0

    def attributes(self, x):
        self.remembered = x[0] * self.twice
        self.remembered[0] = 7.0
        return np.concatenate([self.plus_one(x), self.remembered[None]])


class Child(Methods):
    def rows(self, x):
        return 2.0 * super().rows(x) + super().view(x)


CASES = [(Methods, name) for name, value in vars(Methods).items() if callable(value) and not name.startswith("_")]
CASES = [case for case in CASES if case[1] != "plus_one"] + [(Child, "rows")]


@pytest.mark.parametrize("traced", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["under jit", "op by op"])
@pytest.mark.parametrize("cls,name", CASES, ids=[f"{cls.__name__}.{name}" for cls, name in CASES])
def test_a_methods_code_gives_numpys_numbers(cls, name, traced):
    x = np.random.RandomState(0).uniform(-1.0, 1.0, size=(3, 5))
    expected = np.asarray(getattr(cls(), name)(x.copy()), dtype=float)
    original = cls()

    def ours(k, x):
        return trace(original, name, {"k": k}, x)[0]

    found = (jax.jit(ours) if traced else ours)(jnp.asarray(1.5), jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
    assert "remembered" not in vars(original)


@pytest.mark.parametrize("name", ["view", "mask", "numexpr_out", "helpers", "attributes"])
def test_gradients_of_code_that_writes_in_place(name):
    x = jnp.asarray(np.random.RandomState(0).uniform(-1.0, 1.0, size=(3, 5)))

    def loss(k):
        return jnp.sum(jnp.sin(trace(Methods(), name, {"k": k}, x)[0]))

    k, h = jnp.asarray(1.5), 1e-5
    np.testing.assert_allclose(jax.grad(loss)(k), (loss(k + h) - loss(k - h)) / (2 * h), rtol=1e-8)


class Refused:
    def branch(self, x):
        if x[0, 0] > 0.0:
            return x
        return -x

    def draws(self, x):
        return x + np.random.normal(size=x.shape)

    def writes_into_its_argument(self, x):
        x[0] = 0.0
        return x

    def number(self, x):
        return np.zeros(int(x[0, 0]) + 3)

    def rounds(self, x):
        d = np.zeros(x.shape, dtype=int)
        d[:] = x
        return d

    def selection(self, x):
        return x[x > 0.0].mean()


@pytest.mark.parametrize(
    "name,words",
    [
        ("branch", "a branch on a value that is differentiated or varies in time; write numpy.where .*if x"),
        ("draws", "numpy.random is not translated to JAX"),
        ("writes_into_its_argument", "writes in place into an array that it was given"),
        ("number", "used as a Python number.*int"),
        ("rounds", "floats would be rounded"),
        ("selection", "mean of values under a mask"),
    ],
)
def test_code_that_cannot_be_traced_is_refused_and_the_line_is_named(name, words):
    with pytest.raises(Untranslatable, match=words):
        jax.jit(lambda x: trace(Refused(), name, {}, x)[0])(jnp.ones((3, 5)))


def test_an_overflowing_sigmoid_is_constant_and_its_gradient_is_zero():
    def sigmoid(self, x):
        return 1.0 / (1.0 + np.exp(-self.k * x))

    x = jnp.asarray([-1e4, -750.0, -20.0, 0.0, 20.0, 1e4])
    value, slope = jax.vmap(jax.value_and_grad(lambda x: trace(Methods(), sigmoid, {"k": jnp.asarray(1.0)}, x)[0]))(x)
    s = special.expit(np.asarray(x))
    np.testing.assert_allclose(value, s, rtol=1e-14)
    np.testing.assert_allclose(slope, s * special.expit(-np.asarray(x)), rtol=1e-13)
