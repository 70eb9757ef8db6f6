"""What may come from the cache: from an admitted request to the key of its answer.

Called by `handle.py`; a request that has nothing to do with the cache costs a comparison or two here.
"""

from __future__ import annotations

from gemmapy.gateway import sameness
from gemmapy.gateway.admission import Ticket
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.cache import AnswerCache
from gemmapy.gateway.sameness import Policy
from gemmapy.upstreams.catalogue import Catalogue

CONFIRM_TIMEOUT_S = 1
"""How long a request waits to hear that its model is still the same; past it, it is asked without the cache."""


class Sharing:
    """The operator's rules, over the cache."""

    def __init__(self, cache: AnswerCache, catalogue: Catalogue, policy: Policy, *, is_shared: bool) -> None:
        self.cache = cache
        self.policy: Policy = policy
        self.is_shared = is_shared
        """Whether one user's answers are given to others; by default everyone has their own."""
        self._catalogue = catalogue

    def may_share(self, asked: Asked) -> bool:
        """Whether a request has anything to do with the cache; nearly none of those that go on verbatim has."""
        return sameness.concerns(asked, self.policy)

    async def key(self, ticket: Ticket) -> bytes | None:
        """The key of a request's answer; None where it is not to be shared.

        Another model's answer, given in place of the one that was asked for, is not. Raises InvalidRequest for a body
        that cannot be understood.
        """
        route = ticket.route
        fields = sameness.question(route.asked, self.policy)
        if fields is None or route.fallback_from is not None:
            return None
        fingerprint = await self._catalogue.fingerprint(route.asked.model, CONFIRM_TIMEOUT_S)
        if fingerprint is None:
            return None
        # An end user is whom a trusted key speaks for: a person too, whose answers are theirs.
        intent = ticket.intent
        scope = "" if self.is_shared else f"{intent.user_id} {intent.end_user or ''}"
        return sameness.key_of(route.asked.endpoint.relayed_as, fields, scope=scope, fingerprint=fingerprint)
