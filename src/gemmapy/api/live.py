"""What happens now: a stream of server-sent events, and the same by asking again and again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from gemmapy.api.access import SignedIn, Use, UserId, scope
from gemmapy.api.credential import presented
from gemmapy.core.errors import GemmaPyError
from gemmapy.metering.live import LiveState

router = APIRouter(tags=["Live"])
MetricId = Annotated[
    int | None, Query(ge=0, le=2**63 - 1, description="A metric id: also what has finished since it, 50 at most.")
]


class EventStream(StreamingResponse):
    """Answered as it happens, past every buffer on the way."""

    media_type = "text/event-stream"


@router.get(
    "/api/live",
    summary="What runs and what has finished, as server-sent events: `state` and `requests`",
    response_class=EventStream,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def live(
    request: Request,
    caller: SignedIn,
    use: Use,
    user_id: UserId = None,
    last_id: MetricId = None,
    last_event_id: Annotated[str | None, Header(description="As `last_id`; browsers send it by themselves.")] = None,
) -> EventStream:
    whose = scope(caller, user_id)
    credential = presented(request.scope, use.auth)
    path: str = request.scope["path"]

    def is_allowed() -> bool:
        """Still: a key is revoked, a session ends, an admin becomes a user while the stream is open."""
        try:
            now = use.auth.identify(credential)
            return now.allows_route(path) and scope(now, user_id) == whose
        except GemmaPyError:
            return False

    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19:
        last_id = int(last_event_id)
    return EventStream(use.live.listen(whose, is_allowed, last_id), headers={"x-accel-buffering": "no"})


@router.get("/api/running", summary="What runs now: the stream's `state`, for who cannot hold a stream")
def running(caller: SignedIn, use: Use, user_id: UserId = None) -> LiveState:
    return use.live.state(scope(caller, user_id))
