import csv
import io
from datetime import timedelta
from email import message_from_bytes, policy
from html.parser import HTMLParser

import pytest

from ingest.card_numbers import mask
from jobs.mail import CSV_COLUMNS, SHOWN_HITS, compose
from jobs.outbox import new_mail
from tests.hits import NOON, hit

SENDER = "Fraud detector <fraud@bank.example>"
RECIPIENTS = ("team@bank.example", "Jo Doe <jo@bank.example>")


def message(*hits, is_digest=False):
    """The message as its reader gets it: through bytes and back."""
    composed = compose(new_mail(list(hits), is_digest, NOON), SENDER, RECIPIENTS)
    return message_from_bytes(composed.as_bytes(policy=policy.SMTP), policy=policy.default)


def text(*hits):
    return message(*hits).get_body(("plain",)).get_content()


def html(*hits):
    return message(*hits).get_body(("html",)).get_content()


def table(*hits):
    (attachment,) = message(*hits).iter_attachments()
    return list(csv.DictReader(io.StringIO(attachment.get_content(), newline="")))


class Page(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.words = set(), []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)


def test_the_headers_say_who_what_and_when():
    composed = message(hit(1), hit(2, cc_num="60416207185", amt=0.5))
    assert composed["From"] == SENDER
    assert composed["To"] == ", ".join(RECIPIENTS)
    assert composed["Subject"] == "2 fraud hits on 2 cards, 1,235.00 USD"
    assert composed["Date"].datetime == NOON
    assert composed["Message-ID"] == new_mail([hit(2), hit(1)], False, NOON).message_id
    assert composed["Auto-Submitted"] == "auto-generated"


def test_one_hit_is_not_spoken_of_in_the_plural():
    assert message(hit())["Subject"] == "1 fraud hit on 1 card, 1,234.50 USD"
    assert text(hit()).startswith("1 payment looks fraudulent, 1,234.50 US dollars on 1 card.")


def test_a_digest_says_so_in_its_subject():
    assert message(hit(), is_digest=True)["Subject"].startswith("Digest: 1 fraud hit ")


@pytest.mark.parametrize("body", [text, lambda *hits: Page(html(*hits)).text])
def test_text_and_page_tell_of_each_hit_all_there_is_to_know(body):
    shown = body(hit(5))
    for part in (
        "**** 4444", "2024-11-05 12:00:05", "UTC", "1,234.50", "Kirlin and Sons", "shopping_net",
        "Columbia, SC", "0.987", "fraud v7", "1,234.50 is 14 times this card's 30-day mean",
        "at 02:54 <night>",
    ):  # fmt: skip
        assert part in shown


def test_each_reason_has_a_line_of_its_own():
    lines = text(hit(5)).splitlines()
    (score,) = [n for n, line in enumerate(lines) if "    score 0.987" in line]
    assert lines[score + 1 : score + 3] == [
        "    - 1,234.50 is 14 times this card's 30-day mean",
        "    - at 02:54 <night>",
    ]
    assert "30-day mean<br>at 02:54 &lt;night&gt;</td>" in "".join(html(hit(5)).splitlines())


@pytest.mark.parametrize("body", [text, html])
def test_a_hit_without_reasons_shows_none(body):
    shown = body(hit(5, reasons=()))
    assert "\n    - " not in shown
    assert "<td></td>" not in shown


def test_the_attached_csv_holds_every_hit_with_all_its_values():
    (row,) = table(hit(5))
    assert row == {
        "event_time": "2024-11-05 12:00:05", "card": "**** 4444", "amt": "1234.5",
        "merchant": "Kirlin and Sons", "category": "shopping_net", "city": "Columbia",
        "state": "SC", "fraud_score": "0.987", "threshold": "0.4321", "model_name": "fraud",
        "model_version": "7", "trans_num": f"{5:032x}",
        "reasons": "1,234.50 is 14 times this card's 30-day mean; at 02:54 <night>",
    }  # fmt: skip
    (attachment,) = message(hit()).iter_attachments()
    assert attachment.get_filename() == "hits.csv"
    assert attachment.get_content_type() == "text/csv"


@pytest.mark.parametrize("body", [text, html])
def test_hits_are_grouped_by_card_and_in_order_of_time(body):
    shown = body(
        hit(3, merchant="third"),
        hit(2, merchant="other card", cc_num="4999000011112222"),
        hit(1, merchant="first"),
    )
    places = [shown.index(part) for part in ("4444", "first", "third", "2222", "other card")]
    assert places == sorted(places)
    assert shown.count("4444") == 1


def test_cards_that_end_alike_are_told_apart():
    assert message(hit(1), hit(2, cc_num="55554444"))["Subject"].startswith(
        "2 fraud hits on 2 cards"
    )
    assert text(hit(1), hit(2, cc_num="55554444")).count("Card **** 4444") == 2


