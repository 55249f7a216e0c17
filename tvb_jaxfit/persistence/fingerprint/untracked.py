"""Dependencies that no digest covers: values from outside the process, and names that are looked up at run time."""

import types
from typing import Any

# Calls that can reach any name of the program. A result that depends on them is not stored.
_DYNAMIC_LOOKUPS = {
    *("builtins.eval", "builtins.exec", "builtins.globals", "builtins.input", "builtins.__import__"),
    *("importlib.import_module", "sys._getframe", "sys._current_frames", "inspect.currentframe", "inspect.stack"),
    *("threading.current_thread", "multiprocessing.process.current_process", "pandas.get_option"),
    *("gc.get_objects", "gc.get_referrers", "runpy.run_path", "runpy.run_module"),
}
_DYNAMIC_ATTRIBUTES = {
    *("__doc__", "__annotations__", "__globals__", "__builtins__", "__subclasses__", "f_globals", "f_locals", "f_back"),
}
# Queries without arguments and side effects. Their answer is content.
_QUERIES = {
    *("os.getcwd", "os.cpu_count", "sys.getrecursionlimit", "tempfile.gettempdir", "platform.node"),
    *("socket.gethostname", "locale.localeconv", "locale.getlocale"),
}
# Files, clocks, processes and entropy. A result that depends on them is stored, as it was when it was first computed.
_EXTERNAL_SOURCES = {
    *("io.open", "builtins.open", "os.listdir", "os.scandir", "os.walk", "os.stat", "os.open", "os.read"),
    *("os.getpid", "os.urandom", "os.popen", "os.system", "os.getlogin", "glob.glob", "glob.iglob", "getpass.getuser"),
    *(f"os.path.{name}" for name in ("exists", "getmtime", "getsize", "isfile", "isdir", "expanduser", "expandvars")),
    *(f"time.{name}" for name in ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "process_time")),
    *(f"time.{name}" for name in ("localtime", "gmtime", "ctime", "asctime", "strftime", "monotonic_ns")),
    *("datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow", "datetime.date.today"),
    *("pathlib.Path.home", "pathlib.Path.cwd", "uuid.uuid1", "uuid.uuid4", "uuid.getnode", "random.SystemRandom"),
    *("secrets.token_bytes", "secrets.token_hex", "secrets.token_urlsafe", "secrets.randbelow", "secrets.choice"),
    *(f"subprocess.{name}" for name in ("run", "Popen", "check_output", "call", "check_call", "getoutput")),
}
# Public names of modules that implement others.
_PUBLIC_MODULES = {"posix": "os", "nt": "os", "posixpath": "os.path", "ntpath": "os.path", "genericpath": "os.path"}
# Names of functions of libraries that read files.
_READERS = {"load", "loadtxt", "genfromtxt", "fromfile", "memmap", "loadmat", "imread", "from_file", "urlopen"}
# Attributes that read files, whatever object has them: the object is not known before the call.
_READING_ATTRIBUTES = {
    *("read_text", "read_bytes", "from_file", "read_csv", "iterdir", "rglob"),
    *("exists", "is_file", "is_dir", "is_symlink", "lstat", "st_mtime", "st_size"),
}


class Untracked:
    """A dependency that no digest covers.

    Parameters
    ----------
    name : str
        As a warning names it.
    is_cacheable : bool
        True if a result that depends on it is stored nevertheless, as it was when it was first computed.
    """

    def __init__(self, name: str, is_cacheable: bool):
        self.name, self.is_cacheable = name, is_cacheable


def is_query(value: Any) -> bool:
    """True if the answer of a library's function, called without arguments, is content in its place.

    Parameters
    ----------
    value
        A function, builtin or method of a library.
    """
    return _full_name(value) in _QUERIES


def untracked_callable(value: Any) -> Untracked | None:
    """`Untracked` for a function that returns what no digest covers; None for any other.

    Parameters
    ----------
    value
        A function, builtin or method of a library.
    """
    full_name = _full_name(value)
    name = full_name.rpartition(".")[2]
    if full_name in _DYNAMIC_LOOKUPS:
        return Untracked(full_name, False)
    if full_name in _EXTERNAL_SOURCES or name in _READERS or name.startswith("read_"):
        return Untracked(full_name, True)
    return None


def _full_name(value):
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        return ""
    module = getattr(value, "__module__", None) or getattr(owner, "__module__", None)
    module = str(owner.__name__ if isinstance(owner, types.ModuleType) else module)
    return f"{_PUBLIC_MODULES.get(module, module.removeprefix('_'))}.{name}"


def untracked_attribute(name: str) -> Untracked | None:
    """`Untracked` for an attribute of this name; None if it is an ordinary one.

    Parameters
    ----------
    name : str
    """
    if name in _DYNAMIC_ATTRIBUTES:
        return Untracked(f".{name}", False)
    return Untracked(f".{name}", True) if name in _READING_ATTRIBUTES else None
