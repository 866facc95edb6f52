"""Card numbers replaced by tokens, and what cannot be told apart encrypted."""

import base64
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

import jobs.parse
import training.train
from conf.settings import SettingsError, load_settings
from ingest.card_numbers import card_digits, mask
from ingest.envelope import Encrypted, envelope_line
from ingest.kafka_landing import card_of
from ingest.pan_cipher import NoCardNumber, PanCipher, WrongKey, pan_cipher
from ingest.payment_files import PaymentFileError, read_payments
from ingest.print_answer import print_answer
from ingest.schema import check_payment
from tests.conftest import PROJECT, payment
from tests.test_parse import RECEIVED_AT, check, landed
from training.dataset import build_dataset

KEY = bytes(range(32))
CIPHER = PanCipher(KEY)
NUMBER = "4000123412341234"
TOKEN = CIPHER.token(NUMBER)
SPELLINGS = [
    4000123412341234, 4000123412341234.0, 4.000123412341234e15, "4000123412341234",
    " 4000 1234 1234 1234", "4000-1234-1234-1234", "4000123412341234.0", "4.000123412341234e15",
]  # fmt: skip
NO_NUMBERS = [
    None, True, "", "x", "4000-12", "1234567", 1234567, -4000123412341234, 12.5, float("nan"),
    float("inf"), 10**19, 1e19, "1" * 20, [4000123412341234], {"n": 4000123412341234}, "٤" * 7,
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_card_has_one_token_however_its_number_is_told(spelling):
    assert card_digits(spelling) == NUMBER
    assert CIPHER.tokenised(payment(cc_num=spelling))["cc_num"] == TOKEN


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_told(value):
    assert card_digits(value) is None
    with pytest.raises(NoCardNumber):
        CIPHER.tokenised(payment(cc_num=value))


def test_a_float_that_may_have_been_another_number_is_none():
    assert card_digits(float(2**53)) == str(2**53)
    assert card_digits(float(2**53 + 2)) is None
    assert card_digits(4999999999999999999) == "4999999999999999999"


def test_the_token_is_that_of_its_definition():
    derived = HKDF(SHA256(), 32, None, b"fraud-detector card token").derive(KEY)
    mac = hmac.new(derived, NUMBER.encode(), hashlib.sha256).digest()[:16]
    letters = "".join(f"{chr(97 + byte // 16)}{chr(97 + byte % 16)}" for byte in mac)
    assert f"tok_{letters}_1234" == TOKEN


def test_another_key_and_another_card_have_other_tokens():
    tokens = {TOKEN, PanCipher(KEY[::-1]).token(NUMBER), CIPHER.token("4000123412351234")}
    assert len(tokens) == 3
    assert {token[-4:] for token in tokens} == {"1234"}


def test_whatever_reads_a_card_number_reads_a_token(tmp_path, monkeypatch):
    assert check_payment(payment(cc_num=TOKEN))["cc_num"] == TOKEN
    assert card_of(landed(payment(cc_num=TOKEN))) == TOKEN
    assert mask(TOKEN) == mask(NUMBER)
    monkeypatch.setattr(jobs.parse, "_judge", lambda *_: pytest.fail("one by one"))
    rows = check([landed(payment(n, cc_num=TOKEN), n) for n in range(3)], max_days_ahead=0)
    assert [row["cc_num"] for row in rows] == [TOKEN] * 3
    assert CIPHER.tokenised(payment(cc_num=TOKEN)) == payment(cc_num=TOKEN)


@pytest.mark.parametrize(
    "like", ["tok_1234", TOKEN.upper(), TOKEN + "5", TOKEN + "\n", "x" + TOKEN]
)
def test_nothing_else_that_looks_like_a_token_is_one(like):
    (row,) = check([landed(payment(cc_num=like))], max_days_ahead=0)
    assert row["reason"].startswith("cc_num: expected 8 to 19 digits")


def test_the_same_digits_elsewhere_are_replaced():
    row = payment(
        merchant=f"refund to {NUMBER}!", street="4000 1234-1234  1234", job=f"x{NUMBER}9",
        amt=4000123412341234.0, zip=4000123412341234, note={"of": [NUMBER, {NUMBER: None}]},
    )  # fmt: skip
    cleaned = CIPHER.tokenised(row)
    assert cleaned["merchant"] == f"refund to {TOKEN}!"
    assert (cleaned["street"], cleaned["job"]) == (TOKEN, f"x{TOKEN}9")
    assert (cleaned["amt"], cleaned["zip"]) == (TOKEN, TOKEN)
    assert cleaned["note"] == {"of": [TOKEN, {TOKEN: None}]}
    assert list(cleaned) == list(row)
    others = ("lat", "current_time", "first", "trans_num", "is_fraud")
    assert {name: cleaned[name] for name in others} == {name: row[name] for name in others}


@pytest.mark.parametrize("name", ["4111111111111111" + "f" * 16, "1712345678000", 7, "a-1", None])
def test_the_identifier_of_a_payment_never_changes(name):
    assert CIPHER.tokenised(payment(trans_num=name))["trans_num"] == name
    assert "trans_num" not in CIPHER.tokenised(payment(trans_num=...))


OTHER = "5500005555555559"


@pytest.mark.parametrize(
    "name", [f"f{NUMBER}e", int(NUMBER), float(NUMBER), OTHER, int(OTHER), "5500-0055_5555 5559"]
)
def test_a_row_with_a_card_number_for_an_identifier_is_encrypted(name):
    with pytest.raises(NoCardNumber, match="trans_num"):
        CIPHER.tokenised(payment(trans_num=name))
    assert isinstance(CIPHER.protected(json.dumps(payment(trans_num=name))), Encrypted)


def test_numbers_of_other_cards_are_masked_and_times_are_not():
    spaced = " ".join(re.findall("....", OTHER))
    row = payment(
        merchant=f"for {spaced}", city_pop=int(OTHER), more=[{OTHER: int(OTHER)}],
        current_time=2_222_222_222_224, unix_time=1_222_222_222_227, zip="1712345678000",
    )  # fmt: skip
    cleaned = CIPHER.tokenised(row)
    assert (cleaned["merchant"], cleaned["city_pop"]) == ("for **** 5559", "**** 5559")
    assert cleaned["more"] == [{"**** 5559": "**** 5559"}]
    for name in ("current_time", "unix_time", "zip"):
        assert cleaned[name] == row[name]
    assert CIPHER.tokenised(payment(current_time=spaced))["current_time"] == "**** 5559"


def test_a_short_number_is_no_part_of_a_time():
    cleaned = CIPHER.tokenised(
        payment(cc_num=12345678, current_time=1712345678000, unix_time=12345678)
    )
    assert cleaned["current_time"] == 1712345678000
    assert cleaned["unix_time"] == CIPHER.token("12345678")


@pytest.mark.parametrize("token", [TOKEN, "tok_" + "a" * 32 + "_1234"])
def test_a_row_that_came_with_a_token_is_encrypted(token):
    """Anybody can write one, and its number may stand anywhere else."""
    row = payment(cc_num=token, street=NUMBER)
    assert isinstance(CIPHER.protected(json.dumps(row)), Encrypted)
    assert CIPHER.tokenised(payment(cc_num=token, street=OTHER))["street"] == "**** 5559"


plain = st.text("ab4 01-") | st.integers(0, 10**7) | st.none() | st.floats(0, 1, width=16)
spelled = st.sampled_from(
    [
        "{}",
        "4000 1234 1234 1234",
        "x{}y",
        "{0} {0}",
        "4000-12341234-1234",
        "4000.1234/1234_1234",
        "{}{}",
    ]
)
hidden = spelled.map(lambda text: text.format(NUMBER, NUMBER)) | st.sampled_from(
    [int(NUMBER), float(NUMBER)]
)
values = st.recursive(
    plain | hidden,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain.map(str) | spelled, inner),
    max_leaves=8,
)


