r"""Coordinates in which the posterior of regional values is nearly normal.

A network amplifies small changes: FC depends on regional values mainly through the fixed point x and the slowest mode,
both of which are very nonlinear functions of the variables u of the values. The coordinates contain both:

.. math:: y = u + B \left( \psi(u) - \psi(\hat u) \right), \qquad
    \psi = \left( \operatorname{asinh} \frac{x_i}{0.1 \hat x_i},\; \operatorname{asinh} \frac{r}{0.1 \hat r} \right),

with the hats at a reference. The column of B for a region moves the variable of one regional parameter, so that y is
mainly the fixed point. The last one moves the variable of a value that all regions share. r is the rate of the slowest
mode: :math:`1 / r = l^\top (1 - M)^{-1} v` for the step M, with the singular vectors l and v at the reference. The
inverse is found by Newton's method for (x, r) at given y, and :math:`\det dy / du = \det(1 + \psi' B)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ..linear_response.linearise import linearise, solve_dc, steady_step, step_matrix
from ..maps import MapParameter
from ..runtime.processes import PicklableMixin
from ..runtime.programs import Program
from ..runtime.promotion import with_standard_promotion
from .density import PosteriorDensity
from .laplace import Laplace, Point, laplace

# Weight of a feature in its coordinate, where that of the variable is 1.
_WEIGHT = 3.0
# Value below which the logarithm of a feature becomes a straight line, relative to that at the reference.
_SMALL = 0.1
# Newton's method: maximum number of steps, longest step at the beginning, its factor after a step that makes the
# residual larger, and residuals at which it ends and that are accepted.
_MAX_STEPS, _LONGEST, _SHORTER, _RESIDUAL, _ACCEPTED = 40, 1.0, 0.5, 1e-13, 1e-9
# Residual of the fixed point above which the rate of the slowest mode is kept: far from it, that rate leads to unstable
# solutions.
_NEAR = 1e-3


@dataclass(frozen=True, eq=False)
class Features(PicklableMixin):
    """Fixed point, and rate of the slowest mode, of a network with one state in each region.

    Attributes
    ----------
    density : PosteriorDensity
    point : Point
        Reference.
    left, right : ndarray, shape (n_node,)
        Singular vectors of the response to constant inputs at the reference.
    rate : float
        Rate of the slowest mode at the reference [1/step].
    """

    density: PosteriorDensity = field(repr=False)
    point: Point
    left: np.ndarray = field(repr=False)
    right: np.ndarray = field(repr=False)
    rate: float

    @classmethod
    def at(cls, density: PosteriorDensity, point: Point) -> "Features":
        """Features with a point as reference."""
        empty = cls(density, point, np.zeros(point.x.size), np.zeros(point.x.size), 1.0)
        step = np.asarray(jax.jit(with_standard_promotion(empty.matrix))(point.u, point.x.ravel()))
        left, values, right = np.linalg.svd(np.linalg.inv(np.eye(len(step)) - step))
        return cls(density, point, left[:, 0], right[0], 1.0 / float(values[0]))

    def _arguments(self, u):
        density = self.density
        system, x = density.expected.response.system, jnp.asarray(self.point.x)
        free, _ = density.split(density.prior.values(u))
        state, _ = density.expected.state_at(free, density.plain_state, x)
        constants = system.simulate.constants(state)
        return system.simulate.step, constants, state.connectivity.weights, system._without_noise(state)

    def linearised(self, u, x):
        """Linearised step at a state (n_node,)."""
        return linearise(*self._arguments(u), x.reshape(self.point.x.shape))

    def matrix(self, u, x):
        """Matrix of a step, (n_node, n_node)."""
        return step_matrix(self.linearised(u, x))

    def residual(self, u, x):
        """Change of a state by a step without noise, (n_node,); 0 at the fixed point."""
        x = x.reshape(self.point.x.shape)
        return (steady_step(*self._arguments(u), x) - x).ravel()

    @property
    def _scale(self):
        return _SMALL * np.maximum(np.abs(self.point.x.ravel()), 1e-6)

    def of_state(self, x):
        """Features of the fixed point."""
        return jnp.arcsinh(x / self._scale)

    def state_of(self, features):
        """Inverse of `of_state`."""
        return self._scale * jnp.sinh(features)

    def slope(self, x):
        """Derivative of `of_state`."""
        return 1.0 / jnp.sqrt(x**2 + self._scale**2)

    def at_point(self, point: Point) -> np.ndarray:
        """Features at a point, shape (n_node + 1,)."""
        u, x = jnp.asarray(point.u), jnp.asarray(point.x.ravel())
        return np.append(self.of_state(x), _compiled(self.slowest)(u, x))

    def derivative(self, point: Point) -> np.ndarray:
        """Derivative of the features by the variables at a point, shape (n_node + 1, n)."""
        u, x = jnp.asarray(point.u), jnp.asarray(point.x.ravel())
        tangent = self.density.branch(point).tangent
        of_u, of_x = self._derivative_of_slowest(u, x)
        return np.vstack([np.asarray(self.slope(x))[:, None] * tangent, np.asarray(of_u) + np.asarray(of_x) @ tangent])

    @cached_property
    def _derivative_of_slowest(self):
        return _compiled(jax.grad(replace(self).slowest, argnums=(0, 1)))

    def slowest(self, u, x):
        """Feature of the slowest mode, shape (); defined beyond the stability boundary, too."""
        response = self.left @ solve_dc(self.linearised(u, x), jnp.asarray(self.right)[:, None])[:, 0]
        return jnp.arcsinh(1.0 / (response * _SMALL * self.rate))


@dataclass(frozen=True, eq=False)
class Start(PicklableMixin):
    """Start of the search for the features: a linear function of the coordinates.

    Attributes
    ----------
    y : ndarray, shape (n,)
    features : ndarray, shape (n_feature,)
        Those at y.
    slope : ndarray, shape (n_feature, n)
    """

    y: np.ndarray = field(repr=False)
    features: np.ndarray = field(repr=False)
    slope: np.ndarray = field(repr=False)

    def at(self, y):
        """Approximate features of coordinates (n,)."""
        return self.features + self.slope @ (y - self.y)


@dataclass(frozen=True, eq=False)
class Coordinates(PicklableMixin):
    """Coordinates around a reference; see the module.

    Attributes
    ----------
    features : Features
    directions : ndarray, shape (n, n_feature)
        B.
    start : Start
    """

    features: Features
    directions: np.ndarray = field(repr=False)
    start: Start

    @classmethod
    def at(cls, density: PosteriorDensity, point: Point) -> "Coordinates | None":
        """Coordinates with a point as reference; None for models that have none.

        Notes
        -----
        Regions have one state, and a free parameter with one value for each region.
        """
        regional, shared = _candidates(density, point)
        if not regional:
            return None
        features, n, n_node = Features.at(density, point), point.u.size, point.x.size
        u, x = jnp.asarray(point.u), jnp.asarray(point.x.ravel())
        local = 1.0 - np.asarray(_compiled(features.linearised)(u, x).A).reshape(n_node)
        by_u, slope = np.asarray(_compiled(jax.jacfwd(features.residual))(u, x)), np.asarray(features.slope(x))
        own = {path: slope * by_u[np.arange(n_node), regional[path]] / local for path in regional}
        best = max(own, key=lambda path: np.min(np.abs(own[path])))
        if np.min(np.abs(own[best])) < 1e-6:
            return None
        directions = np.zeros((n, n_node))
        directions[regional[best], np.arange(n_node)] = _WEIGHT / own[best]
        derivative = features.derivative(point)
        if shared.size:
            # At the fixed point of the reference: the regional parameter makes up for the change.
            alone = np.linalg.solve((np.eye(n) + directions @ derivative[:-1]).T, derivative[-1])
            which = shared[np.argmax(np.abs(alone[shared]))]
            directions = np.column_stack([directions, (_WEIGHT / alone[which]) * np.eye(n)[which]])
        return cls(features, directions, Start(*np.zeros((3, 0)))).starting_at(point.u, point)

    def starting_at(self, y: np.ndarray, point: Point) -> "Coordinates":
        """The same coordinates, with a search that starts from those of a point, y (n,)."""
        features, n_feature = self.features, self.directions.shape[1]
        derivative = features.derivative(point)[:n_feature]
        slope = derivative @ np.linalg.inv(np.eye(y.size) + self.directions @ derivative)
        # The rate of the slowest mode hardly differs between probable values.
        slope[features.point.x.size :] = 0.0
        return replace(self, start=Start(y, features.at_point(point)[:n_feature], slope))

    @property
    def _has_slowest(self):
        return self.directions.shape[1] > self.features.point.x.size

    def _variables(self, y, z):
        """(u, x) of coordinates and features."""
        x = self.features.state_of(z[: self.features.point.x.size])
        return y - self.directions @ (z - self._reference()), x

    def _reference(self):
        features = self.features
        of_state = features.of_state(jnp.asarray(features.point.x.ravel()))
        return jnp.append(of_state, jnp.arcsinh(1.0 / _SMALL)) if self._has_slowest else of_state

    def _equations(self, z, y):
        residual = self.features.residual(*self._variables(y, z))
        return jnp.append(residual, self._equation_of_slowest(z, y)) if self._has_slowest else residual

    def _equation_of_slowest(self, z, y):
        return self.features.slowest(*self._variables(y, z)) - z[-1]

    def _derivative_of_equations(self, z, y):
        """Derivative by the features."""
        rows = jax.jacfwd(lambda z: self.features.residual(*self._variables(y, z)))(z)
        # The one that solves an equation itself is faster in reverse.
        return jnp.vstack([rows, jax.grad(self._equation_of_slowest)(z, y)]) if self._has_slowest else rows

    def variables(self, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Variables (n,), fixed point (n_node,) and success of coordinates (n,), inside what JAX transforms."""
        constant, n_node = jax.lax.stop_gradient(y), self.features.point.x.size

        def residual(z):
            return self._equations(z, constant)

        def goes_on(carry):
            found, count = carry[1], carry[-1]
            return (count < _MAX_STEPS) & (jnp.max(jnp.abs(found)) > _RESIDUAL)

        def newton(carry):
            z, found, longest, is_near, count = carry
            is_near = is_near | (jnp.max(jnp.abs(found[:n_node])) < _NEAR)
            matrix = self._derivative_of_equations(z, constant)
            if self._has_slowest:
                matrix = jnp.where(is_near, matrix, matrix.at[-1].set(jnp.eye(z.size, dtype=z.dtype)[-1]))
            step = jnp.linalg.solve(matrix, jnp.where(is_near, found, found.at[n_node:].set(0.0)))
            z = z - step * jnp.minimum(1.0, longest / jnp.max(jnp.abs(step)))
            former, found = found, residual(z)
            # Where a feature bends, long steps would go to and fro between its two sides.
            is_larger = jnp.linalg.norm(found[:n_node]) > jnp.linalg.norm(former[:n_node])
            return z, found, jnp.where(is_larger, _SHORTER, 1.0) * longest, is_near, count + 1

        z = self.start.at(constant)
        first = z, residual(z), jnp.asarray(_LONGEST, z.dtype), jnp.asarray(False), 0
        z, found, *_ = jax.lax.stop_gradient(jax.lax.while_loop(goes_on, newton, first))
        # One Newton step with a constant matrix has the derivative of the implicit function.
        matrix = jax.lax.stop_gradient(self._derivative_of_equations(z, constant))
        z = z - jnp.linalg.solve(matrix, self._equations(z, y))
        return *self._variables(y, z), jnp.max(jnp.abs(found)) < _ACCEPTED

    def log_determinant(self, u: jax.Array, x: jax.Array) -> jax.Array:
        """Logarithm of det dy / du, shape (); NaN where it is not positive."""
        features, directions = self.features, jnp.asarray(self.directions)
        none = jnp.zeros(directions.shape[1], u.dtype)
        forced = jax.jacfwd(lambda c: features.residual(u + directions @ c, x))(none)
        of_x = solve_dc(features.linearised(u, x), forced)
        rows = features.slope(x)[:, None] * of_x
        if self._has_slowest:
            by_u, by_x = jax.grad(features.slowest, argnums=(0, 1))(u, x)
            rows = jnp.concatenate([rows, (by_u @ directions + by_x @ of_x)[None]])
        sign, value = jnp.linalg.slogdet(jnp.eye(none.size) + rows)
        return jnp.where(sign > 0.0, value, jnp.nan)

    def potential(self, y: jax.Array) -> jax.Array:
        """Minus the logarithm of their density, shape (), as a JAX function; NaN where there is none."""
        return self._with_variables(y)[0]

    @with_standard_promotion
    def _with_variables(self, y):
        u, x, is_found = self.variables(y)
        density, start = self.features.density, jax.lax.stop_gradient(x).reshape(self.features.point.x.shape)
        value, _ = density.traced(u, density.plain_state, start, density.data.arrays)
        return jnp.where(is_found, value + self.log_determinant(u, x), jnp.nan), (u, start)

    @cached_property
    def _program(self):
        # A copy, so that there is no reference cycle.
        return Program(jax.value_and_grad(replace(self)._with_variables, has_aux=True), shares_constants=True)

    def evaluate(self, y: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """As `PosteriorDensity.evaluate`, for coordinates. The start of the search has no effect."""
        (value, (_, found)), gradient = self._program(jnp.asarray(y))
        return float(value), np.asarray(gradient, float), np.asarray(found)

    def normal(self, each: Callable = iter) -> tuple["Coordinates", Laplace]:
        """Coordinates with a search that starts from the maximum of their density, and the approximation there."""
        point = self.features.point
        value, _, x = self.evaluate(point.u, point.x)
        found = laplace(self.evaluate, Point(point.u, x, value), each)
        y, x = found.maximum.u, found.maximum.x
        u = self.all_variables(y[None])[0]
        return self.starting_at(y, Point(u, x, self.features.density.potential(u, x))), found

    def all_variables(self, y: np.ndarray) -> np.ndarray:
        """Variables of coordinates, both of shape (..., n)."""
        rows = [np.asarray(self._program(jnp.asarray(row))[0][1][0]) for row in y.reshape(-1, y.shape[-1])]
        return np.reshape(rows, y.shape)


def _compiled(function):
    return jax.jit(with_standard_promotion(function))


def _candidates(density, point):
    """Entries of regional parameters by path, and those of values that all regions share."""
    free, n_node = density.expected.free, point.x.size
    step = density.expected.response.system.simulate.step
    if point.x.shape != (1, n_node, 1) or step.is_nonlocal:
        return {}, np.zeros(0, int)
    plain = {path: np.arange(density.n_free)[of] for path, of in free.slices.items()}
    plain = {path: of for path, of in plain.items() if not isinstance(free.parameters[path], MapParameter)}
    regional = {path: of for path, of in plain.items() if of.size == n_node and free.names[path][0]}
    shared = [of[0] for of in plain.values() if of.size == 1]
    return regional, np.array(shared, int)
