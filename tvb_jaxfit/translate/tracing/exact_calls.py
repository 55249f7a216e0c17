"""Derivatives of `exact_derivatives` for functions of arbitrary trees, of which only some leaves are traced arrays."""

import functools

import jax

from ...jaxpr.exact_derivatives import exact_derivatives


def with_exact_derivatives(function):
    """Give a function of arbitrary arguments the derivatives of `exact_derivatives`.

    Parameters
    ----------
    function : callable
        Takes and returns trees of arrays and other objects.

    Returns
    -------
    callable
        Same arguments and results.
    """

    @functools.wraps(function)
    def exact(*args, **named):
        leaves, tree = jax.tree.flatten((args, named))
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, jax.core.Tracer)]
        if not places:
            return function(*args, **named)
        constants, structure = [], None

        def of_tracers(*tracers):
            nonlocal structure
            arguments = list(leaves)
            for place, value in zip(places, tracers, strict=True):
                arguments[place] = value
            args, named = jax.tree.unflatten(tree, arguments)
            results, structure = jax.tree.flatten(function(*args, **named))
            constants[:] = [None if isinstance(result, jax.core.Tracer) else result for result in results]
            return [result for result, constant in zip(results, constants, strict=True) if constant is None]

        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            traced_results = exact_derivatives(of_tracers)(*(leaves[place] for place in places))
        if any(map(callable, constants)):
            # A function that was defined inside may hold tracers of the trace that has ended.
            return function(*args, **named)
        traced_results = iter(traced_results)
        merged = [next(traced_results) if constant is None else constant for constant in constants]
        return jax.tree.unflatten(structure, merged)

    return exact
