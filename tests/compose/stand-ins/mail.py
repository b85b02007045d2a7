"""Takes mails on 1025 and counts them on 8025, in place of Mailpit."""

import http.server
import json

from aiosmtpd.controller import Controller


class Taken:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        Taken.count += 1
        return "250 OK"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"messages": Taken.count}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


Controller(Taken(), hostname="0.0.0.0", port=1025).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8025), Page).serve_forever()
