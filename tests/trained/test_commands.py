"""The commands of training: what they print, and what they refuse."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import training.evaluate
import training.predict
import training.train
from conf.sections import TrainSettings, WarehouseSettings
from ingest.payment_files import read_payments
from jobs.features import FEATURE_NAMES
from jobs.metrics import evaluation, judged_payments
from jobs.table_log import TableLog
from jobs.tables import ensure_table
from tests.conftest import payment, save_code_model
from tests.test_metrics import EVALUATION
from tests.written_rows import write_file
from training.pipeline import model_columns
from training.versions import load_judge

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CHAMPION = "models:/fraud@champion"


@pytest.fixture
def prints(capsys, run_main, registry):
    """Run a command; the JSON in the one line that it printed."""

    def ran(module, *arguments):
        capsys.readouterr()
        assert run_main(module, *arguments) == 0
        out, err = capsys.readouterr()
        assert out.count("\n") == 1
        assert err == ""
        return json.loads(out)

    return ran


@pytest.fixture
def fails(capsys, run_main, registry):
    """Run a command that must fail; the one line on standard error."""

    def ran(module, *arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            run_main(module, *arguments)
        out, err = capsys.readouterr()
        assert caught.value.code == 1
        assert out == ""
        line = err.splitlines()[-1]
        assert [text for text in err.splitlines() if " INFO " not in text] == [line]
        return line

    return ran


def test_evaluate_prints_one_line(prints, files, trained):
    told = prints(training.evaluate, "--model-uri", CHAMPION, "--data", files[1])
    assert list(told) == EVALUATION
    later = read_payments(files[1])
    assert told["rows"] == len(later)
    assert told["frauds"] == later["is_fraud"].sum()
    scores = trained.model.predict_proba(model_columns(later))[:, 1]
    judged = judged_payments(later, scores)
    assert told == evaluation(judged, trained.threshold, TrainSettings())


def test_evaluate_takes_several_files_a_version_and_a_history(prints, files):
    both = prints(training.evaluate, "--model-uri", "models:/fraud/2", "--data", *files)
    parts = [
        prints(training.evaluate, "--model-uri", CHAMPION, "--data", path, "--history", files[0])
        for path in files
    ]
    assert both["rows"] == sum(part["rows"] for part in parts)
    assert both["frauds"] == sum(part["frauds"] for part in parts)


def test_a_payment_that_is_told_again_counts_once(prints, registry, files, tmp_path):
    later, again = read_payments(files[1]), tmp_path / "again.csv"
    rows = pd.read_csv(files[1], dtype=str)
    pd.concat([rows, rows.assign(amt="1.5")[:900]]).to_csv(again, index=False)
    asked = (training.evaluate, "--model-uri", CHAMPION, "--data")
    assert prints(*asked, again) == prints(*asked, files[1])
    assert prints(*asked, again, "--history", again) == prints(*asked, files[1])
    path, score = as_json(later.iloc[500], tmp_path), load_judge(CHAMPION, registry).scores(later)
    rows = rows[:501]
    pd.concat([rows, rows]).to_csv(again, index=False)
    told = prints(training.predict, "--payment", path, "--history", again)
    assert told["fraud_score"] == score[500]


def test_train_tells_how_many_payments_it_dropped(fails, tmp_path, caplog):
    path = tmp_path / "again.csv"
    pd.DataFrame([payment(n % 4) for n in range(7)]).to_csv(path, index=False)
    caplog.set_level("INFO")
    fails(training.train, "--data", path)
    assert caplog.messages[:2] == [
        "3 payments dropped: their trans_num was told before", "4 payments, 0 frauds",
    ]  # fmt: skip


def test_evaluate_of_a_file_without_payments(prints, files, tmp_path):
    empty = tmp_path / "empty.csv"
    empty.write_text(files[0].open().readline())
    told = prints(training.evaluate, "--model-uri", CHAMPION, "--data", empty)
    assert (told["rows"], told["average_precision"], told["alerts_per_day"]) == (0, None, None)


def as_json(row, tmp_path, **changes):
    """A row of ``read_payments`` as a payment's JSON file."""
    values = json.loads(row.drop("event_time").to_json()) | changes
    path = tmp_path / "payment.json"
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))
    return path


