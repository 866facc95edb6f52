import asyncio
import smtplib
import socket
import ssl
import time
from contextlib import contextmanager
from datetime import datetime
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from conf.sections import SmtpSettings
from jobs.mail import DELIVERY_ERRORS, compose, deliver
from jobs.mail_catcher import MailFolder, catcher
from jobs.outbox import new_mail
from tests.certificates import make_certificate
from tests.hits import NOON, hit

RECIPIENTS = ("team@bank.example", "night@bank.example")
MAIL = new_mail([hit(1), hit(2, merchant="Café Łódź\n.\nEnd")], False, NOON)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(controller):
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def relay(handler, **options):
    return running(Controller(handler, hostname="127.0.0.1", port=free_port(), **options))


def send(port, **options):
    message = compose(MAIL, "fraud@bank.example", RECIPIENTS)
    settings = {"host": "127.0.0.1", "port": port, "timeout_seconds": 5.0} | options
    return deliver(message, SmtpSettings(**settings))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mails"


def kept(folder):
    """The mails that were caught, parsed."""
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert all(path.suffix == ".eml" for path in folder.iterdir())
    return [message_from_bytes(content, policy=policy.default) for content in contents]


class Keeping(MailFolder):
    """Keeps what it takes, as the catcher does; a test changes one of the answers."""


class Refusing(Keeping):
    def __init__(self, folder, refused, answer):
        super().__init__(folder)
        self._refused, self._answer = refused, answer

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self._refused:
            return self._answer
        envelope.rcpt_tos.append(address)
        return "250 ok"


class RefusingContent(Keeping):
    def __init__(self, folder, answer):
        super().__init__(folder)
        self._answer = answer

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        return self._answer


class HangingAtData(Keeping):
    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        await asyncio.Event().wait()


class DroppingAfterData(Keeping):
    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        await super().handle_DATA(server, session, envelope)
        server.transport.abort()
        return "250 never heard"


class DroppingAtQuit(Keeping):
    async def handle_QUIT(self, server, session, envelope):  # noqa: N802
        server.transport.abort()
        return "221 never heard"


class HangingAtQuit(Keeping):
    async def handle_QUIT(self, server, session, envelope):  # noqa: N802
        await asyncio.Event().wait()


def test_a_mail_is_delivered_and_kept_as_it_was_composed(folder):
    with running(catcher(folder, "127.0.0.1", free_port())) as port:
        assert send(port) == {}
    (mail,) = kept(folder)
    composed = compose(MAIL, "fraud@bank.example", RECIPIENTS)
    for header in ("From", "To", "Subject", "Date", "Message-ID"):
        assert mail[header] == composed[header]
    for kind in ("plain", "html"):
        arrived = mail.get_body((kind,)).get_content()
        assert arrived.splitlines() == composed.get_body((kind,)).get_content().splitlines()
    (attachment,) = mail.iter_attachments()
    (expected,) = composed.iter_attachments()
    assert attachment.get_content().splitlines() == expected.get_content().splitlines()


def test_every_mail_is_a_file_of_its_own(folder):
    with running(catcher(folder, "127.0.0.1", free_port())) as port:
        for _ in range(3):
            send(port)
    assert len(kept(folder)) == 3


def test_mails_of_the_same_microsecond_do_not_replace_each_other(folder, monkeypatch):
    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return NOON

    monkeypatch.setattr("jobs.mail_catcher.datetime", Stopped)
    with running(catcher(folder, "127.0.0.1", free_port())) as port:
        send(port)
        send(port)
    assert len(kept(folder)) == 2


def test_a_relay_that_is_not_there_is_an_error_and_later_takes_the_mail(folder):
    port = free_port()
    with pytest.raises(ConnectionRefusedError):
        send(port)
    with running(catcher(folder, "127.0.0.1", port)):
        send(port)
    assert len(kept(folder)) == 1


@pytest.mark.parametrize("answer", ["451 come back later", "550 no such user", "421 shutting down"])
def test_a_relay_that_refuses_every_recipient_takes_nothing(folder, answer):
    with (
        relay(Refusing(folder, RECIPIENTS, answer)) as port,
        pytest.raises(smtplib.SMTPRecipientsRefused, match=answer[4:]),
    ):
        send(port)
    assert kept(folder) == []


def test_a_relay_that_refuses_one_recipient_delivers_to_the_other_and_says_so(folder):
    with relay(Refusing(folder, RECIPIENTS[:1], "550 no such user")) as port:
        refused = send(port)
    assert refused == {"team@bank.example": "550 b'no such user'"}
    assert len(kept(folder)) == 1


