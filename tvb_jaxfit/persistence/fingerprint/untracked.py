"""What no key can see: values that come from outside a function, and names that are made while it runs."""

import types

# Names are looked up while the function runs: it may use anything, so that no result is kept.
_ANYTHING = {
    *("builtins.eval", "builtins.exec", "builtins.globals", "builtins.input", "builtins.__import__"),
    *("importlib.import_module", "sys._getframe", "sys._current_frames", "inspect.currentframe", "inspect.stack"),
    *("threading.current_thread", "multiprocessing.process.current_process", "pandas.get_option"),
    *("gc.get_objects", "gc.get_referrers", "runpy.run_path", "runpy.run_module"),
}
_ANYTHING_BY_ATTRIBUTE = {
    *("__doc__", "__annotations__", "__globals__", "__builtins__", "__subclasses__", "f_globals", "f_locals", "f_back"),
}
# Questions whose answers are content: to ask them costs and changes nothing.
_ASKED = {
    *("os.getcwd", "os.cpu_count", "sys.getrecursionlimit", "tempfile.gettempdir", "platform.node"),
    *("socket.gethostname", "locale.localeconv", "locale.getlocale"),
}
# Files, clocks, processes and entropy: what they gave is part of what was computed, and is kept with it.
_OUTSIDE = {
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
# Modules under whose names functions of other ones are known.
_KNOWN_AS = {"posix": "os", "nt": "os", "posixpath": "os.path", "ntpath": "os.path", "genericpath": "os.path"}
# Functions of libraries, and methods of what is not known before the call, that read files.
_READERS = {"load", "loadtxt", "genfromtxt", "fromfile", "memmap", "loadmat", "imread", "from_file", "urlopen"}
_READING_METHODS = {
    *("read_text", "read_bytes", "from_file", "read_csv", "iterdir", "rglob"),
    *("exists", "is_file", "is_dir", "is_symlink", "lstat", "st_mtime", "st_size"),
}


class Untracked:
    """A part that cannot be seen.

    Parameters
    ----------
    what : str
        As it is called in a warning.
    is_cacheable : bool
        Whether a result that depends on it is kept nevertheless, as what it was when it was computed.
    """

    def __init__(self, what, is_cacheable):
        self.name, self.is_cacheable = what, is_cacheable


def is_asked(value):
    """Whether a function of a library, called without arguments, gives what is content in its stead.

    Parameters
    ----------
    value
        A function, builtin or method of a library.
    """
    return _full_name(value) in _ASKED


def unseen_callable(value):
    """`Untracked` of a function that gives what no key can see, None of any other.

    Parameters
    ----------
    value
        A function, builtin or method of a library.
    """
    full = _full_name(value)
    last = full.rpartition(".")[2]
    if full in _ANYTHING:
        return Untracked(full, False)
    if full in _OUTSIDE or last in _READERS or last.startswith("read_"):
        return Untracked(full, True)
    return None


def _full_name(value):
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        return ""
    module = getattr(value, "__module__", None) or getattr(owner, "__module__", None)
    module = str(owner.__name__ if isinstance(owner, types.ModuleType) else module)
    return f"{_KNOWN_AS.get(module, module.removeprefix('_'))}.{name}"


def unseen_attribute(name):
    """`Untracked` of an attribute that is asked for by this name, None of any other.

    Parameters
    ----------
    name : str
    """
    if name in _ANYTHING_BY_ATTRIBUTE:
        return Untracked(f".{name}", False)
    return Untracked(f".{name}", True) if name in _READING_METHODS else None
