"""Trees in files, as arrays and JSON. Reading a file executes nothing that the file contains."""

import enum
import io
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .atomic import atomic_write
from .registry import is_serialisable, registered, registered_name

_FORMAT = "tvb_jaxfit 1"
_SEQUENCES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
# JAX gives arrays that are made of Python's own numbers weak types.
_PYTHON_NUMBERS = {"i": int, "f": float, "c": complex}
_REMEDY = "Return numbers, strings, arrays, lists, dicts, states, histories or explorations."


class NotSerialisable(TypeError):
    """A value that has no representation as arrays and JSON.

    Parameters
    ----------
    path : str
        Of the value in the tree.
    found : str
        Description of the value.
    remedy : str, optional
    """

    def __init__(self, path: str, found: str, remedy: str = _REMEDY):
        super().__init__(path, found, remedy)
        self.path, self.found, self.remedy = path, found, remedy

    def __str__(self):
        return f"result{self.path}: {self.found} cannot be stored as arrays and JSON. {self.remedy}"


class ReadError(ValueError):
    """A file that is damaged, or that was not written by `write` as the expected kind."""


def write(path: str | os.PathLike, tree: Any, kind: str) -> None:
    """Write a tree to a file, atomically (see `atomic_write`).

    Parameters
    ----------
    path : path-like
        Its directory is made if necessary.
    tree
        Numbers, strings, bytes, None, arrays, lists, tuples, dicts, sets, instances of `serialisable` classes, and
        `serialisable` functions, nested in any way.
    kind : str
        The kind that `read` expects.

    Raises
    ------
    NotSerialisable
        The tree contains something else. Nothing is written.
    OSError
        As for any writing: full disk, no permission.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from tvb_jaxfit.persistence.serialise import read, write
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tree.npz"
    >>> write(path, {"a": [1, np.arange(3)], 2: (None, float("inf"))}, "example")
    >>> read(path, "example")
    {'a': [1, array([0, 1, 2])], 2: (None, inf)}
    """
    content = to_bytes(tree, kind)
    with atomic_write(path) as file:
        file.write(content)


def to_bytes(tree: Any, kind: str, compressed: bool = False) -> bytes:
    """Content of the file that `write` writes; `read` reads it compressed, too.

    Raises
    ------
    NotSerialisable
        As `write`.
    """
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **tree_to_arrays(tree, kind))
    return file.getvalue()


def tree_to_arrays(tree: Any, kind: str) -> dict[str, np.ndarray]:
    """Arrays by name; `read` restores the tree from a file that `numpy.savez` has made of them.

    Raises
    ------
    NotSerialisable
        As `write`.
    """
    writer = _Writer()
    root = writer.node(tree, "")
    text = json.dumps({"format": _FORMAT, "kind": kind, "root": root, "objects": writer.objects})
    arrays = {f"a{index}": array for index, array in enumerate(writer.arrays)}
    return {"json": np.frombuffer(text.encode(), np.uint8)} | arrays


def read(path: str | os.PathLike, kind: str) -> Any:
    """Read a tree from a file.

    Parameters
    ----------
    path : path-like
    kind : str
        The kind with which the file was written.

    Returns
    -------
    tree
        Its arrays are new. An array or object that occurred several times in the tree is again one array or object.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such file.
    ReadError
        The file is damaged, or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(bytes(file["json"]).decode())
            if header["format"] != _FORMAT or header["kind"] != kind:
                raise ValueError(f"it is of the kind {header['kind']!r}, {header['format']!r}")
            arrays = [file[f"a{index}"] for index in range(len(file.files) - 1)]
        return _Reader(arrays, header["objects"]).node(header["root"])
    except (FileNotFoundError, NotADirectoryError):
        raise
    # A damaged file can cause any error in NumPy, in json and below.
    except Exception as error:
        raise ReadError(f"{path} is damaged, or no {kind} of tvb_jaxfit ({type(error).__name__}: {error})") from error


def kind_of(path: str | os.PathLike) -> str:
    """Kind with which a file was written; empty for a file that `write` has not written."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return str(json.loads(bytes(file["json"]).decode())["kind"])
    # As for `read`.
    except Exception:
        return ""


