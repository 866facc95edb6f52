import dataclasses
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from ingest import synthetic
from ingest.payment_files import read_payments
from ingest.schema import check_payment
from ingest.synthetic import COLUMNS, make_population, payments
from ingest.synthetic_description import category_facts, overall_facts
from ingest.synthetic_fraud import BURST_CYCLE_DAYS
from ingest.synthetic_habits import CATEGORIES, HABITS, SCORES, scaled_amounts

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def population():
    return make_population(seed=1, cards=150)


@pytest.fixture(scope="module")
def year(population):
    return payments(population, START, 366, seed=1)


@pytest.fixture(scope="module")
def frauds(year):
    return year[year["is_fraud"] == 1]


def burst_spans(frauds: pd.DataFrame) -> pd.DataFrame:
    return frauds.groupby("cc_num")["unix_time"].agg(["size", "min", "max"])


def test_the_same_seeds_give_the_same_payments(population, year):
    again = payments(make_population(seed=1, cards=150), START, 366, seed=1)

    pd.testing.assert_frame_equal(again, year)


def test_periods_add_up_to_the_whole_however_time_is_cut(population, year, frauds):
    first_burst = burst_spans(frauds).iloc[0]
    in_the_burst = datetime.fromtimestamp(int(first_burst["min"]), UTC) + timedelta(minutes=1)
    before = (in_the_burst - START).days
    until = in_the_burst - timedelta(days=before)

    parts = [
        payments(population, START, 0, seed=1),
        year[year["unix_time"] < until.timestamp()],
        payments(population, until, before, seed=1),
        payments(population, in_the_burst, 20, seed=1),
    ]

    joined = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(joined, year.iloc[: len(joined)])
    burst = joined[(joined["is_fraud"] == 1) & (joined["cc_num"] == first_burst.name)]
    assert len(burst) == first_burst["size"]


def test_seeds_populations_and_periods_share_no_payment(population):
    sets = [
        payments(population, START, 5, seed=1),
        payments(population, START, 5, seed=2),
        payments(population, START + timedelta(days=5), 5, seed=1),
        payments(make_population(seed=2, cards=150), START, 5, seed=1),
        payments(make_population(seed=1, cards=151), START, 5, seed=1),
    ]

    together = pd.concat(sets)["trans_num"]

    assert together.is_unique
    assert together.str.fullmatch("[0-9a-f]{32}").all()


def test_columns_are_those_of_the_public_files_in_the_order_of_time(year):
    assert ",".join(year) == (
        "trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,"
        "zip,lat,long,city_pop,job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud"
    )
    assert year["unix_time"].is_monotonic_increasing
    times = pd.to_datetime(year["trans_date_trans_time"]).astype("datetime64[s]")
    assert (times.astype("int64") == year["unix_time"]).all()


def test_a_file_of_them_reads_back_the_same(tmp_path, population):
    written = payments(population, START, 3, seed=1)
    written.to_csv(tmp_path / "a.csv")

    read = read_payments(tmp_path / "a.csv")

    assert len(written) > 100
    pd.testing.assert_frame_equal(read[list(COLUMNS)], written.astype({"unix_time": "Int64"}))


def test_every_payment_fits_the_schema(year):
    for row in year.sample(300, random_state=1).to_dict("records"):
        check_payment(row)