def test_no_card_number_leaves_the_house_unmasked():
    cards = ["4222111133334444", "60416207185", "98765432", "4" * 19]
    composed = message(*(hit(number, cc_num=card) for number, card in enumerate(cards)))
    # Whole as it is sent, and every part decoded: base64 would hide a number.
    wholes = [composed.as_bytes(), *(part.get_payload(decode=True) for part in composed.walk())]
    for whole in wholes:
        for card in cards:
            assert card[:-4].encode() not in (whole or b"")
    for body in (text, html, lambda *hits: str(table(*hits))):
        shown = body(*(hit(number, cc_num=card) for number, card in enumerate(cards)))
        assert all(mask(card) in shown for card in cards)


def test_a_merchant_cannot_write_html():
    hostile = '<script>alert(1)</script><img src=x onerror="a">&amp;'
    fields = dict.fromkeys(("merchant", "category", "city", "state"), hostile)
    page = Page(html(hit(**fields, reasons=(f"category {hostile}",))))
    assert not page.tags & {"script", "img"}
    assert page.text.count(hostile) == 5


@pytest.mark.parametrize("field", ["merchant", "category", "city", "state", "trans_num", "reasons"])
def test_a_merchant_cannot_write_headers_or_lines_of_its_own(field):
    hostile = "x\r\nBcc: thief@evil.example\r\n\r\nCard **** 0000\x1b[2J\u2028\u202eend"
    composed = message(hit(**{field: (hostile,) if field == "reasons" else hostile}))
    assert composed["Bcc"] is None
    assert composed["To"] == ", ".join(RECIPIENTS)
    lines = composed.get_body(("plain",)).get_content().splitlines()
    assert not any(line.startswith(("Bcc", "Card **** 0000")) for line in lines)
    assert any("x Bcc: thief@evil.example Card **** 0000 [2J end" in line for line in lines)


def test_names_in_any_script_arrive():
    merchant = "Łódź & 東京 café 🛒"
    assert merchant in text(hit(merchant=merchant))
    assert merchant in Page(html(hit(merchant=merchant))).text
    assert table(hit(merchant=merchant))[0]["merchant"] == merchant


@pytest.mark.parametrize(
    "begin",
    [
        "=",
        "+",
        "-",
        "@",
        "\t",
        "\r",
        "\n",
        "\uff1d",
        "\uff0b",
        "\uff0d",
        "\uff20",
        "\ufeff=",
        "\x00=",
        "\u200b@",
        "\u2060\uff1d",
    ],
)
def test_no_cell_of_the_csv_is_a_formula(begin):
    (row,) = table(hit(merchant=f"{begin}cmd|' /C calc'!A0", amt=0.0))
    assert row["merchant"].startswith("'")
    assert row["amt"] == "0.0"
    assert not any(value.startswith(begin) for value in row.values())


def test_quotes_commas_and_lines_stay_in_their_cell():
    (row,) = table(hit(merchant='a, "b"\nc', city=";"))
    assert row["merchant"].splitlines() == ['a, "b"', "c"]
    assert row["city"] == ";"
    assert tuple(row) == CSV_COLUMNS


def test_what_the_payment_lacks_is_unknown():
    lacking = hit(amt=None, merchant=None, category=None, city=None, state=None)
    assert "unknown USD  unknown (unknown), unknown, unknown" in text(lacking)
    assert "None" not in html(lacking)
    (row,) = table(lacking)
    assert {row[name] for name in ("amt", "merchant", "category", "city", "state")} == {""}
    assert message(lacking, hit(1))["Subject"] == "2 fraud hits on 1 card, 1,234.50 USD"


def many_hits():
    return [
        hit(number, cc_num=f"{number:012d}", fraud_score=0.5 + number / 1000)
        for number in range(SHOWN_HITS + 7)
    ]


@pytest.mark.parametrize(("body", "of_a_hit"), [(text, "    score "), (html, "<td>fraud v7</td>")])
def test_many_hits_are_shown_up_to_a_bound_and_the_highest_scores_first(body, of_a_hit):
    shown = body(*many_hits())
    assert shown.count(of_a_hit) == SHOWN_HITS
    assert mask(f"{7:012d}") in shown
    assert mask(f"{6:012d}") not in shown
    assert "7 more in the attached file" in shown


def test_hits_that_are_not_shown_are_counted_and_attached():
    total = len(many_hits())
    assert f"{total} payments look fraudulent, 70,366.50 US dollars on {total} cards." in text(
        *many_hits()
    )
    assert f"US dollars on {total} cards." in Page(html(*many_hits())).text
    assert {row["trans_num"] for row in table(*many_hits())} == {
        item.trans_num for item in many_hits()
    }


def test_all_hits_shown_leave_no_rest():
    assert "more in the attached file" not in text(*many_hits()[:SHOWN_HITS])


def test_the_same_mail_has_the_same_content_each_time_it_is_tried():
    mail = new_mail([hit(1), hit(2)], False, NOON)
    first = compose(mail, SENDER, RECIPIENTS)
    mail.attempts, mail.next_try_at = 3, NOON + timedelta(hours=1)
    again = compose(mail, SENDER, RECIPIENTS)
    for kind in (("plain",), ("html",)):
        assert again.get_body(kind).get_content() == first.get_body(kind).get_content()
    assert again["Date"].datetime == NOON
