"""From payments to a registered version, and what judges with it: through the commands themselves."""

import io
import json
import sys
from datetime import UTC, datetime

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from threadpoolctl import threadpool_limits

import training.evaluate
import training.predict
import training.train
from conf.sections import TrainSettings, WarehouseSettings
from conf.settings import load_settings
from ingest.payment_files import read_payments
from ingest.synthetic import make_population
from ingest.synthetic import payments as synthetic_payments
from jobs.features import FEATURE_NAMES
from jobs.metrics import evaluation, judged_payments
from jobs.reference import Histogram, Reference
from jobs.table_log import TableLog
from jobs.tables import ensure_table
from tests.conftest import PROJECT, payment, save_code_model
from tests.test_metrics import EVALUATION
from tests.written_rows import write_file
from training.fit import TrainingError, fingerprint, train_model
from training.pipeline import MODEL_COLUMNS
from training.registry import is_only_version, register
from training.thresholds import choose_threshold
from training.versions import load_judge

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CHAMPION = "models:/fraud@champion"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for one another spin: many times slower where a core is busy."""
    with threadpool_limits(1):
        yield


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two CSV files: the payments of 60 cards in 50 days, and of the next 10."""
    root = tmp_path_factory.mktemp("payments")
    population = make_population(5, 60)
    paths = []
    for name, start, days in (("train.csv", datetime(2024, 1, 1, tzinfo=UTC), 50),
                              ("later.csv", datetime(2024, 2, 20, tzinfo=UTC), 10)):  # fmt: skip
        synthetic_payments(population, start, days, seed=5).to_csv(root / name)
        paths.append(root / name)
    return paths


@pytest.fixture(scope="module")
def payments(files):
    return read_payments(files[0])


@pytest.fixture(scope="module")
def trained(payments):
    return train_model(payments, TrainSettings())


def test_the_same_payments_give_the_same_model_to_the_bit(payments, trained):
    again = train_model(payments.sample(frac=1, random_state=2), TrainSettings())
    assert again.threshold == trained.threshold
    assert again.judged.scores.tobytes() == trained.judged.scores.tobytes()
    assert again.metrics == trained.metrics
    assert again.parameters == trained.parameters
    columns = training.pipeline.model_columns(payments)
    assert (again.model.predict_proba(columns) == trained.model.predict_proba(columns)).all()


def test_the_model_finds_fraud(trained):
    assert trained.metrics["average_precision"] > 0.5
    assert 0 < trained.threshold < 1
    assert trained.parameters["cards"] == 60


def test_the_last_part_of_the_time_judges(payments, trained):
    ordered = payments.sort_values(["event_time", "trans_num"])
    last = ordered.tail(trained.parameters["test_rows"])
    assert len(last) == pytest.approx(0.2 * len(payments), abs=1)
    assert (trained.judged.labels == (last["is_fraud"] == 1)).all()
    assert last["event_time"].min() >= ordered.head(len(ordered) - len(last))["event_time"].max()


def test_the_judged_model_never_saw_the_last_part(payments, trained):
    ordered = payments.sort_values(["event_time", "trans_num"], ignore_index=True)
    split = len(ordered) - trained.parameters["test_rows"]
    ordered.loc[split:, "is_fraud"] = 1 - ordered.loc[split:, "is_fraud"]
    other = train_model(ordered, TrainSettings())
    assert other.judged.scores.tobytes() == trained.judged.scores.tobytes()
    assert (other.judged.labels != trained.judged.labels).all()


def test_the_truth_is_no_input(payments, trained):
    assert "is_fraud" not in MODEL_COLUMNS
    lied = payments.assign(is_fraud=1 - payments["is_fraud"])
    columns = [training.pipeline.model_columns(rows.head(500)) for rows in (payments, lied)]
    pd.testing.assert_frame_equal(*columns)


@pytest.mark.parametrize("rule", ["alerts_per_day", "precision"])
def test_the_settings_choose_the_threshold(payments, trained, monkeypatch, rule):
    monkeypatch.setenv("FRAUD_TRAIN__THRESHOLD_RULE", rule)
    monkeypatch.setenv("FRAUD_TRAIN__ALERTS_PER_DAY", "0.4")
    monkeypatch.setenv("FRAUD_TRAIN__MIN_PRECISION", "1.0")
    settings = load_settings(PROJECT / "conf" / "local.toml").train
    other = train_model(payments, settings)
    assert other.threshold == choose_threshold(trained.judged, settings) != trained.threshold
    assert other.metrics == evaluation(trained.judged, other.threshold, settings)
    measured, bound = {
        "alerts_per_day": (0.4 - other.metrics["alerts_per_day"], 0.1),
        "precision": (other.metrics["precision"] - 1.0, 0.0),
    }[rule]
    assert 0 <= measured <= bound


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (lambda n: np.zeros(n), "first part .* 0 of them frauds"),
        (lambda n: np.ones(n), "first part"),
        (lambda n: np.arange(n) < 5, "last part .* 0 of them frauds"),
        (lambda n: np.arange(n) == n - 1, "first part"),
        (lambda n: np.arange(n) >= 0.8 * n, "first part"),
    ],
)
def test_payments_that_teach_nothing_are_refused(payments, labels, said):
    ordered = payments.sort_values(["event_time", "trans_num"], ignore_index=True).head(300)
    with pytest.raises(TrainingError, match=said):
        train_model(ordered.assign(is_fraud=labels(300).astype(int)), TrainSettings())


