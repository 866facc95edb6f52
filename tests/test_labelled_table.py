"""Questions to `transactions` once delta-rs has rewritten its files to fill labels in."""

from datetime import UTC, datetime, timedelta

import pytest
from deltalake import write_deltalake

from jobs.label_ledger import standing_verdicts
from jobs.label_merge import LabelMerge
from jobs.received import Received
from jobs.tables import ensure_table
from tests.conftest import payment
from tests.test_truth import ledger
from tests.written_rows import NOON, scored_rows
from training.predict import past_of_card

FIRST_DAY = datetime(NOON.year, NOON.month, NOON.day, tzinfo=UTC)


@pytest.fixture
def warehouse(settings):
    """Payments 0 to 39, an hour apart, the fifth with a label."""
    write_deltalake(
        ensure_table(settings.warehouse, "transactions"), scored_rows(*range(40)), mode="append"
    )
    told = standing_verdicts(ledger((f"{4:032x}", True, 3)))
    assert LabelMerge(settings.warehouse).apply(told) == 1
    return settings.warehouse


def test_the_days_of_single_payments_are_found(warehouse):
    received = Received(warehouse, "transactions", "ingested_at")
    one, late = f"{1:032x}", f"{39:032x}"
    next_day = FIRST_DAY + timedelta(days=1)
    assert received.days_of([one], FIRST_DAY) == {FIRST_DAY}
    assert received.days_of([one, late], FIRST_DAY) == {FIRST_DAY, next_day + timedelta(days=1)}
    assert received.days_of([one, "unknown"], next_day) == set()


def test_the_past_of_a_card_is_found(warehouse):
    card, fifth = str(payment()["cc_num"]), f"{4:032x}"
    past = past_of_card(warehouse, card, fifth)
    assert past["position"].tolist() == [n for n in range(40) if n != 4]
    assert past_of_card(warehouse, "4" * 16, fifth) is None
