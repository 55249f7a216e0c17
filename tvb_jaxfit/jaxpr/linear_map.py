"""Linear functions with a custom transpose, for forward mode, reverse mode and `jax.vmap`.

`jax.custom_vjp` excludes forward mode, and `jax.custom_derivatives.linear_call` excludes `jax.vmap`. The primitive
defined here supports all three.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def linear_call(
    function: Callable, transpose: Callable, residuals: Sequence, arguments: Sequence, like: Sequence
) -> list[jax.Array]:
    """Value of ``function(residuals, arguments)``, with ``transpose`` as its reverse pass for ``arguments``.

    Parameters
    ----------
    function : callable
        Function of (residuals, arguments), to a tuple of arrays; linear in ``arguments``. It must not close over traced
        values.
    transpose : callable
        Function of (residuals, cotangents), to one cotangent for each of ``arguments``. A cotangent that is zero is
        passed as None.
    residuals, arguments : sequence of Array
    like : sequence of Array or jax.ShapeDtypeStruct
        Shape and dtype of each result; ``function`` is then traced only where it is evaluated.

    Returns
    -------
    list of Array
    """
    residuals = tuple(residuals)
    shapes = tuple(jax.core.ShapedArray(result.shape, result.dtype) for result in like)
    parameters = {"function": function, "transpose": transpose, "n_residual": len(residuals), "shapes": shapes}
    return _linear_p.bind(*residuals, *arguments, **parameters)


def _call(*operands, function, n_residual, **_):
    return list(function(operands[:n_residual], operands[n_residual:]))


def _forward_mode(primals, tangents, **parameters):
    of_residuals = tangents[: parameters["n_residual"]]
    constant_residuals = all(isinstance(tangent, ad.Zero) for tangent in of_residuals)
    tangents = tuple(map(ad.instantiate_zeros, tangents))
    if not constant_residuals:
        return jax.jvp(lambda *operands: _call(*operands, **parameters), tuple(primals), tangents)
    residuals, of_arguments = primals[: len(of_residuals)], tangents[len(of_residuals) :]
    return _linear_p.bind(*primals, **parameters), _linear_p.bind(*residuals, *of_arguments, **parameters)


def _reverse_mode(cotangents, *operands, transpose, n_residual, **_):
    cotangents = [None if isinstance(cotangent, ad.Zero) else cotangent for cotangent in cotangents]
    results = transpose(operands[:n_residual], cotangents)
    pairs = zip(operands[n_residual:], results, strict=True)
    return [None] * n_residual + [result if ad.is_undefined_primal(operand) else None for operand, result in pairs]


def _batch(operands, axes, *, function, transpose, n_residual, shapes):
    size = next(value.shape[axis] for value, axis in zip(operands, axes, strict=True) if axis is not None)
    axes_of_residuals = tuple(axes[:n_residual])
    pairs = zip(operands[n_residual:], axes[n_residual:], strict=True)
    arguments = [batching.bdim_at_front(value, axis, size) for value, axis in pairs]
    batched = (jax.vmap(each, (axes_of_residuals, 0)) for each in (function, transpose))
    like = [jax.ShapeDtypeStruct((size, *shape.shape), shape.dtype) for shape in shapes]
    results = linear_call(*batched, operands[:n_residual], arguments, like)
    return results, [0] * len(results)


_linear_p = Primitive("linear_with_transpose")
_linear_p.multiple_results = True
_linear_p.def_impl(lambda *operands, **parameters: _call(*map(jnp.asarray, operands), **parameters))
_linear_p.def_abstract_eval(lambda *_, shapes, **__: list(shapes))
ad.primitive_jvps[_linear_p] = _forward_mode
ad.primitive_transposes[_linear_p] = _reverse_mode
batching.primitive_batchers[_linear_p] = _batch
mlir.register_lowering(_linear_p, mlir.lower_fun(_call, multiple_results=True))
