r"""Covariances from the eigenmodes of a step without delays.

The step matrix is M = R J R^{-1}, with J block-diagonal: a block of size 1 for a real eigenvalue, of size 2 for a pair
of conjugate ones. R and J are real, so that all matrix products are. Sums over time are functions of the eigenvalues:
with the noise covariance Q,

.. math:: P = \sum_k M^k Q M^{kT}, \qquad \hat P_{ij} = \hat Q_{ij} / (1 - \lambda_i \lambda_j),

where a hat marks coordinates in the basis of the complex eigenvectors. Derivatives are taken with respect to the full
matrix M, not through the eigenvectors, which are not differentiable where eigenvalues coincide.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .filters import NO_SHIFT, lagged_autocorrelation_of_eigenvalue

# Eigenvalues closer than this use the derivative in place of the difference quotient; at this distance both have an
# error of 1e-11.
_CLOSE = 1e-8


class Modes(NamedTuple):
    """Eigenmodes of a matrix, in real coordinates.

    Attributes
    ----------
    values : Array, shape (n,)
        Eigenvalues; complex ones are pairs of neighbours, the one with the positive imaginary part first. Real if the
        matrix is similar to a symmetric one.
    R, L : Array, shape (n, n)
        Real basis, and its inverse. The columns of a pair are the real and imaginary parts of the first eigenvector.
    """

    values: jax.Array
    R: jax.Array
    L: jax.Array


class Coordinates(NamedTuple):
    """Covariances in the real coordinates of the modes: the covariance is R C R^T.

    Attributes
    ----------
    states : Array, shape (n, n)
    filtered : tuple of Array, each (n, n)
        Of the states through each filter, at its lag.
    """

    states: jax.Array
    filtered: tuple


def is_symmetrisable(weights, d, y) -> jax.Array:
    """True if diag(d) W diag(y) is similar to a symmetric matrix by a diagonal scaling."""
    products = d * y
    return jnp.all(weights == weights.T) & (jnp.min(products) > 1e-9 * jnp.max(products))


def symmetric_modes(a, d, weights, y) -> Modes:
    r"""Eigenmodes of diag(a) + diag(d) W diag(y) that satisfies `is_symmetrisable`; constant under differentiation.

    Parameters
    ----------
    a, d, y : Array, shape (n,)
    weights : Array, shape (n, n)

    Returns
    -------
    Modes

    Notes
    -----
    With W symmetric and d y > 0, R = T V, where :math:`T = \sqrt{d / y}` and V are the eigenvectors of the symmetric
    matrix :math:`T^{-1} M T`.
    """
    a, d, weights, y = jax.lax.stop_gradient((a, d, weights, y))
    products = d * y
    usable = products > 0.0
    root = jnp.sqrt(jnp.where(usable, products, 1.0))
    scale = jnp.sqrt(jnp.where(usable, d / jnp.where(usable, y, 1.0), 1.0))
    values, vectors = jnp.linalg.eigh(jnp.diag(a) + root[:, None] * weights * root)
    return Modes(values, scale[:, None] * vectors, vectors.T / scale)


def general_modes(M) -> Modes:
    """Eigenmodes of any real matrix (n, n); constant under differentiation.

    Parameters
    ----------
    M : Array, shape (n, n)

    Returns
    -------
    Modes
    """
    values, vectors = jnp.linalg.eig(jax.lax.stop_gradient(M))
    R = jnp.where(jnp.imag(values) < 0.0, -jnp.imag(vectors), jnp.real(vectors))
    return Modes(values, R, jnp.linalg.inv(R))


def covariance_coordinates(M, B, filters, modes: Modes, shifts=NO_SHIFT) -> Coordinates:
    """Covariances of the stationary process x' = M x + B z, with z of unit variance.

    Parameters
    ----------
    M : Array, shape (n, n)
    B : Array, shape (n, n_noise)
    filters : list of (int, Array)
        Filter of each monitor, as ``(n_mean, taps)``: output = sum over d of taps[d] times the mean of ``n_mean``
        steps, d such means ago.
    modes : Modes
        Eigenmodes of M.
    shifts : tuple of (int, float)
        Lags of the first signal behind the second one [steps], and the weights of their sum.

    Returns
    -------
    Coordinates
        Without meaning if an eigenvalue reaches 1.
    """
    kinds, taps = tuple((n_mean, shifts) for n_mean, _ in filters), tuple(taps for _, taps in filters)
    by_noise = modes.L @ B
    return _coordinates(kinds, modes.L @ M @ modes.R, by_noise @ by_noise.T, taps, modes)


def relative_error(M, B, modes: Modes, states) -> jax.Array:
    r"""Bound of the relative error of variances by rounding, which grows with the condition number of the eigenvectors.

    Parameters
    ----------
    M, B
        As for `covariance_coordinates`.
    modes : Modes
    states : Array, shape (n, n)
        `Coordinates.states`.

    Returns
    -------
    Array, shape ()
        Largest error of a variance, relative to it.

    Notes
    -----
    The covariance P leaves a residual :math:`E = P - M P M^T - B B^T`, and its error solves the same equation with E in
    the place of the noise. The solution S is a positive map: with D the variances, and
    :math:`|E'| = |D^{-1/2} E D^{-1/2}|`, the error is at most :math:`|E'| S(D)`. Where the eigenvectors are nearly
    parallel, this bound is inaccurate itself. The square of the largest condition number of an eigenvalue,
    :math:`|D^{-1/2} r_i| |l_i D^{1/2}|`, times the machine precision, is then the size of the error.
    """
    M, B, modes, states = jax.lax.stop_gradient((M, B, modes, states))
    R, L = modes.R, modes.L
    P = R @ states @ R.T
    variance = jnp.diagonal(P)
    positive = variance > 0.0
    inverse = jnp.where(positive, 1.0 / jnp.where(positive, variance, 1.0), 0.0)
    scale = jnp.sqrt(inverse)
    residual = jnp.linalg.norm(scale[:, None] * (P - M @ P @ M.T - B @ B.T) * scale[None, :])
    amplified = jnp.sum((R @ _sum_of_powers((L * variance[None, :]) @ L.T, modes.values)) * R, axis=1)
    condition = jnp.max(jnp.sum((scale[:, None] * R) ** 2, axis=0) * jnp.sum(L**2 * variance[None, :], axis=1))
    eps = jnp.finfo(R.dtype).eps
    is_covariance = jnp.min(variance) >= -eps * jnp.max(jnp.abs(variance))
    return jnp.where(is_covariance, residual * jnp.max(jnp.abs(amplified) * inverse) + eps * condition, jnp.inf)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _coordinates(kinds, M_hat, Q_hat, taps, modes):
    """`Coordinates` from M and the covariance of the noise in real coordinates."""
    states = _sum_of_powers(Q_hat, modes.values)
    of_values = (_later_and_earlier(modes.values, *each) for each in zip(taps, kinds, strict=True))
    return Coordinates(states, tuple(_scaled(states, modes.values, _outer_sum(*each)) for each in of_values))


def _later_and_earlier(values, taps, kind):
    return lagged_autocorrelation_of_eigenvalue(values, taps, *kind)


def _outer_sum(later, earlier):
    return later[:, None] + earlier[None, :]


@partial(_coordinates.defjvp, symbolic_zeros=True)
def _coordinates_jvp(kinds, primals, tangents):
    (M_hat, Q_hat, taps, modes), (dM, dQ, dtaps, _) = primals, tangents
    dM, dQ = jax.tree.map(_instantiated, (dM, dQ), is_leaf=_is_zero)
    values, results = modes.values, _coordinates(kinds, M_hat, Q_hat, taps, modes)
    half = dM @ _block_diagonal_product(values, results.states).T
    dstates, dfiltered = _sum_of_powers(half + half.T + dQ, values), []
    for kind, each, change in zip(kinds, taps, dtaps, strict=True):
        of_value = partial(_later_and_earlier, kind=kind)
        if _is_zero(change):
            p, dp = of_value(values, each), None
        else:
            p, dp = jax.jvp(partial(of_value, values), (each,), (change,))
        _, slopes = jax.jvp(partial(of_value, taps=each), (values,), (jnp.ones_like(values),))
        later, earlier = (
            _of_operator(dM, values, _difference_quotients(values, *both)) @ results.states
            for both in zip(p, slopes, strict=True)
        )
        by_taps = 0.0 if dp is None else _scaled(results.states, values, _outer_sum(*dp))
        dfiltered.append(_scaled(dstates, values, _outer_sum(*p)) + later + earlier.T + by_taps)
    return results, Coordinates(dstates, tuple(dfiltered))


def _is_zero(tangent):
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _instantiated(tangent):
    return jnp.zeros(tangent.shape, tangent.dtype) if _is_zero(tangent) else tangent


def _difference_quotients(values, p, slope):
    """Difference quotients of a function of eigenvalues: they are its derivative as a function of a matrix."""
    difference = values[:, None] - values[None, :]
    close = jnp.abs(difference) < _CLOSE
    quotient = (p[:, None] - p[None, :]) / jnp.where(close, 1.0, difference)
    return jnp.where(close, 0.5 * (slope[:, None] + slope[None, :]), quotient)


def _sum_of_powers(Q_hat, values):
    """Sum over k of M^k Q M^kT, in real coordinates."""
    gap = 1.0 - values[:, None] * values[None, :]
    tiny = jnp.asarray(jnp.finfo(values.dtype).eps, values.dtype)
    return _scaled(Q_hat, values, 1.0 / jnp.where(jnp.abs(gap) < jnp.real(tiny), tiny, gap))


def _block_diagonal_product(values, X):
    """Product J X of the block-diagonal matrix of eigenvalues and a matrix."""
    if not jnp.iscomplexobj(values):
        return values[:, None] * X
    return jnp.real(values)[:, None] * X + jnp.imag(values)[:, None] * X[_partner(values)]


def resolvent_product(values, z, right) -> jax.Array:
    """Product (z - J)^-1 ``right`` of the block-diagonal matrix J of eigenvalues.

    Parameters
    ----------
    values : Array, shape (n,)
        See `Modes`.
    z : Array of complex, shape (n_z,)
    right : Array of complex, shape (n_z, n)

    Returns
    -------
    Array of complex, shape (n_z, n)
    """
    z, eigenvalues = z[:, None], values.astype(z.dtype)[None, :]
    if not jnp.iscomplexobj(values):
        return right / (z - eigenvalues)
    real, imaginary = (part(eigenvalues).astype(z.dtype) for part in (jnp.real, jnp.imag))
    of_pair = (z - real) * right + imaginary * right[:, _partner(values)]
    return of_pair / ((z - eigenvalues) * (z - jnp.conj(eigenvalues)))


def _scaled(X, values, factors):
    """Covariance X in real coordinates, with each entry of its complex coordinates multiplied by a factor."""
    if not jnp.iscomplexobj(values):
        return X * factors
    to_complex, to_real, X = _to_complex(values), _to_real(values), X.astype(values.dtype)
    return jnp.real(_times(to_real, _times(to_real, factors * _times(to_complex, _times(to_complex, X).T).T).T).T)


def _of_operator(X, values, factors):
    """Operator X in real coordinates, with each entry of its complex coordinates multiplied by a factor."""
    if not jnp.iscomplexobj(values):
        return X * factors
    to_complex, to_real, X = _to_complex(values), _to_real(values), X.astype(values.dtype)
    in_complex = _times(to_complex, _times(_transposed(to_real), X.T).T)
    return jnp.real(_times(to_real, _times(_transposed(to_complex), (factors * in_complex).T).T))


class _BasisChange(NamedTuple):
    """Matrix that combines the two coordinates of a pair: own * x + other * x[partner]."""

    own: jax.Array
    other: jax.Array
    partner: jax.Array


def _partner(values):
    """Index of the conjugate of each eigenvalue."""
    return jnp.arange(values.size) + jnp.sign(jnp.imag(values)).astype(int)


def _to_complex(values):
    """From the coordinates of (real part, imaginary part) to those of (eigenvector, its conjugate)."""
    return _basis_change(values, (0.5, -0.5j), (0.5j, 0.5))


def _to_real(values):
    """Inverse of `_to_complex`."""
    return _basis_change(values, (1.0, 1.0), (-1.0j, 1.0j))


def _basis_change(values, first, second):
    """Coefficients (own, other) of the first and of the second coordinate of a pair."""
    imaginary = jnp.imag(values)
    own, other = (
        jnp.select([imaginary > 0.0, imaginary < 0.0], [first[k], second[k]], (1.0, 0.0)[k]).astype(values.dtype)
        for k in (0, 1)
    )
    return _BasisChange(own, other, _partner(values))


def _times(change, X):
    """Product of a basis change and a matrix."""
    return change.own[:, None] * X + change.other[:, None] * X[change.partner]


def _transposed(change):
    return change._replace(other=change.other[change.partner])
