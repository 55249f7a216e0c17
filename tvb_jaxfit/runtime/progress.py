"""Progress bars that say what is done between steps, and leave that out of the time that they estimate."""

import contextlib
import contextvars
import time

# The bar that is open, its name, and whether something is done aside already.
_open = contextvars.ContextVar("open", default=(None, "", False))


@contextlib.contextmanager
def progress_bar(name, unit, total, progress=True, **options):
    """Progress bar of tqdm; `bar_status` shows on it while it is open.

    Parameters
    ----------
    name, unit : str
    total : int
    progress : bool, optional
        Without it, nothing is shown.
    **options
        Of tqdm.
    """
    from tqdm.auto import tqdm

    with tqdm(desc=name, unit=unit, total=total, disable=not progress, **options) as bar:
        former = _open.set((bar, name, False))
        try:
            yield bar
        finally:
            _open.reset(former)


@contextlib.contextmanager
def bar_status(what):
    """Say on the bar that is open, if there is one, what the block does, and leave its time out of the estimate.

    Parameters
    ----------
    what : str
        Such as "compiling".
    """
    bar, name, is_aside = _open.get()
    if bar is None or bar.disable:
        yield
        return
    before, began, desc = _open.set((bar, name, True)), time.perf_counter(), bar.desc
    bar.set_description(f"{name}: {what}")
    try:
        yield
    finally:
        _open.reset(before)
        if not is_aside:
            lost = time.perf_counter() - began
            bar.start_t, bar.last_print_t = bar.start_t + lost, bar.last_print_t + lost
        bar.set_description_str(desc)


@contextlib.contextmanager
def status_line(what, progress=True):
    """Say what the block does where there is no bar yet; the line is cleared at the end.

    Parameters
    ----------
    what : str
    progress : bool, optional
        Without it, nothing is shown.
    """
    from tqdm.auto import tqdm

    with tqdm(desc=what, bar_format="{desc}", leave=False, disable=not progress):
        yield
