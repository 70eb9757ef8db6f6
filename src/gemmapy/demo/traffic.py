"""The team's requests from now on, made through the gateway as any client makes them, a few at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from gemmapy.demo.history import Member
from gemmapy.demo.team import CODING, EMBEDDING, ROLES, TEXT, Role

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
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        try:
            while True:
                await asyncio.sleep(chance.expovariate(1 / GAP_S))
                if len(asking) < AT_ONCE:
                    member = chance.choices(members, [one.person.weight for one in members])[0]
                    task = asyncio.create_task(_ask(session, url, member, chance))
                    asking.add(task)
                    task.add_done_callback(asking.discard)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def _ask(session: aiohttp.ClientSession, url: str, member: Member, chance: random.Random) -> None:
    role = ROLES[member.person.role]
    headers = {"Authorization": f"Bearer {member.key}", "User-Agent": role.client}
    leaves_after = chance.randint(2, 8) if chance.random() < LEAVING else None
    try:
        async with session.post(url + role.endpoint, json=_body(role, chance), headers=headers) as answer:
            last = b""
            async for line in answer.content:
                last = line.strip() or last
                if leaves_after is not None:
                    leaves_after -= 1
                    if leaves_after < 0:
                        answer.close()
                        return
        if answer.status == 200 and chance.random() < role.rated:
            metric_id = msgspec.json.decode(last, type=dict[str, Any]).get("metric_id")
            rating = {"rating": 1 if chance.random() < 0.88 else -1}
            if metric_id is not None:
                async with session.post(f"{url}/api/metrics/{metric_id}/rate", json=rating, headers=headers):
                    pass
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
        return  # the gateway goes down, or the answer was an error's: the page has it


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
