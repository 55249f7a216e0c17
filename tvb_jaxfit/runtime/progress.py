"""Progress bars that show a status between steps, and exclude its time from the estimate of the remaining time."""

import contextlib
import contextvars
import sys
import time
from collections.abc import Iterator

# The open bar, its name, and whether a status is already shown on it.
_open = contextvars.ContextVar("open", default=(None, "", False))


@contextlib.contextmanager
def progress_bar(
    name: str, unit: str, total: int, progress: bool = True, announces: bool = False, **options
) -> Iterator:
    """Progress bar of tqdm. While it is open, `bar_status` writes on it.

    Parameters
    ----------
    name, unit : str
    total : int
    progress : bool, optional
        False shows nothing.
    announces : bool, optional
        After its first update, the bar writes a line on the time that a unit takes.
    **options
        Options of tqdm.
    """
    from tqdm.auto import tqdm

    kind = _announcing(tqdm) if announces and progress else tqdm
    with kind(desc=name, unit=unit, total=total, disable=not progress, **options) as bar:
        token = _open.set((bar, name, False))
        try:
            yield bar
        finally:
            _open.reset(token)


def _announcing(tqdm):
    """Class of bars that write a line on the time that a unit takes, after their first update."""

    class Bar(tqdm):
        is_announced = False

        def update(self, n=1):
            if n and not self.is_announced:
                self.is_announced, seconds = True, (time.time() - self.start_t) / n
                announce(f"{_open.get()[1]}: {seconds:.2g} s per {self.unit}, at most {self.total} {self.unit}s")
            return super().update(n)

    return Bar


@contextlib.contextmanager
def bar_status(text: str) -> Iterator[None]:
    """Show a status on the open bar, if any, while the block runs; its time is excluded from the estimate.

    Parameters
    ----------
    text : str
        For example "compiling".
    """
    bar, name, is_nested = _open.get()
    if bar is None or bar.disable:
        yield
        return
    token, began, description = _open.set((bar, name, True)), time.perf_counter(), bar.desc
    bar.set_description(f"{name}: {text}")
    try:
        yield
    finally:
        _open.reset(token)
        if not is_nested:
            elapsed = time.perf_counter() - began
            bar.start_t, bar.last_print_t = bar.start_t + elapsed, bar.last_print_t + elapsed
        bar.set_description_str(description)


def announce(text: str, progress: bool = True) -> None:
    """Write a line that stays, above an open bar if there is one.

    Parameters
    ----------
    text : str
    progress : bool, optional
        False writes nothing.
    """
    from tqdm.auto import tqdm

    if progress:
        tqdm.write(text, file=sys.stderr)


@contextlib.contextmanager
def status_line(text: str, progress: bool = True) -> Iterator[None]:
    """Show a line of text while the block runs, where no bar is open yet; the line is cleared at the end.

    Parameters
    ----------
    text : str
    progress : bool, optional
        False shows nothing.
    """
    from tqdm.auto import tqdm

    with tqdm(desc=text, bar_format="{desc}", leave=False, disable=not progress):
        yield
