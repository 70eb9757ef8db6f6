"""A worker's end: hands its works to the keeper of the books and resolves their futures when they are on disk.

Takes the writer's place in a worker's `Store`. What the keeper has not answered is kept; if the keeper dies, it is
handed to the next one, marked as said before, so that nothing is lost and nothing counted twice. Meanwhile new requests
are refused. Writes that are no request's (`Store.write`) are made here, when the keeper has lent the turn to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Generator
from inspect import isawaitable
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine

from gemmapy.core.clock import Clock
from gemmapy.core.errors import StorageUnavailable
from gemmapy.core.peers import Handler
from gemmapy.storage.works import LOAN_S, Admit, Call, Finish, Loan, NoTurn, Receipt, Record, Work
from gemmapy.storage.writer import MAX_WAITING, Writer
from gemmapy.workers import wire
from gemmapy.workers.keeper import ANSWER_S, Handlers

AWAY = "the process that keeps the books is starting again"
KEEPER_IS_GONE, KEEPER_IS_BACK = "the keeper is gone", "the keeper is back"
"""What a worker's parts can hear of the link itself."""
CONNECT_AGAIN_S = 0.02
ADMISSIONS_WAIT_S = 10
"""How long what was begun waits for a keeper that is away, before it is refused."""
_log = structlog.stdlib.get_logger()


