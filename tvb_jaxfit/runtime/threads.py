"""A function of many items, in as many threads as there are processors."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from .processes import processors
from .remote import WithSettings


def map_in_threads(function: Callable, items: Iterable) -> Iterator:
    """Results of a function for each item, in order.

    Parameters
    ----------
    function : callable
        Thread-safe, such as a `Program`. It runs with the settings of JAX of this thread.
    items : iterable

    Yields
    ------
    object

    Notes
    -----
    After an error, or when the iterator is closed by an interrupt, no further item begins.
    """
    pool = ThreadPoolExecutor(len(processors()))
    try:
        yield from pool.map(WithSettings(function), items)
    finally:
        pool.shutdown(cancel_futures=True)
