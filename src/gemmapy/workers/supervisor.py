"""The supervisor: forks the keeper and the workers, starts again whichever dies or hangs, ends them in the right order.

It opens no database and runs no threads, so that a fork of it is a process that begins. The sockets are its own: what
connected to a worker that died waits for the next one. Linux kills its children when it is killed; elsewhere they see
the end of a pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from gemmapy.core.errors import ConfigurationError
from gemmapy.workers.pulse import Pulse, beat_s

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
HEALTHY_AFTER_S = 10.0
PATIENCE_S = 45.0
"""Beyond the time that requests may take to finish: how long a process may take to end before it is killed."""
_WHERE = signal.SIGUSR1
"""Has a process write to standard error where each of its threads is; it needs no turn of the event loop for that."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_log = structlog.stdlib.get_logger()


class Report:
    """What a process has to tell its supervisor: that it is ready, or why it cannot be, and that it lives.

    Lines, each an object in JSON or nothing, through a pipe that stays open for as long as the process lives.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)  # a supervisor that does not read must not keep anybody from working

    def ready(self, **said: Any) -> None:
        """It does its work from now on. `said` are plain values."""
        self._send({"ready": said})

    def failed(self, error: ConfigurationError) -> None:
        self._send({"error": error.message, "hint": error.hint})

    def beat(self) -> None:
        """Its event loop turns."""
        self._write(b"\n")

    def leaves(self) -> None:
        """Its event loop is about to end, and it says nothing more."""
        self._send({"leaves": True})

    def _send(self, said: dict[str, Any]) -> None:
        self._write(msgspec.json.encode(said) + b"\n")

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, and this process soon; or it hears enough of it
            os.write(self._descriptor, line)


@dataclass(slots=True, eq=False)
class Process:
    """One of the processes, through all its lives."""

    name: str
    run: Callable[[Report], None]
    """Runs in the child, and returns when it was told to end and has."""
    pid: int | None = None
    lives: int = 0
    said: dict[str, Any] | None = None
    """What it reported when it was ready; None before."""
    error: tuple[str, str] | None = None
    """What it reported in place of that, and a hint."""
    report: int | None = None
    heard: bytes = b""
    """Of its report, the line that is not whole yet."""
    is_ready: bool = False
    """In this life."""
    pulse: Pulse | None = None
    is_suspect: bool = False
    """It has been silent for long enough to ask it where it is."""
    hung: str | None = None
    """Why it was killed, where it was because it hung."""
    began_s: float = 0
    pause_s: float = 0
    begins_s: float | None = None
    """When it is to be started; None while it runs."""
    told: int = 0
    """How often it was told to end."""


@dataclass(slots=True)
class Supervisor:
    """Runs a keeper and workers until SIGTERM or SIGINT; a second one asks them not to wait for anybody."""

    keeper: Process
    workers: Sequence[Process]
    drain_timeout_s: float
    hang_timeout_s: float
    """A process that could have said for so long that it lives, and has not, is killed; 0: none is."""
    keeper_is_ready: Callable[[dict[str, Any]], None]
    """Called with what the keeper said the first time, before the workers begin."""
    all_are_ready: Callable[[], None]
    let_go: Callable[[], None]
    """Called when it begins to end: closes what would keep the port open after the workers have ended."""
    _ending: int = 0
    _deadline_s: float = 0
    _heard_s: float = 0
    """When it last listened to all of them."""
    _wake: tuple[int, int] = (-1, -1)
    _lifeline: tuple[int, int] = (-1, -1)
    _all: list[Process] = field(default_factory=list[Process])

    def run(self) -> None:
        """Returns once all have ended. Raises ConfigurationError where they cannot start."""
        self._all = [self.keeper, *self.workers]
        with self._signals():
            try:
                self.keeper.begins_s = 0
                self._until(lambda: self.keeper.said is not None)
                if not self._ending:
                    self.keeper_is_ready(self.keeper.said or {})
                    for worker in self.workers:
                        worker.begins_s = 0
                    self._until(lambda: all(worker.said is not None for worker in self.workers))
                if not self._ending:
                    self.all_are_ready()
                self._until(lambda: False)
            finally:
                for process in self._all:  # none is left but after a failure
                    if process.pid is not None:
                        os.kill(process.pid, signal.SIGKILL)
                        os.waitpid(process.pid, 0)

    def _until(self, is_so: Callable[[], bool]) -> None:
        """Looks after everything until it is so, or everything has ended."""
        while not is_so():
            self._start_due()
            self._look()
            if self._ending and self._end():
                return

    def _look(self) -> None:
        """Waits for something to happen, and takes note of it."""
        # Those that are ready only say that they live, for which it is enough to listen now and then.
        reports = {
            process.report: process for process in self._all if process.report is not None and not process.is_ready
        }
        ready, _, _ = select.select([self._wake[0], *reports], [], [], self._wait_s())
        for descriptor in ready:
            if descriptor == self._wake[0]:
                for number in os.read(descriptor, 512):
                    if number != signal.SIGCHLD:
                        self._told_to_end(number)
            else:
                self._hear(reports[descriptor])
        self._reap()
        self._feel_pulses()

    def _wait_s(self) -> float | None:
        """Until something is due."""
        due = [process.begins_s for process in self._all if process.begins_s is not None]
        if self._ending:
            due.append(self._deadline_s)
        if self.hang_timeout_s and any(process.pid is not None for process in self._all):
            due.append(self._heard_s + beat_s(self.hang_timeout_s))
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _start_due(self) -> None:
        for process in self._all:
            if process.begins_s is not None and process.begins_s <= time.monotonic():
                self._fork(process)

    def _fork(self, process: Process) -> None:
        reading, writing = os.pipe()
        supervisor = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._live(process, Report(writing), supervisor)
        os.close(writing)
        os.set_blocking(reading, False)
        process.pid, process.report, process.heard = pid, reading, b""
        process.pulse, process.is_ready, process.is_suspect, process.hung = Pulse(pid), False, False, None
        process.began_s, process.begins_s, process.told = time.monotonic(), None, 0
        process.lives += 1

    def _live(self, process: Process, report: Report, supervisor: int) -> None:
        """The child, from its first breath to its last; never returns."""
        code = 1
        try:
            _settle(process.name, supervisor, self._lifeline[0])
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            faulthandler.register(_WHERE, file=2)
            os.setsid()  # Ctrl-C is for the supervisor, which ends the others in their turn
            for descriptor in (*self._wake, self._lifeline[1]):
                os.close(descriptor)
            for other in self._all:
                if other.report is not None:
                    os.close(other.report)
            structlog.contextvars.bind_contextvars(process=process.name)
            process.run(report)
            code = 0
        except ConfigurationError as error:
            report.failed(error)
            code = 2
        except BaseException:  # noqa: BLE001 - whatever it is, this must not run on in the supervisor's code
            _log.exception("a process ended unexpectedly")
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _hear(self, process: Process) -> bool:
        """Reads what there is of a report; whether there was anything."""
        assert process.report is not None
        assert process.pulse is not None
        try:
            piece = os.read(process.report, 65_536)
        except BlockingIOError:
            return False
        if not piece:
            self._close(process)
            return False
        *lines, process.heard = (process.heard + piece).split(b"\n")
        for line in lines:
            told: dict[str, Any] = msgspec.json.decode(line) if line else {}
            if "ready" in told:
                process.said, process.is_ready = told["ready"], True
            elif "error" in told:
                process.error = (told["error"], told["hint"])
            elif "leaves" in told:
                process.pulse.end()
            else:
                process.pulse.beat()
        return True

    def _close(self, process: Process) -> None:
        if process.report is not None:
            os.close(process.report)
            process.report = None

    def _reap(self) -> None:
        for process in self._all:
            if process.pid is None:
                continue
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid == 0:
                continue
            while process.report is not None and self._hear(process):
                pass
            self._close(process)
            process.pid = None
            self._ended(process, os.waitstatus_to_exitcode(status))

    def _feel_pulses(self) -> None:
        """Listens to those that live, once in a beat, and kills who has been silent for too long."""
        now_s = time.monotonic()
        every_s = beat_s(self.hang_timeout_s)
        if not every_s or now_s < self._heard_s + every_s:
            return
        passed_s = min(every_s, now_s - self._heard_s)  # more: the supervisor did not run, and perhaps nobody did
        self._heard_s = now_s
        for process in self._all:
            if process.pid is None or process.pulse is None:
                continue
            if process.report is not None and self._hear(process):
                self._speaks(process)
            else:
                process.pulse.silence(passed_s)
                self._judge(process, process.pid, process.pulse, every_s)

    def _speaks(self, process: Process) -> None:
        if process.is_suspect and process.hung is None:
            process.is_suspect = False
            _log.warning("a process answers again", silent=process.name)

    def _judge(self, process: Process, pid: int, pulse: Pulse, every_s: float) -> None:
        silent_s = pulse.silent_s or 0
        if silent_s >= self.hang_timeout_s:
            if process.hung is None:
                process.hung = f"it did not answer: {pulse.symptom}"
                _log.error(
                    "a process has not answered for too long and is killed",
                    hung=process.name,
                    symptom=pulse.symptom,
                    silent_s=round(silent_s, 1),
                )
            os.kill(pid, signal.SIGKILL)
        elif silent_s >= self.hang_timeout_s - 1.5 * every_s and not process.is_suspect:
            process.is_suspect = True
            _log.warning(
                "a process does not answer; it is asked to write where it is",
                silent=process.name,
                symptom=pulse.symptom,
                silent_s=round(silent_s, 1),
            )
            os.kill(pid, _WHERE)

    def _ended(self, process: Process, code: int) -> None:
        """A process is gone: at the first start that is the end, later it is started again."""
        error, process.error = process.error, None
        if process.said is None and process.lives == 1 and not self._ending:
            if error is not None:
                raise ConfigurationError(error[0], hint=error[1])
            raise ConfigurationError(f"The {process.name} could not start.", hint="The log says why.")
        if self._ending and (process is not self.keeper or process.told):
            return
        lived_s = time.monotonic() - process.began_s
        process.pause_s = (
            0
            if lived_s > HEALTHY_AFTER_S
            else min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * process.pause_s) if process.lives > 1 else 0)
        )
        process.begins_s = time.monotonic() + process.pause_s
        _log.error(
            "a process ended; starting it again",
            ended=process.name,
            code=code,
            reason=process.hung if error is None else error[0],
            pause_s=process.pause_s,
        )

    def _told_to_end(self, number: int) -> None:
        if not self._ending:
            _log.info("shutting down", signal=signal.Signals(number).name)
            self.let_go()
        self._ending += 1
        self._deadline_s = time.monotonic() + self.drain_timeout_s + PATIENCE_S

    def _end(self) -> bool:
        """Goes on with ending: first the workers, then the keeper, who has to write down what they did."""
        late = time.monotonic() > self._deadline_s
        workers = [worker for worker in self.workers if worker.pid is not None]
        for worker in self.workers:
            worker.begins_s = None
        for process in workers or [self.keeper]:
            if process.pid is None:
                continue
            if late:
                _log.error("a process did not end in time and is killed", late=process.name)
                os.kill(process.pid, signal.SIGKILL)
            while process.told < (self._ending if workers else 1):
                process.told += 1
                os.kill(process.pid, signal.SIGTERM)
        if late:
            self._deadline_s = time.monotonic() + PATIENCE_S
        return not workers and self.keeper.pid is None and self.keeper.begins_s is None

    @contextlib.contextmanager
    def _signals(self) -> Generator[None]:
        """Signals arrive as bytes of a pipe, and change nothing by themselves."""
        self._wake, self._lifeline = os.pipe(), os.pipe()
        for descriptor in self._wake:
            os.set_blocking(descriptor, False)
        former = {number: signal.signal(number, lambda _number, _frame: None) for number in _SIGNALS}
        signal.set_wakeup_fd(self._wake[1])
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in former.items():
                signal.signal(number, handler)
            for descriptor in (*self._wake, *self._lifeline):
                os.close(descriptor)


def _settle(name: str, supervisor: int, lifeline: int) -> None:
    """Gives this process its name for `ps` and `top`, and has the kernel kill it when its supervisor is gone; where it
    cannot, a thread looks."""
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_NAME, name.encode())
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
        return

    def look() -> None:
        os.read(lifeline, 1)
        os._exit(1)

    threading.Thread(target=look, name="gemmapy-lifeline", daemon=True).start()
