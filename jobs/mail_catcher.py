"""A local mail relay that keeps every mail as an .eml file and sends nothing on:

``python -m jobs.mail_catcher --config conf/local.toml --folder var/mails``.
"""

import argparse
import asyncio
import itertools
import logging
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from conf.settings import settings_from_arguments, stop
from jobs.run import log_to_stderr, stop_on_signals

log = logging.getLogger("jobs.mail_catcher")


class MailFolder:
    """Takes every mail and writes it to ``folder``, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        folder.mkdir(parents=True, exist_ok=True)

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Write the mail, answer the sender (called by aiosmtpd)."""
        await asyncio.to_thread(self._write, envelope.original_content or b"")
        return "250 kept"

    def _write(self, content: bytes) -> None:
        # The number tells mails apart that came in the same microsecond.
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{next(self._numbers)}.eml"
        draft = self._folder / f".{name}"
        draft.write_bytes(content)
        draft.replace(self._folder / name)


def catcher(folder: Path, host: str, port: int) -> Controller:
    """The relay, not started."""
    return Controller(MailFolder(folder), hostname=host, port=port)


def main() -> None:
    """Catch mails until asked to end."""
    parser = argparse.ArgumentParser(description="Keep mails as files instead of sending them.")
    parser.add_argument("--folder", type=Path, default=Path("var/mails"))
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    ended = stop_on_signals()
    host, port = settings.smtp.host, settings.smtp.port
    controller = catcher(arguments.folder, host, port)
    try:
        controller.start()
    except OSError as error:
        stop(f"cannot listen on {host}:{port} ({error.strerror}): set FRAUD_SMTP__PORT", status=2)
    log.info("catching mails on %s:%d into %s", host, port, arguments.folder)
    ended.wait()
    controller.stop()


if __name__ == "__main__":
    main()