@given(st.sampled_from(SPELLINGS), st.dictionaries(st.text("abc", min_size=1), values))
def test_no_digits_are_left_in_what_is_landed(number, more):
    protected = CIPHER.protected(json.dumps(more | {"cc_num": number}))
    landed_text = protected.text if isinstance(protected, Encrypted) else protected
    assert NUMBER not in re.sub(r"[\W_]", "", landed_text)


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(payment(cc_num=None, merchant=NUMBER)),
        json.dumps([NUMBER, 1.5]),
        json.dumps(NUMBER),
        json.dumps({"cc_num": NUMBER, "4000 123412341234": 1, "4000-123412341234": 2}),
        json.dumps({"cc_num": NUMBER, "deep": json.loads("[" * 900 + "]" * 900)}),
        json.dumps({"first": "\ud800"}),
        json.dumps({"cc_num": NUMBER, "4111111111111111": 1, "4111-1111-1111-1111": 2}),
    ],
)
def test_a_row_in_which_the_number_may_stand_anywhere_is_encrypted(payload):
    protected = CIPHER.protected(payload)
    assert isinstance(protected, Encrypted)
    assert CIPHER.decrypted(protected.text).decode() == payload
    with pytest.raises(WrongKey):
        PanCipher(KEY[::-1]).decrypted(protected.text)


def test_what_is_encrypted_is_rejected_with_a_reason():
    line = envelope_line("api", 0, RECEIVED_AT, CIPHER.encrypted(b"\xff body"))
    assert json.loads(line)["encoding"] == "encrypted"
    (row,) = check([line])
    assert (
        row["reason"]
        == "encrypted by ingest: no row, none with a card number in cc_num, or one with a card number in trans_num"
    )
    assert CIPHER.decrypted(row["payload"]) == b"\xff body"


# --- the key --------------------------------------------------------------------------------------

LOCAL = PROJECT / "conf" / "local.toml"
RANDOM = hashlib.sha256(b"a key of these tests").digest()