def test_no_payments_teach_nothing(payments):
    with pytest.raises(TrainingError, match="0 rows"):
        train_model(payments.head(0), TrainSettings())


def test_the_fingerprint_is_that_of_the_content(payments, files):
    few = payments.head(50)
    known = fingerprint(few)
    assert len(known) == 64
    assert fingerprint(read_payments(files[0]).head(50)) == known
    others = [few.iloc[::-1], few.head(49), few.drop(columns="job"), few[[*few.columns[::-1]]]]
    for name in few:
        changed = few.copy()
        changed[name] = changed[name].astype(object)
        value = few[name].iloc[-1]
        changed.loc[changed.index[-1], name] = (
            value + pd.Timedelta(1, "us") if name == "event_time"
            else value + 1 if isinstance(value, int | float | np.number) else f"{value}x"
        )  # fmt: skip
        others.append(changed.astype({name: few[name].dtype}))
    for first, second in (("amt", "lat"), ("city", "job")):
        others.append(few.rename(columns={first: second, second: first}))
        others.append(few.assign(**{first: few[second], second: few[first]}))
    prints = {fingerprint(other) for other in others}
    assert known not in prints
    assert len(prints) == len(others)


# --- the registry ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_main():
    """Run a module's ``main`` as its command does."""

    def run(module, *arguments, config=PROJECT / "conf" / "local.toml"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["command", "--config", str(config), *map(str, arguments)])
            return module.main()

    return run


@pytest.fixture(scope="module")
def registry(tmp_path_factory, files, payments, trained, run_main):
    """The registry's settings, with version 1 (by the command) and version 2 (by hand)."""
    root = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAUD_REGISTRY__TRACKING_URI", f"sqlite:///{root}/deep/mlflow.db")
        patch.setenv("FRAUD_REGISTRY__ARTIFACTS", str(root / "artifacts"))
        settings = load_settings(PROJECT / "conf" / "local.toml").registry
        assert run_main(training.train, "--data", files[0]) == 0
        assert register(trained, payments, fingerprint(payments), settings) == "2"
        yield settings


@pytest.fixture(scope="module")
def client(registry):
    return MlflowClient(registry.tracking_uri)


@pytest.fixture(scope="module")
def described(registry, client):
    """The first version's run, and the description of its model."""
    version = client.get_model_version("fraud", "1")
    return client.get_run(version.run_id), Model.load("models:/fraud/1")


def test_the_first_version_becomes_champion_and_the_second_challenger(registry, client):
    assert client.get_registered_model("fraud").aliases == {"champion": 1, "challenger": 2}
    assert len(client.search_model_versions("name='fraud'")) == 2


def test_a_version_that_comes_when_the_champion_is_gone_is_challenger(settings):
    client = MlflowClient(settings.registry.tracking_uri)
    client.create_registered_model("fraud")
    for number in (1, 2):
        client.create_model_version("fraud", "file:///nowhere")
        assert is_only_version(client, settings.registry) == (number == 1)


def test_the_run_tells_how_the_version_came_to_be(described, payments, trained):
    run, _ = described
    expected = trained.parameters | {"data_fingerprint": fingerprint(payments)}
    assert run.data.params == {name: str(value) for name, value in expected.items()}
    assert run.data.metrics == trained.metrics
    assert {"seed", "rows", "first_event", "last_event", "trees_max_iter"} <= set(run.data.params)
    assert run.data.params["threshold_rule"] == "costs"
    assert run.data.params["look_cost_usd"] == "10.0"
    assert {"money_saved_usd", "expected_calibration_error"} <= set(run.data.metrics)


def test_the_run_names_its_data(described, payments):
    run, _ = described
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest == fingerprint(payments)[:36]


def test_the_reference_is_of_all_features_and_of_scores_that_were_not_learned(payments, trained):
    numeric = trained.reference.numeric
    assert set(numeric) == {*FEATURE_NAMES, "fraud_score"}
    assert numeric["amount_usd"].mean == pytest.approx(payments["amt"].mean(), rel=1e-5)
    assert numeric["fraud_score"] == Histogram.of(trained.judged.scores)
    assert trained.reference.categories.keys() == set(payments["category"])


def test_the_run_has_its_plots(described, client):
    run, _ = described
    plots = {item.path for item in client.list_artifacts(run.info.run_id, "plots")}
    assert plots == {
        f"plots/{name}.png"
        for name in ("precision_recall", "confusion_matrix", "reliability", "money")
    }


def test_the_model_carries_what_travels_with_it(described, payments, trained):
    _, model = described
    assert model.metadata["threshold"] == trained.threshold
    assert model.metadata["features"] == list(FEATURE_NAMES)
    assert model.metadata["data_fingerprint"] == fingerprint(payments)
    assert {"first_event", "last_event"} <= set(model.metadata)
    assert "as_of" not in model.metadata  # files alone
    assert Reference.from_metadata(model.metadata) == trained.reference
    types = {column.name: column.type.name for column in model.signature.inputs.inputs}
    assert types == dict.fromkeys(MODEL_COLUMNS, "double")


def test_mlflow_itself_serves_probabilities(registry, described, payments, trained):
    mlflow.set_tracking_uri(registry.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/fraud/1")
    example = model.input_example
    columns = training.pipeline.model_columns(payments).head(5)
    pd.testing.assert_frame_equal(example, columns)
    expected = trained.model.predict_proba(columns)
    assert (np.asarray(model.predict(example)) == expected).all()


# --- the commands ---------------------------------------------------------------------------------


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
    scores = trained.model.predict_proba(training.pipeline.model_columns(later))[:, 1]
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
