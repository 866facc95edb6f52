"""The comparison behind ``training.replay``, on small tables."""

import io
import zipfile

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conf.sections import ScoreSettings
from ingest.schema import check_payment
from jobs.features import FEATURE_NAMES
from jobs.model import inputs_of
from jobs.scoring import load_archive
from tests.conftest import land, payment
from tests.models import forest_version
from training import replay
from training.raw_payments import NoLanding, first_arrivals, read_arrivals
from training.replay_report import compare, is_of_trees, lines_of
from training.versions import Judge

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")

VERSION = ("forest", "1")


@pytest.fixture(scope="module")
def judge():
    version = forest_version("1")
    model = load_archive(version.archive, version.inputs)
    return Judge(version.name, version.version, version.threshold, model)


def raw_payment(number):
    return payment(number, amt=150.0 * number, current_time=1_717_245_296_000 + number * 5_000_000)


@pytest.fixture
def tables(judge):
    """What is expected of eight payments, and what a faultless stream wrote."""
    payments = pd.DataFrame([check_payment(raw_payment(n)) for n in range(8)])
    expected = inputs_of(payments).assign(source="api", position=range(8))
    found = expected[["source", "position", "trans_num", *FEATURE_NAMES]].copy()
    found["fraud_score"] = judge.scores_of(expected)
    found["threshold"] = judge.threshold
    found["prediction"] = found["fraud_score"] >= judge.threshold
    found["model_name"], found["model_version"] = VERSION
    return expected, found


def differences(expected, found, judge):
    report = compare(expected, found, {VERSION: judge})
    return {item.what: item.count for item in report.differences}


def next_up(frame, row, column):
    """Change one number in its last bit."""
    place = frame.columns.get_loc(column)
    frame.iloc[row, place] = np.nextafter(frame.iloc[row, place], np.inf)


def test_equal_tables_have_no_difference(tables, judge):
    expected, found = tables
    report = compare(expected, found.sample(frac=1, random_state=1), {VERSION: judge})
    assert (report.compared, report.features) == (8, len(FEATURE_NAMES))
    assert (report.not_scored_yet, report.differences) == (0, ())
    assert report.versions == {VERSION: 8}
    assert found["seconds_since_previous_by_card"].isna().any()  # NaN equals NaN


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_one_bit_of_one_feature_is_found(tables, judge, name):
    expected, found = tables
    place = found.columns.get_loc(name)
    if np.isnan(found.iloc[3, place]):
        found.iloc[3, place] = 0.0
    else:
        next_up(found, 3, name)
    assert differences(expected, found, judge) == {name: 1}


def test_the_sign_of_zero_is_a_bit_too(tables, judge):
    expected, found = tables
    assert found["amount_usd"].iloc[0] == 0
    found.iloc[0, found.columns.get_loc("amount_usd")] = -0.0
    assert differences(expected, found, judge) == {"amount_usd": 1}


def test_a_missing_an_extra_and_a_doubled_row_are_found(tables, judge):
    expected, found = tables
    assert differences(expected, found.drop(index=3), judge) == {"missing in transactions": 1}
    assert differences(expected.drop(index=7), found, judge) == {"in transactions, not expected": 1}
    doubled = pd.concat([found, found.iloc[[5]]])
    assert differences(expected, doubled, judge) == {"more than once in transactions": 1}
    # The same payment, but of two arrivals the second one.
    later = found.assign(position=found["position"].replace(3, 100))
    assert differences(expected, later, judge) == {
        "missing in transactions": 1,
        "in transactions, not expected": 1,
    }


def test_what_lies_behind_the_last_scored_row_of_its_source_is_not_scored_yet(tables, judge):
    expected, found = tables
    other = expected.iloc[:2].assign(source="other")
    report = compare(pd.concat([expected, other]), found[:6], {VERSION: judge})
    assert (report.compared, report.not_scored_yet, report.differences) == (6, 4, ())


def test_score_threshold_and_prediction_are_compared(tables, judge):
    expected, found = tables
    place = int(found["fraud_score"].between(0.01, 0.99).to_numpy().argmax())
    next_up(found, place, "fraud_score")
    assert differences(expected, found, judge) == {"fraud_score by forest v1": 1}
    found = found.assign(
        fraud_score=judge.scores_of(expected), prediction=~found["prediction"], threshold=0.25
    )
    assert differences(expected, found, judge) == {
        "threshold of forest v1": 8,
        "prediction by forest v1": 8,
    }


