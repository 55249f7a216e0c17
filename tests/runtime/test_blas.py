"""Number of threads of the BLAS libraries."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tvb_jaxfit.runtime.blas import single_blas_thread


def _n_threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        pass
    if max(_n_threads()) < 2:
        pytest.skip("BLAS with a single thread")


def test_one_thread_in_the_context_whatever_thread_enters_it(two_threads):
    before = _n_threads()
    with ThreadPoolExecutor(2) as pool:
        meeting = Barrier(2)

        def inside(_):
            with single_blas_thread():
                meeting.wait()
                return _n_threads()

        for _ in range(3):
            # Two threads that overlap; one thread alone; the main thread.
            assert list(pool.map(inside, range(2))) == [{1}, {1}] and _n_threads() == before
            with single_blas_thread():
                assert _n_threads() == {1}
            assert _n_threads() == before


def test_the_number_of_threads_is_restored_after_an_error(two_threads):
    before = _n_threads()
    with pytest.raises(ValueError, match="inside"), single_blas_thread():
        raise ValueError("inside")
    assert _n_threads() == before
