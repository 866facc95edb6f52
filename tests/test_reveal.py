"""Reading back what ingest landed encrypted."""

import hashlib
import io
import json
import sys
from datetime import UTC, datetime

import pytest

import ingest.reveal
from ingest.envelope import envelope_line
from ingest.pan_cipher import PanCipher

KEY = hashlib.sha256(b"a key of these tests").digest()
HEX = KEY.hex()
CIPHER = PanCipher(KEY)
NOW = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def reveal(environment, monkeypatch, capsys):
    def run(*files, key=HEX, standard_input=""):
        monkeypatch.setattr(sys, "argv", ["reveal", *map(str, files)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(standard_input))
        if key is not None:
            monkeypatch.setenv("FRAUD_PAN_KEY", key)
        try:
            status = ingest.reveal.main()
        except SystemExit as end:
            status = end.code
        told = capsys.readouterr()
        return status, [json.loads(line) for line in told.out.splitlines()], told.err

    return run


def test_encrypted_lines_come_out_and_others_are_passed_over(reveal, tmp_path):
    payloads = [CIPHER.encrypted("a row"), "a clear row", CIPHER.encrypted(b"\xff"), b"\xfe"]
    path = tmp_path / "payments-00000000000000000000.jsonl"
    lines = [envelope_line("api", n, NOW, payload) for n, payload in enumerate(payloads)]
    path.write_text("\n".join([*lines, "no envelope", "[1]", ""]))
    status, rows, _ = reveal(path)
    assert status == 0
    assert rows == [
        {"source": "api", "position": 0, "encoding": "text", "payload": "a row"},
        {"source": "api", "position": 2, "encoding": "base64", "payload": "/w=="},
    ]


def test_a_bare_payload_of_the_table_is_read_from_standard_input(reveal):
    _, rows, _ = reveal("-", standard_input=CIPHER.encrypted("a row").text + "\n")
    assert rows == [{"source": None, "position": None, "encoding": "text", "payload": "a row"}]


def test_another_key_and_none_are_told(reveal):
    other = hashlib.sha256(b"another key").hexdigest()
    text = CIPHER.encrypted("a row").text
    status, rows, said = reveal("-", key=other, standard_input=f"\n{text}\n")
    assert (status, rows) == (1, [])
    assert "line 2: not encrypted with this FRAUD_PAN_KEY" in said


def test_without_a_key_nothing_is_read(reveal):
    status, _, said = reveal("-", key=None)
    assert status == 1
    assert "FRAUD_PAN_KEY is not set" in said
