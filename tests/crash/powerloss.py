"""Power loss: what would lie on a disk that kept only what it was made to keep.

A gateway runs under strace, which writes down every system call that changes a file, makes one durable, or sends a
client something. `Disk` replays them with the rules that POSIX gives: what was written is durable once an `fsync` of
that file has returned, a name once one of its directory has. Everything else may be there or not, in any combination,
and torn at the borders of sectors. So every moment of the run has many states in which the power may have failed, and
each must keep every promise that clients had been given by then.
"""

from __future__ import annotations

import copy
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httptools
from sqlalchemy.exc import SQLAlchemyError

from gemmapy.core.errors import GemmaPyError
from gemmapy.storage.store import Store
from tests.crash import books
from tests.crash.load import Parts, Seen
from tests.support.gateway import PASSWORD

SECTOR = 512
CALLS = (
    "openat,mkdir,mkdirat,write,writev,sendto,sendmsg,pwrite64,ftruncate,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,fallocate,pwritev,pwritev2,copy_file_range,sendfile"
)
Keep = Literal["nothing", "everything", "some"]
"""Of what was not made durable."""


def under_strace(trace: Path, *command: str) -> list[str]:
    """The command that runs another and writes its calls to `trace`."""
    return [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        "10000000",
        "-e",
        f"trace={CALLS}",
        "-o",
        str(trace),
        *command,
    ]


class Traced:
    """`gemmapy serve` under strace, to be killed."""

    def __init__(self, data: Path, upstream: str, trace: Path) -> None:
        self.trace = trace
        environment = {
            **os.environ,
            "GEMMAPY_ADMIN_PASSWORD": PASSWORD,
            "GEMMAPY_UPSTREAMS": f"ollama={upstream}",
            "GEMMAPY_PORT": "0",
            "GEMMAPY_DATA": str(data),
        }
        command = under_strace(trace, str(Path(sys.executable).parent / "gemmapy"), "serve")
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.printed = ""
        while "API reference" not in self.printed and "/api/metrics/dashboard" not in self.printed:
            line = self._process.stdout.readline()
            assert line, self.printed
            self.printed += line
        self.port = int(re.findall(r"http://localhost:(\d+)", self.printed)[0])

    def kill(self) -> None:
        """Kills the gateway, and returns once all of its trace is written."""
        tracer = self._process.pid
        child = Path(f"/proc/{tracer}/task/{tracer}/children").read_text().split()[0]
        os.kill(int(child), signal.SIGKILL)
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


# From the trace to events


@dataclass(frozen=True, slots=True)
class Event:
    """A system call that matters, at one moment of it."""

    call: str
    path: str
    """Of the file, or the second name of a rename or link; of a socket, its number."""
    data: bytes = b""
    offset: int = 0
    source: str = ""
    """The first name of a rename or link."""


_LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. )?(?P<call>\w+)(?P<rest>.*)")
_FD = re.compile(r"\((?P<fd>\d+)<(?P<path>[^>]*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_RESULT = re.compile(r"\) += (-?\d+)(?:<[^>]*>)?")


def events(trace: Path, within: Path) -> Iterator[Event]:
    """The events of a trace that concern files within a folder, or sockets, in the order in which they happened.

    Of a call that others ran beside, what it writes counts from its beginning, and what it makes durable from its end:
    the least that can be relied on.
    """
    begun: dict[str, Event | None] = {}
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            found = _LINE.match(line)
            if found is None or "+++" in line[:20]:
                continue
            pid, call, rest = found["pid"], found["call"], found["rest"]
            if rest.startswith(" resumed>"):
                event = begun.pop(pid)
                if event is not None and _RESULT.search(rest) and " = -1 " not in rest:
                    yield event
                continue
            unfinished = rest.rstrip().endswith("<unfinished ...>")
            if not unfinished and (" = -1 E" in rest or _RESULT.search(rest) is None):
                continue
            event = _event(call, rest, within)
            if not unfinished:
                if event is not None:
                    yield event
            elif event is not None and event.call in ("write", "send", "truncate"):
                yield event  # may have happened from here on
                begun[pid] = None
            else:
                begun[pid] = event


