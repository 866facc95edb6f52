import pytest

from jobs.alarm import AlarmNotSent, Attachment
from jobs.breach_alarm import BreachAlarm
from jobs.breaches import SYSTEM, Breach
from tests.hits import NOON

PAGE = Attachment("drift-fraud-v3.html", b"<p>")
RECALL = Breach("recall", "fraud v3", "0.400 (at least 0.5)")
DELAY = Breach("delay", SYSTEM, "p99 90.0 s")


class Relay:
    def __init__(self):
        self.mails, self.is_away = [], False

    def __call__(self, subject, text, attachments):
        if self.is_away:
            raise AlarmNotSent("away")
        self.mails.append((subject, text, list(attachments)))

    @property
    def subjects(self):
        return [subject for subject, _, _ in self.mails]


@pytest.fixture
def relay():
    return Relay()


@pytest.fixture
def tell(relay, tmp_path):
    def tell(*breaches):
        """As a process of its own would."""
        BreachAlarm(tmp_path / "monitor" / "state.json", relay).tell(breaches, NOON, [PAGE])

    return tell


def test_a_breach_is_mailed_once_with_the_report(tell, relay):
    tell(RECALL)
    tell(Breach("recall", "fraud v3", "0.399 (at least 0.5)"))
    ((subject, text, attachments),) = relay.mails
    assert subject == "Fraud model: recall (fraud v3)"
    assert "0.400 (at least 0.5)" in text
    assert PAGE.name in text
    assert attachments == [PAGE]


def test_another_breach_is_mailed_and_says_what_went_before(tell, relay):
    tell(RECALL)
    tell(RECALL, DELAY)
    assert relay.subjects[1:] == ["Fraud model: delay, recall (fraud v3)"]
    new, before = relay.mails[1][1].split("as mailed before:")
    assert "p99 90.0 s" in new
    assert "recall" in before


def test_the_same_limit_of_another_version_is_another_breach(tell, relay):
    tell(RECALL)
    tell(Breach("recall", "fraud v4", "0.3"))
    assert len(relay.mails) == 2


def test_what_is_over_is_mailed_without_the_report(tell, relay):
    tell(RECALL, DELAY)
    tell(DELAY)
    tell()
    tell()
    assert relay.subjects[1:] == ["Fraud model: delay", "Fraud model: over: delay"]
    assert "Over:\n\n  recall (fraud v3)" in relay.mails[1][1]
    assert relay.mails[2][2] == []


def test_without_any_breach_there_is_no_mail(tell, relay):
    tell()
    assert relay.mails == []


def test_a_mail_that_was_not_sent_is_tried_at_the_next_look(tell, relay, caplog):
    relay.is_away = True
    tell(RECALL)
    assert "tried again at the next look" in caplog.text
    relay.is_away = False
    tell(RECALL)
    tell(RECALL)
    assert relay.subjects == ["Fraud model: recall (fraud v3)"]


def test_a_breach_that_was_never_mailed_is_not_mailed_as_over(tell, relay):
    relay.is_away = True
    tell(RECALL)
    relay.is_away = False
    tell()
    assert relay.mails == []


def test_a_damaged_state_is_taken_as_empty(tell, relay, tmp_path, caplog):
    tell(RECALL)
    (tmp_path / "monitor" / "state.json").write_text("{")
    tell(RECALL)
    assert len(relay.mails) == 2
    assert "damaged" in caplog.text


def test_a_long_list_is_cut_in_the_subject_alone(tell, relay):
    tell(*(Breach(f"drift of f{number}", "m v1", "far") for number in range(5)))
    ((subject, text, _),) = relay.mails
    assert subject.endswith("drift of f2 (m v1) and 2 more")
    assert "drift of f4" in text