class _Writer:
    """Converts values to JSON; collects arrays and objects, each of them once."""

    def __init__(self):
        self.arrays, self.objects = [], []
        # Reference of each array and object by id. The value is kept with it, so that its id is not reused.
        self._references = {}

    def node(self, value, path):
        cls = type(value)
        if value is None or cls in (bool, int, float, str):
            return value
        if cls in _SEQUENCES.values():
            return {cls.__name__: [self.node(item, f"{path}[{i}]") for i, item in enumerate(value)]}
        if cls is dict:
            return {"dict": [[self.node(k, path), self.node(v, f"{path}[{k!r}]")] for k, v in value.items()]}
        if cls is complex:
            return {"complex": [value.real, value.imag]}
        if cls is bytes:
            return {"bytes": value.hex()}
        if isinstance(value, (np.ndarray, np.generic, jax.Array)):
            return self._array(value, path)
        if isinstance(value, enum.Enum) and is_serialisable(cls):
            return {"enum": [registered_name(cls), value.name]}
        if is_serialisable(cls):
            return self._object(value, path)
        if is_serialisable(value):
            return {"named": registered_name(value)}
        raise NotSerialisable(path, f"{cls.__module__}.{cls.__name__}")

    def _array(self, value, path):
        if id(value) not in self._references:
            form = "jax" if isinstance(value, jax.Array) else "numpy" if isinstance(value, np.ndarray) else "scalar"
            array = value
            if form == "jax" and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                form, array = f"key {jax.random.key_impl(value)}", jax.random.key_data(value)
            elif form == "jax" and value.weak_type and value.dtype.kind in _PYTHON_NUMBERS:
                form = "weak"
            array = np.asarray(array)
            is_subclass = form == "numpy" and type(value) is not np.ndarray
            if is_subclass or array.dtype.hasobject or array.dtype.kind == "V":
                raise NotSerialisable(path, f"a {type(value).__name__} of {array.dtype}")
            self.arrays.append(array)
            self._references[id(value)] = value, {"array": len(self.arrays) - 1, "as": form}
        return self._references[id(value)][1]

    def _object(self, value, path):
        if id(value) not in self._references:
            # Registered before its attributes are visited, since they may refer to it.
            index = len(self.objects)
            self._references[id(value)] = value, {"object": index}
            self.objects.append(None)
            transient = getattr(type(value), "_transient", ())
            content = {name: item for name, item in vars(value).items() if name not in transient}
            attributes = {name: self.node(item, f"{path}.{name}") for name, item in content.items()}
            self.objects[index] = {"class": registered_name(type(value)), "attributes": attributes}
        return self._references[id(value)][1]


class _Reader:
    """Inverse of `_Writer`."""

    def __init__(self, arrays, objects):
        self._arrays, self._objects, self._restored = arrays, objects, {}

    def node(self, node):
        if not isinstance(node, dict):
            return node
        if "array" in node:
            return self._once(self._array, node["array"], node["as"])
        if "object" in node:
            return self._once(self._object, node["object"])
        ((kind, items),) = node.items()
        if kind == "dict":
            return {self.node(key): self.node(value) for key, value in items}
        if kind == "complex":
            return complex(*items)
        if kind == "bytes":
            return bytes.fromhex(items)
        if kind == "enum":
            name, member = items
            return registered(name)[member]
        if kind == "named":
            return registered(items)
        return _SEQUENCES[kind](map(self.node, items))

    def _once(self, restore, *arguments):
        key = restore.__name__, *arguments
        if key not in self._restored:
            self._restored[key] = restore(*arguments)
        return self._restored[key]

    def _array(self, index, form):
        array = self._arrays[index]
        if form == "numpy":
            return array
        if form == "scalar":
            return array[()]
        if form == "weak":
            weak = jnp.broadcast_to(jnp.asarray(_PYTHON_NUMBERS[array.dtype.kind](0)), array.shape)
            return weak.at[...].set(array)
        return jnp.asarray(array) if form == "jax" else jax.random.wrap_key_data(array, impl=form.partition(" ")[2])

    def _object(self, index):
        name, attributes = self._objects[index]["class"], self._objects[index]["attributes"]
        new = object.__new__(registered(name))
        vars(new).update({key: self.node(item) for key, item in attributes.items()})
        return new
