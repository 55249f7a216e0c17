"""What no key can see: values that come from outside a function, and names that are made while it runs."""

import types

# Names are looked up while the function runs: it may use anything, so that no result is kept.
_ANYTHING = {
    *("builtins.eval", "builtins.exec", "builtins.globals", "builtins.input", "builtins.__import__"),
    *("importlib.import_module", "sys._getframe", "sys._current_frames", "inspect.currentframe", "inspect.stack"),
    *("gc.get_objects", "gc.get_referrers", "runpy.run_path", "runpy.run_module"),
}
_ANYTHING_BY_ATTRIBUTE = {"__globals__", "__builtins__", "__subclasses__", "f_globals", "f_locals", "f_back"}
# Files, clocks, processes and entropy: what they gave is part of what was computed, and is kept with it.
_OUTSIDE = {
    *("io.open", "_io.open", "builtins.open", "os.listdir", "os.scandir", "os.walk", "os.stat", "os.open", "os.read"),
    *("os.getcwd", "os.getpid", "os.urandom", "os.popen", "os.system", "os.path.exists", "os.path.getmtime"),
    *("os.cpu_count", "genericpath.exists", "genericpath.getmtime", "genericpath.isfile", "genericpath.isdir"),
    *("glob.glob", "glob.iglob", "platform.node", "socket.gethostname", "getpass.getuser"),
    *(f"time.{name}" for name in ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "process_time")),
    *(f"time.{name}" for name in ("localtime", "gmtime", "ctime", "asctime", "strftime", "monotonic_ns")),
    *("datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow", "datetime.date.today"),
    *("uuid.uuid1", "uuid.uuid4", "uuid.getnode", "random.SystemRandom"),
    *("secrets.token_bytes", "secrets.token_hex", "secrets.token_urlsafe", "secrets.randbelow", "secrets.choice"),
    *(f"subprocess.{name}" for name in ("run", "Popen", "check_output", "call", "check_call", "getoutput")),
}
# Functions of libraries, and methods of what is not known before the call, that read files.
_READERS = {"load", "loadtxt", "genfromtxt", "fromfile", "memmap", "loadmat", "imread", "from_file", "urlopen"}
_READING_METHODS = {"read_text", "read_bytes", "from_file", "read_csv", "iterdir"}


class Unseen:
    """A part that cannot be seen.

    Parameters
    ----------
    what : str
        As it is called in a warning.
    is_kept : bool
        Whether a result that depends on it is kept nevertheless, as what it was when it was computed.
    """

    def __init__(self, what, is_kept):
        self.what, self.is_kept = what, is_kept


def unseen_callable(value):
    """`Unseen` of a function that gives what no key can see, None of any other.

    Parameters
    ----------
    value
        A function, builtin or method of a library.
    """
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        return None
    module = getattr(value, "__module__", None) or getattr(owner, "__module__", None)
    if isinstance(owner, types.ModuleType):
        module = owner.__name__
    full, last = f"{module}.{name}", name.rpartition(".")[2]
    if full in _ANYTHING:
        return Unseen(full, False)
    if full in _OUTSIDE or last in _READERS or last.startswith("read_"):
        return Unseen(full, True)
    return None


def unseen_attribute(name):
    """`Unseen` of an attribute that is asked for by this name, None of any other.

    Parameters
    ----------
    name : str
    """
    if name in _ANYTHING_BY_ATTRIBUTE:
        return Unseen(f".{name}", False)
    return Unseen(f".{name}", True) if name in _READING_METHODS else None
