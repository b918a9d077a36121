"""A server with the interface of the service, whose faults are planted: a real model does not fail on demand.

python planted.py ADDRESS PORT RELEASE VERSION [FAIL [SLOW]]

FAIL and SLOW are the shares of requests that are answered with 500, or after 0.15 s. It exports the metrics from which
the gates judge, and needs a tenth of the time of the real service to start.
"""

import json
import random
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

RELEASE, VERSION = sys.argv[3:5]
FAIL, SLOW = (float(share) for share in [*sys.argv[5:7], "0", "0"][:2])
ANSWER = json.dumps({"id": "0" * 32, "model_version": VERSION, "predictions": [{"label": "1"}]}).encode()
LATE = 0.15  # seconds; the objective is 0.1


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    lock = threading.Lock()
    answered: ClassVar[Counter[tuple[str, int]]] = Counter()  # endpoint, status
    slow = 0
    chance = random.Random(0)

    def do_GET(self) -> None:
        if self.path == "/metrics":
            return self.answer(200, self.metrics().encode())
        self.answer(200, b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            fails, slow = self.chance.random() < FAIL, self.chance.random() < SLOW
            type(self).slow += slow
        if slow:
            time.sleep(LATE)
        self.answer(500, b'{"error": "planted"}') if fails else self.answer(200, ANSWER)

    def metrics(self) -> str:
        asked = sum(count for (endpoint, _), count in self.answered.items() if endpoint == "/predict")
        duration = "bentoml_service_request_duration_seconds"
        lines = [
            f'bentoml_service_request_total{{endpoint="{endpoint}",http_response_code="{status}"}} {count}'
            for (endpoint, status), count in sorted(self.answered.items())
        ]
        for le, count in (("0.1", asked - self.slow), ("+Inf", asked)):
            lines.append(f'{duration}_bucket{{endpoint="/predict",le="{le}"}} {count}')
        lines.append(f'{duration}_count{{endpoint="/predict"}} {asked}')
        return "\n".join(lines) + "\n"

    def answer(self, status: int, body: bytes) -> None:
        with self.lock:
            self.answered[self.path, status] += 1
        head = f"HTTP/1.1 {status} -\r\nx-release: {RELEASE}\r\ncontent-length: {len(body)}\r\n"
        closes = self.headers.get("connection", "").lower() == "close"
        self.close_connection = closes
        self.wfile.write(f"{head}{'connection: close' if closes else 'x: y'}\r\n\r\n".encode() + body)

    def log_message(self, format: str, *args: object) -> None: ...


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None: ...  # a client has gone


if __name__ == "__main__":
    Server((sys.argv[1], int(sys.argv[2])), Service).serve_forever()