@pytest.mark.parametrize(
    "text",
    [RANDOM.hex(), RANDOM.hex().upper(), base64.b64encode(RANDOM).decode(),
     base64.urlsafe_b64encode(RANDOM).decode().rstrip("="), f" {RANDOM.hex()}\n"],
)  # fmt: skip
def test_a_key_is_hex_or_base64_and_never_shown(monkeypatch, text):
    monkeypatch.setenv("FRAUD_PAN_KEY", text)
    settings = load_settings(LOCAL)
    assert pan_cipher(settings).token(NUMBER) == PanCipher(RANDOM).token(NUMBER)
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(CIPHER)):
        assert text.strip() not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found 0 bytes"),
        (RANDOM.hex()[:-2], "found 31 bytes"),
        ("correct horse battery staple!", "29 characters that are neither"),
        ("ab" * 32, "found 1 distinct ones among 32"),
    ],
)
def test_a_key_that_is_none_is_told_without_it(monkeypatch, text, said):
    monkeypatch.setenv("FRAUD_PAN_KEY", text)
    with pytest.raises(SettingsError) as caught:
        load_settings(LOCAL)
    assert f"pan_key: Value error, expected {'random' if 'ab' in text else 'at least 32'}" in str(
        caught.value
    )
    assert said in str(caught.value)
    assert "openssl rand -hex 32" in str(caught.value)
    assert not text or text not in str(caught.value)


def test_a_key_in_a_file_and_a_slip_in_its_name_are_told(monkeypatch, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(f'pan_key = "{RANDOM.hex()}"\n' + LOCAL.read_text())
    monkeypatch.setenv("FRAUD_PANKEY", RANDOM.hex())
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert "pan_key: a secret does not belong into a file; set FRAUD_PAN_KEY" in str(caught.value)
    assert "FRAUD_PANKEY: no variable of that name; there is FRAUD_PAN_KEY" in str(caught.value)
    assert RANDOM.hex() not in str(caught.value)


def test_without_a_key_there_is_no_cipher():
    assert pan_cipher(load_settings(LOCAL)) is None


# --- files and the terminal -----------------------------------------------------------------------


def csv_of(*payments):
    names = list(payments[0])
    lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in payments)]
    return "\n".join(lines) + "\n"


def test_files_of_payments_have_the_tokens_of_the_stream(tmp_path):
    path = tmp_path / "payments.csv"
    path.write_text(
        csv_of(*(payment(n, cc_num=s) for n, s in enumerate(SPELLINGS)), payment(9, cc_num=TOKEN))
    )
    assert set(read_payments(path, cipher=CIPHER)["cc_num"]) == {TOKEN}
    path.write_text(csv_of(payment()))
    assert set(read_payments(path)["cc_num"]) == {NUMBER}


@pytest.mark.parametrize(
    "changes", [{"amt": NUMBER + "x"}, {"cc_num": "x" + NUMBER}, {"current_time": NUMBER}]
)
def test_an_error_about_a_file_shows_no_number(tmp_path, changes):
    path = tmp_path / "payments.csv"
    path.write_text(csv_of(payment(**changes)))
    with pytest.raises(PaymentFileError) as caught:
        read_payments(path, cipher=CIPHER)
    assert NUMBER not in str(caught.value)
    assert "not shown" in str(caught.value)
    with pytest.raises(PaymentFileError, match=NUMBER):
        read_payments(path)


def test_a_printed_answer_shows_no_number(capsys):
    from rich.console import Console

    rows = [
        list(payment(merchant=NUMBER).values()),
        [NUMBER],
        list(payment(cc_num=None, job=NUMBER).values()),
    ]
    body = json.dumps({"columns": list(payment()), "data": rows}).encode()
    print_answer(body, Console(width=4000), CIPHER)
    shown = capsys.readouterr().out
    assert NUMBER not in shown
    assert "rows that land encrypted, not shown: 2" in shown
    assert TOKEN[:10] in shown
    print_answer(body, Console(width=4000))
    assert NUMBER in capsys.readouterr().out


def test_hashes_of_tokens_are_as_good_as_those_of_numbers():
    from jobs.feature_arrays import text_hash

    tokens = np.array([CIPHER.token(f"{4000000000000000 + n}") for n in range(5000)], dtype=object)
    assert len(np.unique(text_hash(tokens))) == 5000
    assert pa.array(tokens).type == pa.string()


def test_training_reads_files_with_tokens(settings, tmp_path, monkeypatch):
    """On files alone, and beside tables: one card is one card."""
    path = tmp_path / "payments.csv"
    path.write_text(csv_of(payment(1), payment(2, cc_num="4000 1234 1234 1234")))
    monkeypatch.setenv("FRAUD_PAN_KEY", KEY.hex())
    keyed = load_settings(LOCAL)
    seen = []
    monkeypatch.setattr(training.train, "train_model", lambda payments, _: seen.append(payments))
    training.train._on_files([path], keyed)
    seen.append(build_dataset([path], keyed, datetime.now(UTC)).payments)
    assert [set(payments["cc_num"]) for payments in seen] == [{TOKEN}, {TOKEN}]