def test_predict_gives_what_evaluate_gives(prints, registry, files, tmp_path):
    """With the payments that came before it, a payment has the score that it has among them."""
    later = read_payments(files[1])
    rows = [*np.flatnonzero(later["is_fraud"] == 1)[:3], 0, 1, len(later) - 1]
    scores = load_judge(CHAMPION, registry).scores(later)
    hits = []
    for row in rows:
        path = as_json(later.iloc[row], tmp_path, is_fraud=...)
        history = tmp_path / "history.csv"
        pd.read_csv(files[1], dtype=str).iloc[:row].to_csv(history)
        told = prints(training.predict, "--payment", path, "--history", history)
        assert told["fraud_score"] == scores[row]
        assert told["trans_num"] == later["trans_num"].iloc[row]
        assert told["prediction"] is bool(scores[row] >= told["threshold"])
        hits.append(told["prediction"])
    assert set(hits) == {True, False}
    assert list(told) == [
        "trans_num", "fraud_score", "prediction", "threshold", "model_name", "model_version",
        "features",
    ]  # fmt: skip
    assert (told["model_name"], told["model_version"]) == ("fraud", "1")
    assert list(told["features"]) == list(FEATURE_NAMES)
    assert told["features"]["amount_usd"] == later["amt"].iloc[-1]


@pytest.mark.filterwarnings("error::FutureWarning")
def test_predict_with_a_history(prints, registry, files, tmp_path):
    later = read_payments(files[1])
    path = as_json(later.iloc[7], tmp_path)
    told = prints(training.predict, "--payment", path, "--history", files[0])
    history = read_payments(files[0])
    scores = load_judge(CHAMPION, registry).scores(later.iloc[[7]], history)
    assert told["fraud_score"] == scores[0]


def test_predict_takes_the_past_of_the_card_from_the_tables(
    prints, registry, files, tmp_path, monkeypatch
):
    """Also where the payment stands there itself."""
    warehouse = WarehouseSettings(path=str(tmp_path / "warehouse"), checkpoints="")
    monkeypatch.setenv("FRAUD_WAREHOUSE__PATH", warehouse.path)
    later = read_payments(files[1])
    card = later["cc_num"].value_counts().index[0]
    rows = later[later["cc_num"] == card].iloc[:9]
    earlier = pa.Table.from_pandas(
        rows.assign(source="api", position=range(9), ingested_at=pd.Timestamp.now("UTC")),
        preserve_index=False,
    )
    for table, some in (("transactions", [0, 1, 3, 4, 6, 7, 8]), ("duplicates", [2, 5])):
        path = ensure_table(warehouse, table)
        assert TableLog(path).append([write_file(path, earlier.take(some), table)], "test", 0)
    told = prints(training.predict, "--payment", as_json(rows.iloc[8], tmp_path))
    assert told["fraud_score"] == load_judge(CHAMPION, registry).scores(rows)[8]
    assert told["features"]["payment_count_by_card_30d"] == 8


def test_predict_reads_standard_input_and_another_version(prints, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(payment(5))))
    told = prints(training.predict, "--payment", "-", "--model-uri", "models:/fraud/2")
    assert told["trans_num"] == payment(5)["trans_num"]
    assert told["model_version"] == "2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[1]", "no JSON object"),
        ("{}", "cc_num: missing"),
        (json.dumps(payment(amt=-1, lat=100)), "lat: expected"),
        (json.dumps(payment(amt=float("nan"))), "amt: expected"),
        ("\xff", "utf-8"),
    ],
)
def test_a_payment_that_cannot_be_is_told_in_one_line(fails, tmp_path, text, said):
    path = tmp_path / "payment.json"
    path.write_text(text, encoding="latin-1")
    line = fails(training.predict, "--payment", path)
    assert said in line
    assert line.startswith("error: ")


