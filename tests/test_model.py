"""The contract between any MLflow model and the score job."""

import gc
import sys

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from ingest.schema import check_payment
from jobs.features import FEATURE_NAMES
from jobs.model import (
    AVAILABLE_INPUTS,
    ModelInput,
    ModelRefused,
    inputs_of,
    model_inputs,
    model_threshold,
    probabilities,
)
from jobs.model_cache import read_version
from jobs.model_registry import VersionReference
from jobs.scoring import ModelVersion, load_archive
from tests.conftest import REGISTRY, payment, save_code_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")

NUMBERS = ["amount_usd", "age_years", "city_pop"]
TREE = ["sklearn.tree._tree.Tree"]  # MLflow stores no tree without being told to trust it


ANY_FORMAT = REGISTRY.model_copy(update={"allow_pickle": True})


def read(path, tags=None) -> ModelVersion:
    return read_version(path, VersionReference("mine", "7", tags or {}), ANY_FORMAT)


def judged(version: ModelVersion, inputs: pd.DataFrame):
    return load_archive(version.archive, version.inputs).predict(inputs)


@pytest.fixture(scope="module")
def inputs():
    """Inputs of 60 payments of two kinds of merchants."""
    rows = [
        check_payment(payment(n, amt=7.0 * n, category=("grocery_pos", "shopping_net")[n % 2]))
        for n in range(60)
    ]
    return inputs_of(pd.DataFrame(rows))


@pytest.fixture
def save(tmp_path):
    """Fit a scikit-learn estimator (large amounts are fraud) and save it as MLflow does."""

    def saved(estimator, columns, labels=None, **options):
        labels = columns["amount_usd"] > 200 if labels is None else labels
        estimator.fit(columns, labels)
        path = tmp_path / "model"
        signature = infer_signature(columns, np.array([0.5]))
        mlflow.sklearn.save_model(
            estimator, str(path), **({"signature": signature, "pip_requirements": []} | options)
        )
        return path

    return saved


@pytest.fixture
def refused():
    def of(path, *words, tags=None):
        with pytest.raises(ModelRefused) as caught:
            read(path, tags)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    return of


def test_a_logistic_regression_gives_probabilities(save, inputs):
    columns = inputs[[*NUMBERS, "category"]]
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["category"]), (StandardScaler(), NUMBERS)
    )
    model = make_pipeline(encode, LogisticRegression())
    version = read(save(model, columns))
    assert version.label == "mine v7"
    assert version.threshold == 0.5
    assert (judged(version, inputs) == model.predict_proba(columns)[:, 1]).all()


def test_the_order_of_columns_does_not_matter(save, inputs):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    version = read(save(model, inputs[NUMBERS]))
    shuffled = inputs[sorted(inputs.columns, reverse=True)]
    assert (judged(version, shuffled) == judged(version, inputs)).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options", [{"skops_trusted_types": TREE}, {"serialization_format": "cloudpickle"}]
)
def test_a_random_forest_gives_probabilities(save, inputs, options):
    model = RandomForestClassifier(5, random_state=1)
    version = read(save(model, inputs[NUMBERS], **options))
    scores = judged(version, inputs)
    assert (scores == model.predict_proba(inputs[NUMBERS])[:, 1]).all()
    assert set(scores) - {0.0, 1.0}


def test_a_regressor_is_asked_for_its_prediction(save, inputs):
    model = RandomForestRegressor(5, random_state=1)
    version = read(save(model, inputs[NUMBERS], skops_trusted_types=TREE))
    assert (judged(version, inputs) == model.predict(inputs[NUMBERS])).all()


def test_a_model_that_is_no_scikit_learn_model(tmp_path, inputs):
    columns = {"amount_usd": "double", "category": "string"}
    body = "return np.where(data['category'] == 'grocery_pos', 0, data['amount_usd'] / 1000)"
    version = read(save_code_model(tmp_path / "model", body, columns))
    scores = judged(version, inputs)
    assert scores[:4].tolist() == [0, 0.007, 0, 0.021]
    assert version.inputs == tuple(ModelInput(*item) for item in columns.items())


def test_inputs_arrive_in_the_types_of_the_signature(tmp_path, inputs):
    types = {
        "hour_of_day": "long", "city_pop": "integer", "zip": "long", "amt": "float",
        "day_of_week": "boolean", "job": "string", "trans_date_trans_time": "string",
        "event_time": "datetime", "dob": "datetime", "age_years": "double", "cc_num": "string",
        "current_time": "long",
    }  # fmt: skip
    body = (
        "assert data.dtypes.astype(str).str.replace('ns', 'us').to_dict() == {"
        "'hour_of_day': 'int64', 'city_pop': 'int32', 'zip': 'int64', 'amt': 'float32',"
        "'day_of_week': 'bool', 'job': 'object', 'trans_date_trans_time': 'object',"
        "'event_time': 'datetime64[us]', 'dob': 'datetime64[us]', 'age_years': 'float64',"
        "'cc_num': 'object', 'current_time': 'int64'}, data.dtypes\n"
        "        assert (data['current_time'] == 1717245296000).all()\n"
        "        assert data['trans_date_trans_time'].tolist() == [None] * len(data)\n"
        "        return data['hour_of_day'] / 100"
    )
    version = read(save_code_model(tmp_path / "model", body, types))
    assert (judged(version, inputs) == 0.12).all()


