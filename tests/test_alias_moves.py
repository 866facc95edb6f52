"""Moves of the champion's alias, their record, and the way back, on a registry of SQLite."""

import shutil
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from mlflow import MlflowClient

from jobs.model_registry import SET_ASIDE
from training.alias_moves import (
    FORCED,
    FOUND,
    PROMOTION,
    ROLLBACK,
    AliasMove,
    AliasMoves,
    champions,
)  # fmt: skip
from training.aliases import AliasError, Aliases

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def move(kind, old, new, **changes):
    values = {
        "moved_at": NOON, "model_name": "fraud", "alias": "champion", "from_version": str(old),
        "to_version": str(new), "kind": kind, "who": "ada", "why": "it is better",
    }  # fmt: skip
    return AliasMove(**(values | changes))


# --- the table and the way back -------------------------------------------------------------------


def test_moves_come_back_as_they_went_in_order(settings):
    moves = AliasMoves(settings.warehouse)
    assert moves.of("fraud", "champion") == []
    some = [
        move(PROMOTION, 1, 2, run_id="abc"),
        move(ROLLBACK, 2, 1, moved_at=NOON + timedelta(seconds=1)),
    ]
    for one in [*some, move(PROMOTION, 8, 9, model_name="other")]:
        moves.append(one)
    assert moves.of("fraud", "champion") == some


def test_a_clock_that_goes_back_does_not_change_the_order(settings):
    moves = AliasMoves(settings.warehouse)
    moves.append(move(PROMOTION, 1, 2))
    moves.append(move(PROMOTION, 2, 3, moved_at=NOON - timedelta(hours=1)))
    found = moves.of("fraud", "champion")
    assert [one.to_version for one in found] == ["2", "3"]
    assert found[1].moved_at > found[0].moved_at


@pytest.mark.parametrize(
    ("moves", "stack"),
    [
        ([], ""),
        ([(PROMOTION, 1, 2)], "12"),
        ([(PROMOTION, 1, 2), (FORCED, 2, 3)], "123"),
        ([(PROMOTION, 1, 2), (PROMOTION, 2, 3), (ROLLBACK, 3, 2)], "12"),
        ([(PROMOTION, 1, 2), (PROMOTION, 2, 3), (ROLLBACK, 3, 2), (ROLLBACK, 2, 1)], "1"),
        ([(PROMOTION, 1, 2), (ROLLBACK, 2, 1), (PROMOTION, 1, 3)], "13"),
        ([(PROMOTION, 1, 2), (FORCED, 2, 1)], "121"),
        ([(PROMOTION, 1, 2), (FORCED, 2, 1), (ROLLBACK, 1, 2)], "12"),
        ([(PROMOTION, 1, 2), (FOUND, 2, 5)], "125"),
        ([(PROMOTION, 1, 2), (FOUND, 2, 1)], "1"),
        ([(PROMOTION, 1, 2), (FOUND, 2, 1), (PROMOTION, 1, 2)], "12"),
    ],
)
def test_the_champions_to_go_back_to(moves, stack):
    assert "".join(champions([move(*one) for one in moves])) == stack


# --- the registry ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry_file(tmp_path_factory):
    """A registry with four versions, the first one champion: made once, as that takes seconds."""
    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    client = MlflowClient(f"sqlite:///{path}")
    client.create_registered_model("fraud")
    for _ in range(4):
        client.create_model_version("fraud", "file:///nowhere")
    client.set_registered_model_alias("fraud", "champion", "1")
    return path


@pytest.fixture
def client(settings, registry_file, tmp_path):
    shutil.copy(registry_file, tmp_path / "mlflow.db")
    return MlflowClient(settings.registry.tracking_uri)


@pytest.fixture
def aliases(settings, client):
    return Aliases(settings, lambda: NOON)


def aliases_of(client):
    found = client.get_registered_model("fraud").aliases
    return {name: int(version) for name, version in found.items()}


def moved(aliases):
    return [
        (one.kind, one.from_version, one.to_version)
        for one in aliases.moves.of("fraud", "champion")
    ]


def test_a_promotion_moves_the_alias_and_is_recorded(aliases, client):
    client.set_registered_model_alias("fraud", "challenger", "2")
    made = aliases.promote("2", "1", PROMOTION, "ada", "better", "run-1")
    assert aliases_of(client) == {"champion": 2}
    assert aliases.moves.of("fraud", "champion") == [made]
    assert (made.who, made.why, made.run_id, made.moved_at) == ("ada", "better", "run-1", NOON)


def test_another_challenger_stays(aliases, client):
    client.set_registered_model_alias("fraud", "challenger", "3")
    aliases.promote("2", "1", FORCED, "ada", "better", None)
    assert aliases_of(client) == {"champion": 2, "challenger": 3}


def test_a_champion_that_changed_meanwhile_is_not_pushed_aside(aliases, client):
    client.set_registered_model_alias("fraud", "champion", "3")
    with pytest.raises(AliasError, match=r"champion is v3 by now.*compared with v1"):
        aliases.promote("2", "1", PROMOTION, "ada", "better", None)
    assert aliases_of(client) == {"champion": 3}
    assert moved(aliases) == []


