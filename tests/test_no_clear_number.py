"""With a key, no byte of what the system writes holds a card number, nor any secret that its
environment held: every file is searched.
"""

import gzip
import hashlib
import json
import logging
import re
import sys
import threading
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import training.train
from conf.settings import load_settings
from ingest.call_ledger import CallLedger, Pace, read_calls
from ingest.kafka_landing import KafkaLanding
from ingest.landing import FileLanding
from ingest.pan_cipher import PanCipher, pan_cipher
from ingest.payment_files import read_payments
from ingest.poller import Lander, Poller
from ingest.schema import EXAMPLE_PAYMENT
from ingest.synthetic import make_population
from ingest.synthetic import payments as synthetic_payments
from ingest.topic import Delivery
from jobs.alert import run_alert
from jobs.hits_topic import hit_json
from jobs.label import LabelJob
from jobs.lineup import FixedModels, Lineup
from jobs.mail_catcher import catcher
from jobs.review import draw_reviews
from jobs.score import run_score
from jobs.tables import read_table
from tests.conftest import PROJECT, free_port, payment
from tests.models import constant_version
from training.predict import past_of_card

KEY = hashlib.sha256(b"a key of these tests").hexdigest()
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret of a bucket",
    "AWS_SESSION_TOKEN": "token of a bucket",
    "MLFLOW_TRACKING_PASSWORD": "password of MLflow",
}
COLUMNS = list(EXAMPLE_PAYMENT)
AFTER = 1_708_500_000_000  # the day after the files of payments end
EIGHT = "87654321"
OTHER = "5500005555555559"  # of nobody's payment
WIDE = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}


class Served:
    """Answers in turn."""

    def __init__(self, bodies):
        self._bodies = iter(bodies)

    def fetch(self):
        return next(self._bodies)


class Topic:
    """Takes messages as a topic does."""

    topic = "payments"

    def __init__(self):
        self.messages = []

    def write(self, messages):
        self.messages += messages
        return Delivery({0: [0]}, [])


def answer(*rows, columns=COLUMNS):
    return json.dumps({"columns": columns, "index": list(range(len(rows))), "data": rows}).encode()


def row(number, **changes):
    return list(payment(number, current_time=AFTER + number * 1000, **changes).values())


def bodies_with(cards):
    """Answers that hold each number in ways that an API may find to tell it."""
    first, second, third = cards[:3]
    spaced = " ".join(re.findall("..?.?.?", second))
    yield answer(
        row(1, cc_num=int(first)), row(2, cc_num=first, merchant=f"card {first}"),
        row(3, cc_num=spaced, street=second, job=spaced.replace(" ", "-")),
        row(4, cc_num=float(third)), row(5, cc_num=first, amt=-1, city=first), row(6, cc_num=EIGHT),
        row(7, cc_num=first, amt=int(first)), row(8, cc_num=first, dob=first),
        row(9, cc_num=f"00{first}", first="_".join(first), last=f"{first[0]}.{first[1:]}e{len(first) - 1}",
            street=first.translate(WIDE), city="\u2013".join(first), job="\u200b".join(first),
            merchant=f"for {OTHER}"),
        row(10, cc_num="tok_" + "a" * 32 + "_1234", street=first),
        row(11, cc_num=first, trans_num=f"f{first}"), row(12, cc_num=first, trans_num=OTHER),
    )  # fmt: skip
    yield answer(
        row(11, cc_num=None, last=first), row(12, cc_num="4000-12", job=second), [first, second], first,
        {"cc_num": first, "amt": 1}, row(13, cc_num=[third]), row(14, cc_num=f"no. {third}"),
    )  # fmt: skip
    yield answer(
        [*row(21, cc_num=second), {"pan": [spaced, int(second)]}, second],
        columns=[*COLUMNS, "more", second],
    )
    yield answer([*row(31, cc_num=second), f"pan {second}"], columns=[*COLUMNS, "note"])
    yield answer(row(41, cc_num=first))[:-20]
    yield f"<html>{first}</html>".encode() + b"\xff"
    yield answer([first, first], columns=[first, first])


def poll(settings, landing, bodies, clock=lambda: datetime.now(UTC).timestamp()):
    ledger = CallLedger(settings.landing.ledger, Pace(10**6, 0.001))
    lander = Lander(landing, ledger, "api", 0, clock, pan_cipher(settings))
    poller = Poller(Served(bodies), ledger, lander, 1, 1.0, clock, lambda seconds: None)
    poller.run(len(bodies))
    ledger.close()


def texts_of(path):
    """What a file holds, also what it holds packed: columns of Parquet, members of archives."""
    raw = path.read_bytes()
    yield raw
    if raw[:4] == b"PAR1":
        yield repr(pq.read_table(path).to_pydict()).encode()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)