def test_card_numbers_have_a_check_digit_and_are_distinct(population):
    numbers = make_population(seed=3, cards=5_000).holders["cc_num"]

    assert numbers.is_unique
    assert numbers.str.fullmatch("8[0-9]{15}").all()
    for number in numbers.head(200):
        doubled = [int(digit) * 2 for digit in number[-2::-2]]
        kept = [int(digit) for digit in number[::-2]]
        assert (sum(kept) + sum(value // 10 + value % 10 for value in doubled)) % 10 == 0


def test_card_holders_are_plausible():
    holders = make_population(seed=3, cards=5_000).holders

    ages = 2025 - holders["dob"].str[:4].astype(int)
    assert ages.min() >= 14
    assert ages.max() <= 91
    assert 40 < ages.median() < 50
    assert 0.5 < (holders["gender"] == "F").mean() < 0.56
    assert holders["zip"].str.fullmatch("[0-9]{5}").all()
    assert holders["zip"].str.startswith("0").any()
    assert set(holders["state"].str.len()) == {2}


def test_a_population_cannot_be_changed(population):
    with pytest.raises(dataclasses.FrozenInstanceError):
        population.seed = 2


def test_merchants_have_one_category_each(population, year):
    merchants = population.merchants
    assert len(merchants) == merchants["merchant"].nunique() == 700
    assert merchants["merchant"].str.startswith("fraud_").all()
    assert merchants["category"].value_counts().eq(50).all()
    found = year[["merchant", "category"]].drop_duplicates().merge(merchants, how="left")
    assert found["merchant"].is_unique


def test_merchants_are_within_a_degree_of_home_all_over(year):
    for home, merchant in (("lat", "merch_lat"), ("long", "merch_long")):
        distance = year[merchant] - year[home]
        assert distance.abs().max() <= 1.000001
        assert abs(distance.abs().median() - 0.5) < 0.01


def test_rows_per_card_and_shares_are_those_of_the_habits(year):
    genuine = year[year["is_fraud"] == 0]
    shares = genuine["category"].value_counts(normalize=True)
    expected = np.array([habit.genuine.share for habit in HABITS])

    assert np.abs(shares[list(CATEGORIES)] - expected / expected.sum()).max() < 0.012
    per_day = genuine.groupby("cc_num").size() / 366
    assert 1.8 < per_day.mean() < 2.6
    assert 1.2 < per_day.std() < 2.0


def test_genuine_payments_keep_their_hours_weekdays_and_months(year):
    genuine = year[year["is_fraud"] == 0]
    times = pd.to_datetime(genuine["trans_date_trans_time"])
    morning = (times.dt.hour < 12).groupby(genuine["category"]).mean()
    assert morning["grocery_pos"] > 0.97
    assert morning["health_fitness"] == 0
    assert abs(morning["shopping_net"] - 0.27) < 0.02
    weekdays = times.dt.weekday.value_counts(normalize=True)
    assert abs(weekdays[0] - 0.092) < 0.01
    assert abs(weekdays[5] - 0.206) < 0.01
    by_day = times.dt.month.value_counts() / times.dt.date.groupby(times.dt.month).nunique()
    assert 1.7 < by_day[12] / by_day.drop(12).mean() < 2.1


def test_amounts_lie_at_the_quantiles_of_their_category(year):
    genuine = year[year["is_fraud"] == 0].groupby("category")["amt"]
    for habit in HABITS:
        amounts = genuine.get_group(habit.category)
        median, high = habit.genuine.amounts_usd[3], habit.genuine.amounts_usd[6]
        # Whoever spends much goes on doing so: with few cards that moves a median.
        tolerance = 0.5 if habit.category == "grocery_pos" else 0.3
        assert amounts.median() == pytest.approx(median, rel=tolerance), habit.category
        assert (amounts <= high).mean() == pytest.approx(0.95, abs=0.02), habit.category


def test_scaled_amounts_meet_the_tables_at_the_scores():
    tables = [habit.fraud.amounts_usd for habit in HABITS]
    for number, table in enumerate(tables):
        category = np.full(len(SCORES), number)
        assert scaled_amounts(tables, category, SCORES).tolist() == pytest.approx(table)
    outside = scaled_amounts(tables, np.array([0, 1]), np.array([99.0, -99.0]))
    assert outside.tolist() == [tables[0][-1], tables[1][0]]


def test_frauds_are_rare_and_come_in_bursts(population, year, frauds):
    assert 0.003 < len(frauds) / len(year) < 0.008
    bursts = burst_spans(frauds)
    whole = bursts[bursts["min"] > year["unix_time"].min() + 2 * 86_400]
    whole = whole[whole["max"] < year["unix_time"].max() - 2 * 86_400]
    assert whole["size"].between(2, 16).all()
    assert 9 <= whole["size"].median() <= 11
    assert ((whole["max"] - whole["min"]) < 2 * 86_400).all()
    assert 1.6 < ((whole["max"] - whole["min"]) / 86_400).median() < 2.0


def test_a_card_is_robbed_once_in_a_cycle():
    population = make_population(seed=5, cards=60)
    cycle_begin = datetime.fromtimestamp(28 * BURST_CYCLE_DAYS * 86_400, UTC)
    long = payments(population, cycle_begin, BURST_CYCLE_DAYS, seed=1)

    frauds = long[(long["is_fraud"] == 1)]
    # A burst of the cycle before may reach into the first day.
    frauds = frauds[frauds["unix_time"] >= cycle_begin.timestamp() + 86_400]

    spans = burst_spans(frauds)
    assert 45 <= len(spans) <= 60
    begun = (spans["min"] - cycle_begin.timestamp()) / 86_400 / BURST_CYCLE_DAYS
    assert begun.between(0, 1).all()
    assert 0.4 < begun.mean() < 0.6
    assert ((spans["max"] - spans["min"]) < 2 * 86_400).all()


def test_frauds_come_late_and_in_the_small_hours(frauds):
    hours = pd.to_datetime(frauds["trans_date_trans_time"]).dt.hour
    assert 0.40 < hours.isin([22, 23]).mean() < 0.60
    assert 0.25 < hours.isin([0, 1, 2, 3]).mean() < 0.42
    assert hours.between(4, 21).any()


def test_the_card_holder_pays_beside_the_burst(year, frauds):
    genuine = year[year["is_fraud"] == 0].merge(burst_spans(frauds), on="cc_num")
    beside = genuine["unix_time"].between(genuine["min"], genuine["max"]).sum()
    assert beside > len(burst_spans(frauds))


def test_no_bound_on_the_amount_separates_the_frauds(year, frauds):
    gas = year[year["category"] == "gas_transport"]
    highest_of_thieves = HABITS[CATEGORIES.index("gas_transport")].fraud.amounts_usd[-1]
    assert gas[gas["is_fraud"] == 1]["amt"].max() > highest_of_thieves
    assert gas[gas["is_fraud"] == 0]["amt"].min() < highest_of_thieves


@pytest.mark.parametrize(
    ("start", "days", "seed"),
    [(datetime(2024, 1, 1), 1, 1), (START, -1, 1), (START, 1, -1), (START.replace(1969), 1, 1)],
)
def test_periods_that_cannot_be_are_refused(population, start, days, seed):
    with pytest.raises(ValueError, match="expected a start with time zone"):
        payments(population, start, days, seed)


def test_populations_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="cards >= 1"):
        make_population(seed=1, cards=0)


def test_the_first_day_there_is_has_payments(population):
    assert len(payments(population, synthetic.EPOCH, 1, seed=1)) > 0


def handmade() -> pd.DataFrame:
    rows = [
        ("2024-12-01 23:00:00", "a", 900.0, 1),
        ("2024-12-02 01:00:00", "a", 5.0, 1),
        ("2024-12-02 00:30:00", "a", 4.0, 0),
        ("2024-11-30 12:00:00", "b", 5.0, 0),
        ("2024-11-30 13:00:00", "b", 8.0, 0),
    ]
    frame = pd.DataFrame(rows, columns=["trans_date_trans_time", "cc_num", "amt", "is_fraud"])
    return frame.assign(merchant="m", category="home", dob="1984-01-01")


def test_facts_of_a_handmade_set():
    facts = overall_facts(handmade())

    assert facts["payments"] == "5"
    assert facts["cards"] == "2"
    assert facts["fraudulent payments, %"] == "40.00"
    assert facts["age of a card holder, 5 % / median / 95 %"] == "40 / 40 / 40"
    assert facts["0 to 11 h, % of the genuine"] == "33.3"
    assert facts["22 and 23 h, % of the fraudulent"] == "50.0"
    assert facts["0 to 3 h, % of the fraudulent"] == "50.0"
    assert facts["Friday to Sunday, % of the genuine"] == "66.7"
    assert facts["bursts of fraud"] == "1"
    assert facts["cards with a second burst"] == "0"
    assert facts["minutes from one to the next, median"] == "120"
    assert facts["days from its first to its last, median"] == "0.08"
    assert facts["genuine payments beside a burst, mean"] == "1.0"
    assert facts["a day in December / in another month"] == "0.75"
    assert facts["frauds with an amount like 98 % of the genuine, %"] == "50.0"
    assert category_facts(handmade()) == {
        "home": {
            "genuine %": "100.0",
            "0-11 h %": "33.3",
            "genuine $ 50 / 95 / 99 %": "5 / 7.7 / 7.94",
            "fraud %": "100.0",
            "fraud $ 5 / 50 / 95 %": "49.8 / 452 / 855",
        }
    }


def test_facts_of_a_set_without_frauds():
    facts = overall_facts(handmade().query("is_fraud == 0"))

    assert facts["bursts of fraud"] == "0"
    assert facts["payments in a burst, 5 % / median / 95 %"] == "-"


def test_describe_sets_a_file_beside_the_generator(tmp_path, population, monkeypatch, capsys):
    written = payments(population, START, 9, seed=1)
    written.to_csv(tmp_path / "nine.csv")
    arguments = ["--describe", "--cards", "20", "--days", "9", "--against"]
    monkeypatch.setattr(sys, "argv", ["synthetic", *arguments, str(tmp_path / "nine.csv")])

    synthetic.main()

    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if "statistic" in line)
    cards = next(line for line in lines if "| cards " in line)
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "statistic",
        "synthetic",
        "nine.csv",
    ]
    assert [cell.strip() for cell in cards.split("|")[2:-1]] == [
        "20",
        str(written["cc_num"].nunique()),
    ]


def test_describe_names_a_file_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["synthetic", "--describe", "--days", "1", "--against", "no"])

    with pytest.raises(SystemExit, match="2"):
        synthetic.main()

    assert capsys.readouterr().err == "error: no: no such file\n"
