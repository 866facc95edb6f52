"""An S3 server on this machine, moto's, with what it holds in memory: for tests and to try it out.

    python -m tests.s3_server [--port 5000] [--bucket fraud-detector]

It serves 127.0.0.1, and takes whatever credentials it is shown. Jobs find it by ``environment_of``.
SIGUSR1 closes its port, as an outage would; another SIGUSR1 opens it again.
"""

import argparse
import logging
import signal
import threading
from typing import Any

import boto3
import requests
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler

BUCKET = "fraud-detector"
SECRET = "s3cret-of-the-bucket"


def environment_of(address: str) -> dict[str, str]:
    """The environment in which boto3, S3A, delta-rs and MLflow reach the server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",  # for delta-rs, which else wants TLS
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


def client_of(address: str) -> Any:
    """A client of the server, whatever the environment says."""
    return boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1",
        aws_access_key_id="any", aws_secret_access_key="any",
    )  # fmt: skip


def emptied(address: str, bucket: str) -> None:
    """Let the server forget all it holds, and make ``bucket`` anew."""
    requests.post(f"{address}/moto-api/reset", timeout=30).raise_for_status()
    client_of(address).create_bucket(Bucket=bucket)


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="Serve S3 on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--bucket", default=BUCKET, help="made at the start")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    # "100 Continue" is werkzeug's to say; said twice, the AWS SDK takes the second for the answer.
    WSGIRequestHandler.handle_expect_100 = lambda self: True
    toggled = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: toggled.set())
    server = _started(arguments.port)
    client_of(f"http://127.0.0.1:{arguments.port}").create_bucket(Bucket=arguments.bucket)
    print(f"S3 on 127.0.0.1:{arguments.port}, bucket {arguments.bucket}", flush=True)
    is_open = True
    while not ended.wait(0.1):
        if toggled.is_set():
            toggled.clear()
            if is_open:
                server.stop()
            else:
                server = _started(arguments.port)
            is_open = not is_open
    if is_open:
        server.stop()


def _started(port: int) -> ThreadedMotoServer:
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    return server


if __name__ == "__main__":
    main()
