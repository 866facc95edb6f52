"""The commands of the README, as a user runs them, from the payments API to the mail: with faults,
a kill -9 in mid-stream, a second run, and the books balanced in the end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from email import message_from_bytes, policy
from pathlib import Path

import pytest
import requests
from deltalake import DeltaTable

from ingest.schema import EXAMPLE_PAYMENT
from tests.conftest import PROJECT, free_port

SUBMIT = ("spark-submit", "--properties-file", "spark-defaults.conf")
CONFIG = ("--config", "conf/local.toml")
CALLS_PER_MINUTE = "1200"
SHORT_LIVED = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
"""A JVM that ends within a minute spends a third of its time on compiling what it then runs once."""


@pytest.fixture
def system(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> "System":
    api, smtp = free_port(), free_port()
    monkeypatch.setenv("FRAUD_API__URL", f"http://127.0.0.1:{api}/current-transactions")
    monkeypatch.setenv("FRAUD_API__CALLS_PER_MINUTE", CALLS_PER_MINUTE)
    monkeypatch.setenv("FRAUD_SMTP__PORT", str(smtp))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_SUBMIT_ARGS"):
        monkeypatch.delenv(name, raising=False)
    running = System(api)
    yield running
    running.end()


class System:
    """Runs commands in the project's folder; ends what still runs."""

    def __init__(self, api_port: int) -> None:
        self.api_port = api_port
        self.said = ""  # by commands that ended, and by others until they were ready
        self._running: list[subprocess.Popen[str]] = []

    def run(self, *command: str, status: int = 0, text: str | None = None) -> str:
        """Run to the end; standard output."""
        done = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, input=text, check=False,
            env=os.environ | SHORT_LIVED,
        )  # fmt: skip
        self.said += done.stdout + done.stderr
        assert done.returncode == status, done.stderr[-3000:]
        return done.stdout

    def refused(self, *command: str) -> str:
        """Run to an end with status 1; what it said."""
        before = len(self.said)
        self.run(*command, status=1)
        return self.said[before:]

    def start(self, ready: str, *command: str) -> subprocess.Popen[str]:
        """Start, and wait for a line with ``ready`` in it."""
        process = subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env=os.environ | SHORT_LIVED,
        )  # fmt: skip
        self._running.append(process)
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            self.said += line
            if ready in line:
                return process
        raise AssertionError("".join(lines[-30:]))

    def end(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_from_the_api_to_the_mail(system: System, tmp_path: Path) -> None:
    data, mails = tmp_path / "training.csv", tmp_path / "mails"
    python = sys.executable
    system.run(python, "-m", "ingest.api_simulator", "--data", "synthetic", "--out", str(data),
               "--rows", "12000", "--seed", "3")  # fmt: skip
    system.start("simulated payments API", python, "-m", "ingest.api_simulator",
                 "--data", str(data), "--port", str(system.api_port), "--rate", "400",
                 "--calls-per-minute", CALLS_PER_MINUTE, "--seed", "5",
                 "--faults", "429=0.1,500=0.1,drop=0.1,malformed=0.1,corrupt=0.01")  # fmt: skip
    system.start("catching mails", python, "-m", "jobs.mail_catcher", *CONFIG,
                 "--folder", str(mails))  # fmt: skip
    system.run(*SUBMIT, "training/train.py", *CONFIG, "--data", str(data))
    system.run(python, "-m", "ingest.poll", *CONFIG, "--max-polls", "4")
    score = system.start("batch 0:", *SUBMIT, "jobs/score.py", *CONFIG)
    os.killpg(score.pid, signal.SIGKILL)  # both tables are written, the checkpoint is not
    score.wait()
    plug_in(system, data)
    system.run(python, "-m", "ingest.poll", *CONFIG, "--max-polls", "8")
    system.run(*SUBMIT, "jobs/score.py", *CONFIG, "--once")
    system.run(*SUBMIT, "jobs/alert.py", *CONFIG, "--once")
    balance(system, mails)
    assert "no differences" in system.run(python, "-m", "training.replay", *CONFIG)
    assert "not running" in system.run(python, "-m", "ingest.poll", "--gaps")
    assert "transactions: " in system.run(python, "-m", "ingest.poll", "--print")
    judge(system, data)


def plug_in(system: System, data: Path) -> None:
    """Run the README's code that registers another kind of model and moves the alias to it."""
    code = (PROJECT / "README.md").read_text().split("```python\n", 1)[1].split("```", 1)[0]
    assert "LogisticRegression" in code
    code = code.replace("sqlite:///var/mlflow.db", os.environ["FRAUD_REGISTRY__TRACKING_URI"])
    system.run(sys.executable, "-c", code.replace("training.csv", str(data)))


def balance(system: System, mails: Path) -> None:
    """Every payment served stands once in one table, each hit in one mail."""
    warehouse = Path(os.environ["FRAUD_WAREHOUSE__PATH"])
    scored = DeltaTable(str(warehouse / "transactions")).to_pandas()
    rejected = DeltaTable(str(warehouse / "rejected")).to_pandas()
    url = f"http://127.0.0.1:{system.api_port}/served?list=1"
    served = requests.get(url, timeout=10).json()
    assert served["distinct"] > 1000
    assert sorted(scored["trans_num"]) == sorted(served["trans_nums"])
    assert scored["trans_num"].is_unique
    # What the killed batch wrote stays; the version plugged in since scored the rest.
    assert set(scored["model_version"]) == {"1", "2"}
    versions = scored.sort_values("position")["model_version"].tolist()
    assert versions == sorted(versions)
    corrupted = [
        json.loads(payload, parse_constant=str).get("trans_num")
        for payload, reason in zip(rejected["payload"], rejected["reason"], strict=True)
        if not reason.startswith("not ")
    ]
    # Where the corrupted field is the trans_num itself, the row cannot be told by it.
    told = [name for name in corrupted if name in served["corrupted_trans_nums"]]
    assert len(told) == len(set(told))
    assert len(corrupted) >= len(served["corrupted_trans_nums"])
    assert len(told) > 0.8 * len(served["corrupted_trans_nums"])
    mailed = []
    for path in mails.glob("*.eml"):
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        rows = next(mail.iter_attachments()).get_content().splitlines()[1:]
        mailed += [row.rsplit(",", 1)[1] for row in rows]
    assert sorted(mailed) == sorted(scored[scored["prediction"]]["trans_num"])
    assert mailed


def judge(system: System, data: Path) -> None:
    """The commands that judge files and single payments."""
    champion = ("--model-uri", "models:/fraud@champion", "--data", str(data))
    (line,) = system.run(sys.executable, "-m", "training.evaluate", *CONFIG, *champion).splitlines()
    assert json.loads(line)["rows"] == 12000
    verdict = system.run(
        sys.executable, "-m", "training.predict", *CONFIG, "--payment", "-",
        text=json.dumps(dict(EXAMPLE_PAYMENT)),
    )  # fmt: skip
    assert 0 <= json.loads(verdict)["fraud_score"] <= 1
