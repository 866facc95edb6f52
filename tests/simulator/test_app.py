import asyncio
import socket
import threading

import pytest
import requests
import uvicorn
from fastapi.testclient import TestClient

from ingest.schema import API_COLUMNS
from ingest.simulator_answers import Progress
from ingest.simulator_app import CursorError, CursorFile, create_app
from ingest.simulator_faults import Faults, parse_faults
from ingest.simulator_sources import SyntheticSource
from tests.simulator.simulated import START, Api, parsed, trans_nums


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
