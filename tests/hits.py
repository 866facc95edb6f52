"""Fraud hits for the tests of outbox, mail and mailer."""

from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.outbox import Hit

NOON = datetime(2024, 11, 5, 12, 0, tzinfo=UTC)


def hit(number: int = 0, batch: int = 0, **changes: Any) -> Hit:
    """A hit; ``number`` makes its `trans_num` and its time, ``batch`` its micro-batch."""
    values = {
        "trans_num": f"{number:032x}",
        "cc_num": "4222111133334444",
        "event_time": NOON + timedelta(seconds=number),
        "amt": 1234.5,
        "merchant": "Kirlin and Sons",
        "category": "shopping_net",
        "city": "Columbia",
        "state": "SC",
        "fraud_score": 0.987,
        "threshold": 0.4321,
        "model_name": "fraud",
        "model_version": "7",
        "batch": f"query/{batch:010d}",
        "reasons": ("1,234.50 is 14 times this card's 30-day mean", "at 02:54 <night>"),
    }
    return Hit(**(values | changes))
