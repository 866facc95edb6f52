"""Small model versions for the tests of the stream, as the score job gets them."""

import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conf.sections import RegistrySettings
from jobs.features import FEATURE_NAMES
from jobs.model_cache import read_version
from jobs.model_registry import VersionReference
from jobs.scoring import ModelVersion
from tests.conftest import REGISTRY, save_code_model
from training.registry import open_experiment

CONSTANT_CODE = """
import mlflow
import numpy as np

class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return np.full(len(model_input), {score})

mlflow.models.set_model(Constant())
"""


def constant_version(version: str, score: float) -> ModelVersion:
    """A model that is no scikit-learn model and always answers ``score``."""
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "constant.py"
        code.write_text(CONSTANT_CODE.format(score=score))
        signature = infer_signature(example(1)[["amount_usd"]], np.array([score]))
        path = Path(folder) / "model"
        mlflow.pyfunc.save_model(
            str(path), python_model=str(code), signature=signature, pip_requirements=[]
        )
        return read_version(path, VersionReference("constant", version, {}), REGISTRY)


def register_champion(registry: RegistrySettings, folder: Path, score: str) -> None:
    """Make a model that answers ``score``, an expression of its inputs, the champion of a registry.

    Args:
        folder: the model's code is written there.
    """
    open_experiment(registry)
    code = folder / "model.py"
    code.write_text(CONSTANT_CODE.replace("np.full(len(model_input), {score})", score))
    # MLflow's hints on how else to write a model go to standard error, whatever is set.
    with mlflow.start_run(), redirect_stderr(StringIO()):
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=str(code), pip_requirements=[],
            signature=infer_signature(example(1)[["amount_usd"]], np.array([0.5])),
            registered_model_name=registry.model_name,
        )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias(
        registry.model_name, registry.alias, logged.registered_model_version
    )


def code_version(version: str, body: str) -> ModelVersion:
    """A model whose `predict` is ``body``, with the column `amt` in ``data``."""
    with tempfile.TemporaryDirectory() as folder:
        path = save_code_model(Path(folder) / "model", body, {"amt": "double"})
        return read_version(path, VersionReference("code", version, {}), REGISTRY)


def forest_version(version: str) -> ModelVersion:
    """A random forest over all features."""
    forest = RandomForestClassifier(20, random_state=1)
    return _trained("forest", version, forest, "sklearn.tree._tree.Tree")


def logistic_version(version: str) -> ModelVersion:
    """A logistic regression over all features."""
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    return _trained("logistic", version, model, "numpy.dtype")


def _trained(name: str, version: str, model: Any, trusted_type: str) -> ModelVersion:
    inputs = example(200)
    model.fit(inputs, inputs["amount_usd"] > 500)
    signature = infer_signature(inputs, model.predict_proba(inputs)[:, 1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        mlflow.sklearn.save_model(
            model,
            str(path),
            signature=signature,
            pip_requirements=[],
            skops_trusted_types=[trusted_type],
        )
        return read_version(path, VersionReference(name, version, {}), REGISTRY)


def example(rows: int):
    """``rows`` rows of made-up features."""
    import pandas as pd

    values = np.random.default_rng(1).uniform(0, 1000, (rows, len(FEATURE_NAMES)))
    return pd.DataFrame(values, columns=list(FEATURE_NAMES))