def test_a_text_that_a_file_lacks_is_none_as_in_the_stream():
    row = pd.DataFrame([check_payment(payment())])
    for frame in (row, row.drop(columns=["trans_date_trans_time", "unix_time"])):
        columns = inputs_of(frame)
        assert columns["trans_date_trans_time"].tolist() == [None]
        assert columns["unix_time"].dtype == np.float64
        assert tuple(sorted(columns)) == tuple(sorted(AVAILABLE_INPUTS))


def test_a_model_may_read_its_files_and_import_its_code_late(tmp_path, monkeypatch, inputs):
    (tmp_path / "rate.txt").write_text("0.25")
    (tmp_path / "own_helper.py").write_text("calls = []\n")
    body = (
        "import own_helper\n"
        "        rate = float(open(context.artifacts['rate']).read())\n"
        "        own_helper.calls.append(rate)\n"
        "        return np.full(len(data), sum(own_helper.calls))"
    )
    path = save_code_model(
        tmp_path / "model", body, {"amount_usd": "double"},
        artifacts={"rate": str(tmp_path / "rate.txt")},
        code_paths=[str(tmp_path / "own_helper.py")],
    )  # fmt: skip
    spark_folder = tmp_path / "spark"
    spark_folder.mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{spark_folder},/elsewhere")
    version = read(path)
    model = load_archive(version.archive, version.inputs)
    assert (model.predict(inputs) == 0.25).all()
    assert (model.predict(inputs) == 0.5).all()  # its module is still the same one
    assert len(list(spark_folder.iterdir())) == 1
    del model
    gc.collect()
    assert list(spark_folder.iterdir()) == []


def test_two_versions_bring_different_code_under_one_name(tmp_path, monkeypatch, inputs):
    body = "from own_steps import scale\n        return scale(data['amount_usd'])"
    versions = []
    for number, step in enumerate(("x / 1000", "x / 2000")):
        code = tmp_path / str(number) / "own_steps.py"
        code.parent.mkdir()
        code.write_text(f"def scale(x):\n    return {step}\n")
        path = save_code_model(
            code.parent / "model", body, {"amount_usd": "double"}, code_paths=[str(code)]
        )
        versions.append(read(path))
    first, second = (load_archive(version.archive, version.inputs) for version in versions)
    for _ in range(2):
        assert first.predict(inputs)[10] == 0.07
        assert second.predict(inputs)[10] == 0.035
    assert "own_steps" not in sys.modules
    assert not [path for path in sys.path if "model-" in path]


