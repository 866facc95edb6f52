"""An S3 server on this machine, moto's, with what it holds in memory: for tests and to try it out.

    python -m tests.s3_server [--port 5000] [--bucket fraud-detector]

It serves 127.0.0.1, and takes whatever credentials it is shown. Jobs find it by ``environment_of``.
"""

import argparse
import logging
import signal
import threading

import boto3
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler


def environment_of(port: int) -> dict[str, str]:
    """The environment in which boto3, S3A, delta-rs and MLflow reach the server."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",  # for delta-rs, which else wants TLS
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
    }


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="Serve S3 on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--bucket", default="fraud-detector", help="made at the start")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    # "100 Continue" is werkzeug's to say; said twice, the AWS SDK takes the second for the answer.
    WSGIRequestHandler.handle_expect_100 = lambda self: True
    server = ThreadedMotoServer("127.0.0.1", arguments.port, verbose=False)
    server.start()
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{arguments.port}", region_name="us-east-1",
        aws_access_key_id="any", aws_secret_access_key="any",
    )  # fmt: skip
    client.create_bucket(Bucket=arguments.bucket)
    print(f"S3 on 127.0.0.1:{arguments.port}, bucket {arguments.bucket}", flush=True)
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main()
