"""What is loaded from a registry, and what is not."""

import pickle

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from jobs.model import ModelRefused
from jobs.model_format import require_format
from tests.conftest import REGISTRY, save_code_model

DATA = pd.DataFrame({"amount_usd": [1.0, 2.0, 3.0, 4.0]})
PICKLED = {"pickled_model": "weights.bin", "serialization_format": "pickle"}
BY_SKOPS = {"pickled_model": "weights.bin", "serialization_format": "skops"}
FROM_CODE = {"loader_module": "mlflow.pyfunc.loaders.code_model"}
LIGHTGBM, XGBOOST = {"loader_module": "mlflow.lightgbm"}, {"loader_module": "mlflow.xgboost"}


@pytest.fixture
def save(tmp_path):
    def saved(**options):
        model = LogisticRegression().fit(DATA, [0, 0, 1, 1])
        mlflow.sklearn.save_model(
            model, str(tmp_path / "model"), input_example=DATA, pip_requirements=[], **options
        )
        return tmp_path

    return saved


def test_a_model_stored_as_pickle_is_refused_unless_it_is_allowed(save, settings):
    files = save(serialization_format="cloudpickle")
    with pytest.raises(ModelRefused, match=r"stored as pickle \(model/model.pkl, .*allow_pickle"):
        require_format(files, settings.registry)
    require_format(files, settings.registry.model_copy(update={"allow_pickle": True}))


def test_a_pickle_among_the_files_of_a_model_from_code_is_refused(tmp_path, settings):
    path = save_code_model(tmp_path / "model", "return np.zeros(len(data))", {"amt": "double"})
    require_format(tmp_path, settings.registry)
    np.save(path / "weights.npy", np.zeros(2))
    require_format(tmp_path, settings.registry)
    (path / "artifacts").mkdir()
    (path / "artifacts" / "inner.joblib").write_bytes(b"")
    with pytest.raises(ModelRefused, match=r"inner\.joblib"):
        require_format(tmp_path, settings.registry)


@pytest.fixture
def described(tmp_path):
    """A version whose MLmodel has these flavors."""

    def write(flavors):
        (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors}))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("flavors", "loader"),
    [
        ({"sklearn": PICKLED}, "mlflow.sklearn"),
        ({"sklearn": PICKLED | {"model_code_path": "x.py"}}, "mlflow.sklearn"),
        ({"sklearn": {"pickled_model": "weights.bin"}}, "mlflow.sklearn"),
        ({"sklearn": PICKLED, "python_function": FROM_CODE | {"model_code_path": "x.py"}}, "mlflow.sklearn"),
        ({"python_function": {"loader_module": "mlflow.sklearn", "model_path": "x"}}, "mlflow.sklearn"),
        ({"python_function": FROM_CODE | {"python_model": "x"}}, "mlflow.pyfunc.loaders.code_model"),
        ({"python_function": {"loader_module": "mlflow.pyfunc.model"}}, "mlflow.pyfunc.model"),
        ({"python_function": {"loader_module": "mlflow.pytorch"}, "sklearn": BY_SKOPS}, "mlflow.pytorch"),
        ({"python_function": {"loader_module": ["own"]}}, "['own']"),
        ({"python_function": LIGHTGBM, "lightgbm": {"serialization_format": "skops"}}, "mlflow.lightgbm"),
        ({"python_function": XGBOOST, "xgboost": {"model_class": "os.path"}}, "mlflow.xgboost"),
        ({"python_function": XGBOOST, "sklearn": BY_SKOPS}, "mlflow.xgboost"),
    ],
)  # fmt: skip
def test_a_loader_that_may_unpickle_is_refused_whatever_its_file_is_called(
    described, flavors, loader
):
    files = described(flavors)
    with pytest.raises(ModelRefused) as caught:
        require_format(files, REGISTRY)
    assert f"(MLmodel: loaded by {loader})" in str(caught.value)
    require_format(files, REGISTRY.model_copy(update={"allow_pickle": True}))


@pytest.mark.parametrize(
    "flavors",
    [
        {"sklearn": BY_SKOPS},
        {"python_function": LIGHTGBM, "lightgbm": {"model_class": "lightgbm.basic.Booster"}},
        {"python_function": XGBOOST, "xgboost": {"model_class": "xgboost.core.Booster"}},
    ],
)
def test_formats_without_pickle_are_taken(described, flavors):
    require_format(described(flavors), REGISTRY)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_file_that_begins_like_a_pickle_is_refused(described, protocol):
    files = described({"sklearn": BY_SKOPS})
    (files / "weights.bin").write_bytes(pickle.dumps([1], protocol))
    with pytest.raises(ModelRefused, match=r"\(weights\.bin\)"):
        require_format(files, REGISTRY)


def test_types_that_are_no_list_are_refused(described):
    files = described({"sklearn": BY_SKOPS | {"skops_trusted_types": True}})
    with pytest.raises(ModelRefused, match="asks for the types True"):
        require_format(files, REGISTRY)


def test_skops_loads_the_types_of_the_settings_alone(save, settings):
    files = save(skops_trusted_types=["numpy.dtype"])
    require_format(files, settings.registry)
    nothing = settings.registry.model_copy(update={"trusted_types": ()})
    with pytest.raises(ModelRefused, match=r"types numpy\.dtype, which registry\.trusted_types"):
        require_format(files, nothing)


@pytest.mark.parametrize("text", ["{", "flavors: [sklearn]", "flavors: {sklearn: }"])
def test_what_is_no_model_is_refused(tmp_path, settings, text):
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(ModelRefused, match="cannot be read"):
        require_format(tmp_path, settings.registry)