def found_in(folder, numbers):
    """The files under a folder that hold one of the numbers, whatever stands between its digits."""
    between = r"(?:\\u[0-9a-f]{4}|[^0-9A-Za-z]){0,4}"
    spelled = re.compile(
        "|".join(between.join(map(re.escape, number)) for number in numbers).encode()
    )
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)) for path in files if any(map(spelled.search, texts_of(path)))
    }


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A CSV file of earlier payments, in a folder of its own: 40 cards in 40 days."""
    path = tmp_path_factory.mktemp("files") / "training.csv"
    synthetic_payments(
        make_population(5, 40), datetime(2024, 1, 12, tzinfo=UTC), 40, seed=5
    ).to_csv(path)
    return path


@pytest.fixture
def keyed(environment, monkeypatch, history):
    monkeypatch.setenv("FRAUD_PAN_KEY", KEY)
    users = {"AWS_ACCESS_KEY_ID": "we", "MLFLOW_TRACKING_USERNAME": "we"}
    for name, value in (SECRETS | users).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FRAUD_SCORE__HISTORY", json.dumps([str(history)]))
    monkeypatch.setenv("FRAUD_SMTP__PORT", str(free_port()))
    monkeypatch.setenv("FRAUD_LABEL__REVIEW_SHARE", "1")
    return load_settings(PROJECT / "conf" / "local.toml")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_byte_that_is_written_holds_a_card_number(
    spark, keyed, history, tmp_path, monkeypatch, caplog, capfd
):
    caplog.set_level(logging.DEBUG)
    cards = sorted(
        {str(number) for number in read_payments(history)["cc_num"] if len(str(number)) <= 16}
    )
    hidden = [*cards, EIGHT, OTHER, KEY, *SECRETS.values()]
    monkeypatch.setattr(
        sys, "argv", ["train", "--config", str(PROJECT / "conf/local.toml"), "--data", str(history)]
    )
    monkeypatch.setattr(training.train, "log_to_stderr", lambda: None)  # levels for the whole run
    assert training.train.main() == 0
    bodies = list(bodies_with(cards))
    poll(keyed, FileLanding(Path(keyed.landing.path)), bodies)
    topic = Topic()
    poll(keyed, KafkaLanding(topic, keyed.landing.too_long), bodies)
    relay = catcher(tmp_path / "mails", keyed.smtp.host, keyed.smtp.port)
    relay.start()
    try:
        models = FixedModels(Lineup(constant_version("1", 0.9)))
        assert run_score(spark, keyed, models, True, threading.Event()) == 0
        assert run_alert(spark, keyed, True, threading.Event()) == 0
    finally:
        relay.stop()
    models = FixedModels(Lineup(constant_version("2", 0.1)))
    poll(
        keyed,
        FileLanding(Path(keyed.landing.path)),
        [answer(row(51, cc_num=cards[0], city=cards[0]))],
    )
    assert run_score(spark, keyed, models, True, threading.Event()) == 0
    assert draw_reviews(keyed.warehouse, keyed.label, datetime.now(UTC)) is not None
    keyed.label.inbox.mkdir(parents=True, exist_ok=True)
    for name, said in (("a.csv", "yes"), ("b.csv", OTHER)):
        (keyed.label.inbox / name).write_text(
            f"trans_num,fraud,source,note\n{payment(1)['trans_num']},{said},phone,his other is {OTHER}\n"
        )
    LabelJob(keyed).look()

    scored = {
        int(r["trans_num"], 16): r
        for r in read_table(spark, keyed.warehouse, "transactions").collect()
    }
    rejected = read_table(spark, keyed.warehouse, "rejected").collect()
    assert sorted(scored) == [1, 2, 3, 4, 6, 9, 21, 31, 51]
    cipher = PanCipher(bytes.fromhex(KEY))
    first, second, third = map(cipher.token, cards[:3])
    assert [scored[n]["cc_num"] for n in (1, 2, 3, 4, 21, 31)] == [
        first, first, second, third, second, second,
    ]  # fmt: skip
    assert scored[2]["merchant"] == f"card {first}"
    assert scored[9]["cc_num"] == cipher.token(f"00{cards[0]}")
    assert {scored[9][name] for name in ("first", "last", "street", "city", "job")} == {
        scored[9]["cc_num"]
    }
    assert scored[9]["merchant"] == "for **** 5559"
    assert scored[1]["label"]
    assert json.loads(scored[31]["extra"]) == {"note": f"pan {second}"}
    reasons = Counter(r["reason"].split(":")[0] for r in rejected)
    assert reasons["encrypted by ingest"] == 12  # 9 rows, 3 answers
    assert len(rejected) == 16
    # The file and the stream have the same tokens: the first payment of a card has a past.
    assert scored[4]["features"]["payment_count_by_card_30d"] > 0
    assert past_of_card(keyed.warehouse, first, "none") is not None

    assert found_in(tmp_path, hidden) == set()
    written = [tmp_path / name for name in ("landing", "ingest.db", "warehouse", "checkpoints", "mails",
                                            "mlflow.db", "mlartifacts", "reviews", "alert.db", "verdicts/taken",
                                            "verdicts/refused")]  # fmt: skip
    assert all(path.is_file() or any(path.rglob("*")) for path in written)
    logged = caplog.text + "".join(capfd.readouterr())
    told = [*(m.value for m in topic.messages), *(m.key or "" for m in topic.messages)]
    told += [hit_json(r.asDict(recursive=True)) for r in scored.values()]
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / "texts").write_text("\n".join([logged, *told]))
    assert found_in(tmp_path / "told", hidden) == set()
    assert {m.key for m in topic.messages} > {first, second, third}
    assert len(read_calls(keyed.landing.ledger)) == 15


def test_the_search_finds_what_is_there(spark, settings, tmp_path):
    """Without a key numbers are kept as received; the search above sees them everywhere."""
    landing = FileLanding(Path(settings.landing.path))
    poll(
        settings,
        landing,
        list(bodies_with(["4000123412341234", "4000123412341235", "4000123412341236"])),
    )
    models = FixedModels(Lineup(constant_version("1", 0.9)))
    assert run_score(spark, settings, models, True, threading.Event()) == 0
    found = found_in(tmp_path, ["4000123412341234"])
    assert {name.split("/")[0] for name in found} == {"landing", "warehouse"}
    assert {name.split("/")[1] for name in found if "/part-" in name} == {
        "transactions",
        "rejected",
    }
    # Of seven answers two hold the second card alone, and one is kept as base64.
    assert sum(name.startswith("landing/") for name in found) == 4