class Link:
    """The way to the books, and to the other processes (`Peers`). Belongs to the event loop that makes it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._slot: int | None = None
        self._writer: Writer | None = None
        self._line: _Line | None = None
        self._is_new = True
        self._is_welcome = asyncio.Event()
        self._trouble: str | None = AWAY
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, Admit | Finish] = {}
        """What the keeper has not answered, in the order in which it was handed over."""
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._borrowed: dict[int, _Turn] = {}
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._handlers = Handlers()
        self._answering: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._impatience: asyncio.TimerHandle | None = None
        self._closed = False

    # As `Books`

    def open(self, engine: Engine, slot: int) -> Link:
        """Takes what it needs to write by itself when it is its turn."""
        self._slot = slot
        self._writer = Writer(engine, slot, self._clock, turn=self._turn)
        return self

    async def connect(self) -> None:
        """Returns once the keeper takes works."""
        self._connecting = self._loop.create_task(self._connect())
        await self._is_welcome.wait()

    @property
    def trouble(self) -> str | None:
        return self._trouble

    @property
    def waiting(self) -> int:
        return len(self._unanswered)

    def submit(self, work: Work | Loan) -> None:
        assert not isinstance(work, Loan)
        if isinstance(work, Call | Record):
            assert self._writer is not None
            if self._trouble is not None:
                raise StorageUnavailable(f"The gateway cannot write its records: {self._trouble}.", retry_after_s=1)
            self._writer.submit(work)
            return
        if isinstance(work, Admit):
            if self._trouble is not None:
                raise StorageUnavailable(f"The gateway cannot write its records: {self._trouble}.", retry_after_s=1)
            if len(self._unanswered) >= MAX_WAITING:
                raise StorageUnavailable("Too many records are waiting to be written.", retry_after_s=1)
        if self._closed:
            raise StorageUnavailable("The gateway's books are closed.")
        if threading.get_ident() == self._thread:
            self._hand_over(work)
        else:
            self._loop.call_soon_threadsafe(self._hand_over, work)

    def close(self, timeout_s: float = 30) -> bool:
        """Not for the event loop's own thread, which has to hear the keeper meanwhile."""
        assert self._writer is not None
        written = self._writer.close(timeout_s)
        ending = asyncio.run_coroutine_threadsafe(self._end(timeout_s), self._loop)
        return ending.result() and written

    # As `Peers`

    def on(self, subject: str, handler: Handler) -> None:
        self._handlers.on(subject, handler)

    def tell(self, subject: str, said: Any = None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._say, wire.Said(subject, said))

    async def ask(self, subject: str, said: Any = None) -> list[Any]:
        answers = await self._ask(subject, said, of_keeper=False)
        return answers or []

    def ask_keeper(self, subject: str, said: Any = None) -> Any:
        """The keeper's answer. Blocks; not for the event loop. Raises StorageUnavailable where it is away."""
        answering = asyncio.run_coroutine_threadsafe(self.keepers_answer(subject, said), self._loop)
        answer = answering.result(2 * ANSWER_S)
        if answer is None:
            raise StorageUnavailable(f"The gateway cannot do this now: {AWAY}.", retry_after_s=1)
        return answer

    async def keepers_answer(self, subject: str, said: Any = None) -> Any:
        """The keeper's answer; None where it is away."""
        return await self._ask(subject, said, of_keeper=True)

    def tell_keeper(self, subject: str, said: Any = None) -> None:
        """Tells the keeper alone; in the event loop. What is told while it is away is lost."""
        self._say(wire.Said(subject, said, of_keeper=True))

    # The connection

    @property
    def slot(self) -> int:
        """This process's."""
        assert self._slot is not None
        return self._slot

    def _say(self, message: wire.Message) -> None:
        """Says it where there is somebody to hear it."""
        if self._line is not None and self._is_welcome.is_set():
            self._line.say(message)

    async def _ask(self, subject: str, said: Any, *, of_keeper: bool) -> Any:
        if not self._is_welcome.is_set():
            return None
        number = next(self._numbers)
        question = self._questions[number] = self._loop.create_future()
        self._say(wire.Question(number, subject, said, of_keeper))
        try:
            async with asyncio.timeout(1.5 * ANSWER_S):  # the keeper itself waits for ANSWER_S
                return await question
        except TimeoutError:
            return None
        finally:
            self._questions.pop(number, None)

    async def _answer(self, number: int, subject: str, said: Any) -> None:
        answer = self._handlers.hear(subject, said)
        self._say(wire.Answer(number, await answer if isawaitable(answer) else answer))

    async def _connect(self) -> None:
        assert self._slot is not None
        while True:
            with contextlib.suppress(OSError):
                _, line = await self._loop.create_unix_connection(lambda: _Line(self), str(self._path))
                if line.is_open:
                    self._line = line
                    line.say(wire.Hello(self._slot, self._is_new))
                    return
            await asyncio.sleep(CONNECT_AGAIN_S)

    def heard(self, message: wire.Message) -> None:
        match message:
            case wire.Written(works):
                for number, value in works:
                    self._answered(number, value, None)
            case wire.Refused(number, reason, after_s):
                if number in self._borrowed:
                    self._borrowed.pop(number).answer(is_granted=False)
                self._answered(number, None, StorageUnavailable(reason, retry_after_s=after_s))
            case wire.Lent(number):
                turn = self._borrowed.get(number)
                if turn is not None:
                    turn.answer(is_granted=True)
            case wire.Trouble(trouble):
                self._trouble = trouble
            case wire.Said(subject, said):
                self._handlers.hear(subject, said)
            case wire.Question(number, subject, said):
                answering = self._loop.create_task(self._answer(number, subject, said))
                self._answering.add(answering)
                answering.add_done_callback(self._answering.discard)
            case wire.Answer(number, said):
                question = self._questions.get(number)
                if question is not None and not question.done():
                    question.set_result(said)
            case wire.Welcome(trouble):
                self._welcomed(trouble)
            case _:
                raise AssertionError(f"no keeper says {message}")

    def lost(self, line: _Line) -> None:
        """The keeper's end is gone."""
        if line is not self._line:
            return
        self._line = None
        self._is_welcome.clear()
        for turn in self._borrowed.values():
            turn.answer(is_granted=False)
        self._borrowed.clear()
        for question in self._questions.values():
            if not question.done():
                question.set_result(None)
        if self._closed:
            return
        self._trouble = AWAY
        _log.warning("the keeper of the books is gone; waiting for the next", unanswered=len(self._unanswered))
        self._handlers.hear(KEEPER_IS_GONE, None)
        if self._impatience is None:  # else it waits already: the next one died before it took anything
            self._impatience = self._loop.call_later(ADMISSIONS_WAIT_S, self._refuse_admissions)
        self._connecting = self._loop.create_task(self._connect())

    def _welcomed(self, trouble: str | None) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None
        self._trouble = trouble
        self._is_welcome.set()
        for number, work in self._unanswered.items():
            self._say(_message(number, work, again=True))
        if not self._is_new:
            self._handlers.hear(KEEPER_IS_BACK, None)
        self._is_new = False

    def _refuse_admissions(self) -> None:
        self._impatience = None
        for number in [number for number, work in self._unanswered.items() if isinstance(work, Admit)]:
            self._answered(number, None, StorageUnavailable(f"{AWAY.capitalize()}.", retry_after_s=1))

    async def _end(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._all_answered.wait()
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._line is not None:
            self._line.hang_up()
        return not self._unanswered

    # Works

    def _hand_over(self, work: Admit | Finish) -> None:
        number = next(self._numbers)
        self._unanswered[number] = work
        self._all_answered.clear()
        self._say(_message(number, work, again=False))

    def _answered(self, number: int, value: Any, error: Exception | None) -> None:
        work = self._unanswered.pop(number, None)
        if not self._unanswered:
            self._all_answered.set()
        future = None if work is None else work.future
        if future is None or isinstance(future, Receipt) or future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    # The turn to write by itself

    @contextlib.contextmanager
    def _turn(self) -> Generator[None]:
        """Held by the own writer's thread while it writes. Raises NoTurn."""
        turn = _Turn(next(self._numbers))
        try:
            self._loop.call_soon_threadsafe(self._borrow, turn)
        except RuntimeError:
            raise NoTurn("the gateway has ended") from None
        try:
            if not turn.answered.wait(LOAN_S) or not turn.is_granted:
                raise NoTurn(AWAY)
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the connection
                self._loop.call_soon_threadsafe(self._give_back, turn)

    def _borrow(self, turn: _Turn) -> None:
        if not self._is_welcome.is_set():
            turn.answer(is_granted=False)
            return
        self._borrowed[turn.number] = turn
        self._say(wire.Borrow(turn.number))

    def _give_back(self, turn: _Turn) -> None:
        if self._borrowed.pop(turn.number, None) is not None:
            self._say(wire.Back(turn.number))


class _Turn:
    """One turn to write."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.answered = threading.Event()
        self.is_granted = False

    def answer(self, *, is_granted: bool) -> None:
        self.is_granted = is_granted
        self.answered.set()


class _Line(wire.Line):
    """The connection to one keeper."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def heard(self, message: wire.Message) -> None:
        self._link.heard(message)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._link.lost(self)


def _message(number: int, work: Admit | Finish, *, again: bool) -> wire.Message:
    if isinstance(work, Admit):
        return wire.Begun(number, work.intent, again)
    return wire.Ended(number, work.outcome, work.admitted, again)