def test_code_that_a_pickle_needs_is_found(tmp_path, monkeypatch, save, inputs):
    (tmp_path / "own_transform.py").write_text("def halve(x):\n    return x / 2\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        import own_transform

        model = make_pipeline(FunctionTransformer(own_transform.halve), LogisticRegression())
        path = save(
            model, inputs[NUMBERS], serialization_format="cloudpickle",
            code_paths=[str(tmp_path / "own_transform.py")],
        )  # fmt: skip
    del sys.modules["own_transform"]
    expected = model.predict_proba(inputs[NUMBERS])[:, 1]
    assert (judged(read(path), inputs) == expected).all()
    assert "own_transform" not in sys.modules


def test_columns_that_we_do_not_have_are_listed_with_those_that_exist(tmp_path, refused):
    columns = {"amount_usd": "double", "shoe_size": "double", "is_weekend": "boolean"}
    path = save_code_model(tmp_path / "model", "return np.zeros(len(data))", columns)
    refused(path, "asks for shoe_size, is_weekend,", "there is ", *FEATURE_NAMES, "event_time")


def test_the_truth_is_not_to_be_had(tmp_path, refused):
    path = save_code_model(tmp_path / "model", "return data['is_fraud']", {"is_fraud": "double"})
    refused(path, "asks for is_fraud, which we do not have")
    assert "is_fraud" not in AVAILABLE_INPUTS


def test_a_model_without_signature_is_refused(tmp_path, save, inputs, refused):
    refused(save(LogisticRegression(), inputs[NUMBERS], signature=None), "no signature")


def test_a_model_of_tensors_is_refused(save, inputs, refused):
    signature = infer_signature(inputs[NUMBERS].to_numpy(), np.array([0.5]))
    path = save(LogisticRegression(), inputs[NUMBERS], signature=signature)
    refused(path, "names no columns")


def test_what_is_no_model_is_refused(tmp_path, refused):
    refused(tmp_path, "no MLmodel file")
    (tmp_path / "MLmodel").write_text("{: no yaml")
    refused(tmp_path, "MLmodel file cannot be read")


def test_a_model_that_cannot_be_loaded_is_refused(save, inputs, refused):
    path = save(LogisticRegression(), inputs[NUMBERS])
    (path / "model.skops").write_bytes(b"cut off")
    refused(path, "cannot be loaded")


def test_a_model_within_a_model_is_not_taken_for_it(tmp_path, inputs):
    inner = save_code_model(tmp_path / "inner", "return data['no']", {"no": "double"})
    path = save_code_model(
        tmp_path / "z" / "outer", "return data['amount_usd'] * 0 + 0.25", {"amount_usd": "double"},
        artifacts={"a": str(inner)},
    )  # fmt: skip
    assert (judged(read(path.parent), inputs) == 0.25).all()


@pytest.mark.parametrize(
    ("labels", "said"),
    [(["fraud", "genuine"], "['fraud', 'genuine']"), ([0, 1, 2], "[0, 1, 2]"), ([1, 2], "[1, 2]")],
)
def test_a_classifier_of_other_classes_is_refused(save, inputs, refused, labels, said):
    path = save(LogisticRegression(), inputs[NUMBERS], np.resize(labels, len(inputs)))
    refused(path, f"classes are {said}, expected 0 and 1")


def test_a_classifier_that_never_saw_a_fraud_is_refused(save, inputs, refused):
    model = RandomForestClassifier(2)
    path = save(model, inputs[NUMBERS], np.zeros(len(inputs)), skops_trusted_types=TREE)
    refused(path, "expected 0 and 1 (fraud)")


@pytest.mark.parametrize(
    ("metadata", "tags", "threshold"),
    [
        ({"threshold": 0.125}, {"threshold": "0.9"}, 0.125),
        ({"other": 1}, {"threshold": "0.9"}, 0.9),
        (None, {}, 0.5),
        ({"threshold": 0}, {}, 0.0),
        ({"threshold": 1e-05}, {}, 1e-05),
    ],
)
def test_the_threshold_travels_with_the_version(tmp_path, metadata, tags, threshold):
    path = save_code_model(
        tmp_path / "model", "return np.zeros(len(data))", {"amt": "double"}, metadata=metadata
    )
    assert model_threshold(path, tags, 0.5) == threshold
    assert read(path, tags).threshold == threshold


@pytest.mark.parametrize("nonsense", ["high", 1.5, -0.1, "nan", [0.5], None])
def test_a_threshold_that_cannot_be_is_refused(tmp_path, refused, nonsense):
    path = save_code_model(
        tmp_path / "model", "return np.zeros(len(data))", {"amt": "double"},
        metadata={"threshold": nonsense},
    )  # fmt: skip
    refused(path, "threshold is", repr(nonsense), "from 0 to 1")


def test_a_threshold_in_a_tag_that_cannot_be_is_refused(tmp_path, refused):
    path = save_code_model(tmp_path / "model", "return np.zeros(len(data))", {"amt": "double"})
    refused(path, "threshold is 'half'", tags={"threshold": "half"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return np.zeros(1)", "shape (1,), expected (2,)"),
        ("return 0.5", "shape (), expected (2,)"),
        ("return np.zeros((len(data), 2, 2))", "expected (2,)"),
        ("return np.zeros((len(data), 0))", "expected (2,)"),
        ("return np.full(len(data), 1.01)", "1.01 is no probability"),
        ("return np.full(len(data), -0.01)", "-0.01 is no probability"),
        ("return np.full(len(data), np.nan)", "nan is no probability"),
        ("return np.full(len(data), np.inf)", "inf is no probability"),
        ("return ['fraud'] * len(data)", "no array of numbers"),
        ("return None", "expected (2,)"),
        ("return np.full(len(data), 0.5 + 0j)", "no array of numbers"),
        ("return ['0.5'] * len(data)", "no array of numbers"),
        ("raise SystemExit(0)", "SystemExit(0)"),
        ("raise KeyError('lost')", "KeyError('lost')"),
    ],
)
def test_an_output_that_is_no_probability_a_row_is_refused(tmp_path, refused, body, said):
    refused(save_code_model(tmp_path / "model", body, {"amt": "double"}), "example payment", said)


@pytest.mark.parametrize(
    "raw",
    [
        [0.25, 1],
        np.array([0.25, 1], np.float32),
        np.array([[0.25], [1]]),
        np.array([[0.75, 0.25], [0, 1]]),
        pd.Series([0.25, 1], index=[5, 6]),
        pd.DataFrame({"genuine": [0.75, 0], "fraud": [0.25, 1]}),
    ],
)
def test_probabilities_come_in_several_shapes(raw):
    assert probabilities(raw, 2).tolist() == [0.25, 1.0]


def test_no_rows_have_no_scores(save, inputs):
    version = read(save(LogisticRegression(), inputs[NUMBERS]))
    assert judged(version, inputs.iloc[:0]).shape == (0,)


def test_a_row_that_the_model_fails_on_is_a_refusal(save, inputs):
    strict = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["category"])), LogisticRegression()
    )
    version = read(save(strict, inputs[["category"]], inputs["amount_usd"] > 200))
    with pytest.raises(ModelRefused, match="unknown categories"):
        judged(version, inputs.assign(category="never seen"))


def test_the_inputs_are_those_of_the_signature(save, inputs):
    path = save(LogisticRegression(), inputs[NUMBERS])
    assert model_inputs(path) == tuple(ModelInput(name, "double") for name in NUMBERS)
