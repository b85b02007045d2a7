"""The function that tells of uploads, against a real RabbitMQ over TLS, as the user whose rights docs/terraform.md gives. In the place of Secrets Manager stands a page with its answer."""

import base64
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, TERRAFORM

sys.path.insert(0, str(ROOT / "tests" / "regions"))
from servers import Rabbitmq  # noqa: E402

pytestmark = [
    pytest.mark.skipif(os.environ.get("LAYOUT_FORM") != "full", reason="a RabbitMQ of its own belongs to the full form: ./dev test terraform full"),
    pytest.mark.skipif(not Path(Rabbitmq.SERVER).exists() or not shutil.which("openssl"), reason="RabbitMQ or openssl is not installed: apt-get install rabbitmq-server openssl"),
]
CALL = f"import json, sys; sys.path.insert(0, {str(TERRAFORM / 'modules' / 'bucket' / 'bridge')!r}); import handler; print(json.dumps(handler.handler(json.load(sys.stdin), None)))"
NOTIFICATION = json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "orrery"}, "object": {"key": "avatars/1/original"}}}]})


@pytest.fixture
def broker(tmp_path: Path):
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )
    node = Rabbitmq("bridge", tmp_path, tls=(certificate, key))
    node.certificate = certificate
    try:
        node.await_ready()
        yield node
    finally:
        node.kill()


def management(node: Rabbitmq, method: str, path: str, body: object = None) -> object:
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.management}/api/{path}", method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(), "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def user_of_the_guide(node: Rabbitmq) -> None:
    """As docs/terraform.md says to make it."""
    (permissions,) = re.findall(r"api/permissions/%2F/uploads\" -d '(\{.*?\})'", (ROOT / "docs" / "terraform.md").read_text())
    management(node, "PUT", "users/uploads", {"password": "secret", "tags": ""})
    management(node, "PUT", "permissions/%2F/uploads", json.loads(permissions))


def call(node: Rabbitmq, *records: dict, scheme: str = "amqps") -> subprocess.CompletedProcess[str]:
    url = f"{scheme}://uploads:secret@localhost:{node.port}/%2f"

    class Secrets(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"Name": asked["SecretId"], "SecretString": json.dumps({"broker-url": url})}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Secrets) as secrets:
        threading.Thread(target=secrets.serve_forever, daemon=True).start()
        settings = {
            "PATH": os.environ["PATH"], "BROKER_SECRET": "orrery-prod/uploads", "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{secrets.server_port}",
            "AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S", "SSL_CERT_FILE": str(node.certificate),
        }
        done = subprocess.run([sys.executable, "-B", "-c", CALL], input=json.dumps({"Records": list(records)}), env=settings, capture_output=True, text=True, check=False, timeout=60)
        secrets.shutdown()
    return done


def test_the_function_publishes_what_the_store_says_and_names_what_it_cannot(broker: Rabbitmq) -> None:
    user_of_the_guide(broker)
    management(broker, "PUT", "exchanges/%2F/ingress", {"type": "topic", "durable": True})
    record = {"messageId": "m-1", "body": NOTIFICATION}
    # Nobody is bound: the message would be gone, and is named, so that it comes again.
    unbound = call(broker, record)
    assert json.loads(unbound.stdout) == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}, unbound.stderr
    management(broker, "PUT", "queues/%2F/spinoza.notifications", {"durable": True})
    management(broker, "POST", "bindings/%2F/e/ingress/q/spinoza.notifications", {"routing_key": "s3.notifications"})
    bound = call(broker, record, {"messageId": "m-2", "body": NOTIFICATION})
    assert json.loads(bound.stdout) == {"batchItemFailures": []}, bound.stderr
    got = management(broker, "POST", "queues/%2F/spinoza.notifications/get", {"count": 5, "ackmode": "ack_requeue_false", "encoding": "auto"})
    assert [message["payload"] for message in got] == [NOTIFICATION] * 2
    assert {(message["properties"]["content_type"], message["properties"]["delivery_mode"]) for message in got} == {("application/json", 2)}


def test_the_function_goes_nowhere_without_tls(broker: Rabbitmq) -> None:
    done = call(broker, {"messageId": "m-1", "body": NOTIFICATION}, scheme="amqp")
    assert done.returncode != 0 and "has to be amqps" in done.stderr
