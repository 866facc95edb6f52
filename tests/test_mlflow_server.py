"""The server of ``make mlflow``, with users who log in: a version is registered, found and fetched."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

from jobs.champion import AliasWatcher
from jobs.model_cache import ModelCache
from jobs.model_registry import MlflowRegistry, RegistryError
from tests.conftest import PROJECT, free_port
from tests.kafka_broker import end
from tests.models import register_champion

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

PASSWORD = "a-long-password"
STORE = "address-with-a-password.db"
LOGIN = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{folder}/users.db
admin_username = team
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Its address; the recipe is the Makefile's."""
    (tmp_path / "login.ini").write_text(LOGIN.format(folder=tmp_path, password=PASSWORD))
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(tmp_path / "login.ini"))
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "of this test")
    # Jobs that ran before in this process may have asked for answers within two seconds.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    port = free_port()
    told = subprocess.run(
        ["make", "-n", "mlflow", f"MLFLOW_PORT={port}", f"MLFLOW_ARTIFACTS={tmp_path}/files"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (command,) = [line for line in told.stdout.splitlines() if " mlflow server " in line]
    monkeypatch.setenv("MLFLOW_STORE", f"sqlite:///{tmp_path}/{STORE}")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", command.replace(" mlflow ", " exec mlflow ")],
            cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process)
        yield address
    finally:
        end(process)


def test_it_serves_this_machine_alone_unless_it_is_told_otherwise():
    for host, asked in (("127.0.0.1", []), ("0.0.0.0", ["MLFLOW_HOST=0.0.0.0"])):
        command = ["make", "-n", "mlflow", *asked]
        told = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
        assert f"mlflow server --host {host} " in told.stdout


def wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Until the server answers."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(f"{address}/health", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


def test_jobs_work_against_a_server_that_asks_for_a_login(server, settings, tmp_path, monkeypatch):
    registry = settings.registry.model_copy(update={"tracking_uri": server})
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "team")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    register_champion(registry, tmp_path, "np.full(len(model_input), 0.5)")
    assert list((tmp_path / "files").rglob("MLmodel"))  # through the server
    watcher = AliasWatcher(MlflowRegistry(registry), ModelCache(registry.cache, registry), 1.0)
    watcher.look()
    assert watcher.current.label == "fraud v1"

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    with pytest.raises(RegistryError, match="401") as caught:
        MlflowRegistry(registry).aliased()
    assert "hunter2" not in str(caught.value)

    # No user of the machine sees the address of the store, nor does the server's log show it.
    assert (tmp_path / STORE).exists()
    commands = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert any(f"{server.rpartition(':')[2]}" in command for command in commands)
    assert not [command for command in commands if STORE in command]
    assert STORE not in (tmp_path / "server.log").read_text()


def test_the_files_of_an_experiment_are_kept_where_the_settings_say(settings):
    def root(**changes):
        return settings.registry.model_copy(update=changes).artifact_root

    assert root(artifacts="var/files") == (Path.cwd() / "var/files").as_uri()
    assert root(artifacts="var/files", tracking_uri="http://127.0.0.1:5000") is None
    for address in ("s3://bucket/files", "mlflow-artifacts:/fraud"):
        assert root(artifacts=address, tracking_uri="https://mlflow.example") == address
    assert root(artifacts=None) is None
