"""The keeper's end: takes the workers' works, hands them to the one writer, and says when they are on disk.

Works of all workers share transactions. A worker that wants to write by itself (a new user, a price) is lent the turn.
When a worker's process is gone, what it had in flight is recorded as interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from inspect import isawaitable
from typing import Any

import structlog

from gemmapy.core.errors import GemmaPyError, StorageUnavailable
from gemmapy.core.peers import Handler
from gemmapy.storage import leases
from gemmapy.storage.store import Store
from gemmapy.storage.works import Admit, Finish, Loan, Receipt, Told
from gemmapy.workers import wire

WORKER_IS_GONE = "a worker is gone"
"""What the keeper's parts can hear of the workers themselves: the slot of a process that has ended."""
ANSWER_S = 1.0
LOOK_S = 0.05
"""How often it looks whether the books can be written, to tell the workers."""
GONE_S = 5.0
"""How long a process may take from the end of its connection to the end of its lock."""
_log = structlog.stdlib.get_logger()


class Keeper:
    """Everyone's books. Also the keeper's own `Peers`: the workers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.loop = asyncio.get_running_loop()
        self.workers: dict[int, _Worker] = {}
        """Those that are welcome, by slot."""
        self.trouble: str | None = None
        self._handlers = Handlers()
        self._numbers = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, listening: socket.socket) -> None:
        """Begins to take works from whoever connects."""
        self._server = await self.loop.create_unix_server(lambda: _Worker(self), sock=listening)
        self.begin(self._watch())

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for worker in [*self.workers.values()]:
            worker.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on(self, subject: str, handler: Handler) -> None:
        self._handlers.on(subject, handler)

    def tell(self, subject: str, said: Any = None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and everybody gone
            self.loop.call_soon_threadsafe(self.pass_on, wire.Said(subject, said), None)

    async def ask(self, subject: str, said: Any = None) -> list[Any]:
        return await self.gather(subject, said, None)

    def pass_on(self, message: wire.Said, source: _Worker | None) -> None:
        """Tells every worker but the one that said it."""
        for worker in self.workers.values():
            if worker is not source:
                worker.say(message)

    async def gather(self, subject: str, said: Any, source: _Worker | None) -> list[Any]:
        """What all workers but `source` answer."""
        asked = [worker for worker in self.workers.values() if worker is not source]
        answers = await asyncio.gather(*(worker.answer(next(self._numbers), subject, said) for worker in asked))
        return [answer for answer in answers if answer is not None]

    def hear(self, subject: str, said: Any) -> Any:
        """The keeper's own answer; None where it has nothing to say to that."""
        return self._handlers.hear(subject, said)

    def tell_worker(self, slot: int, subject: str, said: Any) -> None:
        """Tells one worker, if it is there. In the event loop."""
        worker = self.workers.get(slot)
        if worker is not None:
            worker.say(wire.Said(subject, said))

    def begin(self, work: Any) -> None:
        """Runs a coroutine in the background."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def recover(self, begun: list[int]) -> None:
        """Records what processes that are gone had in flight; tries until it can."""
        while True:
            try:
                count = await asyncio.to_thread(self.store.recover, begun)
            except GemmaPyError:
                await asyncio.sleep(ANSWER_S)
                continue
            if count:
                _log.warning("requests of a worker that died were recorded as interrupted", requests=count)
            return

    async def left(self, slot: int) -> None:
        """A worker's connection has ended: if its process has too, nobody else will finish its requests."""
        deadline = self.loop.time() + GONE_S
        while self.loop.time() < deadline and slot not in self.workers:
            lease = leases.take(self.store.data_dir, slot)
            if lease is not None:
                lease.release()
                self.hear(WORKER_IS_GONE, slot)
                await self.recover([])
                return
            await asyncio.sleep(0.02)  # the kernel closes its sockets before it frees its locks, or it lives

    async def _watch(self) -> None:
        while True:
            trouble = self.store.trouble
            if trouble != self.trouble:
                self.trouble = trouble
                for worker in self.workers.values():
                    worker.say(wire.Trouble(trouble))
            await asyncio.sleep(LOOK_S)


