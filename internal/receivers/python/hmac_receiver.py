"""A webhook receiver as they were written before there were standards: Flask, and hex(HMAC-SHA256) of the raw
body in a header, compared in constant time. Only tests use it.

    FANFARE_SECRET=… python3 hmac_receiver.py HEADER

It listens on a free port of the loopback, prints "listening PORT" and then one line of JSON a request, and
ends when its standard input does.
"""

import hashlib
import hmac
import json
import logging
import os
import sys
import threading

from flask import Flask, request
from werkzeug.serving import make_server

HEADER = sys.argv[1]
SECRET = os.environ["FANFARE_SECRET"].encode()

app = Flask(__name__)
logging.getLogger("werkzeug").setLevel(logging.ERROR)
printing = threading.Lock()


@app.post("/")
def receive():
    body = request.get_data()
    want = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    ok = hmac.compare_digest(request.headers.get(HEADER, "").encode(), want.encode())
    line = {
        "id": request.headers.get("webhook-id", ""),
        "ok": ok,
        "error": "" if ok else "the signature does not match",
        "attempt": int(request.headers.get("X-Fanfare-Attempt", 0)),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    with printing:
        print(json.dumps(line), flush=True)
    return "", 204 if ok else 401


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
server = make_server("127.0.0.1", 0, app, threaded=True)
print(f"listening {server.port}", flush=True)
server.serve_forever()
