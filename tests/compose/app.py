"""A person at the gateway, for layouts in which not every step of `orrery demo` can be done: sign-up, a picture, the welcome mail."""

import json
import secrets
import ssl
import urllib.error
import urllib.request

from stack import REPOSITORY

# The tests' certificates come from an authority of Caddy's own.
UNVERIFIED = ssl._create_unverified_context()
PICTURE = (REPOSITORY / "tests/pictures/astronaut.jpg").read_bytes()


class Person:
    """Talks to one address."""

    def __init__(self, base):
        self.base, self.token = base, None
        tag = secrets.token_hex(6)
        self.name, self.email, self.password = f"test_{tag}", f"test-{tag}@orrery.example", f"orrery {tag} turns"

    def ask(self, method, path, body=None, kind="application/json"):
        """(status, body, headers); the body is read as JSON where it is."""
        request = urllib.request.Request(self.base + path, body, method=method)
        if body is not None:
            request.add_header("content-type", kind)
        if self.token:
            request.add_header("authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=20, context=UNVERIFIED if self.base.startswith("https") else None) as answer:
                status, headers, text = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, headers, text = error.code, error.headers, error.read()
        try:
            return status, json.loads(text), headers
        except ValueError:
            return status, text, headers

    def sign_up(self):
        body = {"id": self.name, "email": self.email, "password": self.password, "locale": "en"}
        status, answer, _ = self.ask("POST", "/create", json.dumps(body).encode())
        assert status == 201, f"sign-up answered {status}: {answer}"
        self.token = answer["access_token"]

    def log_in(self):
        body = {"email": self.email, "password": self.password}
        status, answer, _ = self.ask("POST", "/login", json.dumps(body).encode())
        assert status == 200, f"login answered {status}: {answer}"

    def icons(self):
        """What the profile shows, with each picture's bytes."""
        status, answer, _ = self.ask("GET", f"/users/{self.name}")
        assert status == 200, f"the profile answered {status}: {answer}"
        found = []
        for icon in answer["icon"]:
            url = icon["url"] if isinstance(icon, dict) else icon
            status, picture, _ = self.ask("GET", "/" + url.split("/", 3)[3] if "://" in url else url)
            assert status == 200, f"{url} answered {status}"
            found.append((url, picture))
        return found

    def upload(self):
        """Where the picture's state is told."""
        status, answer, headers = self.ask("PUT", "/users/@me/avatar", PICTURE, "image/jpeg")
        assert status == 202, f"the upload answered {status}: {answer}"
        return headers["location"]

    def state(self, location):
        status, answer, _ = self.ask("GET", "/" + location.split("/", 3)[3] if "://" in location else location)
        assert status == 200, f"{location} answered {status}: {answer}"
        return answer["status"]
