"""A version trained on files and Delta tables, by the command, as MLflow runs it, and by hand."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow import MlflowClient
from mlflow.models import Model

import training.dataset
import training.train
from conf.sections import TrainSettings
from ingest.payment_files import read_payments
from ingest.synthetic import make_population
from ingest.synthetic import payments as synthetic_payments
from jobs.feature_pass import feature_frame
from jobs.label_ledger import LabelLedger
from jobs.reference import Reference
from jobs.tables import arrow_schema, ensure_table
from tests.conftest import PROJECT
from training.dataset import build_dataset
from training.fit import train_model, train_on_examples
from training.registry import open_experiment, opened_run
from training.validated import as_csv, write_validated

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

START = datetime(2024, 1, 1, tzinfo=UTC)
AS_OF = START + timedelta(days=70)


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A CSV file: 60 cards in 40 days."""
    path = tmp_path_factory.mktemp("payments") / "history.csv"
    synthetic_payments(make_population(5, 60), START, 40, seed=5).to_csv(path)
    return path


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """The same cards' payments of the next 30 days."""
    path = tmp_path_factory.mktemp("payments") / "streamed.csv"
    later = START + timedelta(days=40)
    synthetic_payments(make_population(5, 60), later, 30, seed=6).to_csv(path)
    return read_payments(path)


@pytest.fixture
def scored(settings, streamed):
    """The next payments in `transactions`; frauds, and 20 genuine ones, have a verdict."""
    rows = streamed.assign(
        dob=pd.to_datetime(streamed["dob"]).dt.date, source="api", position=range(len(streamed)),
        ingested_at=streamed["event_time"] + pd.Timedelta(minutes=1), is_fraud=1 - streamed["is_fraud"],
    )  # fmt: skip
    table = pa.Table.from_pandas(rows, preserve_index=False)
    schema = arrow_schema("transactions")
    columns = [field for field in schema if field.name in table.column_names]
    path = ensure_table(settings.warehouse, "transactions")
    write_deltalake(path, table.select([f.name for f in columns]).cast(pa.schema(columns)),
                    mode="append", schema_mode="merge")  # fmt: skip
    frauds = streamed["is_fraud"] == 1
    assert frauds.sum() > 10
    told = pd.concat([streamed[frauds], streamed[~frauds].iloc[:20]])
    verdicts = [
        {"trans_num": name, "label": bool(label), "recorded_at": AS_OF, "source": "bank", "line": line}
        for line, (name, label) in enumerate(zip(told["trans_num"], told["is_fraud"], strict=True))
    ]  # fmt: skip
    LabelLedger(settings.warehouse).append(
        pa.Table.from_pylist(verdicts, schema=arrow_schema("labels")), "a"
    )
    return told


@pytest.fixture
def known(settings, scored, history):
    return build_dataset([history], settings, AS_OF)


def test_files_alone_give_the_model_that_they_give_without_tables(settings, history):
    payments = read_payments(history)
    plain = train_model(payments, TrainSettings())
    known = train_on_examples(build_dataset([history], settings, AS_OF).payments, TrainSettings())
    assert known.threshold == plain.threshold
    assert known.metrics == plain.metrics
    assert known.judged.scores.tobytes() == plain.judged.scores.tobytes()
    assert known.parameters == plain.parameters
    assert known.reference == plain.reference


def test_examples_are_learned_with_the_past_of_all_payments(known, scored, streamed, monkeypatch):
    seen = []
    make = training.fit.make_classifier

    def spied(seed):
        model = make(seed)
        fit = model.fit
        model.fit = lambda X, y, **options: seen.append((X, y, options)) or fit(X, y, **options)  # noqa: N803
        return model

    monkeypatch.setattr(training.fit, "make_classifier", spied)
    payments = known.payments.assign(weight=known.payments["weight"] * 2.5)
    trained = train_on_examples(payments, TrainSettings())
    (early, _, weights), (columns, labels, _) = seen
    examples = known.examples
    assert known.counts["verified"] == len(scored)
    assert known.counts["context"] > 100
    assert len(columns) == len(examples) == len(labels)
    expected = feature_frame(known.payments).loc[columns.index, columns.columns]
    pd.testing.assert_frame_equal(columns, expected)
    alone = feature_frame(examples).loc[columns.index, columns.columns]
    assert not alone.equals(expected)
    assert (labels == (examples.loc[columns.index, "is_fraud"] == 1)).all()
    assert labels.sum() == examples["is_fraud"].sum()
    assert (weights["trees__sample_weight"] == 2.5).all()
    # Of the payments that are younger than a month, frauds are known before genuine ones.
    assert trained.parameters["test_rows"] == len(trained.judged.labels)
    assert len(early) + len(trained.judged.labels) == known.counts["file"]
    assert trained.parameters["rows"] == len(examples)
    assert pd.Timestamp(trained.parameters["last_event"]) == examples["event_time"].max()


def test_weights_are_learned_from(known):
    payments = known.payments
    heavy = payments.assign(weight=payments["weight"] * np.where(payments["is_fraud"] == 1, 50, 1))
    plain, weighted = (train_on_examples(rows, TrainSettings()) for rows in (payments, heavy))
    assert weighted.judged.scores.mean() > 1.3 * plain.judged.scores.mean()


