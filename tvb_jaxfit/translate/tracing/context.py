"""Python functions made traceable: the code object is kept, and the names that it refers to are replaced.

numpy is replaced by `NUMPY`, a helper function by its own traceable counterpart, and ``self`` by a `SelfProxy` that
holds the parameters as JAX arrays.
"""

import builtins
import inspect
import linecache
import sys
import types

from . import gufunc
from .mutable_array import MutableArray, unwrap, wrap
from .namespaces import BUILTINS, library_counterpart
from .numexpr_namespace import evaluate
from .numpy_namespace import NoCounterpart


class TraceContext:
    """The functions that were made traceable in one trace; each is made once.

    Attributes
    ----------
    codes : set of code
        Code objects of these functions, nested ones included.
    """

    def __init__(self):
        self._functions, self.codes = {}, set()

    def function(self, original):
        """Traceable counterpart of a Python function.

        Raises
        ------
        NoCounterpart
            If it has no Python code.
        """
        original = getattr(original, "py_func", original)
        if isinstance(original, (staticmethod, classmethod)):
            original = original.__func__
            original = getattr(original, "py_func", original)
        if not isinstance(original, types.FunctionType):
            raise NoCounterpart(f"{getattr(original, '__name__', original)!r} has no Python source")
        if original.__name__ == "configure" and original.__module__.startswith("tvb."):
            # A user's configure() calls TVB's, of which only the derivation of attributes matters here.
            return lambda proxy: proxy.update_derived_parameters()
        if original not in self._functions:
            self._functions[original] = self._make_traceable(original)
        return self._functions[original]

    def _make_traceable(self, original):
        code = original.__code__
        self._add_code(code)
        namespace = {"__name__": original.__globals__.get("__name__", ""), "__builtins__": builtins}
        for name in _names(code):
            if name in original.__globals__:
                namespace[name] = self.counterpart(original.__globals__[name])
            elif name == "super":
                namespace[name] = _super_class(self)
            elif name in BUILTINS:
                namespace[name] = BUILTINS[name]
        closure = original.__closure__ and tuple(
            cell if name == "__class__" else types.CellType(self.counterpart(cell.cell_contents))
            for name, cell in zip(code.co_freevars, original.__closure__, strict=True)
        )
        defaults = original.__defaults__ and tuple(self.counterpart(value) for value in original.__defaults__)
        function = types.FunctionType(code, namespace, original.__name__, defaults, closure)
        function.__kwdefaults__ = original.__kwdefaults__ and {
            name: self.counterpart(value) for name, value in original.__kwdefaults__.items()
        }
        return function

    def _add_code(self, code):
        self.codes.add(code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._add_code(constant)

    def counterpart(self, value):
        """Counterpart of a global, a default or an attribute; the value itself if it needs none."""
        if value is evaluate or isinstance(value, (MutableArray, SelfProxy)):
            return value
        if _is_tvb_backend(value):
            return types.SimpleNamespace(evaluate=evaluate)
        try:
            if gufunc.is_compiled(value):
                return gufunc.gufunc_counterpart(value, self.function)
            found = library_counterpart(value)
        except (NoCounterpart, gufunc.NoSource) as error:
            return _Unavailable(error)
        if found is not None:
            return found
        if isinstance(value, types.ModuleType):
            return _UserModule(self, value)
        if isinstance(value, types.FunctionType) or hasattr(value, "py_func"):
            return lambda *args, **named: self.function(value)(*args, **named)
        if hasattr(value, "__array__") and not isinstance(value, type):
            return wrap(value.copy() if hasattr(value, "copy") else value)
        return value

    def source_line(self, traceback) -> str:
        """Function, number and text of the traced line at which an error was raised."""
        found = None
        while traceback is not None:
            if traceback.tb_frame.f_code in self.codes:
                found = traceback
            traceback = traceback.tb_next
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


class _Unavailable:
    """Proxy for a value without a counterpart: raises an error when the code uses it."""

    def __init__(self, error):
        self._error = error

    def __getattr__(self, name):
        raise self._error

    def __call__(self, *args, **named):
        raise self._error


class _UserModule:
    """Proxy for a user's module, whose functions are made traceable, too."""

    def __init__(self, context, module):
        self._context, self._module = context, module

    def __getattr__(self, name):
        return self._context.counterpart(getattr(self._module, name))


class SelfProxy:
    """Proxy that a method receives as ``self``: the object with some of its attributes replaced.

    Parameters
    ----------
    context : TraceContext
    original : object
        Never modified.
    values : dict
        Attributes that replace the original's. Attributes that the method sets are stored here, too.
    """

    def __init__(self, context, original, values):
        object.__setattr__(self, "_context", context)
        object.__setattr__(self, "_original", original)
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_written", set())
        object.__setattr__(self, "_read", {})

    @property
    def __class__(self):
        """Class of the original, from which constants of the class are read."""
        return type(self._original)

    def __getattr__(self, name):
        if name in self._written:
            return self._values[name]
        if name.startswith("__"):
            raise AttributeError(name)
        found = self._values[name] if name in self._values else self._from_original(name)
        self._read[name] = found
        return found

    def _from_original(self, name):
        on_instance = vars(self._original).get(name)
        if isinstance(on_instance, types.MethodType):
            return types.MethodType(self._context.function(on_instance.__func__), self)
        if name not in vars(self._original):
            found = _bound(self._context, inspect.getattr_static(type(self._original), name, None), self)
            if found is not None:
                return found
        value = self._context.counterpart(getattr(self._original, name))
        self._values[name] = value
        return value

    def __setattr__(self, name, value):
        self._written.add(name)
        self._values[name] = value


def written_attributes(proxy):
    """Attributes that the traced code set on a `SelfProxy`, as arrays of numpy or JAX."""
    return {name: unwrap(proxy._values[name]) for name in sorted(proxy._written)}


def read_attributes(proxy):
    """Values of a `SelfProxy` that the traced code read before it set them, as arrays; methods are left out."""
    return {
        name: unwrap(value)
        for name, value in proxy._read.items()
        if not (callable(value) or isinstance(value, SelfProxy))
    }


def make_proxy(context, original, values, earlier=()):
    """`SelfProxy` of an object.

    Parameters
    ----------
    context : TraceContext
    original : object
    values : dict
        Attributes that are replaced. A dict describes attributes of an object that it holds, or items of a dict.
    earlier : dict, optional
        Attributes that earlier calls have set; they take precedence.
    """
    attributes = {}
    for name, value in values.items():
        if isinstance(value, dict):
            attribute = getattr(original, name)
            items = {key: wrap(item) for key, item in value.items()}
            attributes[name] = (
                dict(attribute) | items if isinstance(attribute, dict) else make_proxy(context, attribute, value)
            )
        else:
            attributes[name] = wrap(value)
    return SelfProxy(context, original, attributes | {name: wrap(value) for name, value in dict(earlier).items()})


def _bound(context, found, proxy):
    """Class attribute bound to a proxy, traceable; None if it is not code."""
    if isinstance(found, property):
        return types.MethodType(context.function(found.fget), proxy)()
    if isinstance(found, staticmethod) or hasattr(found, "py_func"):
        return context.function(found)
    if isinstance(found, classmethod):
        return types.MethodType(context.function(found), type(proxy._original))
    if isinstance(found, types.FunctionType):
        return types.MethodType(context.function(found), proxy)
    return None


def _super_class(context):
    """Counterpart of ``super`` for proxies: methods of the next class in the MRO, made traceable."""

    class Super:
        def __init__(self, cls=None, proxy=None):
            if cls is None:
                frame = sys._getframe(1)
                cls = frame.f_locals["__class__"]
                proxy = frame.f_locals[frame.f_code.co_varnames[0]]
            self._cls, self._proxy = cls, proxy

        def __getattr__(self, name):
            mro = type(self._proxy._original).__mro__
            for cls in mro[mro.index(self._cls) + 1 :]:
                if name in vars(cls):
                    return _bound(context, vars(cls)[name], self._proxy)
            raise AttributeError(name)

    return Super
