"""The official SDKs as sender and receiver: `python3 sdk.py FOLDER REQUEST`; FOLDER has `python`. Requests and answers are those of sdk.mjs."""
import json
import sys
import urllib.request

sys.path.insert(0, f"{sys.argv[1]}/python")
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook, WebhookVerificationError

request = json.loads(sys.argv[2])
if "send" in request:
    sent = request["send"]

    def make(event_id):
        attributes = {"specversion": "1.0", "id": event_id, "source": "/acme/python", "type": "com.acme.order.v1",
                      "subject": "é", "datacontenttype": "application/json"}
        return CloudEvent(attributes, {"total": 12})

    statuses = []
    for message in (to_binary_event(make(sent["ids"][0])), to_structured_event(make(sent["ids"][1]))):
        body = message.body if isinstance(message.body, bytes) else message.body.encode()
        headers = {**message.headers, "authorization": f"Bearer {sent['token']}"}
        with urllib.request.urlopen(urllib.request.Request(sent["url"], body, headers)) as answer:
            statuses.append(answer.status)
    print(json.dumps({"statuses": statuses}))
else:
    received = request["receive"]
    body = received["body"].encode()
    try:
        Webhook(received["secret"]).verify(body, received["headers"])
        event = from_http_event(HTTPMessage(received["headers"], body))
        print(json.dumps({"id": event.get_id(), "type": event.get_type(), "data": event.get_data(),
                          "sourceclient": event.get_extension("sourceclient")}))
    except WebhookVerificationError as error:
        print(json.dumps({"error": type(error).__name__}))