def _event(call: str, rest: str, within: Path) -> Event | None:
    named = _FD.search(rest)
    texts = [bytes.fromhex(text.replace("\\x", "")) for text, more in _TEXT.findall(rest) if not _cut(more)]
    path = re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), named["path"]) if named else ""
    if path.startswith("socket:"):
        return Event("send", path, b"".join(texts)) if texts else None
    ours = path.startswith(f"{within}/")
    if call in ("pwrite64", "write") and ours:
        offset = int(re.findall(r", (\d+)\)? *(?:=|<unf|$)", rest)[-1]) if call == "pwrite64" else -1
        return Event("write", path, texts[0], offset)
    if call == "ftruncate" and ours:
        return Event("truncate", path, offset=int(re.findall(r", (\d+)", rest)[-1]))
    if call in ("fsync", "fdatasync") and (ours or path == str(within)):
        return Event("sync", path)
    if call in ("openat", "mkdir", "mkdirat", "rename", "link", "unlink", "unlinkat") and texts:
        names = [text.decode() for text in texts]
        if not names[-1].startswith(f"{within}/"):
            return None
        if call == "openat":
            if "O_CREAT" not in rest:
                return None
            return Event("truncate" if "O_TRUNC" in rest else "create", names[0])
        kind = {"mkdirat": "mkdir", "unlinkat": "unlink"}.get(call, call)
        return Event(kind, names[-1], source=names[0])
    assert not (ours and call in ("fallocate", "pwritev", "pwritev2", "copy_file_range", "writev")), rest[:200]
    return None


def _cut(more: str) -> bool:
    assert not more, "strace has cut a text"
    return False


# The disk


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list[tuple[int, bytes | None]])
    """Writes that are not durable: the place and the bytes; None for a change of the size."""
    size: int = 0
    """As a process sees it."""


@dataclass(slots=True)
class _Change:
    """A name that came, or went where `file` is None; a folder where it is True."""

    path: str
    file: _File | bool | None


class Disk:
    """What a disk is known to hold, and what it may."""

    def __init__(self) -> None:
        self._names: dict[str, _File | bool] = {}
        """As a process sees them."""
        self._durable: dict[str, _File | bool] = {}
        self._changes: dict[str, list[_Change]] = {}
        """Of each folder, what is not durable."""

    def hold(self, folder: Path) -> None:
        """Has what is in a folder now, durable."""
        for place in sorted(folder.rglob("*")):
            content = bytearray(place.read_bytes()) if place.is_file() else None
            file = True if content is None else _File(content, size=len(content))
            self._names[str(place)] = self._durable[str(place)] = file

    def apply(self, event: Event) -> None:
        """Something that happened to it."""
        path = event.path
        file = self._names.get(path)
        if event.call == "sync":
            if isinstance(file, _File):
                _settle(file.durable, file.pending)
                file.pending.clear()
            for change in self._changes.pop(path, ()):
                _rename(self._durable, change)
            return
        if event.call == "mkdir":
            self._change(_Change(path, True))
        elif event.call in ("create", "truncate", "write"):
            if not isinstance(file, _File):
                file = _File()
                self._change(_Change(path, file))
            if event.call == "truncate":
                file.pending.append((event.offset, None))
                file.size = event.offset
            elif event.call == "write":
                offset = file.size if event.offset < 0 else event.offset
                file.pending.append((offset, event.data))
                file.size = max(file.size, offset + len(event.data))
        elif event.call in ("rename", "link"):
            self._change(_Change(path, self._names[event.source]))
            if event.call == "rename":
                self._change(_Change(event.source, None))
        elif event.call == "unlink":
            self._change(_Change(path, None))

    def fail(self, folder: Path, target: Path, keep: Keep, chance: random.Random) -> None:
        """Writes what lies in a folder after the power failed, into another."""
        names = dict(self._durable)
        for changes in self._changes.values():
            # Names are journalled: those of one folder come in their order, as far as they come.
            kept = {"nothing": 0, "everything": len(changes), "some": chance.randint(0, len(changes))}[keep]
            for change in changes[:kept]:
                _rename(names, change)
        contents: dict[int, bytes] = {}
        for path, file in sorted(names.items()):
            place = target / Path(path).relative_to(folder)
            parents = [str(parent) for parent in Path(path).parents if parent != folder and folder in parent.parents]
            if any(parent not in names for parent in parents):
                continue
            if isinstance(file, _File):
                place.parent.mkdir(parents=True, exist_ok=True)
                if id(file) not in contents:
                    contents[id(file)] = _lying(file, keep, chance)
                place.write_bytes(contents[id(file)])
            else:
                place.mkdir(parents=True, exist_ok=True)

    def _change(self, change: _Change) -> None:
        self._changes.setdefault(str(Path(change.path).parent), []).append(change)
        _rename(self._names, change)


def _rename(names: dict[str, _File | bool], change: _Change) -> None:
    if change.file is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.file


