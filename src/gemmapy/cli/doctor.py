"""`gemmapy doctor`: what is wrong, and how to mend it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import typer

from gemmapy.cli.options import Config, Data
from gemmapy.config import Settings, UpstreamSettings
from gemmapy.core.errors import GemmaPyError
from gemmapy.storage.engine import database_path
from gemmapy.storage.migrate import HEAD
from gemmapy.upstreams import llamacpp
from gemmapy.upstreams.transport import Limits, Transport
from gemmapy.upstreams.upstream import Upstream

LOW_SPACE_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_well: bool
    detail: str
    mend: str = ""


def doctor(data: Data = None, config: Config = None) -> None:
    """Look at everything the gateway needs: say what is wrong and how to mend it. Ends with 1 where something is."""
    settings = Settings.load(config, data=data)
    ill = 0
    for finding in findings(settings):
        print(f"{'ok  ' if finding.is_well else 'FAIL'}  {finding.what}: {finding.detail}")
        if not finding.is_well:
            ill += 1
            print(f"      -> {finding.mend}")
    print("\nAll is well." if not ill else f"\n{ill} thing{'s' if ill > 1 else ''} to mend.")
    raise typer.Exit(1 if ill else 0)


def findings(settings: Settings) -> Iterator[Finding]:
    """Looks at one thing after the other."""
    checks: tuple[Callable[[Settings], Finding], ...] = (_folder, _space, _database, _port)
    for check in checks:
        yield check(settings)
    yield from asyncio.run(_upstreams(settings))


def _folder(settings: Settings) -> Finding:
    folder = settings.data.resolve()
    what = "data folder"
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        return Finding(what, False, f"{existing} is a file", "Give a folder with --data.")
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding(what, False, f"{existing} cannot be written: {error.strerror}", "Mend its permissions or space.")
    return Finding(what, True, f"{folder} can be written" if folder.exists() else f"{folder} will be made")


def _space(settings: Settings) -> Finding:
    existing = settings.data.resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    detail = f"{free / 2**30:.1f} GiB free"
    if free < LOW_SPACE_BYTES:
        return Finding(
            "disk", False, detail, "Free some space: without it no request can be recorded, so none is taken."
        )
    return Finding("disk", True, detail)


def _database(settings: Settings) -> Finding:
    path = database_path(settings.data)
    if not path.exists():
        return Finding("database", True, "will be made at the first start")
    mend = "Restore a backup into an empty folder: gemmapy restore FILE --data DIR."
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
            schema = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            requests = connection.execute("SELECT count(*) FROM llm_metrics").fetchone()[0]
    except sqlite3.Error as error:
        return Finding("database", False, f"{path} cannot be read: {error}", mend)
    if verdict != "ok":
        return Finding("database", False, f"{path} is damaged: {verdict}", mend)
    upgrade = "" if schema == HEAD else f", to be upgraded from schema {schema} to {HEAD} at the next start"
    return Finding("database", True, f"sound, {requests} requests{upgrade}")


def _port(settings: Settings) -> Finding:
    what = f"port {settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            if _is_gateway(settings):
                return Finding(what, True, "a gateway serves there")
            return Finding(
                what, False, f"{error.strerror}", "End the program that has it, or give another port with --port."
            )
    return Finding(what, True, "free")


def _is_gateway(settings: Settings) -> bool:
    try:
        with urllib.request.urlopen(f"{settings.url}/api/health", timeout=2) as answer:  # noqa: S310 - our own address
            return json.load(answer).get("status") == "healthy"
    except (OSError, ValueError):
        return False


async def _upstreams(settings: Settings) -> list[Finding]:
    transport = Transport(Limits(connect_s=3, first_byte_s=5, idle_s=5))
    try:
        if settings.upstreams:
            return [await _upstream(chosen, settings, transport) for chosen in settings.upstreams]
        ollama = await _upstream(UpstreamSettings(kind="ollama", name="ollama"), settings, transport)
        if ollama.is_well or not llamacpp.available():
            return [ollama]
        return [await _upstream(UpstreamSettings(kind="llamacpp", name="llamacpp"), settings, transport)]
    finally:
        await transport.close()


async def _upstream(chosen: UpstreamSettings, settings: Settings, transport: Transport) -> Finding:
    what = f"upstream {chosen.name}"
    if chosen.kind == "llamacpp":
        if not llamacpp.available():
            return Finding(what, False, "the embedded model is not installed", "pip install 'gemmapy[local]'")
        obstacle = llamacpp.obstacle()
        if obstacle is not None:
            return Finding(what, False, obstacle, "Install what is missing; on Debian: apt-get install libgomp1")
        return Finding(what, True, f"embedded, {chosen.model_path or llamacpp.BUNDLED_NAME}")
    key = chosen.api_key.get_secret_value() if chosen.api_key else None
    try:
        models = await Upstream(chosen.name, chosen.kind, chosen.address, key).models(transport)
    except GemmaPyError as error:
        start = "Start it ('ollama serve')" if chosen.kind == "ollama" else "Start it, check its key"
        return Finding(what, False, error.message.rstrip("."), f"{start}, or give its address with --upstream.")
    if models is None:
        return Finding(what, True, f"{chosen.address} answers; it does not list its models")
    if not models:
        return Finding(what, False, f"{chosen.address} answers, but has no model", "Get one: ollama pull llama3")
    said = f"{chosen.address} answers; {len(models)} models, among them {next(iter(models))}"
    if chosen.places is None and settings.places is None and chosen.kind == "ollama":
        said += "; it has no places, so requests wait inside of it, first come first served (docs/limits.md)"
    return Finding(what, True, said)
