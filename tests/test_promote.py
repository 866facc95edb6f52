"""``training.promote`` from the tables to the alias, through the command itself."""

import shutil
import sys
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow import MlflowClient

import training.promote
from jobs.features import FEATURE_NAMES
from jobs.label_ledger import LabelLedger
from jobs.tables import arrow_schema, ensure_table
from tests.conftest import save_code_model
from tests.written_rows import NOON, scored_rows
from training.alias_moves import AliasMoves
from training.compare import compare, find_contender
from training.promote import NO_CHALLENGER, RULE_DOES_NOT_HOLD

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

PAYMENTS = 400
LAST_TRAINED = 9
"""Both versions were trained on payments until this one."""
AS_OF = NOON + timedelta(days=60)
"""All payments have matured: the last one came on day 17."""

VERSIONS = {
    "1": ("np.where(data['hour_of_day'] > 8, 0.6, 0.01)", "hour_of_day", {}),
    "2": ("np.where(data['amount_usd'] > 900, 0.97, 0.001)", "amount_usd", {}),
    "3": ("np.where(data['amount_usd'] > 900, 0.5, 0.2)", "amount_usd", {}),
    "4": ("np.where(data['amount_usd'] > 900, 0.97, 0.001)", "amount_usd", {"last_event": None}),
}
"""Scores, the feature that they are of, metadata. Payments above 900 USD are frauds. The first one
finds some of them; the second one all; the third one too, with wrong probabilities; the fourth one
is the second, and does not tell its training window."""