def test_scores_of_other_models_may_differ_by_little(tables, judge, monkeypatch):
    expected, found = tables
    monkeypatch.setattr(type(judge.model), "estimator", LogisticRegression())
    near = found.assign(fraud_score=found["fraud_score"] + 5e-13)
    near["prediction"] = near["fraud_score"] >= judge.threshold
    assert differences(expected, near, judge) == {}
    far = found.assign(fraud_score=found["fraud_score"] + 5e-12)
    far["prediction"] = far["fraud_score"] >= judge.threshold
    assert differences(expected, far, judge) == {"fraud_score by forest v1": 8}


def test_which_models_are_trees():
    assert is_of_trees(RandomForestClassifier())
    assert is_of_trees(make_pipeline(StandardScaler(), RandomForestClassifier()))
    assert not is_of_trees(RandomForestClassifier(n_jobs=2))  # adds up as the threads end
    assert not is_of_trees(LogisticRegression())
    assert not is_of_trees(None)


def test_the_report_names_payments_and_both_values(tables, judge):
    expected, found = tables
    found.iloc[3, found.columns.get_loc("amount_usd")] = 1.5
    first, *lines = lines_of(compare(expected, found, {VERSION: judge}))
    assert first.startswith("compared 8 payments")
    assert lines == [
        "different: amount_usd, 1 rows, such as",
        f"  {3:032x}: expected 450.0, found 1.5",
    ]


def test_raw_payments_are_the_valid_ones_in_order_of_arrival(tmp_path):
    late = payment(3, current_time=4_000_000_000_000)  # the year 2096
    land(tmp_path, 10, [payment(4), "no json", payment(5, lat=91), b"\xff", "[]"])
    land(tmp_path, 0, [payment(1), payment(2), late])
    land(tmp_path, 5, [payment(0)], source="an earlier one")
    (tmp_path / ".payments.tmp").write_text("half a line")
    (tmp_path / "foreign.txt").write_text("a line from elsewhere\n\n{}\n")
    arrivals = read_arrivals(str(tmp_path), ScoreSettings())
    assert [int(name, 16) for name in arrivals["trans_num"]] == [0, 1, 2, 4]
    assert arrivals["position"].tolist() == [5, 0, 1, 10]
    anywhen = read_arrivals(str(tmp_path), ScoreSettings(max_days_ahead=0))
    assert [int(name, 16) for name in anywhen["trans_num"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("path", ["nowhere", "s3a://bucket/landing"])
def test_without_landed_files_there_is_nothing_to_read(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoLanding, match=path):
        read_arrivals(path, ScoreSettings())


def test_a_card_remembers_what_another_card_keeps_from_being_scored():
    rows = [("t", "a", 0), ("t", "a", 1), ("t", "b", 2), ("t", "b", 3), ("u", "b", 4),
            ("t", "b", 31), ("t", "b", 33), ("t", "a", 34)]  # fmt: skip
    arrivals = pd.DataFrame(rows, columns=["trans_num", "cc_num", "day"])
    arrivals["ingested_at"] = pd.Timestamp("2025-01-01", tz="UTC") + pd.to_timedelta(
        arrivals["day"], unit="D"
    )
    remembered, scored = first_arrivals(arrivals, 30)
    assert remembered.tolist() == [True, False, True, False, True, False, True, True]
    assert scored.tolist() == [True, False, False, False, True, False, True, False]


def test_the_command_judges_by_the_registered_version(
    settings, tables, tmp_path, monkeypatch, capsys
):
    _, found = tables
    land(settings.landing.path, 0, [raw_payment(n) for n in range(8)])
    register_forest(settings.registry.tracking_uri, tmp_path / "forest")
    features = found[list(FEATURE_NAMES)].to_dict("records")
    table = found.drop(columns=list(FEATURE_NAMES)).assign(
        features=features, scored_at=pd.Timestamp.now(tz="UTC")
    )
    path = settings.warehouse.table("transactions")
    monkeypatch.setattr("sys.argv", ["replay"])
    write_deltalake(path, pa.Table.from_pandas(table, preserve_index=False))
    assert replay.main() == 0
    assert "compared 8 payments" in (told := capsys.readouterr().out)
    assert "no differences" in told
    DeltaTable(path).update({"fraud_score": "fraud_score + 1e-13"}, predicate="position = 4")
    assert replay.main() == 1
    assert f"{4:032x}" in capsys.readouterr().out


def register_forest(registry, folder):
    version = forest_version("1")
    with zipfile.ZipFile(io.BytesIO(version.archive)) as files:
        files.extractall(folder)
    mlflow.set_tracking_uri(registry)
    client = mlflow.MlflowClient()
    client.create_registered_model(version.name)
    client.create_model_version(version.name, str(folder))


def test_the_command_tells_in_one_line_why_it_cannot_compare(settings, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["replay"])
    with pytest.raises(SystemExit) as ended:
        replay.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no table at")
