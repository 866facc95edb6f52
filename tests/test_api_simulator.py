import asyncio
import json
import random
import socket
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import requests
import uvicorn
from fastapi.testclient import TestClient

from ingest import api_simulator
from ingest.payment_files import read_payments
from ingest.schema import API_COLUMNS, InvalidPayment, check_payment
from ingest.simulator_answers import Behavior, CurrentTransactions, Progress
from ingest.simulator_app import CursorError, CursorFile, create_app
from ingest.simulator_faults import (
    ANSWER_FAULTS,
    CORRUPTIONS,
    FaultError,
    Faults,
    corrupted,
    parse_faults,
)
from ingest.simulator_sources import FileSource, SyntheticSource, latest_payments
from ingest.synthetic import FraudPlan, make_population, payments

START = datetime(2024, 3, 1, tzinfo=UTC)
NOON = 1_700_000_000.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def population():
    return make_population(seed=1, cards=40)


@pytest.fixture(scope="module")
def frame(population):
    return payments(population, START, 5, seed=1)


@pytest.fixture(scope="module")
def path(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("payments") / "payments.csv"
    frame.to_csv(path)
    return path


class Api(CurrentTransactions):
    """On a file or another source, with a clock of its own."""

    def __init__(self, source, *, seed: int = 1, progress: Progress | None = None, **behavior):
        self.clock = Clock()
        rng = random.Random(seed)
        super().__init__(source, Behavior(**behavior), clock=self.clock, rng=rng, progress=progress)

    def call(self, after_seconds: float = 60.0):
        self.clock.now += after_seconds
        return self.answer()


@pytest.fixture
def source(path):
    return FileSource([path])


def parsed(body: bytes) -> dict:
    content = json.loads(body)
    return json.loads(content) if isinstance(content, str) else content


def trans_nums(answer) -> list[str]:
    return [row[API_COLUMNS.index("trans_num")] for row in parsed(answer.body)["data"]]


def test_the_first_call_finds_what_became_due_in_one_interval(source, frame):
    answer = Api(source, rate=2).call()

    assert answer.status == 200
    assert trans_nums(answer) == frame["trans_num"].head(24).tolist()


def test_rows_become_due_at_the_rate_and_the_last_ones_come_again(source, frame):
    api = Api(source, rate=2, overlap=3)
    api.call()

    second, third = api.call(after_seconds=10), api.call(after_seconds=0.5)

    assert trans_nums(second) == frame["trans_num"].iloc[21:44].tolist()
    assert trans_nums(third) == frame["trans_num"].iloc[41:45].tolist()


def test_a_clock_set_back_takes_no_row_back(source, frame):
    api = Api(source, rate=2, overlap=0)
    api.call()

    assert trans_nums(api.call(after_seconds=-30)) == []
    assert trans_nums(api.call(after_seconds=31)) == frame["trans_num"].iloc[24:26].tolist()


def test_an_answer_has_the_form_of_the_api(source, frame):
    content = parsed(Api(source, rate=1).call().body)

    assert list(content) == ["columns", "index", "data"]
    assert content["columns"] == list(API_COLUMNS)
    assert content["index"] == list(range(12))
    first = dict(zip(content["columns"], content["data"][0], strict=True))
    expected = frame.iloc[0]
    assert first["cc_num"] == int(expected["cc_num"])
    assert first["current_time"] == int(expected["unix_time"]) * 1000
    assert (first["amt"], first["city_pop"]) == (expected["amt"], expected["city_pop"])
    for name in ("cc_num", "city_pop", "is_fraud", "current_time"):
        assert isinstance(first[name], int)
    for row in content["data"]:
        check_payment(dict(zip(content["columns"], row, strict=True)))


def test_a_number_that_would_lose_zeros_stays_text(frame, tmp_path):
    changed = frame.head(3).assign(
        zip=["02108", "0", "97201"], cc_num=["0000400012341234", "4000123412341234", "123456789"]
    )
    changed.to_csv(tmp_path / "a.csv")

    rows = parsed(Api(FileSource([tmp_path / "a.csv"])).call().body)["data"]

    assert [row[API_COLUMNS.index("zip")] for row in rows] == ["02108", 0, 97201]
    assert [row[0] for row in rows] == ["0000400012341234", 4000123412341234, 123456789]


def test_the_body_is_now_json_and_now_text_that_holds_json(source):
    def kinds(seed: int) -> list[type]:
        api = Api(source, seed=seed)
        return [type(json.loads(api.call().body)) for _ in range(30)]

    assert {dict, str} == set(kinds(seed=1))
    assert kinds(seed=1) == kinds(seed=1) != kinds(seed=2)


def test_told_as_of_now_a_payment_has_the_moment_it_became_due(source):
    api = Api(source, rate=2, overlap=2, is_told_now=True)
    first = parsed(api.call(after_seconds=0).body)["data"]
    second = parsed(api.call(after_seconds=5).body)["data"]

    noon_ms = int(NOON * 1000)
    assert [row[-1] for row in first] == [noon_ms - 11_500 + 500 * i for i in range(24)]
    assert [row[-1] for row in second] == [noon_ms - 500 + 500 * i for i in range(12)]


def test_five_calls_in_any_minute(source):
    api = Api(source)
    allowed = [api.call(after_seconds=10).status for _ in range(5)]

    refused = api.call(after_seconds=5)

    assert allowed == [200] * 5
    assert (refused.status, refused.headers) == (429, {"Retry-After": "15"})
    assert api.call(after_seconds=14.9).status == 429
    assert api.call(after_seconds=0.1).status == 200
    assert api.call(after_seconds=9).status == 429


def test_refused_calls_use_nothing_up(source, frame):
    api = Api(source, calls_per_minute=1, rate=1, overlap=0)
    api.call()
    for _ in range(3):
        api.call(after_seconds=10)

    assert trans_nums(api.call(after_seconds=30)) == frame["trans_num"].iloc[60:120].tolist()


def test_an_exhausted_file_gives_empty_answers(source, frame):
    api = Api(source, rate=1e6)

    assert len(trans_nums(api.call())) == len(frame)
    assert parsed(api.call().body) == {"columns": list(API_COLUMNS), "index": [], "data": []}
    assert api.served()["distinct"] == len(frame)


FAULT_SIGNS = {
    "429": (429, {"Retry-After": "12"}),
    "429-bare": (429, {}),
    "500": (500, {}),
    "503": (503, {}),
    "timeout": (504, {}),
    "drop": (200, {}),
    "malformed": (200, {}),
}


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_a_spoiled_answer_delivers_nothing_so_that_its_rows_come_again(source, frame, fault):
    spoiled = Api(source, rate=1, hold_seconds=7, faults=Faults({fault: 1.0}))
    answer = spoiled.call()

    assert (answer.status, answer.headers) == FAULT_SIGNS[fault]
    assert answer.is_cut == (fault == "drop")
    assert answer.hold_seconds == (7 if fault == "timeout" else 0)
    assert not answer.is_delivered
    assert spoiled.progress == Progress()
    sound = Api(source, rate=1, progress=spoiled.progress).call()
    assert sound.is_delivered
    assert trans_nums(sound) == frame["trans_num"].head(12).tolist()


def test_malformed_bodies_end_early_or_are_no_utf8(source):
    api = Api(source, faults=Faults({"malformed": 1.0}))
    errors = Counter()
    for _ in range(40):
        with pytest.raises(ValueError, match=r".") as caught:
            json.loads(api.call().body.decode())
        errors[caught.type] += 1

    assert set(errors) == {json.JSONDecodeError, UnicodeDecodeError}
    assert min(errors.values()) > 5


def test_faults_happen_as_often_as_told(source):
    api = Api(source, faults=parse_faults("500=0.2, 503=0.3"))

    statuses = Counter(api.call().status for _ in range(1000))

    assert statuses[500] == pytest.approx(200, abs=50)
    assert statuses[503] == pytest.approx(300, abs=50)
    assert statuses[200] == pytest.approx(500, abs=60)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("501=0.1", "unknown fault '501'; there are 429, 429-bare, 500, 503, timeout, drop, "),
        ("500", "fault 500: expected a probability from 0 to 1, found ''"),
        ("500=often", "found 'often'"),
        ("corrupt=1.1", "found '1.1'"),
        ("drop=-0.1", "found '-0.1'"),
        ("500=nan", "found 'nan'"),
        ("500=0.6,503=0.6", "add up to 1.2"),
        ("500=0.1,500=0.2", "given twice"),
    ],
)
def test_faults_that_cannot_be_are_refused(text, problem):
    with pytest.raises(FaultError) as caught:
        parse_faults(text)

    assert problem in str(caught.value)


