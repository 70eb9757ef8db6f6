"""Moments in bodies and questions: with a time zone, and of a year that can be counted with."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime

from gemmapy.core.periods import check_moment

AwareMoment = Annotated[AwareDatetime, AfterValidator(check_moment)]
AnyMoment = Annotated[datetime, AfterValidator(check_moment)]
"""Also without a time zone, for routes that say themselves what is wrong with that."""