def test_rollbacks_go_further_back_and_never_forth(aliases, client):
    aliases.promote("2", "1", PROMOTION, "ada", "", None)
    aliases.promote("3", "2", PROMOTION, "ada", "", None)
    assert aliases.roll_back("bob", "too many hits").to_version == "2"
    assert aliases_of(client) == {"champion": 2}
    assert aliases.roll_back("bob", "still").to_version == "1"
    assert aliases_of(client) == {"champion": 1}
    with pytest.raises(AliasError, match="no earlier champion is known"):
        aliases.roll_back("bob", "")
    assert moved(aliases)[2:] == [(ROLLBACK, "3", "2"), (ROLLBACK, "2", "1")]
    aliases.promote("4", "1", PROMOTION, "ada", "", None)
    assert aliases.roll_back("bob", "").to_version == "1"


def test_versions_that_cannot_score_are_passed_over_by_a_rollback(aliases, client):
    for old, new in (("1", "2"), ("2", "3"), ("3", "4")):
        aliases.promote(new, old, PROMOTION, "ada", "", None)
    client.delete_model_version("fraud", "3")
    client.set_model_version_tag("fraud", "2", SET_ASIDE, "it answers NaN")
    move = aliases.roll_back("bob", "too many hits")
    assert aliases_of(client) == {"champion": 1}
    assert (move.from_version, move.to_version) == ("4", "1")
    assert move.why == (
        "too many hits; v3 was passed over: it is not in the registry; "
        "v2 was passed over: it was set aside, it answers NaN"
    )


def test_where_no_earlier_version_can_score_the_alias_stays(aliases, client):
    aliases.promote("2", "1", PROMOTION, "ada", "", None)
    client.delete_model_version("fraud", "1")
    with pytest.raises(AliasError, match="no earlier champion can score; v1 was passed over"):
        aliases.roll_back("bob", "")
    assert aliases_of(client) == {"champion": 2}
    assert len(moved(aliases)) == 1


def test_a_champion_that_was_deleted_can_be_rolled_back(aliases, client):
    aliases.promote("2", "1", PROMOTION, "ada", "", None)
    client.delete_model_version("fraud", "2")
    assert aliases.champion_if_any() is None
    assert aliases.catch_up() is None
    assert aliases.roll_back("bob", "").to_version == "1"
    assert aliases_of(client) == {"champion": 1}


class Died(BaseException):
    pass


@contextmanager
def dying(aliases, call, monkeypatch):
    """The process dies where it makes that call to the registry."""

    def die(*arguments):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(aliases.client, call, die)
        yield


@pytest.mark.parametrize("at", ["set_registered_model_alias", "delete_registered_model_alias"])
def test_a_promotion_that_dies_on_its_way_is_found_out(aliases, client, monkeypatch, at):
    client.set_registered_model_alias("fraud", "challenger", "2")

    with dying(aliases, at, monkeypatch), pytest.raises(Died):
        aliases.promote("2", "1", PROMOTION, "ada", "", None)
    found = aliases.catch_up()
    if at == "delete_registered_model_alias":
        assert found is None
        assert aliases_of(client) == {"champion": 2}
        assert aliases.roll_back("bob", "").to_version == "1"
        return
    assert aliases_of(client) == {"champion": 1, "challenger": 2}
    assert moved(aliases) == [(PROMOTION, "1", "2"), (FOUND, "2", "1")]
    assert "did not happen" in found.why
    assert aliases.catch_up() is None
    with pytest.raises(AliasError, match="no earlier champion"):
        aliases.roll_back("bob", "")


def test_a_rollback_that_dies_on_its_way_is_found_out_and_can_be_made_again(
    aliases, client, monkeypatch
):
    aliases.promote("2", "1", PROMOTION, "ada", "", None)
    aliases.promote("3", "2", PROMOTION, "ada", "", None)

    with dying(aliases, "set_registered_model_alias", monkeypatch), pytest.raises(Died):
        aliases.roll_back("bob", "")
    assert aliases.catch_up() is not None
    assert aliases.roll_back("bob", "").to_version == "2"
    assert aliases_of(client) == {"champion": 2}


def test_a_move_by_hand_is_recorded_and_can_be_rolled_back(aliases, client):
    assert aliases.catch_up() is None
    aliases.promote("2", "1", PROMOTION, "ada", "", None)
    client.set_registered_model_alias("fraud", "champion", "4")
    assert aliases.catch_up().who == "unknown"
    assert moved(aliases) == [(PROMOTION, "1", "2"), (FOUND, "2", "4")]
    assert aliases.roll_back("bob", "").to_version == "2"


def test_aliases_that_are_not_set_are_told_with_those_that_are(aliases, client):
    with pytest.raises(AliasError, match=r"alias challenger; there is champion \(v1\)"):
        aliases.challenger()


def test_a_registry_that_is_away_is_told_and_not_made(settings, tmp_path):
    with pytest.raises(AliasError, match="no registry at"):
        Aliases(settings, lambda: NOON)
    assert not (tmp_path / "mlflow.db").exists()
