"""From payments to a model, its threshold and how it is judged."""

import numpy as np
import pandas as pd
import pytest

from conf.sections import TrainSettings
from conf.settings import load_settings
from ingest.payment_files import read_payments
from jobs.metrics import evaluation
from tests.conftest import PROJECT
from training.fit import TrainingError, fingerprint, train_model
from training.pipeline import MODEL_COLUMNS, model_columns
from training.thresholds import choose_threshold

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_the_same_payments_give_the_same_model_to_the_bit(payments, trained):
    again = train_model(payments.sample(frac=1, random_state=2), TrainSettings())
    assert again.threshold == trained.threshold
    assert again.judged.scores.tobytes() == trained.judged.scores.tobytes()
    assert again.metrics == trained.metrics
    assert again.parameters == trained.parameters
    columns = model_columns(payments)
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
    columns = [model_columns(rows.head(500)) for rows in (payments, lied)]
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