def test_predict_asks_of_a_payment_what_the_stream_asks(prints, fails, tmp_path, monkeypatch):
    path = tmp_path / "payment.json"
    path.write_text(json.dumps(payment(merch_lat=..., category=...)))
    assert "category: missing" in fails(training.predict, "--payment", path)
    monkeypatch.setenv("FRAUD_SCORE__OPTIONAL_FIELDS", '["merch_lat", "category"]')
    told = prints(training.predict, "--payment", path)
    assert told["features"]["home_to_merchant_km"] is None
    in_two_days = (pd.Timestamp.now("UTC") + pd.Timedelta(days=2)).timestamp() * 1000
    path.write_text(json.dumps(payment(current_time=int(in_two_days))))
    line = fails(training.predict, "--payment", path)
    assert line.startswith(f"error: {path}: event time: more than 1 days after receipt, ")
    monkeypatch.setenv("FRAUD_SCORE__MAX_DAYS_AHEAD", "0")
    assert prints(training.predict, "--payment", path)["model_version"] == "1"


def test_files_that_are_not_there_are_named(fails, files, tmp_path):
    none = tmp_path / "none"
    path = tmp_path / "payment.json"
    path.write_text(json.dumps(payment()))
    assert str(none) in fails(training.predict, "--payment", none)
    assert fails(training.predict, "--payment", path, "--history", none).startswith(
        f"error: {none}"
    )
    assert str(none) in fails(training.evaluate, "--model-uri", CHAMPION, "--data", none)
    assert str(none) in fails(training.train, "--data", files[0], none)


@pytest.mark.parametrize(
    "uri",
    [
        "models:/fraud@nobody",
        "models:/fraud/99",
        "models:/other@champion",
        "models:/fraud",
        "runs:/1",
    ],
)
def test_a_version_that_is_not_there_is_named(fails, files, tmp_path, uri):
    assert uri in fails(training.evaluate, "--model-uri", uri, "--data", files[1])
    path = tmp_path / "payment.json"
    path.write_text(json.dumps(payment()))
    assert uri in fails(training.predict, "--model-uri", uri, "--payment", path)


def test_a_version_that_does_not_fit_or_has_lost_its_files_is_told(fails, files, client, tmp_path):
    client.create_registered_model("unfit")
    unfit = save_code_model(tmp_path / "unfit", "return data['shoe']", {"shoe": "double"})
    client.create_model_version("unfit", str(unfit))
    client.create_model_version("unfit", str(tmp_path / "nowhere"))
    common = ("--data", files[1], "--model-uri")
    assert "unfit v1 is refused: it asks for shoe" in fails(
        training.evaluate, *common, "models:/unfit/1"
    )
    assert "unfit v2 is refused: " in fails(training.evaluate, *common, "models:/unfit/2")


def test_a_model_that_fails_on_a_row_is_told(fails, files, client, tmp_path):
    body = "assert (data['amt'] == 84.5).all(), 'too much'\n        return data['amt'] * 0"
    strict = save_code_model(tmp_path / "strict", body, {"amt": "double"})
    client.create_registered_model("strict")
    client.create_model_version("strict", str(strict))
    line = fails(training.evaluate, "--data", files[1], "--model-uri", "models:/strict/1")
    assert line.startswith("error: strict v1: it fails: ")
    assert "too much" in line


def test_a_registry_that_is_away_is_told(fails, files, monkeypatch):
    monkeypatch.setenv("FRAUD_REGISTRY__TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for module, arguments in (
        (training.evaluate, ("--model-uri", CHAMPION, "--data", files[1])),
        (training.train, ("--data", files[0])),
    ):
        assert "127.0.0.1:9" in fails(module, *arguments)


def test_training_without_frauds_is_told(fails, payments, tmp_path):
    path = tmp_path / "genuine.csv"
    payments[payments["is_fraud"] == 0].drop(columns="event_time").to_csv(path)
    assert "needs frauds and genuine payments" in fails(training.train, "--data", path)


def test_a_threshold_that_cannot_be_is_told(fails, files, monkeypatch):
    certain = lambda model, columns: np.ones(len(columns))  # noqa: E731
    monkeypatch.setattr(training.fit, "fraud_probability", certain)
    monkeypatch.setenv("FRAUD_TRAIN__THRESHOLD_RULE", "alerts_per_day")
    assert "raise it, or choose another" in fails(training.train, "--data", files[0])