def test_without_mature_examples_all_of_them_judge(settings, known, caplog):
    young = known.payments.assign(is_mature=False)
    trained = train_on_examples(young, TrainSettings())
    assert len(trained.judged.labels) == pytest.approx(0.2 * len(known.examples), abs=1)
    assert "for want of mature ones" in caplog.text


@pytest.fixture
def command(monkeypatch):
    def run(module, *arguments):
        config = str(PROJECT / "conf" / "local.toml")
        monkeypatch.setattr(sys, "argv", ["command", "--config", config, *map(str, arguments)])
        return module.main()

    return run


def test_a_run_that_mlflow_opened_is_used_if_it_is_here(settings, monkeypatch):
    experiment = open_experiment(settings.registry)
    client = MlflowClient(settings.registry.tracking_uri)
    here = client.create_run(experiment).info.run_id
    elsewhere = client.create_run(client.create_experiment("other")).info.run_id
    assert opened_run(experiment) is None
    for run_id, used in ((here, here), (elsewhere, None), ("0" * 32, None)):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        assert opened_run(experiment) == used
        assert "MLFLOW_RUN_ID" not in os.environ


@pytest.mark.parametrize(
    "arguments", [(), ("--data", "x.csv", "--as-of", "2026-01-01"), ("--as-of", "2026-01-01")]
)
def test_arguments_that_do_not_go_together_are_told(command, arguments, environment):
    with pytest.raises(SystemExit) as caught:
        command(training.train, *arguments)
    assert caught.value.code == 2


def test_the_command_writes_the_examples(known, history, command, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    as_of = AS_OF.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert command(training.dataset, "--data", history, "--as-of", as_of, "--out", out) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fingerprint"] == known.fingerprint
    assert told["as_of"] == AS_OF.isoformat()
    assert told["rows_verified"] == known.counts["verified"]
    assert told["written"] == str(out / "validated.csv")
    assert (out / "validated.csv").read_bytes() == as_csv(known.examples)
    assert len(list(out.iterdir())) == 1
    read = read_payments(out / "validated.csv")
    assert (len(read), read["is_fraud"].sum()) == (told["examples"], told["frauds"])


def test_nothing_known_and_a_wrong_address_are_told_in_a_line(settings, history, command, capsys):
    for arguments, said in (
        (("--out", "x"), "no payment has a label at"),
        (("--out", "gs://b/x", "--data", history), "expected a folder or s3://bucket/prefix"),
        (("--out", "s3://", "--data", history), "expected a folder or s3://bucket/prefix"),
        (("--out", "x", "--as-of", "soon"), "expected a time"),
        (("--out", "x", "--data", "none.csv"), "none.csv: no such file"),
    ):
        with pytest.raises(SystemExit):
            command(training.dataset, *arguments)
        assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("out", "key"), [("s3://{}/a/b", "a/b/validated.csv"), ("s3a://{}", "validated.csv")]
)
def test_the_examples_go_to_a_bucket(known, bucket, out, key):
    assert write_validated(known.examples, out.format(bucket)) == f"s3://{bucket}/{key}"
    written = boto3.client("s3").get_object(Bucket=bucket, Key=key)
    assert written["Body"].read() == as_csv(known.examples)
    assert written["ContentType"] == "text/csv; charset=utf-8"


def test_a_bucket_that_is_not_there_is_told(bucket, history, command, capsys):
    with pytest.raises(SystemExit):
        command(training.dataset, "--data", history, "--out", f"s3://no-{bucket}/x")
    assert "NoSuchBucket" in capsys.readouterr().err.splitlines()[-1]


def test_mlflow_runs_the_project(settings, history, scored, known, monkeypatch):
    """By its own command, from the project's folder, in a run of the registry's experiment."""
    open_experiment(settings.registry)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.registry.tracking_uri)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    parameters = {
        "data": str(history),
        "as_of": f"{AS_OF:%Y-%m-%dT%H:%M:%SZ}",
        "config": "conf/local.toml",
    }
    options = [option for name, value in parameters.items() for option in ("-P", f"{name}={value}")]
    command = ["mlflow", "run", "training", "-e", "train", "--env-manager", "local",
               "--experiment-name", settings.registry.experiment, *options]  # fmt: skip
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    client = MlflowClient(settings.registry.tracking_uri)
    version = client.get_model_version_by_alias("fraud", "champion")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.project.entryPoint"] == "train"
    params = run.data.params
    assert params["resolved_as_of"] == AS_OF.isoformat()
    assert params["data_fingerprint"] == known.fingerprint
    assert params["rows_verified"] == str(len(scored))
    assert params["rows_file"] == str(known.counts["file"])
    assert params["maturity_days"] == "30.0"
    model = Model.load("models:/fraud@champion")
    assert model.metadata["as_of"] == AS_OF.isoformat()
    assert model.metadata["data_fingerprint"] == known.fingerprint
    assert Reference.from_metadata(model.metadata) is not None