def _settle(durable: bytearray, pending: Sequence[tuple[int, bytes | None]]) -> None:
    for offset, data in pending:
        if data is None:
            del durable[offset:]
            durable.extend(bytes(offset - len(durable)))
            continue
        durable.extend(bytes(max(0, offset - len(durable))))
        durable[offset : offset + len(data)] = data


def _lying(file: _File, keep: Keep, chance: random.Random) -> bytes:
    if keep == "nothing":
        return bytes(file.durable)
    pending = list[tuple[int, bytes | None]](file.pending)
    if keep == "some":
        likely = chance.choice((0.2, 0.5, 0.9))
        torn: list[tuple[int, bytes | None]] = []
        for offset, data in pending:
            if data is None:
                torn += [(offset, data)] if chance.random() < likely else []
                continue
            if chance.random() < 0.8:  # whole or not
                torn += [(offset, data)] if chance.random() < likely else []
                continue
            for start in range(0, len(data), SECTOR):
                torn += [(offset + start, data[start : start + SECTOR])] if chance.random() < likely else []
        pending = torn
    lies = bytearray(file.durable)
    _settle(lies, pending)
    return bytes(lies)


# The clients


class Clients:
    """What every client has been sent so far, from the bytes that went into its socket."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        self._asked = {one.asked_as: Seen(one.asked_as, one.number, one.kind) for one in seen}
        self._sockets: dict[str, tuple[httptools.HttpResponseParser, Seen]] = {}

    def send(self, event: Event) -> None:
        """A client is sent something; an upstream's request is passed over."""
        data = event.data
        if data.startswith(b"HTTP/1.1 ") and (found := re.search(rb"x-client-request-id: (\w+)\r\n", data)):
            seen = self._asked[found[1].decode()]
            self._sockets[event.path] = httptools.HttpResponseParser(Parts(seen)), seen
        known = self._sockets.get(event.path)
        if known is not None and not known[1].ended:
            parser, seen = known
            parser.feed_data(data)
            seen.status = parser.get_status_code()

    def seen(self) -> list[Seen]:
        """As it is now."""
        return copy.deepcopy([*self._asked.values()])


# All of it


@dataclass
class Tried:
    """What was tried."""

    events: int = 0
    moments: int = 0
    states: int = 0
    complete: int = 0
    """Complete answers that the last moment's states had to have rows of."""
    broken: list[str] = field(default_factory=list[str])
    """Of each state in which a promise was broken, when and which."""


def try_moments(
    happened: Sequence[Event], folder: Path, seen: Sequence[Seen], moments: int, scratch: Path, chance: random.Random
) -> Tried:
    """Lets the power fail at so many moments of a traced run, opens what lies there as a gateway would, and checks it.

    A third of the moments each lie behind something that a client was sent, that was made durable, and that was
    written. Every one has three states: nothing kept that was not made durable, everything, and some of it.
    """
    by_call = [[n for n, event in enumerate(happened) if event.call == call] for call in ("send", "sync", "write")]
    chosen = {n for places in by_call for n in chance.sample(places, min(len(places), moments // 3))}
    disk, clients, tried = Disk(), Clients(seen), Tried(events=len(happened))
    remains = books.Remains(scratch / "remains")
    for number, event in enumerate(happened):
        if event.call == "send":
            clients.send(event)
        else:
            disk.apply(event)
        if number not in chosen:
            continue
        tried.moments += 1
        seen_by_now = clients.seen()
        tried.complete = sum(one.is_complete for one in seen_by_now)
        keeps: tuple[Keep, ...] = ("nothing", "everything", "some")
        for keep in keeps:
            tried.states += 1
            shutil.rmtree(scratch / "state", ignore_errors=True)
            (scratch / "state").mkdir()
            disk.fail(folder, scratch / "state", keep, chance)
            try:
                _open(scratch / "state" / "data", seen_by_now, remains)
            except (AssertionError, sqlite3.Error, SQLAlchemyError, GemmaPyError) as failure:
                tried.broken.append(f"after {event.call} {number} of {event.path}, {keep} kept: {failure}"[:300])
    remains.close()
    return tried


def _open(data: Path, seen: Sequence[Seen], remains: books.Remains) -> None:
    """Opens a data folder as the next start does, and checks it against what clients had seen."""
    with Store.open(data) as store:
        store.recover()
        rows, running = books.ledger(store.path)
    assert not running
    books.check(rows, running, seen)
    remains.take(data)
    assert remains.audit() == []
