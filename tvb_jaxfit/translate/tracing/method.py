"""Any TVB method as a JAX function: its own code, run on boxes of JAX arrays instead of numpy's.

The code object is kept as it is. Only what its global names, defaults and ``self`` refer to is exchanged: numpy for
jax.numpy, helper functions for their own translations, the object for a stand-in that holds the parameters as JAX
arrays. What cannot be followed (a branch on a traced value, a foreign library) fails, and says on which line.

Such a function may still be wrong in silence, so whoever makes one compares it with TVB's own.
"""

import builtins
import functools
import inspect
import linecache
import sys
import types

import jax
import numpy as np

from ...jaxpr.exact_derivatives import exact_derivatives
from . import gufunc
from . import numpy_namespace as numpy_for_jax
from .mutable_array import MutableArray, boxed, is_traced, plain


class Untranslatable(Exception):
    """A method's code cannot be followed; the message names the line."""


_REASONS = (
    (
        jax.errors.TracerBoolConversionError,
        "a branch on a value that is differentiated or varies in time; write numpy.where instead",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "a value that is differentiated or varies in time is needed as a plain number (write it with numpy's functions "
        "of arrays)",
    ),
    (
        jax.errors.TracerArrayConversionError,
        "a value that is differentiated or varies in time is given to a function that is not followed; write it with "
        "numpy's functions",
    ),
)


