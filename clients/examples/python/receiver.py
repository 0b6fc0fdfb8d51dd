"""A receiver of Mainstem's webhooks: verify, remember the id, answer, then work.

pip install standardwebhooks
WEBHOOK_SECRET=whsec_... PORT=8090 python receiver.py
"""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
seen = set()  # a table with a unique key, where it matters: deliveries come at least once


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))  # the bytes as they came: they are what is signed
        try:
            event = webhook.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except (WebhookVerificationError, ValueError):  # ValueError: a signature that is no base64, for one
            self.answer(401)
            return
        self.answer(204)  # within 15 s; what takes longer belongs in a queue
        if event["id"] not in seen:
            seen.add(event["id"])
            print(event["type"], event["subject"], flush=True)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Nothing: one line an event is enough."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8090"))), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