class _Worker(wire.Line):
    """One worker's connection."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self._keeper = keeper
        self._slot: int | None = None
        self._loans: dict[int, Loan] = {}
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self.gone = asyncio.Event()

    def heard(self, message: wire.Message) -> None:
        match message:
            case wire.Begun(number, intent, again):
                self._hand_in(Admit(intent, Receipt(self, number), self._slot, again), number)
            case wire.Ended(number, outcome, admitted, again):
                self._hand_in(Finish(outcome, admitted, Receipt(self, number), again, is_new=not admitted), number)
            case wire.Borrow(number):
                self._lend(number)
            case wire.Back(number):
                self._take_back(number)
            case wire.Said(subject, said, of_keeper):
                self._keeper.hear(subject, said)
                if not of_keeper:
                    self._keeper.pass_on(message, self)
            case wire.Question():
                self._keeper.begin(self._answer(message))
            case wire.Answer(number, said):
                question = self._questions.pop(number, None)
                if question is not None and not question.done():
                    question.set_result(said)
            case wire.Hello(slot, is_new):
                self._keeper.begin(self._welcome(slot, is_new=is_new))
            case _:
                raise AssertionError(f"no worker says {message}")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()
        for number in [*self._loans]:
            self._take_back(number)
        for question in self._questions.values():
            question.cancel()
        if self._slot is not None and self._keeper.workers.get(self._slot) is self:
            del self._keeper.workers[self._slot]
            self._keeper.begin(self._keeper.left(self._slot))

    def told(self, results: list[Told]) -> None:
        """From the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker hands it over again
            self._loop.call_soon_threadsafe(self._tell, results)

    async def answer(self, number: int, subject: str, said: Any) -> Any:
        """What the worker answers; None where it does not in time."""
        question = self._questions[number] = self._loop.create_future()
        self.say(wire.Question(number, subject, said))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await question
        except (TimeoutError, asyncio.CancelledError):
            if not question.cancelled():
                raise
            return None
        finally:
            self._questions.pop(number, None)

    async def _welcome(self, slot: int, *, is_new: bool) -> None:
        former = self._keeper.workers.get(slot)
        if former is not None:
            # Its process is gone, or it would hold the slot; what it said last is read before its end is.
            await former.gone.wait()
        if is_new:
            self._keeper.hear(WORKER_IS_GONE, slot)
        await self._keeper.recover([slot] if is_new else [])
        if not self.is_open:
            await self._keeper.left(slot)
            return
        self._slot = slot
        self._keeper.workers[slot] = self
        self.say(wire.Welcome(self._keeper.trouble))

    async def _answer(self, question: wire.Question) -> None:
        own = self._keeper.hear(question.subject, question.said)
        if isawaitable(own):
            own = await own
        if question.of_keeper:
            self.say(wire.Answer(question.number, own))
            return
        others = await self._keeper.gather(question.subject, question.said, self)
        self.say(wire.Answer(question.number, others if own is None else [own, *others]))

    def _hand_in(self, work: Admit | Finish, number: int) -> None:
        try:
            self._keeper.store.submit(work)
        except StorageUnavailable as error:
            self.say(wire.Refused(number, error.message, error.retry_after_s))

    def _lend(self, number: int) -> None:
        def begin() -> None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.say, wire.Lent(number))

        loan = self._loans[number] = Loan(begin)
        try:
            self._keeper.store.submit(loan)
        except StorageUnavailable as error:
            del self._loans[number]
            self.say(wire.Refused(number, error.message, error.retry_after_s))

    def _take_back(self, number: int) -> None:
        loan = self._loans.pop(number, None)
        if loan is not None:
            loan.over.set()

    def _tell(self, results: list[Told]) -> None:
        written = [(number, value) for number, value, error in results if error is None]
        if written:
            self.say(wire.Written(written))
        for number, _, error in results:
            if error is not None:
                after_s = error.retry_after_s if isinstance(error, GemmaPyError) else None
                self.say(wire.Refused(number, str(error), after_s))


class Handlers:
    """Who hears what; of a question, the first answer counts."""

    def __init__(self) -> None:
        self._of: dict[str, list[Handler]] = {}

    def on(self, subject: str, handler: Handler) -> None:
        self._of.setdefault(subject, []).append(handler)

    def hear(self, subject: str, said: Any) -> Any:
        """Calls them; one that fails must not take the connection along."""
        answer = None
        for handler in self._of.get(subject, ()):
            try:
                own = handler(said)
            except Exception:  # noqa: BLE001
                _log.exception("what another process said could not be dealt with", subject=subject)
            else:
                answer = own if answer is None else answer
        return answer