def test_faults_are_read():
    assert parse_faults("") == Faults({})
    assert parse_faults("500=0.1, corrupt=0.02,") == Faults({"500": 0.1}, corrupt=0.02)


def test_every_corruption_makes_a_payment_invalid(source):
    sound = dict(zip(API_COLUMNS, parsed(Api(source).call().body)["data"][0], strict=True))
    seen = set()
    for row in range(500):
        spoiled = corrupted(1, row, sound)
        differing = {name for name in API_COLUMNS if spoiled[name] is not sound[name]}
        assert len(differing) == 1
        seen |= {(name, repr(spoiled[name])) for name in differing}
        with pytest.raises(InvalidPayment):
            check_payment(spoiled)

    assert seen == {(column, repr(value)) for column, value in CORRUPTIONS}


def test_a_corrupt_row_is_corrupt_in_the_same_way_each_time(source):
    api = Api(source, rate=10, overlap=60, faults=Faults({}, corrupt=0.2))
    first, second = (parsed(api.call().body)["data"] for _ in range(2))

    assert repr(second[:60]) == repr(first[60:])
    sound = parsed(Api(source, rate=10).call().body)["data"]
    wrong = sum(repr(row) != repr(whole) for row, whole in zip(first, sound, strict=True))
    assert 12 <= wrong <= 36


