"""How a task scores: champion, challenger in shadow, and the fallback."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from jobs.arrivals import PAYMENTS
from jobs.features import FEATURE_NAMES
from jobs.model import ModelRefused
from jobs.scorer import TaskJudge
from jobs.scoring import load_archive, stamped_at_receipt
from tests.models import code_version
from tests.written_rows import scored_rows

HALF = "return np.full(len(data), 0.5)"
BY_AMOUNT = "return data['amt'] / 1000"
NO_NUMBER = "return np.where(data['amt'] > 500, np.nan, 0.25)"


class Shared:
    """What ``SharedVersion`` is to a task; counts how often the model is asked for."""

    def __init__(self, version, body):
        self.version = code_version(version, body)
        self.asked = 0

    def loaded(self):
        self.asked += 1
        return load_archive(self.version.archive, self.version.inputs)


def payments(*amounts):
    rows = scored_rows(*range(len(amounts))).set_column(
        scored_rows().schema.get_field_index("amt"), "amt", pa.array([float(amount) for amount in amounts])
    )  # fmt: skip
    features = rows["features"].combine_chunks()
    columns = {name: features.field(name) for name in FEATURE_NAMES}
    columns |= {name: rows[name] for name in rows.column_names} | {
        "received_at": rows["ingested_at"]
    }
    return pa.table({name: columns[name] for name in PAYMENTS.names})


def told(rows):
    """Of each row: who scored it and how, and the same of the challenger."""
    names = ("model_version", "fraud_score", "challenger_version", "challenger_score")
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def test_the_challengers_score_stands_beside_the_champions():
    judge = TaskJudge(Shared("1", HALF), Shared("2", BY_AMOUNT), None)
    assert told(judge(payments(100, 900))) == [("1", 0.5, "2", 0.1), ("1", 0.5, "2", 0.9)]
    assert judge.troubles == {}


def test_the_time_of_scoring_is_the_clocks_unless_it_is_told():
    some, began = payments(100, 900), datetime.now(UTC)
    [first, second] = TaskJudge(Shared("1", HALF), None, None)(some)["scored_at"].to_pylist()
    assert began <= first == second <= datetime.now(UTC)
    for champion, previous in ((HALF, None), (NO_NUMBER, Shared("0", HALF))):
        judge = TaskJudge(Shared("1", champion), None, previous, stamped_at_receipt)
        assert judge(some)["scored_at"].equals(some["received_at"])


def test_without_a_challenger_its_columns_are_null():
    assert told(TaskJudge(Shared("1", HALF), None, None)(payments(100))) == [("1", 0.5, None, None)]


def test_a_challenger_that_fails_is_left_out_and_told():
    challenger = Shared("2", NO_NUMBER)
    judge = TaskJudge(Shared("1", HALF), challenger, None)
    assert told(judge(payments(100))) == [("1", 0.5, "2", 0.25)]
    assert told(judge(payments(100, 900))) == [("1", 0.5, None, None)] * 2
    assert told(judge(payments(100))) == [("1", 0.5, None, None)]
    assert judge.troubles == {"challenger": "its output nan is no probability (0 to 1)"}
    assert challenger.asked == 2


def test_the_previous_champion_scores_where_the_champion_fails():
    champion = Shared("2", NO_NUMBER)
    judge = TaskJudge(champion, Shared("3", BY_AMOUNT), Shared("1", HALF))
    assert told(judge(payments(100))) == [("2", 0.25, "3", 0.1)]
    assert told(judge(payments(100, 900))) == [("1", 0.5, "3", 0.1), ("1", 0.5, "3", 0.9)]
    assert told(judge(payments(100))) == [("1", 0.5, "3", 0.1)]
    assert judge.troubles == {"champion": "its output nan is no probability (0 to 1)"}
    assert champion.asked == 2


@pytest.mark.parametrize("previous", [None, Shared("1", NO_NUMBER)])
def test_where_nobody_can_score_the_micro_batch_fails(previous):
    judge = TaskJudge(Shared("2", NO_NUMBER), None, previous)
    with pytest.raises(ModelRefused, match="nan is no probability"):
        judge(payments(900))
