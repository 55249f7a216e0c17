"""A process that does a work of ``works.py`` or ``theirs.py`` once whenever it is told to.

It prints one line of JSON for each line that it reads: ``run`` and ``check``.
"""

import json
import resource
import sys
import time

import jax


def timed(function, *arguments):
    """Seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def peak():
    """Peak memory of this process [GB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main(works, work, options):
    """Prepare and call once; then as told."""

    def reply(**what):
        print(json.dumps(what), flush=True)

    start = time.perf_counter()
    calls, check = works[work](**json.loads(options))
    prepared = time.perf_counter() - start
    reply(prepared=prepared, seconds={name: timed(*call) for name, call in calls.items()})
    for line in sys.stdin:
        if line.strip() == "check":
            reply(**check())
        else:
            reply(seconds={name: timed(*call) for name, call in calls.items()}, peak=peak())
