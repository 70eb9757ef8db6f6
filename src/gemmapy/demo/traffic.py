"""The team's requests from now on, made through the gateway as any client makes them, a few at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec

from gemmapy.core.errors import GemmaPyError
from gemmapy.demo.history import Member
from gemmapy.demo.team import CODING, EMBEDDING, ROLES, TEXT, Role
from gemmapy.upstreams.transport import Limits, Transport

GAP_S = 0.9
"""Between two requests, on average."""
AT_ONCE = 12
LEAVING = 0.03
_ASKED = (
    "Summarize this ticket for the next shift",
    "Write a test for this function",
    "What changed between these two contracts",
    "Turn these notes into an announcement",
    "Which of these logs explains the outage",
    "Translate this into friendly German",
)


async def keep_asking(url: str, members: Sequence[Member], seed: int) -> None:
    """Asks until it is cancelled. What fails is for the page to show."""
    chance = random.Random(seed)
    asking: set[asyncio.Task[None]] = set()
    transport = Transport(Limits(first_byte_s=120))
    try:
        while True:
            await asyncio.sleep(chance.expovariate(1 / GAP_S))
            if len(asking) < AT_ONCE:
                member = chance.choices(members, [one.person.weight for one in members])[0]
                task = asyncio.create_task(_ask(transport, url, member, chance))
                asking.add(task)
                task.add_done_callback(asking.discard)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await transport.close()


async def _ask(transport: Transport, url: str, member: Member, chance: random.Random) -> None:
    role = ROLES[member.person.role]
    leaves_after = chance.randint(2, 8) if chance.random() < LEAVING else None
    try:
        status, said = await _post(transport, url + role.endpoint, member, _body(role, chance), leaves_after)
        if status == 200 and chance.random() < role.rated:
            last = said.rstrip().rsplit(b"\n", 1)[-1]
            metric_id = msgspec.json.decode(last, type=dict[str, Any]).get("metric_id")
            rating = {"rating": 1 if chance.random() < 0.88 else -1}
            if metric_id is not None:
                await _post(transport, f"{url}/api/metrics/{metric_id}/rate", member, rating)
    except (GemmaPyError, msgspec.DecodeError):
        return  # the gateway goes down, or the answer was an error's: the page has it


async def _post(
    transport: Transport, url: str, member: Member, body: dict[str, Any], leaves_after: int | None = None
) -> tuple[int, bytes]:
    """The status and the body; 499 and some of it from somebody who leaves after so many pieces."""
    headers = [
        ("Authorization", f"Bearer {member.key}"),
        ("User-Agent", ROLES[member.person.role].client),
        ("Content-Type", "application/json"),
    ]
    answer = await transport.send("POST", url, headers, msgspec.json.encode(body), where="The gateway")
    pieces: list[bytes] = []
    try:
        async for piece in answer.chunks():
            pieces.append(piece)
            if leaves_after is not None and len(pieces) > leaves_after:
                return 499, b"".join(pieces)
    finally:
        answer.close()
    return answer.status, b"".join(pieces)


def _body(role: Role, chance: random.Random) -> dict[str, Any]:
    model = chance.choices(list(role.models), list(role.models.values()))[0]
    length = min(12_000, int(chance.lognormvariate(0, 0.7) * role.prompt_tokens) * 4)
    text = (f"{chance.choice(_ASKED)}. " + "It is about the demo. " * (length // 22 + 1))[: max(40, length)]
    body: dict[str, Any] = {"model": model, "stream": role.streams}
    if role.endpoint == EMBEDDING:
        return {"model": model, "input": text}
    if role.endpoint == TEXT:
        return {**body, "prompt": text}
    if role.endpoint == CODING:
        body["stream_options"] = {"include_usage": True}
    return {**body, "messages": [{"role": "user", "content": text}]}
