import socket
import sys
from datetime import timedelta

import pandas as pd
import pytest
import uvicorn
from fastapi.testclient import TestClient

from ingest import api_simulator
from ingest.payment_files import read_payments
from ingest.schema import API_COLUMNS
from ingest.simulator_answers import Progress
from ingest.simulator_app import CursorFile
from ingest.simulator_sources import FileSource, SyntheticSource, latest_payments
from ingest.synthetic import FraudPlan, make_population
from tests.simulator.simulated import START, parsed


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