@pytest.mark.parametrize("answer", ["451 disk full", "554 no thanks", "421 shutting down"])
def test_a_relay_that_refuses_the_content_takes_nothing(folder, answer):
    with (
        relay(RefusingContent(folder, answer)) as port,
        pytest.raises(smtplib.SMTPDataError, match=answer[4:]),
    ):
        send(port)
    assert kept(folder) == []


@contextmanager
def timing_out():
    """Expects an error soon after 0.3 s."""
    began = time.monotonic()
    with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
        yield
    assert time.monotonic() - began < 5


def test_a_relay_that_hangs_is_left_after_the_set_time(folder):
    with relay(HangingAtData(folder)) as port, timing_out():
        send(port, timeout_seconds=0.3)
    assert kept(folder) == []


def test_a_relay_that_never_greets_is_left_after_the_set_time():
    with socket.create_server(("127.0.0.1", 0)) as silent, timing_out():
        send(silent.getsockname()[1], timeout_seconds=0.3)


def test_a_relay_that_drops_before_it_answers_counts_as_not_delivered(folder):
    with relay(DroppingAfterData(folder)) as port, pytest.raises(smtplib.SMTPServerDisconnected):
        send(port)


@pytest.mark.parametrize("handler", [DroppingAtQuit, HangingAtQuit])
def test_a_relay_that_took_the_mail_may_leave_without_a_word(folder, handler):
    with relay(handler(folder)) as port:
        assert send(port, timeout_seconds=1.0) == {}
    assert len(kept(folder)) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("relay"))


@contextmanager
def guarded_relay(folder, certificate):
    """A relay that takes mails over TLS only, from `fraud` with the password `secret`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.server)

    def check(server, session, envelope, mechanism, login):
        assert session.ssl is not None
        is_right = login == LoginPassword(b"fraud", b"secret")
        return AuthResult(success=is_right, handled=False)

    with relay(
        Keeping(folder), tls_context=context, require_starttls=True,
        authenticator=check, auth_required=True,
    ) as port:  # fmt: skip
        yield port


LOGIN = {"starttls": True, "username": "fraud", "password": "secret"}


@pytest.fixture
def _trusted(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))


@pytest.mark.usefixtures("_trusted")
def test_a_relay_with_starttls_and_login_takes_the_mail(folder, certificate):
    with guarded_relay(folder, certificate) as port:
        send(port, **LOGIN)
    assert len(kept(folder)) == 1


@pytest.mark.usefixtures("_trusted")
@pytest.mark.parametrize("missing", [{"password": "hunter2"}, {"username": None, "password": None}])
def test_without_the_right_login_nothing_is_taken(folder, certificate, missing):
    with guarded_relay(folder, certificate) as port, pytest.raises(smtplib.SMTPException) as caught:
        send(port, **(LOGIN | missing))
    assert kept(folder) == []
    assert "hunter2" not in repr(caught.value)  # what the log and the table of alerts show


def test_a_certificate_that_nobody_vouches_for_is_an_error(folder, certificate):
    with guarded_relay(folder, certificate) as port, pytest.raises(ssl.SSLCertVerificationError):
        send(port, **LOGIN)
    assert kept(folder) == []


@pytest.mark.usefixtures("_trusted")
def test_a_certificate_of_another_host_is_an_error(folder, certificate):
    with guarded_relay(folder, certificate) as port, pytest.raises(ssl.SSLCertVerificationError):
        send(port, **LOGIN, host="localhost")
    assert kept(folder) == []


def test_no_password_goes_out_where_the_relay_has_no_starttls(folder):
    logins = []

    def take_any(server, session, envelope, mechanism, login):
        logins.append(login)
        return AuthResult(success=True)

    greedy = relay(Keeping(folder), authenticator=take_any, auth_require_tls=False)
    with greedy as port, pytest.raises(smtplib.SMTPNotSupportedError, match="STARTTLS"):
        send(port, **LOGIN)
    assert logins == []
    assert kept(folder) == []


def test_all_that_a_relay_can_do_is_a_delivery_error():
    for error in (
        smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, smtplib.SMTPServerDisconnected,
        smtplib.SMTPNotSupportedError, smtplib.SMTPAuthenticationError, TimeoutError,
        ConnectionRefusedError, ssl.SSLCertVerificationError, socket.gaierror,
    ):  # fmt: skip
        assert issubclass(error, DELIVERY_ERRORS)
