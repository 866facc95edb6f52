"""The short form of ``make fuzz``, what a hostile body may cost, and hostile rows in the stream."""

import json
import threading
import tracemalloc

import pytest
import requests
from hypothesis import Phase, given
from hypothesis import seed as seeded
from hypothesis import settings as hypothesis_settings

from ingest.decode import MAX_COMMAS, UndecodableBody, decode_body
from ingest.payments_api import CallFailed, PaymentsApi
from jobs.lineup import FixedModels, Lineup
from jobs.score import run_score
from jobs.tables import read_table
from tests import fuzz
from tests.conftest import land
from tests.hostile import raw_payloads
from tests.models import constant_version

MEGABYTE = 2**20


def test_every_hostile_payload_is_accounted_for():
    counts = fuzz.run(800, first_seed=11)
    assert counts.total() >= 800
    assert counts["valid"] > 50
    assert {"not a JSON object", "not UTF-8 text"} < set(counts)
    assert len(counts) > 10


def test_the_same_seed_gives_the_same_payloads():
    assert fuzz.run(200, first_seed=3) == fuzz.run(200, first_seed=3)


class Endless:
    """A body of 100 MB that is made as it is read."""

    def __init__(self):
        self.left = 100 * MEGABYTE

    def read(self, size=MEGABYTE, **options):
        size = min(size or MEGABYTE, self.left)
        self.left -= size
        return b"[" * size

    def close(self):
        pass


class Adapter(requests.adapters.BaseAdapter):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def send(self, request, **kwargs):
        response = requests.Response()
        response.status_code, response.raw, response.request = 200, self.body, request
        return response

    def close(self):
        pass


def test_a_body_of_100_megabytes_is_refused_before_it_is_in_memory():
    session, body = requests.Session(), Endless()
    session.mount("http://", Adapter(body))
    api = PaymentsApi(
        "http://api.test/x",
        timeout_seconds=10,
        max_body_bytes=4 * MEGABYTE,
        session=session,
        clock=lambda: 0.0,
    )
    tracemalloc.start()
    try:
        with pytest.raises(CallFailed, match="body too long: more than 4194304 bytes"):
            api.fetch()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * MEGABYTE
    assert body.left > 90 * MEGABYTE


def test_an_answer_of_more_values_than_memory_has_room_for_is_refused_unread():
    body = b'{"columns": [], "data": [' + b"[]," * MAX_COMMAS + b"[]]}"
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableBody, match="at most 2,000,000 values"):
            decode_body(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEGABYTE


def test_hostile_rows_wedge_no_stream(spark, settings):
    """Each stands once in `transactions`, `rejected` or `duplicates`, or is a repetition."""
    payloads = _some(300)
    land(settings.landing.path, 0, payloads)
    models = FixedModels(Lineup(constant_version("1", 0.9)))
    assert run_score(spark, settings, models, True, threading.Event()) == 0
    found = [
        row["position"]
        for table in ("transactions", "rejected", "duplicates")
        for row in read_table(spark, settings.warehouse, table).select("position").collect()
    ]
    assert len(found) == len(set(found))
    lost = set(range(len(payloads))) - set(found)
    told = [_trans_num(payload) for payload in payloads]
    assert all(told[place] in told[:place] for place in lost)
    assert len(lost) < 100


def _some(count):
    payloads = []

    @seeded(5)
    @hypothesis_settings(max_examples=count, database=None, phases=[Phase.generate], deadline=None)
    @given(raw_payloads())
    def collect(payload):
        payloads.append(payload)

    collect()
    return payloads


def _trans_num(payload):
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return found.get("trans_num") if isinstance(found, dict) else None
