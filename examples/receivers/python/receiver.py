"""A webhook receiver to start from: it verifies what it is sent, answers at once, works afterwards, and does the
work of each event once.

    SECRET=whsec_… python3 receiver.py

LISTEN is the address to listen on, 127.0.0.1:8000 if it is not set. It needs Flask, and nothing else.
"""

import base64
import binascii
import hashlib
import hmac
import os
import queue
import re
import signal
import sys
import threading
import time

from flask import Flask, abort, request
from werkzeug.serving import make_server

TOLERANCE = 5 * 60  # seconds


def read_secret(text):
    """The key of a secret: what follows whsec_ is base64."""
    if not text.startswith("whsec_"):
        raise ValueError("it does not start with whsec_")
    return base64.b64decode(text.removeprefix("whsec_"), validate=True)


try:
    key = read_secret(os.environ.get("SECRET", ""))
except (ValueError, binascii.Error) as error:
    sys.exit(f"SECRET is the webhook's secret: {error}")

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1 << 20  # answered with 413

# What was answered must not be lost: a real receiver writes the event and its id to its database or its queue
# before it answers. These are enough to show the order of things.
todo = queue.Queue(maxsize=1000)
seen = {}  # ids in the order of their coming; guarded by lock
lock = threading.Lock()


def is_signed(headers, body):
    """Whether a request is signed as Standard Webhooks has it, and not too long ago."""
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not message_id or not re.fullmatch("[0-9]{1,12}", timestamp):
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(digest)
    signatures = headers.get("webhook-signature", "").encode()
    # While a secret is being replaced, there are two.
    return any(hmac.compare_digest(s, expected) for s in signatures.split(b" "))


@app.get("/hc")
def health():
    return "OK"


@app.post("/hooks")
def receive():
    body = request.get_data()  # the bytes that came: the signature is over them
    if not is_signed(request.headers, body):
        print(f"refused a request from {request.remote_addr}", file=sys.stderr, flush=True)
        abort(401)
    with lock:
        if request.headers["webhook-id"] in seen:
            return "", 200  # a repeat
        try:
            todo.put_nowait(request.get_json())
        except queue.Full:
            abort(503)  # it comes again
        seen[request.headers["webhook-id"]] = True
        if len(seen) > 10_000:
            del seen[next(iter(seen))]  # the oldest
    return "", 202


def work():
    """Does what the events are for."""
    while (event := todo.get()) is not None:
        print(f"handled {event['id']} {event['type']}", flush=True)


def main():
    host, _, port = os.environ.get("LISTEN", "127.0.0.1:8000").rpartition(":")
    server = make_server(host, int(port), app, threaded=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        # shutdown waits for the loop, which runs where signals are handled
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    worker = threading.Thread(target=work)
    worker.start()
    print(f"listening on http://{host}:{server.server_port}/hooks", flush=True)
    server.serve_forever()
    todo.put(None)
    worker.join()


if __name__ == "__main__":
    main()