def numbers():
    """Amount, US dollars, and hour of each payment."""
    generator = np.random.default_rng(4)
    amounts = np.round(generator.uniform(1, 1000, PAYMENTS), 2)
    return amounts, np.where(generator.random(PAYMENTS) < 0.7, amounts / 100, 5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A registry file with the versions."""
    root = tmp_path_factory.mktemp("registry")
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    client.create_registered_model("fraud")
    told = {"threshold": 0.5, "last_event": (NOON + timedelta(hours=LAST_TRAINED)).isoformat()}
    for version, (body, feature, changes) in VERSIONS.items():
        metadata = {name: value for name, value in (told | changes).items() if value is not None}
        path = save_code_model(
            root / version, f"return {body}", {feature: "double"}, metadata=metadata
        )
        client.create_model_version("fraud", str(path))
    client.set_registered_model_alias("fraud", "champion", "1")
    return root / "mlflow.db"


@pytest.fixture
def client(settings, models, tmp_path):
    shutil.copy(models, tmp_path / "mlflow.db")
    client = MlflowClient(settings.registry.tracking_uri)
    client.set_registered_model_alias("fraud", "challenger", "2")
    return client


def changed(rows, **columns):
    """Rows of `transactions` with other values in some columns."""
    schema = arrow_schema("transactions")
    for name, values in columns.items():
        field = schema.field(name)
        rows = rows.set_column(schema.names.index(name), field, pa.array(values, field.type))
    return rows


@pytest.fixture
def tables(settings):
    """`transactions`, a payment an hour of forty cards, and a verdict on each fraud but one."""
    amounts, hours = numbers()
    rows = scored_rows(*range(PAYMENTS))
    nothing = dict.fromkeys(FEATURE_NAMES, 0.0)
    rows = changed(
        rows,
        amt=amounts,
        cc_num=[f"{4000 + number % 40}" for number in range(PAYMENTS)],
        event_time=rows["ingested_at"].to_pylist(),
        features=[
            nothing | {"amount_usd": amount, "hour_of_day": hour}
            for amount, hour in zip(amounts, hours, strict=True)
        ],
        fraud_score=np.where(hours > 8, 0.6, 0.01),
        model_name=["fraud"] * 350 + ["other"] * 50,
        model_version=["1"] * 300 + ["0"] * 50 + ["1"] * 50,
        challenger_score=[0.5, *np.where(amounts > 900, 0.97, 0.001)[1:]],
        challenger_version=[None] * 100 + ["2"] * 300,
    )
    rows = changed(rows, challenger_score=[*rows["challenger_score"].to_pylist()[:-1], 0.25])
    write_deltalake(ensure_table(settings.warehouse, "transactions"), rows, mode="append")
    frauds = np.flatnonzero(amounts > 900)
    verdicts = [
        {
            "trans_num": f"{number:032x}", "label": True, "source": "customer", "line": line,
            "recorded_at": NOON + timedelta(hours=int(number), days=3),
        }
        for line, number in enumerate(frauds[:-1])
    ]  # fmt: skip
    verdicts = pa.Table.from_pylist(verdicts, arrow_schema("labels"))
    LabelLedger(settings.warehouse).append(verdicts, "first")
    return rows


@pytest.fixture
def run(settings, client, tables, capsys, monkeypatch):
    """Run the command; its status and what it printed."""

    def ran(*arguments):
        line = ["promote", "--config", "conf/local.toml", "--who", "ada", *arguments]
        if "--rollback" not in arguments and "--as-of" not in arguments:
            line += ["--as-of", AS_OF.isoformat()]
        monkeypatch.setattr(sys, "argv", line)
        capsys.readouterr()
        try:
            status = training.promote.main()
        except SystemExit as ended:
            status = ended.code
        out, err = capsys.readouterr()
        return status, out + err

    return ran


def aliases_of(client):
    found = client.get_registered_model("fraud").aliases
    return {name: int(version) for name, version in found.items()}


def moves_of(settings):
    return AliasMoves(settings.warehouse).of("fraud", "champion")


def test_a_time_yet_to_come_is_warned_of_and_no_time_is_told(run, caplog):
    run("--dry-run", "--as-of", AS_OF.isoformat())
    assert "yet to come" not in caplog.text
    run("--dry-run", "--as-of", "2999-01-01")
    assert "2999-01-01 00:00:00+00:00 is yet to come: what is known by then" in caplog.text
    status, said = run("--as-of", "soon")
    assert status == 2
    assert "--as-of: expected a time such as" in said
    assert "found 'soon'" in said


def test_a_better_challenger_becomes_champion_and_a_rollback_takes_it_back(run, client, settings):
    status, said = run("--why", "finds them all")
    assert status == 0, said
    assert "the rule holds" in said
    assert "promotion: champion moved from v1 to v2" in said
    assert aliases_of(client) == {"champion": 2}
    (made,) = moves_of(settings)
    assert (made.kind, made.who, made.why) == ("promotion", "ada", "finds them all")
    logged = client.get_run(made.run_id)
    assert logged.data.params["champion"] == "1"
    assert logged.data.metrics["challenger_average_precision"] > 0.9
    assert [item.path for item in client.list_artifacts(made.run_id)] == ["promotion.html"]

    status, said = run("--rollback", "--why", "too many hits")
    assert (status, aliases_of(client)) == (0, {"champion": 1})
    assert "rolled back: champion moved from v2 to v1" in said
    assert [(one.kind, one.why, one.run_id) for one in moves_of(settings)[1:]] == [
        ("rollback", "too many hits", None)
    ]
    status, said = run("--rollback")
    assert status == 2
    assert "no earlier champion is known" in said


def test_the_report_is_a_page_of_its_own(run, settings, tmp_path):
    run("--why", "<b>now</b>")
    (path,) = (tmp_path / "reports").iterdir()
    html = path.read_text()
    assert html.count("data:image/png;base64,") == 4
    assert html.count("✓ holds") == 5
    assert "&lt;b&gt;now&lt;/b&gt;" in html
    assert "http" not in html
    assert "v2 takes the place of v1." in html


def test_the_payments_after_both_trainings_that_matured_are_judged(settings, client, tables):
    amounts, _ = numbers()
    frauds = np.flatnonzero(amounts > 900)
    versions = [find_contender(client, version, settings) for version in "12"]
    told = compare(*versions, settings, AS_OF)
    after = slice(LAST_TRAINED + 1, None)
    assert told.payments == PAYMENTS - LAST_TRAINED - 1
    assert told.after == NOON + timedelta(hours=LAST_TRAINED)
    assert told.until == NOON + timedelta(hours=PAYMENTS - 1)
    labels = np.isin(np.arange(PAYMENTS), frauds[:-1])
    assert (told.champion.judged.labels == labels[after]).all()
    assert told.verified == told.frauds == labels[after].sum()
    assert (told.challenger.judged.scores == np.where(amounts > 900, 0.97, 0.001)[after]).all()
    assert (told.champion.stored, told.champion.agreeing) == (300 - LAST_TRAINED - 1,) * 2
    assert (told.challenger.stored, told.challenger.agreeing) == (300, 299)
    assert told.immature == 0

    # A verdict on a payment that has not matured does not count yet.
    days = settings.label.maturity_days
    earlier = compare(*versions, settings, NOON + timedelta(days=days, hours=199))
    assert earlier.payments == 200 - LAST_TRAINED - 1
    assert earlier.immature == 200
    assert earlier.frauds == (labels[after][: 200 - LAST_TRAINED - 1]).sum()
    # And what was not known then counts for nothing.
    before = compare(*versions, settings, NOON + timedelta(days=2))
    assert (before.payments, before.until) == (0, None)
    assert before.immature == 49 - LAST_TRAINED - 1


def test_a_version_without_a_training_window_is_judged_from_its_registration(run, client):
    status, said = run("--challenger-version", "4")
    assert status == RULE_DOES_NOT_HOLD
    assert "fraud v4 does not tell until when it was trained" in said
    assert "on 0 payments" in said
    assert "✗ at least 30 known frauds: 0 among 0 judged payments" in said
    assert said.count("no figure: too little to judge on") == 3
    assert "nan" not in said
    assert aliases_of(client) == {"champion": 1, "challenger": 2}


def test_a_rule_that_does_not_hold_stops_and_force_does_not(run, client, settings):
    status, said = run("--challenger-version", "3")
    assert status == RULE_DOES_NOT_HOLD
    assert "✓ average precision" in said
    assert "✗ calibration error of at most 0.02: 0.2" in said
    assert "v1 stays." in said
    assert aliases_of(client) == {"champion": 1, "challenger": 2}
    assert moves_of(settings) == []
    status, said = run("--challenger-version", "3", "--force")
    assert status == 0
    assert aliases_of(client) == {"champion": 3, "challenger": 2}
    (made,) = moves_of(settings)
    assert made.kind == "forced"
    assert made.why == "no reason given; not fulfilled: calibration error of at most 0.02"
    assert made.run_id is not None


def test_a_champion_that_is_broken_or_gone_gives_way_to_force(run, client, settings, tmp_path):
    broken = save_code_model(tmp_path / "broken", "raise SystemExit(0)", {"amount_usd": "double"})
    version = client.create_model_version("fraud", str(broken)).version
    client.set_registered_model_alias("fraud", "champion", version)
    status, said = run()
    assert status == 2
    assert f"fraud v{version} is refused" in said
    status, said = run("--force", "--why", "it ends the process")
    assert status == 0
    assert "not compared: fraud v5 is refused" in said
    assert aliases_of(client) == {"champion": 2}
    assert moves_of(settings)[-1].why.startswith("it ends the process; not compared: fraud v5")

    client.delete_model_version("fraud", "2")
    client.set_registered_model_alias("fraud", "challenger", "3")
    assert run()[0] == 2
    assert run("--force")[0] == 0
    assert aliases_of(client) == {"champion": 3}
    assert moves_of(settings)[-1].from_version == "none"
    assert run("--challenger-version", "9", "--force")[0] == 2  # nor is one that is not there


def test_too_few_frauds_are_told(run, client, monkeypatch):
    monkeypatch.setenv("FRAUD_PROMOTE__MIN_FRAUDS", "1000")
    status, said = run()
    assert status == RULE_DOES_NOT_HOLD
    assert "✗ at least 1,000 known frauds: " in said
    assert aliases_of(client)["champion"] == 1


def test_a_dry_run_moves_nothing(run, client, settings):
    status, said = run("--dry-run")
    assert status == 0
    assert "the rule holds" in said
    assert aliases_of(client) == {"champion": 1, "challenger": 2}
    assert moves_of(settings) == []


def test_a_challenger_that_was_set_aside_needs_force(run, client):
    client.set_model_version_tag("fraud", "2", "set_aside", "it fails: ValueError")
    status, said = run()
    assert status == RULE_DOES_NOT_HOLD
    assert "✗ the score job did not set it aside: set aside: it fails: ValueError" in said
    assert run("--force")[0] == 0
    assert aliases_of(client) == {"champion": 2}


def test_what_cannot_be_compared_ends_with_status_2(run, client):
    for arguments, expected in (
        (("--challenger-version", "1"), "v1 is the champion already"),
        (("--challenger-version", "9"), "9"),
    ):
        status, said = run(*arguments)
        assert status == 2
        assert said.startswith("error: ")
        assert expected in said


def test_ordinary_days_and_failures_have_statuses_of_their_own(run, client, settings, monkeypatch):
    client.delete_registered_model_alias("fraud", "challenger")
    status, said = run()
    assert status == NO_CHALLENGER
    assert "alias challenger" in said
    client.delete_registered_model_alias("fraud", "champion")
    assert run()[0] == 2
    Path(settings.registry.tracking_uri.removeprefix("sqlite:///")).unlink()
    assert run()[0] == 2
    monkeypatch.setenv("FRAUD_PROMOTE__CONFIDENCE", "7")
    assert run()[0] == 2
    assert not {RULE_DOES_NOT_HOLD, NO_CHALLENGER} & {0, 1, 2, 126, 127, 130}


def test_a_move_by_hand_is_recorded_by_the_next_command(run, client, settings):
    assert run("--challenger-version", "2")[0] == 0
    client.set_registered_model_alias("fraud", "champion", "3")
    status, said = run("--rollback")
    assert status == 0
    assert "recorded: the alias was found at v3" in said
    assert aliases_of(client) == {"champion": 2}
    assert [one.kind for one in moves_of(settings)] == ["promotion", "found", "rollback"]


def test_a_model_that_reads_the_payment_itself_is_judged_too(settings, client, tables, tmp_path):
    """Text, numbers and times of the payment come as the score job gives them."""
    body = (
        "assert data['event_time'].dtype.kind == 'M' and data['city'].map(type).eq(str).all()\n"
        "        return np.clip(data['amt'] / 1000, 0, 1)"
    )
    columns = {"amt": "double", "city": "string", "event_time": "datetime"}
    told = (NOON - timedelta(days=1)).astimezone(UTC).replace(tzinfo=None).isoformat()
    path = save_code_model(tmp_path / "raw", body, columns, metadata={"last_event": told})
    made = client.create_model_version("fraud", str(path))
    versions = [find_contender(client, version, settings) for version in ("1", made.version)]
    assert versions[1].trained_until == NOON - timedelta(days=1)
    scores = compare(*versions, settings, AS_OF).challenger.judged.scores
    amounts, _ = numbers()
    np.testing.assert_array_equal(scores, amounts[LAST_TRAINED + 1 :] / 1000)


def test_without_any_table_nothing_is_judged(settings, client):
    versions = [find_contender(client, version, settings) for version in "12"]
    told = compare(*versions, settings, AS_OF)
    assert (told.payments, told.frauds, told.immature) == (0, 0, 0)
