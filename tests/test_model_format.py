"""What is loaded from a registry, and what is not."""

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from jobs.model import ModelRefused
from jobs.model_format import require_format
from tests.conftest import save_code_model

DATA = pd.DataFrame({"amount_usd": [1.0, 2.0, 3.0, 4.0]})


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
    with pytest.raises(ModelRefused, match=r"stored as pickle \(model/model.pkl\).*allow_pickle"):
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


def test_skops_loads_the_types_of_the_settings_alone(save, settings):
    files = save(skops_trusted_types=["numpy.dtype"])
    require_format(files, settings.registry)
    nothing = settings.registry.model_copy(update={"trusted_types": ()})
    with pytest.raises(ModelRefused, match=r"types numpy\.dtype, which registry\.trusted_types"):
        require_format(files, nothing)


def test_what_is_no_model_is_refused(tmp_path, settings):
    (tmp_path / "MLmodel").write_text("{")
    with pytest.raises(ModelRefused, match="cannot be read"):
        require_format(tmp_path, settings.registry)
