"""One call of the payments API: its body, or what went wrong."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3

from ingest.connections import OpenConnections, watched_session

_CHUNK_BYTES = 65_536
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # what is received is what was sent, and no longer than it looks
    "Connection": "close",  # between two calls the server may close it, and drop the next one
}


class CallFailed(Exception):
    """A call brought nothing. Neither text holds the address's query string or credentials.

    Attributes:
        kind: few words, the same for all failures of a kind; the ledger counts them.
        is_retryable: whether the same call may succeed soon.
        retry_after_seconds: what the API asked for, where it did.
        file: what was landed of the answer nevertheless.
    """

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        is_retryable: bool = True,
        retry_after_seconds: float | None = None,
        file: str | None = None,
    ) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.is_retryable = is_retryable
        self.retry_after_seconds = retry_after_seconds
        self.file = file


class PaymentsApi:
    """The payments API behind one address."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        max_body_bytes: int,
        token: str | None = None,
        session: requests.Session | None = None,
        clock: Callable[[], float],
    ) -> None:
        """Nothing is called yet.

        Args:
            timeout_seconds: for the connection, for each read, and for the whole answer.
            max_body_bytes: a longer body (after decompression) is not taken.
            token: sent with each call as that of a bearer.
            session: sends the requests; by default one that keeps the time for a whole answer.
            clock: seconds since the epoch, for a Retry-After that is a date.
        """
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._headers = _HEADERS | ({"Authorization": f"Bearer {token}"} if token else {})
        self._connections = OpenConnections()
        self._session = session or watched_session(self._connections)
        self._clock = clock

    @property
    def host(self) -> str:
        """``host:port`` of the address, without credentials."""
        parts = urlsplit(self._url)
        return parts.netloc.rpartition("@")[2]

    def fetch(self) -> bytes:
        """The body of one answer (status 2xx), whole. One request: no redirect is followed.

        Raises:
            CallFailed: anything else.
        """
        with self._connections.deadline(self._timeout_seconds):
            try:
                body = self._fetch()
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                raise self._failure(error) from error
            if self._connections.are_cut:  # a cut body without a stated length looks whole
                raise self._timed_out()
            return body

    def _fetch(self) -> bytes:
        with self._session.get(
            self._url,
            stream=True,
            timeout=(self._timeout_seconds, self._timeout_seconds),
            allow_redirects=False,
            headers=self._headers,
        ) as response:
            self._check_status(response)
            body = bytearray()
            for chunk in response.iter_content(_CHUNK_BYTES):
                body += chunk
                if len(body) > self._max_body_bytes:
                    raise CallFailed(
                        "body too long",
                        f"more than {self._max_body_bytes} bytes (api.max_body_bytes)",
                        is_retryable=False,
                    )
            return bytes(body)

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        raise CallFailed(
            f"status {status}",
            is_retryable=status == 429 or status >= 500,
            retry_after_seconds=retry_after_seconds(
                response.headers.get("Retry-After"), self._clock()
            ),
        )

    def _failure(self, error: Exception) -> CallFailed:
        causes = list(_causes(error))

        def is_any(*types: type[BaseException]) -> bool:
            return any(isinstance(cause, types) for cause in causes)

        # Before the time-outs: urllib3 counts any connection that fails among those.
        if is_any(ConnectionRefusedError):
            return CallFailed("connection refused", f"by {self.host}: is the API up?")
        if is_any(urllib3.exceptions.NameResolutionError):
            return CallFailed("host not found", f"{self.host}: check api.url")
        if self._connections.are_cut or is_any(
            requests.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError
        ):
            return self._timed_out()
        if is_any(requests.exceptions.SSLError):
            return CallFailed("TLS failed", f"with {self.host}")
        if is_any(requests.exceptions.ContentDecodingError):
            return CallFailed("damaged compression", "of the body")
        if is_any(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return CallFailed("connection dropped", f"by {self.host}")
        # A ValueError of requests is about the address, which stays what it is.
        return CallFailed(
            f"request failed ({type(error).__name__})",
            is_retryable=not isinstance(error, ValueError),
        )

    def _timed_out(self) -> CallFailed:
        return CallFailed(
            "time-out", f"no whole answer from {self.host} in {self._timeout_seconds:g} s"
        )


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """The pause that a Retry-After header asks for (seconds, or an HTTP date), at least 0.

    None where there is no header or it is neither.

    Args:
        now: seconds since the epoch.
    """
    if header is None:
        return None
    if re.fullmatch(r"[0-9]+", header.strip()):
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now, UTC)).total_seconds())


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
