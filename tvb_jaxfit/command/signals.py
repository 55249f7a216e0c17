"""Signals of the command line: the first one interrupts as Ctrl-C does, the second one ends the process at once."""

import contextlib
import os
import signal
import sys
import threading
from dataclasses import dataclass

# Ctrl-C, and what Slurm, systemd and kill send.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Until an interrupt that was dropped is sent again [s].
_AGAIN = 0.05


@dataclass
class Received:
    """The signal that has interrupted the command, if there was one; and how often it was raised again."""

    number: int | None = None
    n_again: int = 0

    def exit_code(self, interrupted):
        """Exit code of an interrupted command: 128 + the number of its signal; ``interrupted`` where there was none."""
        return interrupted if self.number is None else 128 + self.number


@contextlib.contextmanager
def interrupting():
    """Within, the first SIGINT or SIGTERM raises KeyboardInterrupt in the main thread; everything is restored after.

    A second signal ends the process at once, with the exit code 128 + its number, also while compiled code runs, in
    which Python calls no handler. A signal that the process ignores, as under nohup, stays ignored.

    Yields
    ------
    Received
    """
    received = Received()
    # None: a handler that was not set in Python, which could not be put back.
    taken = [each for each in _SIGNALS if signal.getsignal(each) not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread() or not taken:
        yield received
        return

    def interrupt(number, frame):
        received.number = received.number or number
        raise KeyboardInterrupt

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=_end_at_the_second, args=(reader, taken, received), daemon=True)
    hook, handlers, wakeup = sys.unraisablehook, {each: signal.getsignal(each) for each in taken}, None
    try:
        watcher.start()
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for each in taken:
            signal.signal(each, interrupt)
        sys.unraisablehook = _raising_again(hook, received)
        yield received
    finally:
        sys.unraisablehook = hook
        for each, handler in handlers.items():
            signal.signal(each, handler)
        if wakeup is not None:
            signal.set_wakeup_fd(wakeup)
        # The watcher reads the end of the pipe.
        os.close(writer)
        watcher.join()


def _end_at_the_second(reader, signals, received):
    """End the process at the second signal. The C code of Python writes the number of each signal to the pipe."""
    n_signals = 0
    while number := os.read(reader, 1):
        n_signals += number[0] in signals
        if n_signals - received.n_again > 1:
            os._exit(128 + number[0])
        if n_signals == 1 and number[0] in signals:
            _say(f"{signal.Signals(number[0]).name}: what was reached is written; a second signal ends at once")
    os.close(reader)


def _say(text):
    """Message at once: buffers belong to the main thread."""
    with contextlib.suppress(OSError):
        os.write(2, f"\ntvb-jaxfit: {text}\n".encode())


def _raising_again(hook, received):
    """Hook for exceptions that Python drops, as in callbacks of the garbage collection: an interrupt is sent again."""

    def unraisable(dropped):
        if received.number is None or dropped.exc_type is not KeyboardInterrupt:
            return hook(dropped)
        received.n_again += 1
        # Once the callback is left: what is raised here is dropped, too.
        threading.Timer(_AGAIN, os.kill, (os.getpid(), received.number)).start()

    return unraisable