def test_corrupt_rows_are_the_same_whichever_rows_are_asked():
    faults = Faults({}, corrupt=0.1)
    whole = faults.is_corrupt(1, 0, 10_000)

    assert (faults.is_corrupt(1, 4000, 8300) == whole[4000:8300]).all()
    assert 900 < whole.sum() < 1100
    assert (faults.is_corrupt(2, 0, 10_000) != whole).any()
    assert len(faults.is_corrupt(1, 5, 5)) == 0


def test_served_lists_what_good_answers_delivered(source, frame):
    api = Api(source, rate=1, overlap=3, faults=parse_faults("500=0.3,corrupt=0.1"))
    good = [answer for answer in (api.call() for _ in range(8)) if answer.is_delivered]
    rows = [row for answer in good for row in parsed(answer.body)["data"]]

    served = api.served(with_list=True)

    assert 0 < len(good) < 8
    assert (served["answers"], served["rows"]) == (len(good), len(rows))
    delivered = set(frame["trans_num"].iloc[: api.progress.next_row])
    assert served["distinct"] == len(delivered)
    assert served["trans_nums"] == sorted(served["trans_nums"])
    assert set(served["trans_nums"]) | set(served["corrupted_trans_nums"]) == delivered
    assert served["corrupted"] == len(served["corrupted_trans_nums"]) > 0
    assert not set(served["trans_nums"]) & set(served["corrupted_trans_nums"])
    valid = set()
    for row in rows:
        try:
            valid.add(check_payment(dict(zip(API_COLUMNS, row, strict=True)))["trans_num"])
        except InvalidPayment:
            continue
    assert sorted(valid) == served["trans_nums"]
    assert "trans_nums" not in api.served()


