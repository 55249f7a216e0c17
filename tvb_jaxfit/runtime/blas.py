"""Threads of the BLAS libraries.

A compiled program calls LAPACK from threads of its own. If the BLAS library below starts further threads, they compete
for the same cores: an eigendecomposition of 100 regions then takes several times longer.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

_lock, _n_users, _limits = threading.Lock(), 0, contextlib.ExitStack()


@contextlib.contextmanager
def single_blas_thread() -> Iterator[None]:
    """Context in which the BLAS libraries of this process use one thread each.

    The number of threads of before is restored when the last thread leaves the context.

    Examples
    --------
    >>> from tvb_jaxfit.runtime.blas import single_blas_thread
    >>> with single_blas_thread():
    ...     pass
    """
    global _n_users
    with _lock:
        if _n_users == 0:
            _in_one_thread(os.getpid()).submit(_limit).result()
        _n_users += 1
    try:
        yield
    finally:
        with _lock:
            _n_users -= 1
            if _n_users == 0:
                _in_one_thread(os.getpid()).submit(_limits.close).result()


@cache
def _in_one_thread(pid):
    """Thread that sets and restores the limits: threadpoolctl obeys the thread that set a limit first, and no other."""
    return ThreadPoolExecutor(1, "blas")


def _limit():
    _limits.enter_context(_controller().limit(limits=1, user_api="blas"))


@cache
def _controller():
    """Handles of the loaded libraries: SciPy's, which compiled programs use, is among them."""
    import scipy.linalg.cython_lapack  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
