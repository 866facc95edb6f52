"""Card numbers in texts and other values: which are found, and what is left alone."""

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.card_numbers import CardNumbers, hidden, is_card_number, mask

NUMBER = "4000123412341234"  # not one that passes Luhn's check
OTHERS = ["4111111111111111", "5500005555555559", "378282246310005", "6304000000000000000"]
WIDE = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}
FULL_WIDTH = NUMBER.translate(WIDE)
KNOWN = CardNumbers(NUMBER, "token")
SHORT = CardNumbers("87654321", "token")


@pytest.mark.parametrize(
    "spelled",
    [
        "4000 1234 1234 1234", "4000-1234-1234-1234", "4000_1234_1234_1234", "4000.1234.1234.1234",
        "4000/1234/1234/1234", "4000\u20131234\u20141234\u20111234", "4000\u200b1234\u2060123\xad41234", "4000, 1234, 1234: 1234",
        FULL_WIDTH, "\u0664\u0660\u0660\u0660 \u0661\u0662\u0663\u0664 1234 1234", "\U0001d7d2\U0001d7ce\U0001d7ce\U0001d7ce123412341234", "4.000123412341234e15", "4.000123412341234E+15",
        "\u2074000 1234 1234 1234", "\u2463\u24ea00123412341234", "40001234123412.34e2", "40001234123412340e-1", "4 0 0 0 1 2 3 4 1 2 3 4 1 2 3 4",
    ],
)  # fmt: skip
def test_a_known_number_is_found_however_it_is_spelled(spelled):
    assert KNOWN.without(f"of {spelled} today") == "of token today"
    assert KNOWN.without({spelled: [spelled]}) == {"token": ["token"]}


def test_a_known_number_is_found_within_others():
    assert KNOWN.without(f"x{NUMBER}9 or {NUMBER}{NUMBER}") == "xtoken9 or tokentoken"
    assert KNOWN.without(int("7" + NUMBER + "1226")) == "7token1226"
    assert KNOWN.without(-4000123412341234.5) == "token"


def test_a_short_number_has_no_digits_beside_it():
    assert SHORT.without("187654321, 876543210 and 87654321") == ("187654321, 876543210 and token")
    assert SHORT.without([1787654321000, 45.87654321, 87654321, 87654321.0]) == [
        1787654321000, 45.87654321, "token", "token",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("known", "text"),
    [("000" + NUMBER, NUMBER), (NUMBER, "000" + NUMBER), ("00087654321", "87654321"), ("87654321", "00087654321")],
)  # fmt: skip
def test_zeros_in_front_do_not_matter(known, text):
    assert NUMBER not in CardNumbers(known, "token").without(f"of {text}")
    assert CardNumbers(known, "token").without([int(text)]) == ["token"]


def test_zeros_alone_are_not_every_zero():
    assert CardNumbers("00000012", "token").without([0, 12, "12 1234567", "00000012"]) == [
        0, 12, "12 1234567", "token",
    ]  # fmt: skip


@pytest.mark.parametrize("number", OTHERS)
def test_another_number_is_masked_but_for_its_last_four_digits(number):
    masked = mask(number)
    groups = [number[start : start + 4] for start in range(0, len(number), 4)]
    for separator in ("", " ", "-", ".", "/", "_", " - ", "\u2013", "\u200b"):
        text = f"his other card, {separator.join(groups)}; "
        assert KNOWN.without(text) == f"his other card, {masked}; "
    assert KNOWN.without({number: int(number)}) == {masked: masked}
    assert KNOWN.without(f"PAN{number}, cvv 123") == f"PAN{masked}, cvv 123"
    assert is_card_number(number)
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert KNOWN.without([f"no {wrong}", int(wrong)]) == [f"no {wrong}", int(wrong)]
    assert not is_card_number(wrong)


def test_a_number_is_found_among_other_digits():
    text = "2 cards: 4111 1111 1111 1111 12/26 and 5500005555555559 5500 0055 5555 5559"
    masked = KNOWN.without(text)
    assert masked.startswith("2 cards: **** ")
    assert len(re.sub("[^0-9]", "", masked)) < 24
    assert "5555" not in masked


def test_another_number_is_found_in_other_scripts_and_with_an_exponent():
    assert KNOWN.without(OTHERS[0].translate(WIDE)) == "**** 1111"
    assert KNOWN.without("pan 4.111111111111111E15") == "pan **** 1111"


@pytest.mark.parametrize(
    "value",
    [
        "1712345678000", 1712345678000, "1712345678000004", 1712345678000000003,  # times
        "2024-11-05 10:22:33", "2024-11-05T10:22:33.123", "1111,2222,3333,4444", "41111111111111111111",
        "411111111111111f1111111111111111", "12345678-1234-4111-8111-111111111116", 4.11111111111111e-3,
        45.512345678901, "1e9", "12e15", float("inf"), -1e300, True, None, "Zoë ½ ﬁ", "route 66", "", 10**400,
    ],
)  # fmt: skip
def test_what_is_no_card_number_stays_as_it_is(value):
    assert KNOWN.without(value) == value
    assert KNOWN.without({"a": [value]}) == {"a": [value]}


def test_nan_stays_as_it_is():
    nan = float("nan")
    assert KNOWN.without(nan) is nan


def test_without_a_guess_only_the_known_number_goes():
    assert KNOWN.without(f"{OTHERS[0]} {NUMBER}", guess=False) == f"{OTHERS[0]} token"


def test_names_that_become_one_are_told():
    with pytest.raises(ValueError, match="two names"):
        KNOWN.without({NUMBER: 1, "4000 1234 1234 1234": 2})


def test_digits_are_hidden_in_messages():
    assert hidden("a 4000_1234\u20131234.1234 or 1234567") == "a … or 1234567"


between = st.text(st.characters(exclude_categories=["L", "N", "M"]), max_size=2)


@given(st.lists(between, min_size=15, max_size=15), st.text(max_size=5), st.text(max_size=5))
def test_no_separators_hide_a_known_number(separators, before, behind):
    spelled = "".join(digit + sign for digit, sign in zip(NUMBER, [*separators, ""], strict=True))
    # A sign such as a thin space or a fraction's slash may stand for others.
    plain = re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", spelled))
    if plain == NUMBER:
        assert "token" in KNOWN.without(before + spelled + behind)


@given(st.recursive(st.text() | st.integers() | st.floats(allow_nan=False),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_a_value_with_few_digits_is_unchanged(value):
    if len(re.findall(r"[0-9]", unicodedata.normalize("NFKC", json.dumps(value)))) < 8:
        assert KNOWN.without(value) == value