def test_two_rows_with_one_number_count_once(frame, tmp_path):
    pd.concat([frame.head(5), frame.head(2)]).to_csv(tmp_path / "a.csv")
    api = Api(FileSource([tmp_path / "a.csv"]))
    api.call()

    assert (api.served()["rows"], api.served()["distinct"]) == (7, 5)


def test_files_are_replayed_one_after_the_other(frame, tmp_path):
    frame.iloc[5:8].to_csv(tmp_path / "a.csv")
    frame.iloc[:2].to_csv(tmp_path / "b.csv")

    source = FileSource([tmp_path / "a.csv", tmp_path / "b.csv"])

    expected = frame["trans_num"].iloc[[5, 6, 7, 0, 1]].tolist()
    assert source.rows(0, 9)["trans_num"].tolist() == expected
    assert source.name == "a.csv, b.csv (5 payments)"
    assert not source.is_exhausted(4)
    assert source.is_exhausted(5)


@pytest.mark.parametrize("cuts", [[10, 300], [90, 100, 101, 330], [0, 330], [250, 60, 300]])
def test_synthetic_rows_are_the_same_however_they_are_asked(population, frame, cuts):
    source = SyntheticSource(population, START, seed=1)
    for first, stop in zip([0, *cuts], cuts, strict=False):
        found = source.rows(min(first, stop), stop)["trans_num"].tolist()
        assert found == frame["trans_num"].iloc[min(first, stop) : stop].tolist()


def test_a_synthetic_source_goes_on_from_its_anchor(population, frame):
    before = SyntheticSource(population, START, seed=1)
    before.rows(200, 210)
    anchor = before.anchor

    after = SyntheticSource(population, START, seed=1, anchor=anchor)

    assert 0 < anchor[0] <= 200
    assert anchor[1] > 0
    assert after.rows(210, 300)["trans_num"].tolist() == frame["trans_num"][210:300].tolist()
    assert after.rows(0, 5)["trans_num"].tolist() == frame["trans_num"][:5].tolist()
    assert not after.is_exhausted(10**9)


def test_a_changed_plan_of_the_fraud_is_served_and_named(population):
    plan = FraudPlan(START + timedelta(days=2), cycle_days=20)
    source = SyntheticSource(population, START, seed=1, fraud=plan)
    expected = payments(population, START, 8, 1, plan)

    assert source.rows(0, 600)["trans_num"].tolist() == expected["trans_num"].head(600).tolist()
    assert source.name.removeprefix(SyntheticSource(population, START, seed=1).name) == (
        ", fraud changes at 2024-03-03 00:00, a cycle of bursts takes 20 days"
    )
    written = latest_payments(population, START + timedelta(days=8), 600, 1, plan)
    pd.testing.assert_frame_equal(written, expected.tail(600).reset_index(drop=True))


def test_the_payments_to_train_on_end_where_those_served_begin(population):
    written = latest_payments(population, START, 300, seed=1)

    whole = payments(population, START - timedelta(days=30), 30, seed=1)
    pd.testing.assert_frame_equal(written, whole.tail(300).reset_index(drop=True))


def test_a_restarted_api_goes_on_behind_the_last_delivered_row(population, frame, tmp_path):
    served = []
    for _ in range(3):
        source = SyntheticSource(population, START, seed=1)
        cursor = CursorFile(tmp_path / "cursor.json", source.name)
        progress, source.anchor = cursor.load()
        api = Api(source, rate=5, overlap=4, progress=progress)
        for _ in range(2):
            served.append(trans_nums(api.call(after_seconds=4)))
            cursor.save(api.progress, source.anchor)

    distinct = list(dict.fromkeys(name for names in served for name in names))
    assert distinct == frame["trans_num"].head(240).tolist()
    assert [len(names) for names in served] == [60, 24] * 3
    assert api.served()["answers"] == 6
    assert api.served()["rows"] == 252
    assert api.served(with_list=True)["trans_nums"] == sorted(distinct)
    assert [file.name for file in tmp_path.iterdir()] == ["cursor.json"]


