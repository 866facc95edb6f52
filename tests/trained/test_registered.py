"""From a model to a version of the registry, with all that travels with it."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from jobs.features import FEATURE_NAMES
from jobs.reference import Histogram, Reference
from training.fit import fingerprint
from training.pipeline import MODEL_COLUMNS, model_columns
from training.registry import is_only_version

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


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
    columns = model_columns(payments).head(5)
    pd.testing.assert_frame_equal(example, columns)
    expected = trained.model.predict_proba(columns)
    assert (np.asarray(model.predict(example)) == expected).all()