class Followed:
    """The functions followed so far in one translation: each is made once."""

    def __init__(self):
        self._functions, self.codes = {}, set()

    def function(self, original):
        """Counterpart of a Python function, made when it is first called."""
        original = getattr(original, "py_func", original)
        if isinstance(original, (staticmethod, classmethod)):
            original = original.__func__
            original = getattr(original, "py_func", original)
        if not isinstance(original, types.FunctionType):
            raise numpy_for_jax.Missing(f"{getattr(original, '__name__', original)!r} has no Python source")
        if original.__name__ == "configure" and original.__module__.startswith("tvb."):
            # Of what TVB's does, a user's own that calls it derives attributes anew.
            return lambda stand_in: stand_in.update_derived_parameters()
        if original not in self._functions:
            self._functions[original] = self._made(original)
        return self._functions[original]

    def _made(self, original):
        code = original.__code__
        self._note(code)
        own = {"__name__": original.__globals__.get("__name__", ""), "__builtins__": builtins}
        for name in _names(code):
            if name in original.__globals__:
                own[name] = self.counterpart(original.__globals__[name])
            elif name == "super":
                own[name] = _super_of(self)
            elif name in numpy_for_jax.BUILTINS:
                own[name] = numpy_for_jax.BUILTINS[name]
        closure = original.__closure__ and tuple(
            cell if name == "__class__" else types.CellType(self.counterpart(cell.cell_contents))
            for name, cell in zip(code.co_freevars, original.__closure__, strict=True)
        )
        defaults = original.__defaults__ and tuple(self.counterpart(value) for value in original.__defaults__)
        made = types.FunctionType(code, own, original.__name__, defaults, closure)
        made.__kwdefaults__ = original.__kwdefaults__ and {
            name: self.counterpart(value) for name, value in original.__kwdefaults__.items()
        }
        return made

    def _note(self, code):
        self.codes.add(code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._note(constant)

    def counterpart(self, value):
        """What stands for a global, a default or an attribute: itself, where it is a plain value."""
        if value is numpy_for_jax.evaluate or isinstance(value, (MutableArray, StandIn)):
            return value
        if _is_tvb_backend(value):
            return types.SimpleNamespace(evaluate=numpy_for_jax.evaluate)
        try:
            if gufunc.is_compiled(value):
                return gufunc.counterpart(value, self.function)
            found = numpy_for_jax.stand_in(value)
        except (numpy_for_jax.Missing, gufunc.NoSource) as error:
            return _Refused(error)
        if found is not None:
            return found
        if isinstance(value, types.ModuleType):
            return _Attributes(self, value)
        if isinstance(value, types.FunctionType) or hasattr(value, "py_func"):
            return lambda *args, **named: self.function(value)(*args, **named)
        if hasattr(value, "__array__") and not isinstance(value, type):
            return boxed(value.copy() if hasattr(value, "copy") else value)
        return value

    def line(self, trace):
        """Where in the followed code an error arose: file, number and text of the line."""
        found = None
        while trace is not None:
            if trace.tb_frame.f_code in self.codes:
                found = trace
            trace = trace.tb_next
        if found is None:
            return "before its first line"
        code, number = found.tb_frame.f_code, found.tb_lineno
        text = linecache.getline(code.co_filename, number).strip()
        return f"{code.co_name}, line {number}" + (f": {text}" if text else "")


def _is_tvb_backend(value):
    return isinstance(value, type) and value.__module__.startswith("tvb.simulator.backend")


def _names(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


class _Refused:
    """Something that cannot be followed: an error only where it is used."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        raise self._error

    def __call__(self, *args, **named):
        raise self._error


class _Attributes:
    """A module of the user's own: its functions are followed, too."""

    def __init__(self, followed, module):
        self._followed, self._module = followed, module

    def __getattr__(self, name):
        return self._followed.counterpart(getattr(self._module, name))


class StandIn:
    """What a method sees as ``self``: the object with some of its attributes replaced.

    Parameters
    ----------
    followed : Followed
    original : object
        Never written to.
    values : dict
        Attributes that take the place of the original's; what the method sets is kept here, too.
    """

    def __init__(self, followed, original, values):
        object.__setattr__(self, "_followed", followed)
        object.__setattr__(self, "_original", original)
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_written", set())
        object.__setattr__(self, "_read", {})

    @property
    def __class__(self):
        """The original's: constants of a class are read from it."""
        return type(self._original)

    def __getattr__(self, name):
        if name in self._written:
            return self._values[name]
        if name.startswith("__"):
            raise AttributeError(name)
        found = self._values[name] if name in self._values else self._of_original(name)
        self._read[name] = found
        return found

    def _of_original(self, name):
        own = vars(self._original).get(name)
        if isinstance(own, types.MethodType):
            return types.MethodType(self._followed.function(own.__func__), self)
        method = inspect.getattr_static(type(self._original), name, None)
        if name not in vars(self._original):
            found = _bound(self._followed, method, self)
            if found is not None:
                return found
        value = self._followed.counterpart(getattr(self._original, name))
        self._values[name] = value
        return value

    def __setattr__(self, name, value):
        self._written.add(name)
        self._values[name] = value

    def written(self):
        """Attributes that were set, as plain arrays."""
        return {name: plain(self._values[name]) for name in sorted(self._written)}


def _bound(followed, found, stand_in):
    """A class attribute as an instance shows it, where it is code to follow; else None."""
    if isinstance(found, property):
        return types.MethodType(followed.function(found.fget), stand_in)()
    if isinstance(found, staticmethod) or hasattr(found, "py_func"):
        return followed.function(found)
    if isinstance(found, classmethod):
        return types.MethodType(followed.function(found), type(stand_in._original))
    if isinstance(found, types.FunctionType):
        return types.MethodType(followed.function(found), stand_in)
    return None


def _super_of(followed):
    """``super`` for stand-ins: the next class's method, followed in turn."""

    class Super:
        def __init__(self, cls=None, stand_in=None):
            if cls is None:
                frame = sys._getframe(1)
                cls = frame.f_locals["__class__"]
                stand_in = frame.f_locals[frame.f_code.co_varnames[0]]
            self._cls, self._stand_in = cls, stand_in

        def __getattr__(self, name):
            mro = type(self._stand_in._original).__mro__
            for cls in mro[mro.index(self._cls) + 1 :]:
                if name in vars(cls):
                    return _bound(followed, vars(cls)[name], self._stand_in)
            raise AttributeError(name)

    return Super


class StepAttributes:
    """What a model's own code sets on the model during a step, for the calls that come later in this step.

    Attributes
    ----------
    values : dict
        Attributes that were set so far.
    """

    def __init__(self):
        self.values, self._read = {}, {}

    def take(self, read, written):
        """Keep what one call has set, and note what it read that an earlier step may have set."""
        for name, value in read.items():
            if name not in self.values:
                self._read.setdefault(name, value)
        self.values |= written

    def refuse_carried_over(self, original):
        """Refuse, at the end of a step, what the next step would read of this one."""
        for name in sorted(set(self._read) & set(self.values)):
            now, before = self.values[name], self._read[name]
            if now is not before and (is_traced((now, before)) or not np.array_equal(now, before)):
                raise Untranslatable(
                    f"{type(original).__name__}.{name} is set in one step and read in the next, so that it is a state "
                    "outside of the state variables; make it one of them"
                )


def _with_exact_derivatives(function):
    """The same function of anything, arrays among it, with the derivatives of `exact_derivatives`."""

    @functools.wraps(function)
    def exact(*args, **named):
        leaves, tree = jax.tree.flatten((args, named))
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, jax.core.Tracer)]
        if not places:
            return function(*args, **named)
        rest, structure = [], None

        def of_traced(*traced):
            nonlocal structure
            given = list(leaves)
            for place, value in zip(places, traced, strict=True):
                given[place] = value
            args, named = jax.tree.unflatten(tree, given)
            results, structure = jax.tree.flatten(function(*args, **named))
            rest[:] = [None if isinstance(result, jax.core.Tracer) else result for result in results]
            return [result for result, other in zip(results, rest, strict=True) if other is None]

        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            found = exact_derivatives(of_traced)(*(leaves[place] for place in places))
        if any(map(callable, rest)):
            # A function that was made within may hold arrays of the trace, which is over.
            return function(*args, **named)
        found = iter(found)
        return jax.tree.unflatten(structure, [next(found) if other is None else other for other in rest])

    return exact


