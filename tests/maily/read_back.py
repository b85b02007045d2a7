"""Reads messages back as others do: Python's `email` for what is in them, dkimpy for their signatures.

usage: read_back.py RECORDS FILE...   RECORDS is JSON, from a name in DNS to its TXT record; a line of JSON for each message goes to standard output.
"""

import email
import email.policy
import json
import sys

import dkim


def signatures(raw: bytes, records: dict[str, str]) -> list[dict]:
    """Each signature of a message, verified by itself."""

    def look_up(name: bytes, timeout: float = 5) -> bytes:
        return records.get(name.decode().rstrip("."), "").encode()

    found = []
    count = sum(1 for name, _ in dkim.DKIM(raw).headers if name.lower() == b"dkim-signature")
    for index in range(count):
        verifier = dkim.DKIM(raw)
        valid, fault = False, None
        try:
            valid = verifier.verify(idx=index, dnsfunc=look_up)
        except (dkim.DKIMException, ValueError) as error:
            fault = str(error)
        fields = verifier.signature_fields
        signed = [name.decode().lower() for name in (verifier.include_headers or [])]
        found.append({"valid": valid, "fault": fault, "algorithm": fields.get(b"a", b"").decode(), "domain": fields.get(b"d", b"").decode(), "signed": signed})
    return found


def read(raw: bytes, records: dict[str, str]) -> dict:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    faults = [str(fault) for part in message.walk() for fault in part.defects]
    return {
        "to": [address.addr_spec for address in message["to"].addresses],
        "from": message["from"].addresses[0].addr_spec,
        "subject": str(message["subject"]),
        "message_id": message["message-id"].strip(),
        "language": message["content-language"],
        "auto_submitted": message["auto-submitted"],
        "date": message["date"].datetime.isoformat(),
        "delivered_to": message["delivered-to"],
        "type": message.get_content_type(),
        "text": text.get_content() if text else None,
        "html": html.get_content() if html else None,
        "faults": faults,
        "longest_line": max(len(line) for line in raw.splitlines()),
        "signatures": signatures(raw, records),
    }


records = json.loads(sys.argv[1])
for name in sys.argv[2:]:
    with open(name, "rb") as file:
        # A message travels with CRLF; a Maildir keeps it with LF.
        raw = file.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    print(json.dumps(read(raw, records)))
