"""What a micro-batch writes and tells, from the reports of its tasks on."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from conf.sections import KafkaSettings
from jobs.hits_topic import hit_json
from jobs.lineup import FixedModels, Lineup
from jobs.micro_batch import BatchWriter, commit
from jobs.schemas import WRITTEN_TABLES
from jobs.tables import arrow_schema
from jobs.task_output import BatchReport, hits_of, rows_of
from tests.models import code_version
from tests.written_rows import duplicates_at, scored_rows, write_file


class Topic:
    """Keeps what is sent; fails as long as it is ``away``."""

    def __init__(self):
        self.sent, self.away = [], False

    def send(self, hits):
        if self.away:
            raise OSError("no broker")
        self.sent.append([json.loads(hit_json(hit)) for hit in hits])

    def told(self):
        """Position and version of the model, of each hit of each micro-batch that has some."""
        told = [
            [(int(hit["trans_num"], 16), hit["model_version"]) for hit in hits]
            for hits in self.sent
        ]
        return [hits for hits in told if hits]


@pytest.fixture
def topic(monkeypatch):
    topic = Topic()
    monkeypatch.setattr("jobs.micro_batch.HitsTopic.of", lambda kafka: topic)
    return topic


@pytest.fixture
def start(settings, topic):
    """Start the job: a writer of the query."""
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1")

    def start(query="query", with_topic=True):
        context = SimpleNamespace(getLocalProperty={"sql.streaming.queryId": query}.get)
        return BatchWriter(
            SimpleNamespace(sparkContext=context),
            settings.model_copy(update={"kafka": kafka if with_topic else None}),
            FixedModels(Lineup(None)),
        )

    return start


@pytest.fixture
def folder(settings):
    return settings.warehouse.table


@pytest.fixture
def report(folder):
    """What tasks report that scored ``tables``, a file each."""

    def make(*tables, duplicates=(), payloads=(), tells_hits=True):
        files = {"transactions": [write_file(folder("transactions"), rows) for rows in tables]}
        if payloads:
            rows = pa.table({"source": ["api"] * len(payloads), "payload": payloads,
                             "position": range(900, 900 + len(payloads)),
                             "received_at": tables[0]["ingested_at"][: len(payloads)]})  # fmt: skip
            files["rejected"] = [write_file(folder("rejected"), rows, "rejected")]
        return BatchReport(
            received=0, valid=0, invalid=0, files={name: some for name, some in files.items() if some},
            duplicates=frozenset(rows_of(duplicates_at(*duplicates))),
            hits=hits_of(pa.concat_tables(tables)) if tables and tells_hits else None,
        )  # fmt: skip

    return make


@pytest.fixture
def positions(folder):
    """The positions in a table, sorted."""

    def read(name):
        return sorted(DeltaTable(folder(name)).to_pyarrow_table()["position"].to_pylist())

    return read


@pytest.fixture
def strays(folder):
    """Data files in the folders of the tables that no commit names."""

    def find():
        found = []
        for name in WRITTEN_TABLES:
            committed = {Path(uri).name for uri in DeltaTable(folder(name)).file_uris()}
            there = {path.name for path in Path(folder(name)).glob("*.parquet")}
            assert committed <= there
            found += there - committed
        return found

    return find


def scores(*found, **changes):
    """Rows of `transactions` at positions with a score; a hit from 0.5 on."""
    return pa.concat_tables(
        scored_rows(position, fraud_score=score, prediction=score >= 0.5, **changes)
        for position, score in found
    )


class Models(FixedModels):
    """Keeps what it is told."""

    def __init__(self, lineup):
        super().__init__(lineup)
        self.told = []

    def failed(self, version, reason):
        self.told.append((version.label, reason))

    def proved(self, version):
        self.told.append((version.label, "proved"))


def test_a_batch_in_which_the_champion_fails_is_scored_by_the_one_before(
    start, report, folder, strays
):
    writer = start()
    new, old = (
        code_version("2", "return np.full(len(data), 0.9)"),
        code_version("1", "return data['amt'] / 2000"),
    )
    writer._models = Models(Lineup(new, previous=old))
    tables = [
        scored_rows(1, 2, amt=1800.0, model_version="2", challenger_score=0.25, challenger_version="3"),
        scored_rows(3, amt=500.0, model_version="1", reasons=None),
    ]  # fmt: skip
    told = replace(report(*tables), troubles={"champion": "it fails", "challenger": "nobody"})
    assert writer._seen_to(told, writer._models.lineup()) is old
    assert writer._models.told == [("code v2", "it fails")]
    again = writer._scored_anew(told, old)
    assert again.hits["trans_num"].to_pylist() == [f"{n:032x}" for n in (1, 2)]
    assert again.hits["model_version"].to_pylist() == ["1", "1"]
    writer._write(again, 0)
    rows = DeltaTable(folder("transactions")).to_pyarrow_table().sort_by("position").to_pylist()
    before = pa.concat_tables(tables).to_pylist()
    renewed = {
        "fraud_score",
        "prediction",
        "threshold",
        "model_name",
        "model_version",
        "reasons",
        "scored_at",
    }
    for row, was in zip(rows, before, strict=True):
        assert row["fraud_score"] == row["amt"] / 2000
        assert (row["model_name"], row["model_version"]) == ("code", "1")
        assert row["prediction"] == (row["amt"] >= 1000)
        assert (row["reasons"] is not None) == row["prediction"]
        assert {n: v for n, v in row.items() if n not in renewed} == {
            n: v for n, v in was.items() if n not in renewed
        }
    assert strays() == []


def test_a_batch_without_trouble_is_the_champions(start, report):
    writer = start()
    champion = code_version("2", "return np.full(len(data), 0.9)")
    writer._models = Models(
        Lineup(champion, challenger=code_version("3", "return data['amt'] / 2000"))
    )
    assert writer._seen_to(report(), writer._models.lineup()) is champion
    told = replace(report(), troubles={"challenger": "it fails"})
    assert writer._seen_to(told, writer._models.lineup()) is champion
    assert writer._models.told == [("code v3", "it fails")]


def test_a_batch_is_committed_and_its_hits_are_told(start, report, topic, positions, strays):
    writer = start()
    tables = [scores((0, 0.9), (1, 0.1)), scores((2, 0.5))]
    writer._write(report(*tables, payloads=["x", "y"]), 0)
    writer._write(report(scores((3, 0.2)), scores((4, 0.2))), 1)
    writer._write(report(), 2)
    writer._write(report(scores((5, 0.8))), 3)
    assert positions("transactions") == [0, 1, 2, 3, 4, 5]
    assert positions("rejected") == [900, 901]
    assert positions("duplicates") == strays() == []
    assert topic.told() == [[(0, "3"), (2, "3")], [(5, "3")]]
    assert topic.sent[0][0]["scored_at"] == "2024-11-05T12:00:00.250Z"


def test_without_a_topic_nothing_is_told(start, report, topic, positions):
    writer = start(with_topic=False)
    rows = scores((0, 0.9))
    writer._write(report(rows, tells_hits=False), 0)
    writer._write(report(rows, tells_hits=False), 0)
    assert positions("transactions") == [0]
    assert topic.sent == []


def test_after_a_crash_what_the_table_says_is_told_and_no_file_is_left(
    start, report, topic, positions, strays
):
    start(with_topic=False)._write(report(scores((0, 0.9)), tells_hits=False), 0)
    old = scores((1, 0.8), (2, 0.1), (3, 0.7), model_version="7")
    # The process dies before it tells.
    start(with_topic=False)._write(report(old, payloads=["x"], tells_hits=False), 1)
    writer = start()
    new = scores((1, 0.2), (2, 0.9), (3, 0.9), model_version="8")
    writer._write(report(new.slice(0, 1), new.slice(1), payloads=["x"]), 1)
    assert topic.told() == [[(1, "7"), (3, "7")]]
    assert topic.sent[0][0]["reasons"] == ["far from home", "at night"]
    assert strays() == []
    writer._write(report(scores((4, 0.6), model_version="8")), 2)
    assert topic.told()[1:] == [[(4, "8")]]
    assert positions("transactions") == [0, 1, 2, 3, 4]
    assert positions("rejected") == [900]


def test_the_hits_of_a_batch_are_found_among_those_of_the_same_time(start, report, topic):
    writer = start(with_topic=False)
    at_once = scored_rows(0)["ingested_at"][0].as_py()
    for batch, found in enumerate([[0, 1], [2, 3], [4, 5]]):
        rows = scores(*((position, 0.9) for position in found), ingested_at=at_once)
        writer._write(report(rows, tells_hits=False), batch)
    again = scores((2, 0.1), (3, 0.1), ingested_at=at_once)
    start()._write(report(again), 1)
    assert topic.told() == [[(2, "3"), (3, "3")]]


def test_a_batch_whose_hits_were_not_taken_is_told_by_the_next_start(
    start, report, topic, positions, strays
):
    rows = scores((0, 0.9), (1, 0.1))
    topic.away = True
    with pytest.raises(OSError, match="no broker"):
        start()._write(report(rows), 0)
    topic.away = False
    start()._write(report(rows), 0)
    assert topic.told() == [[(0, "3")]]
    assert positions("transactions") == [0, 1]
    assert strays() == []


def test_a_batch_that_died_between_two_tables_is_made_whole(
    start, report, topic, positions, strays, monkeypatch
):
    rows = scores((0, 0.9), (1, 0.9))

    def dying(table, *arguments):
        if table.path.endswith("rejected"):
            raise RuntimeError("killed")
        return commit(table, *arguments)

    monkeypatch.setattr("jobs.micro_batch.commit", dying)
    with pytest.raises(RuntimeError, match="killed"):
        start()._write(report(rows, duplicates=[1], payloads=["x"]), 0)
    assert topic.sent == []
    monkeypatch.setattr("jobs.micro_batch.commit", commit)
    start()._write(report(rows, duplicates=[1], payloads=["x"]), 0)
    assert [positions(name) for name in WRITTEN_TABLES] == [[0], [1], [900]]
    assert topic.told() == [[(0, "3")]]
    assert len(strays()) == 1  # of the process that died


def test_another_query_writes_for_itself(start, report, topic, positions):
    start("query")._write(report(scores((0, 0.9))), 0)
    start("another")._write(report(scores((1, 0.9))), 0)
    assert positions("transactions") == [0, 1]
    assert topic.told() == [[(0, "3")], [(1, "3")]]


def test_duplicates_are_set_apart_and_not_told(start, report, topic, positions, strays, folder):
    tables = [scores((0, 0.9), (1, 0.9), (2, 0.1)), scores((3, 0.9)), scores((4, 0.9))]
    writer = start()
    reported = report(*tables, duplicates=[1, 2, 3])
    untouched = reported.files["transactions"][2].name
    writer._write(reported, 0)
    assert positions("transactions") == [0, 4]
    assert positions("duplicates") == [1, 2, 3]
    assert topic.told() == [[(0, "3"), (4, "3")]]
    assert strays() == []
    uris = DeltaTable(folder("transactions")).file_uris()
    assert untouched in {Path(uri).name for uri in uris}
    kept = DeltaTable(folder("transactions")).to_pyarrow_table().sort_by("position")
    assert kept.equals(pa.concat_tables(tables).take([0, 4]))
    apart = DeltaTable(folder("duplicates")).to_pyarrow_table().sort_by("position")
    columns = arrow_schema("duplicates").names
    assert apart.equals(pa.concat_tables(tables).take([1, 2, 3]).select(columns))


@pytest.mark.parametrize("found", [[0], [0, 1]])
def test_a_batch_of_nothing_but_duplicates_writes_no_transactions(
    start, report, topic, positions, strays, found
):
    rows = scores(*((position, 0.9) for position in found))
    for _ in range(2):
        start()._write(report(rows, duplicates=found), 0)
        assert positions("transactions") == strays() == []
        assert positions("duplicates") == found
    assert topic.told() == []


def test_duplicates_of_a_batch_that_was_written_are_not_told_either(
    start, report, topic, positions, strays
):
    rows = scores((0, 0.9), (1, 0.9))
    for _ in range(2):
        start()._write(report(rows, duplicates=[1]), 0)
    assert positions("transactions") == [0]
    assert positions("duplicates") == [1]
    assert topic.told() == [[(0, "3")]] * 2
    assert strays() == []


def test_a_duplicate_is_known_by_source_and_position(start, report, positions):
    rows = pa.concat_tables([scores((0, 0.9), source="b"), scores((0, 0.9))])
    start()._write(report(rows, duplicates=[0]), 0)
    assert positions("transactions") == positions("duplicates") == [0]


def test_another_payment_at_the_address_of_a_duplicate_is_none(start, report, folder):
    other = scores((0, 0.9), trans_num=f"{77:032x}")
    start()._write(report(scores((0, 0.9)), other, duplicates=[0]), 0)
    kept = DeltaTable(folder("transactions")).to_pyarrow_table()
    assert kept["trans_num"].to_pylist() == [f"{77:032x}"]


def test_the_time_of_receipt_bounds_what_is_read(start, report, topic, folder):
    writer, rows = start(with_topic=False), scores((5, 0.9))
    early = report(scores((0, 0.9)), tells_hits=False)
    writer._write(early, 0)
    writer._write(report(rows, tells_hits=False), 1)
    Path(folder("transactions"), early.files["transactions"][0].name).unlink()
    start()._write(report(rows), 1)
    assert topic.told() == [[(5, "3")]]
