"""TVB methods as JAX functions, made from their own Python code.

The method's code object runs unchanged on `MutableArray`s that hold JAX arrays; `context` describes how the names that
it refers to are replaced. Code that cannot be traced (a branch on a traced value, a foreign library) raises
`Untranslatable`, which names the line.

Traced code may still give wrong numbers without an error. Callers therefore compare its values with TVB's own.
"""

import jax

from .context import TraceContext, make_proxy, read_attributes, written_attributes
from .exact_calls import with_exact_derivatives
from .mutable_array import MutableArray, unwrap, wrap
from .step_attributes import StepAttributes
from .untranslatable import Untranslatable

_REASONS = (
    (
        jax.errors.TracerBoolConversionError,
        "a branch on a value that is differentiated or varies in time; write numpy.where instead",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "a value that is differentiated or varies in time is used as a Python number; write the code with numpy's "
        "functions of arrays",
    ),
    (
        jax.errors.TracerArrayConversionError,
        "a value that is differentiated or varies in time is given to a function that is not translated to JAX; write "
        "it with numpy's functions",
    ),
)


def trace(original, method, values, *args, step_attributes: StepAttributes | None = None, **named):
    """Run a method's code on JAX arrays, and refuse code that writes to its arguments.

    Parameters and exceptions are those of `trace_in_place`.

    Returns
    -------
    result : array or nested tuple of arrays
    written : dict of str to array
        Attributes that the method set on ``self``.
    """
    result, written, arguments = trace_in_place(
        original, method, values, *args, step_attributes=step_attributes, **named
    )
    for after, value in zip(arguments, args, strict=True):
        if isinstance(wrap(value), MutableArray) and after is not value:
            name = method if isinstance(method, str) else method.__name__
            raise Untranslatable(f"{name} writes in place into an array that it was given; give it a copy")
    return result, written


def trace_in_place(original, method, values, *args, step_attributes: StepAttributes | None = None, **named):
    """Run a method's code on JAX arrays.

    Parameters
    ----------
    original : object
        The TVB object (never modified); None for a plain function.
    method : function or str
        Python function, or the name of one of the object's methods.
    values : dict
        Attributes of the object that are replaced by JAX arrays. A dict describes attributes of an object that it
        holds, or items of a dict.
    *args, **named
        Arrays, or anything else.
    step_attributes : StepAttributes, optional
        Attributes that earlier calls of the same step have set; those that this call sets are added.

    Returns
    -------
    result : array or nested tuple of arrays
    written : dict of str to array
        Attributes that the method set on ``self``.
    arguments : list
        The arguments after the call; an array differs from the given one if the method wrote to it.

    Raises
    ------
    Untranslatable
        If the code cannot be traced; names the line.
    """
    earlier = {} if step_attributes is None else step_attributes.values
    result, written, read, changed = _call(original, method, values, earlier, args, named)
    if step_attributes is not None:
        step_attributes.record(read, written)
    arguments = [value if new is None else new for new, value in zip(changed, args, strict=True)]
    return result, written, arguments


@with_exact_derivatives
def _call(original, method, values, earlier, args, named):
    """Call a method's traceable counterpart.

    Returns
    -------
    tuple
        The result, the attributes that were set, those that were read, and each argument that was changed (else None).
    """
    context = TraceContext()
    arguments, keywords = [wrap(value) for value in args], {name: wrap(value) for name, value in named.items()}
    proxy = None if original is None else make_proxy(context, original, values, earlier)
    try:
        # numpy's promotion rules, whatever the user's JAX configuration.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            if isinstance(method, str):
                result = getattr(proxy, method)(*arguments, **keywords)
            else:
                first = () if original is None else (proxy,)
                result = context.function(method)(*first, *arguments, **keywords)
    except Exception as error:
        reason = next((text for kind, text in _REASONS if isinstance(error, kind)), None)
        reason = reason or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise Untranslatable(f"{reason} (in {context.source_line(error.__traceback__)})") from error
    changed = [None if new is value else new for new, value in zip(unwrap(arguments), args, strict=True)]
    if proxy is None:
        return unwrap(result), {}, {}, changed
    return unwrap(result), written_attributes(proxy), read_attributes(proxy), changed