def test_a_cursor_of_other_payments_is_refused(tmp_path):
    CursorFile(tmp_path / "cursor.json", "these").save(Progress(next_row=3), (0, 0))

    with pytest.raises(CursorError, match="is the cursor of these, expected those"):
        CursorFile(tmp_path / "cursor.json", "those").load()


@pytest.mark.parametrize("content", ["", "{}", '{"source": "a", "progress": {"x": 1}}', "[1]"])
def test_a_file_that_is_no_cursor_is_refused(tmp_path, content):
    (tmp_path / "cursor.json").write_text(content)

    with pytest.raises(CursorError, match=r"cursor.json: no cursor of this API"):
        CursorFile(tmp_path / "cursor.json", "a").load()


def test_over_http_the_answer_and_its_headers_arrive(source, frame):
    client = TestClient(create_app(Api(source, rate=1, calls_per_minute=1)))

    answer, refused = (client.get("/current-transactions") for _ in range(2))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert (
        parsed(answer.content)["data"][0][API_COLUMNS.index("trans_num")] == frame["trans_num"][0]
    )
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "60"
    served = client.get("/served").json()
    assert served == {"answers": 1, "rows": 60, "distinct": 60, "corrupted": 0}
    listed = client.get("/served?list=1").json()
    assert listed["trans_nums"] == sorted(frame["trans_num"].head(60))


def test_progress_is_saved_after_each_delivered_answer_only(source):
    saved = []
    api = Api(source, calls_per_minute=100, faults=parse_faults("500=0.5"))
    client = TestClient(create_app(api, save=lambda: saved.append(api.progress.answers)))

    statuses = [client.get("/current-transactions").status_code for _ in range(20)]

    assert saved == list(range(1, statuses.count(200) + 1))
    assert 0 < len(saved) < 20


def test_a_held_answer_waits_and_then_fails(source):
    held = []

    async def hold(seconds: float) -> None:
        held.append(seconds)

    api = Api(source, hold_seconds=33, faults=Faults({"timeout": 1.0}))
    answer = TestClient(create_app(api, hold=hold)).get("/current-transactions")

    assert answer.status_code == 504
    assert held == [33]


def test_a_dropped_answer_breaks_off_in_mid_body(source, frame):
    api = Api(source, rate=1, faults=Faults({"drop": 1.0}))
    config = uvicorn.Config(create_app(api), log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        loop = threading.Thread(target=asyncio.run, args=[server.serve(sockets=[listener])])
        loop.start()
        try:
            with requests.get(f"{url}/current-transactions", timeout=10, stream=True) as answer:
                announced = int(answer.headers["Content-Length"])
                with pytest.raises(requests.exceptions.ChunkedEncodingError, match="Incomplete"):
                    list(answer.iter_content(64))
            served = requests.get(f"{url}/served", timeout=10).json()
        finally:
            server.should_exit = True
            loop.join(timeout=10)

    assert announced > 1000
    assert served["answers"] == 0
    assert not loop.is_alive()


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["api_simulator", *map(str, arguments)])
    api_simulator.main()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--data", "synthetic", "--faults", "rain=1"], "error: unknown fault 'rain'; there are"),
        (["--data", "synthetic", "a.csv", "--port", "0"], "error: --data: either files or"),
        (["--data", "none.csv", "--port", "0"], "error: none.csv: no such file"),
        (["--data", "a.csv", "--out", "b.csv"], "error: --out goes with --data synthetic"),
        (["--data", "synthetic", "--out", "no/such/b.csv", "--rows", "5"], "error: "),
        (
            ["--data", "synthetic", "--port", "0", "--fraud-changes-at", "July"],
            "error: --fraud-changes-at: expected a day such as 2025-07-01 or a moment with its zone",
        ),
        (
            [
                "--data",
                "synthetic",
                "--out",
                "b.csv",
                "--rows",
                "5",
                "--fraud-changes-at",
                "2025-07-01T06:00",
            ],
            "error: --fraud-changes-at: expected a day such as 2025-07-01 or a moment with its zone",
        ),
        (
            ["--data", "a.csv", "--port", "0", "--fraud-changes-at", "2025-07-01"],
            "error: --fraud-changes-at and --burst-cycle-days go with --data synthetic",
        ),
    ],
)
def test_what_cannot_be_is_told_in_one_line(monkeypatch, capsys, arguments, problem):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, *arguments)

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(problem)