def trace(original, method, values, *args, **named):
    """Run a method's code on JAX arrays: see `trace_in_place`, of which it refuses writes into the arguments.

    Returns
    -------
    result : array or nested tuple of arrays
    written : dict of str to array
        What the method set on ``self``.
    """
    step_attributes = named.pop("step_attributes", None)
    result, written, arguments = trace_in_place(
        original, method, values, *args, step_attributes=step_attributes, **named
    )
    for after, value in zip(arguments, args, strict=True):
        if isinstance(boxed(value), MutableArray) and after is not value:
            name = method if isinstance(method, str) else method.__name__
            raise Untranslatable(f"{name} writes in place into an array that it was given; give it a copy")
    return result, written


def trace_in_place(original, method, values, *args, step_attributes=None, **named):
    """Run a method's code on JAX arrays.

    Parameters
    ----------
    original : object
        The TVB object (not written to), or None for a plain function.
    method : function or str
        Python function; or the name of one of the object's methods.
    values : dict
        Attributes of the object that are JAX arrays (or stand-ins made by `nested`) here.
    *args, **named
        Arrays, or anything else.
    step_attributes : StepAttributes, optional
        Attributes that earlier calls have set, and this one sets.

    Returns
    -------
    result : array or nested tuple of arrays
    written : dict of str to array
        What the method set on ``self``.
    arguments : list
        The arguments as the method leaves them: arrays may have been written to.

    Raises
    ------
    Untranslatable
        Where the code cannot be followed; names the line.
    """
    remembered = {} if step_attributes is None else step_attributes.values
    result, written, read, changed = _called(original, method, values, remembered, args, named)
    if step_attributes is not None:
        step_attributes.take(read, written)
    arguments = [value if new is None else new for new, value in zip(changed, args, strict=True)]
    return result, written, arguments


@_with_exact_derivatives
def _called(original, method, values, remembered, args, named):
    """What a method returns, sets on ``self`` and reads of it, and each argument that it changes (else None)."""
    followed = Followed()
    arguments, keywords = [boxed(value) for value in args], {name: boxed(value) for name, value in named.items()}
    stand_in = None if original is None else nested(followed, original, values)
    if stand_in is not None:
        stand_in._values.update((name, boxed(value)) for name, value in remembered.items())
    try:
        # numpy's rules of promotion, whatever the user made JAX's.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            if isinstance(method, str):
                result = getattr(stand_in, method)(*arguments, **keywords)
            else:
                first = () if original is None else (stand_in,)
                result = followed.function(method)(*first, *arguments, **keywords)
    except Exception as error:
        reason = next((text for kind, text in _REASONS if isinstance(error, kind)), None)
        reason = reason or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise Untranslatable(f"{reason} (in {followed.line(error.__traceback__)})") from error
    changed = [None if new is value else new for new, value in zip(plain(arguments), args, strict=True)]
    written, read = {}, {}
    if stand_in is not None:
        written = stand_in.written()
        read = {name: plain(v) for name, v in stand_in._read.items() if not (callable(v) or isinstance(v, StandIn))}
    return plain(result), written, read, changed


def nested(followed, original, values):
    """Stand-in of an object; a dict among the values stands for an object that the object holds, or for a dict."""
    inner = {}
    for name, value in values.items():
        if isinstance(value, dict):
            held = getattr(original, name)
            items = {key: boxed(item) for key, item in value.items()}
            inner[name] = dict(held) | items if isinstance(held, dict) else nested(followed, held, value)
        else:
            inner[name] = boxed(value)
    return StandIn(followed, original, inner)
