from dataclasses import replace

import pytest

from jobs.alarm import AlarmNotSent, Attachment
from jobs.breach_alarm import BreachAlarm
from jobs.breaches import SYSTEM, Judged
from tests.hits import NOON

PAGE = Attachment("drift-fraud-v3.html", b"<p>")
RECALL = Judged("recall", "fraud v3", "0.400 (at least 0.5)")
DELAY = Judged("delay", SYSTEM, "p99 90.0 s")


def kept(judged):
    """The same limit, found not passed."""
    return replace(judged, is_passed=False)


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
    def tell(*judged, versions=()):
        """As a process of its own would."""
        alarm = BreachAlarm(tmp_path / "monitor" / "state.json", relay)
        alarm.tell(judged, NOON, [PAGE], versions)

    return tell


def test_a_breach_is_mailed_once_with_the_report(tell, relay):
    tell(RECALL)
    tell(Judged("recall", "fraud v3", "0.399 (at least 0.5)"))
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
    tell(Judged("recall", "fraud v4", "0.3"))
    assert len(relay.mails) == 2


def test_what_is_over_is_mailed_without_the_report(tell, relay):
    tell(RECALL, DELAY)
    tell(DELAY, kept(RECALL))
    tell(kept(DELAY))
    tell(kept(DELAY))
    assert relay.subjects[1:] == ["Fraud model: delay", "Fraud model: over: delay"]
    assert "Over:\n\n  recall (fraud v3)" in relay.mails[1][1]
    assert relay.mails[2][2] == []


def test_what_cannot_be_judged_is_not_over_and_not_mailed_anew(tell, relay):
    tell(RECALL, DELAY)
    tell(DELAY)
    tell()
    tell(RECALL, DELAY)
    assert len(relay.mails) == 1
    tell(kept(DELAY))
    text = relay.mails[1][1]
    assert relay.subjects[1:] == ["Fraud model: over: delay"]
    assert text.startswith("Fewer limits are passed")
    waiting, over = text.split("Over:")
    assert "cannot be judged now" in waiting
    assert "recall (fraud v3)" in waiting
    assert "recall" not in over
    tell(RECALL, kept(DELAY))
    tell(kept(RECALL), kept(DELAY))
    assert relay.subjects[2:] == ["Fraud model: over: recall (fraud v3)"]
    assert "No limit is passed any more" in relay.mails[2][1]


def test_a_breach_of_a_version_out_of_service_is_not_waited_for(tell, relay):
    tell(RECALL, DELAY)
    tell(DELAY, versions=["fraud v3", "fraud v4"])
    assert len(relay.mails) == 1
    tell(DELAY, versions=["fraud v4"])
    tell(DELAY, versions=["fraud v4"])
    assert relay.subjects[1:] == ["Fraud model: delay"]
    assert "judged no more, as other versions score:\n\n  recall (fraud v3)" in relay.mails[1][1]
    tell(kept(DELAY), Judged("recall", "fraud v4", "0.3"))
    tell(versions=["fraud v5"])
    assert relay.subjects[3:] == ["Fraud model: judged no more: recall (fraud v4)"]


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
    tell(kept(RECALL))
    assert relay.mails == []


def test_a_damaged_state_is_taken_as_empty(tell, relay, tmp_path, caplog):
    tell(RECALL)
    (tmp_path / "monitor" / "state.json").write_text("{")
    tell(RECALL)
    assert len(relay.mails) == 2
    assert "damaged" in caplog.text


def test_a_long_list_is_cut_in_the_subject_alone(tell, relay):
    tell(*(Judged(f"drift of f{number}", "m v1", "far") for number in range(5)))
    ((subject, text, _),) = relay.mails
    assert subject.endswith("drift of f2 (m v1) and 2 more")
    assert "drift of f4" in text