def test_a_taken_port_is_told_in_one_line(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match="2"):
            run(monkeypatch, "--data", "synthetic", "--port", port)

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: port {port} is taken: ")
    assert "--port" in lines[0]


@pytest.mark.parametrize(
    "arguments",
    [["--rate", "0"], ["--port", "70000"], ["--calls-per-minute", "0"], ["--start", "June"]],
)
def test_arguments_out_of_range_are_refused(monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--data", "synthetic", *arguments)

    assert f"argument {arguments[0]}: " in capsys.readouterr().err


def test_payments_are_written_to_train_on(monkeypatch, capsys, tmp_path):
    out = tmp_path / "train.csv.gz"
    common = ["--data", "synthetic", "--out", out, "--rows", 900, "--cards", 30]
    run(monkeypatch, *common, "--start", "2024-03-01", "--seed", 4)

    written = read_payments(out)
    expected = latest_payments(make_population(4, 30), START, 900, seed=4)

    assert written["trans_num"].tolist() == expected["trans_num"].tolist()
    assert capsys.readouterr().out.startswith(f"{out}: 900 payments of 30 cards, seed 4, ")
    assert list(pd.read_csv(out).columns[:2]) == ["Unnamed: 0", "trans_date_trans_time"]
    assert [file.name for file in tmp_path.iterdir()] == ["train.csv.gz"]


def test_the_fraud_of_what_is_written_or_served_changes_as_told(monkeypatch, capsys, tmp_path):
    out = tmp_path / "train.csv"
    options = ["--cards", 30, "--seed", 4, "--start", "2024-03-01", "--burst-cycle-days", 20]
    change = ["--fraud-changes-at", "2024-02-20"]
    run(monkeypatch, "--data", "synthetic", "--out", out, "--rows", 900, *options, *change)

    plan = FraudPlan(START - timedelta(days=10), 20)
    expected = latest_payments(make_population(4, 30), START, 900, 4, plan)
    assert read_payments(out)["trans_num"].tolist() == expected["trans_num"].tolist()

    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: sockets[0].close())
    run(monkeypatch, "--data", "synthetic", "--port", "0", *options, *change)
    name = SyntheticSource(make_population(4, 30), START, 4, fraud=plan).name
    assert f", {name}, " in capsys.readouterr().out


def test_the_server_starts_where_its_cursor_says(monkeypatch, capsys, path, tmp_path):
    """``serve`` up to the moment at which the server would take over."""
    name = FileSource([path]).name
    CursorFile(tmp_path / "cursor.json", name).save(Progress(7, 1, 7), (0, 0))
    clients = []

    def run_once(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        assert sockets[0].getsockname()[0] == "127.0.0.1"
        client = TestClient(server.config.app)
        clients.append(parsed(client.get("/current-transactions").content))
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", run_once)
    arguments = ["--rate", "1", "--seed", "9", "--overlap", "0", "--calls-per-minute", "10"]
    cursor = tmp_path / "cursor.json"
    run(monkeypatch, "--data", path, "--port", "0", "--cursor", cursor, *arguments)

    numbers = [row[API_COLUMNS.index("trans_num")] for row in clients[0]["data"]]
    assert numbers == FileSource([path]).rows(7, 13)["trans_num"].tolist()
    assert CursorFile(cursor, name).load() == (Progress(13, 2, 13), (0, 0))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    for told in (name, "http://127.0.0.1:", "from row 7 on", "1 a second", "seed 9"):
        assert told in lines[0]
