"""Signals of the command line: the first one interrupts as Ctrl-C does, the second one ends the process at once."""

import contextlib
import os
import signal
import sys
import threading
from dataclasses import dataclass

# Signals of Ctrl-C; and of Slurm, systemd and kill.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Delay after which an interrupt that Python has dropped is sent again [s].
_RESEND_DELAY = 0.05


@dataclass
class Received:
    """Signal that has interrupted the command.

    Attributes
    ----------
    number : int or None
        None without a signal.
    n_resent : int
        Number of times that it was sent again.
    """

    number: int | None = None
    n_resent: int = 0

    def exit_code(self, interrupted: int) -> int:
        """Exit code of an interrupted command: 128 + the number of its signal; ``interrupted`` without a signal."""
        return interrupted if self.number is None else 128 + self.number


@contextlib.contextmanager
def interruptible():
    """Context in which the first SIGINT or SIGTERM raises KeyboardInterrupt in the main thread.

    A second signal ends the process at once, with the exit code 128 + its number, even while compiled code runs, in
    which Python calls no handler. A signal that the process ignores, as under nohup, stays ignored. All handlers are
    restored at the end.

    Yields
    ------
    Received
    """
    received = Received()
    # None: a handler that was not set in Python, and could not be restored.
    signals = [each for each in _SIGNALS if signal.getsignal(each) not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread() or not signals:
        yield received
        return

    def interrupt(number, frame):
        received.number = received.number or number
        raise KeyboardInterrupt

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=_end_at_second_signal, args=(reader, signals, received), daemon=True)
    hook, handlers, wakeup = sys.unraisablehook, {each: signal.getsignal(each) for each in signals}, None
    try:
        watcher.start()
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for each in signals:
            signal.signal(each, interrupt)
        sys.unraisablehook = _resending_hook(hook, received)
        yield received
    finally:
        sys.unraisablehook = hook
        for each, handler in handlers.items():
            signal.signal(each, handler)
        if wakeup is not None:
            signal.set_wakeup_fd(wakeup)
        # The watcher ends at the end of the pipe.
        os.close(writer)
        watcher.join()


def _end_at_second_signal(reader, signals, received):
    """End the process at the second signal; the C code of Python writes the number of each signal to the pipe."""
    n_signals = 0
    while number := os.read(reader, 1):
        n_signals += number[0] in signals
        if n_signals - received.n_resent > 1:
            os._exit(128 + number[0])
        if n_signals == 1 and number[0] in signals:
            _print_now(f"{signal.Signals(number[0]).name}: what was reached is written; a second signal ends at once")
    os.close(reader)


def _print_now(text):
    """Print without a buffer, since the buffers belong to the main thread."""
    with contextlib.suppress(OSError):
        os.write(2, f"\ntvb-jaxfit: {text}\n".encode())


def _resending_hook(hook, received):
    """Hook for exceptions that Python drops, as in callbacks of the garbage collector: an interrupt is sent again."""

    def unraisable(dropped):
        if received.number is None or dropped.exc_type is not KeyboardInterrupt:
            return hook(dropped)
        received.n_resent += 1
        # After the callback, since an exception that is raised here is dropped, too.
        threading.Timer(_RESEND_DELAY, os.kill, (os.getpid(), received.number)).start()

    return unraisable
