import threading
from email import message_from_bytes, policy

import pytest

from jobs.alarm import ATTEMPTS, AlarmNotSent, AlarmsBeside, Attachment, send_alarm
from jobs.mail_catcher import MailFolder, catcher
from tests.conftest import free_port
from tests.hits import NOON
from tests.test_smtp import relay, running

PAGE = "<!doctype html><p>Größe".encode()


def at_port(settings, port):
    smtp = settings.smtp.model_copy(update={"port": port, "timeout_seconds": 5.0})
    return settings.model_copy(update={"smtp": smtp})


def kept(folder):
    contents = [path.read_bytes() for path in folder.iterdir()]
    return [message_from_bytes(content, policy=policy.default) for content in contents]


class BusyAtFirst(MailFolder):
    def __init__(self, folder, times):
        super().__init__(folder)
        self.times = times

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.times -= 1
        if self.times >= 0:
            return "451 come back later"
        return await super().handle_DATA(server, session, envelope)


def test_an_alarm_arrives_with_its_attachment(settings, tmp_path):
    with running(catcher(tmp_path / "mails", "127.0.0.1", free_port())) as port:
        send_alarm(
            at_port(settings, port), "it\nleaks", "Water in the cellar: 3 cm.\n",
            [Attachment("drift.html", PAGE)], moment=NOON,
        )  # fmt: skip
    (mail,) = kept(tmp_path / "mails")
    assert mail["From"] == settings.alert.sender
    assert mail["To"] == ", ".join(settings.alert.recipients)
    assert mail["Subject"] == "it leaks"
    assert mail["Date"].datetime == NOON.replace(microsecond=0)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@localhost>")
    assert mail.get_body(("plain",)).get_content().strip() == "Water in the cellar: 3 cm."
    (attachment,) = mail.iter_attachments()
    assert attachment.get_filename() == "drift.html"
    assert attachment.get_content_type() == "text/html"
    assert attachment.get_payload(decode=True) == PAGE


def test_a_busy_relay_is_tried_again_with_pauses(settings, tmp_path):
    pauses = []
    with relay(BusyAtFirst(tmp_path / "mails", ATTEMPTS - 1)) as port:
        send_alarm(at_port(settings, port), "a", "b\n", sleep=pauses.append)
    assert len(kept(tmp_path / "mails")) == 1
    assert len(pauses) == ATTEMPTS - 1
    assert all(pause > 0 for pause in pauses)


def test_tries_are_bounded_and_the_error_says_what_the_relay_said(settings, tmp_path):
    pauses = []
    with (
        relay(BusyAtFirst(tmp_path / "mails", ATTEMPTS)) as port,
        pytest.raises(AlarmNotSent, match=f"did not take 'a' in {ATTEMPTS} tries.*come back later"),
    ):
        send_alarm(at_port(settings, port), "a", "b\n", sleep=pauses.append)
    assert kept(tmp_path / "mails") == []
    assert len(pauses) == ATTEMPTS - 1


def test_a_relay_that_is_away_is_no_other_error(settings):
    with pytest.raises(AlarmNotSent, match="ConnectionRefusedError"):
        send_alarm(at_port(settings, free_port()), "a", "b\n", sleep=lambda seconds: None)


def test_an_alarm_raised_beside_the_work_is_sent_until_the_relay_takes_it():
    tries, arrived = [], threading.Event()

    def send(subject, text):
        tries.append((subject, text))
        if len(tries) < 3:
            raise AlarmNotSent("the relay is away")
        if text == "second":
            arrived.set()

    alarms = AlarmsBeside(send, pause_seconds=0.001)
    alarms("v2", "first")
    alarms("v3", "second")
    assert arrived.wait(30)
    alarms.stop()
    assert tries == [("v2", "first")] * 3 + [("v3", "second")]


def test_an_alarm_that_waits_is_tried_once_more_at_the_end(caplog):
    tries, began = [], threading.Event()

    def send(subject, text):
        tries.append(subject)
        began.set()
        raise AlarmNotSent(f"the relay did not take {subject}")

    alarms = AlarmsBeside(send, pause_seconds=3600)
    alarms("v2", "")
    assert began.wait(30)
    alarms("v3", "")
    alarms.stop()
    assert tries in (["v2", "v2", "v3"], ["v2", "v3"])  # the end may come within the first try
    assert "an alarm is lost: the relay did not take v3" in caplog.text
