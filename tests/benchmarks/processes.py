"""Works in processes of their own, run in turns.

Nothing large is imported here: the peak memory of a process starts with that of the one that started it.
"""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


class Process:
    """A work of a module in a process of its own.

    Attributes
    ----------
    seconds : dict
        Of each call, one of each repetition.
    first, prepared, peak
        Seconds of each first call, seconds before it, and peak memory up to now [GB].
    """

    def __init__(self, work, module="works", environment=(), **options):
        self.work, self.log = work, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / f"{module}.py"), work, json.dumps(options)],
            env=os.environ | dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        reply = self._reply()
        self.prepared, self.first, self.peak = reply["prepared"], reply["seconds"], None
        self.seconds = {name: [] for name in self.first}

    def _reply(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.log.seek(0)
        raise RuntimeError(f"{self.work} ended with {self.process.wait()}:\n{self.log.read()[-3000:]}")

    def _ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._reply()

    def run(self):
        """One repetition of every call."""
        reply = self._ask("run")
        self.peak = reply["peak"]
        for name, seconds in reply["seconds"].items():
            self.seconds[name].append(seconds)

    def check(self):
        """Figures that show that the numbers are right."""
        return self._ask("check")

    def close(self):
        """End it."""
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


@contextlib.contextmanager
def processes(what, *arguments):
    """`Process` of each (work, keywords), one started after the other."""
    started = []
    try:
        for work, keywords in arguments:
            say(f"{what}: prepares and compiles {work} {keywords}")
            started.append(Process(work, **keywords))
        yield started
    finally:
        for process in started:
            process.close()


def in_turns(what, started, n):
    """Repetitions of several processes."""
    for number in range(n):
        say(f"{what}: repetition {number + 1} of {n}")
        for process in started:
            process.run()


def say(what):
    """Progress."""
    print(f"{datetime.datetime.now():%H:%M:%S}  {what}", file=sys.stderr, flush=True)
