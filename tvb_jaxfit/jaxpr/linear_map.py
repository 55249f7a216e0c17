"""Linear functions with a transpose of their own, for forward and reverse mode, and in batches.

`jax.custom_vjp` excludes forward mode, and `jax.custom_derivatives.linear_call` excludes `jax.vmap`: this primitive has
all three.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def linear_call(function, transpose, residuals, arguments, like):
    """function(residuals, arguments), with ``transpose`` as its reverse pass in ``arguments``.

    Parameters
    ----------
    function : callable
        (residuals, arguments) to a tuple of arrays, linear in ``arguments``. It uses no traced value from outside.
    transpose : callable
        (residuals, cotangents) to one cotangent for each of ``arguments``. A cotangent that is zero is None.
    residuals, arguments : sequence of Array
    like : sequence of Array or jax.ShapeDtypeStruct
        One of the shape and dtype of each result: ``function`` is traced where it is evaluated alone.

    Returns
    -------
    list of Array
    """
    residuals = tuple(residuals)
    shapes = tuple(jax.core.ShapedArray(one.shape, one.dtype) for one in like)
    parameters = {"function": function, "transpose": transpose, "n_residual": len(residuals), "shapes": shapes}
    return _linear_p.bind(*residuals, *arguments, **parameters)


def _call(*operands, function, n_residual, **_):
    return list(function(operands[:n_residual], operands[n_residual:]))


def _forward_mode(primals, tangents, **parameters):
    of_residuals = tangents[: parameters["n_residual"]]
    fixed = all(isinstance(tangent, ad.Zero) for tangent in of_residuals)
    tangents = tuple(map(ad.instantiate_zeros, tangents))
    if not fixed:
        return jax.jvp(lambda *operands: _call(*operands, **parameters), tuple(primals), tangents)
    residuals, moving = primals[: len(of_residuals)], tangents[len(of_residuals) :]
    return _linear_p.bind(*primals, **parameters), _linear_p.bind(*residuals, *moving, **parameters)


def _reverse_mode(cotangents, *operands, transpose, n_residual, **_):
    cotangents = [None if isinstance(one, ad.Zero) else one for one in cotangents]
    results = transpose(operands[:n_residual], cotangents)
    pairs = zip(operands[n_residual:], results, strict=True)
    return [None] * n_residual + [result if ad.is_undefined_primal(operand) else None for operand, result in pairs]


def _batch(operands, axes, *, function, transpose, n_residual, shapes):
    size = next(one.shape[axis] for one, axis in zip(operands, axes, strict=True) if axis is not None)
    of_residuals = tuple(axes[:n_residual])
    pairs = zip(operands[n_residual:], axes[n_residual:], strict=True)
    arguments = [batching.bdim_at_front(one, axis, size) for one, axis in pairs]
    together = (jax.vmap(one, (of_residuals, 0)) for one in (function, transpose))
    like = [jax.ShapeDtypeStruct((size, *shape.shape), shape.dtype) for shape in shapes]
    results = linear_call(*together, operands[:n_residual], arguments, like)
    return results, [0] * len(results)


_linear_p = Primitive("linear_with_transpose")
_linear_p.multiple_results = True
_linear_p.def_impl(lambda *operands, **parameters: _call(*map(jnp.asarray, operands), **parameters))
_linear_p.def_abstract_eval(lambda *_, shapes, **__: list(shapes))
ad.primitive_jvps[_linear_p] = _forward_mode
ad.primitive_transposes[_linear_p] = _reverse_mode
batching.primitive_batchers[_linear_p] = _batch
mlir.register_lowering(_linear_p, mlir.lower_fun(_call, multiple_results=True))
