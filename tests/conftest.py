"""What the tests share: settings in a folder of the test, payments, landing files, one Spark."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from conf.elsewhere import environment_in
from conf.sections import RegistrySettings
from conf.settings import Settings, load_settings
from ingest.envelope import envelope_line
from ingest.schema import EXAMPLE_PAYMENT
from jobs.free_port import free_port as free_port
from jobs.spark import spark_session

PROJECT = Path(__file__).parent.parent

REGISTRY = RegistrySettings(tracking_uri="sqlite:///nowhere.db", cache=Path("nowhere"))
"""What is asked of a version's files where no registry is."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for processes that run side by side: files and folders as a whole, for what
    they share, and all that use the ``spark`` session together, so that there is one.
    """
    used = {item.path for item in items if "spark" in getattr(item, "fixturenames", ())}
    for item in items:
        shared = item.path if item.path.parent == PROJECT / "tests" else item.path.parent
        group = "spark" if item.path in used else str(shared)
        item.add_marker(pytest.mark.xdist_group(group))


def payment(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A valid payment as the API tells it; ``number`` makes its `trans_num`. A change to ``...``
    takes the field away.
    """
    values = dict(EXAMPLE_PAYMENT) | {"trans_num": f"{number:032x}"} | changes
    return {name: value for name, value in values.items() if value is not ...}


def land(
    folder: str | Path, first_position: int, payloads: Iterable[Any], source: str = "api"
) -> None:
    """One landing file: payloads that are no text or bytes are landed as JSON."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        envelope_line(
            source,
            first_position + number,
            datetime.now(UTC),
            payload if isinstance(payload, str | bytes) else json.dumps(payload),
        )
        for number, payload in enumerate(payloads)
    ]
    path = folder / f"payments-{first_position:020d}.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    os.utime(path, (1_700_000_000 + first_position, 1_700_000_000 + first_position))


def landed_file(content: bytes, name: str = "f.jsonl") -> pa.Table:
    """``jobs.envelopes.FILES`` with one file in it."""
    return pa.table(
        {
            "path": [f"file:/landing/{name}"],
            "content": pa.array([content], pa.binary()),
            "read_at": pa.array([datetime.now(UTC)], pa.timestamp("us", "UTC")),
        }
    )


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Every path of ``conf/local.toml``, moved into the test's folder, as environment variables."""
    values = environment_in(tmp_path)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def settings(environment: Mapping[str, str]) -> Settings:
    """``conf/local.toml``, with every path in the test's folder."""
    return load_settings(PROJECT / "conf" / "local.toml")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server, one for a test run."""
    port = free_port()
    command = (sys.executable, "-m", "tests.s3_server", "--port", str(port))
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "S3 on" in process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket, with the environment in which it is reached."""
    from tests.s3_server import BUCKET, emptied, environment_of

    for name, value in environment_of(s3_server).items():
        monkeypatch.setenv(name, value)
    emptied(s3_server, BUCKET)
    return BUCKET


@pytest.fixture
def on_s3(environment: Mapping[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """``conf/s3.toml`` with an empty bucket; what lies on no bucket is in the test's folder."""
    for name in (
        "LANDING__PATH",
        "WAREHOUSE__PATH",
        "WAREHOUSE__CHECKPOINTS",
        "REGISTRY__ARTIFACTS",
    ):
        monkeypatch.delenv(f"FRAUD_{name}")
    return load_settings(PROJECT / "conf" / "s3.toml")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The one Spark session of a test run, with the properties that the jobs are submitted with."""
    os.chdir(PROJECT)
    os.environ["PYSPARK_SUBMIT_ARGS"] = "--properties-file spark-defaults.conf pyspark-shell"
    session = spark_session("tests")
    yield session
    session.stop()


def save_code_model(path: Path, body: str, columns: Mapping[str, str], **options: Any) -> Path:
    """Save an MLflow model that is no scikit-learn model: ``body`` is its ``predict``, with the
    inputs in ``data``; ``columns`` names their MLflow types.
    """
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.with_suffix(".py")
    code.write_text(
        "import mlflow\nimport numpy as np\nimport pandas as pd\n\n"
        "class Plain(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input: pd.DataFrame, params=None):\n"
        f"        data = model_input\n        {body}\n\n"
        "mlflow.models.set_model(Plain())\n"
    )
    signature = ModelSignature(
        inputs=Schema([ColSpec(type, name) for name, type in columns.items()])
    )
    mlflow.pyfunc.save_model(
        str(path), python_model=str(code),
        **({"signature": signature, "pip_requirements": []} | options),
    )  # fmt: skip
    return path
