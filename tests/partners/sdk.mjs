// The official SDKs as sender and receiver: `node sdk.mjs FOLDER REQUEST`, where REQUEST is JSON. FOLDER has node_modules.
//   {"send": {"url", "token", "ids": [binary, structured]}}  answers {"statuses": [...]}
//   {"receive": {"secret", "headers", "body"}}               answers {"id", "type", "data"}, or {"error"} where the signature is wrong
import { createRequire } from "node:module";

const [folder, text] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { CloudEvent, HTTP } = require("cloudevents");
const { Webhook } = require("standardwebhooks");
const request = JSON.parse(text);

if (request.send) {
  const { url, token, ids } = request.send;
  const make = (id) => new CloudEvent({ id, source: "/acme/js", type: "com.acme.order.v1", subject: "é", data: { total: 12 } });
  const statuses = [];
  for (const message of [HTTP.binary(make(ids[0])), HTTP.structured(make(ids[1]))]) {
    const headers = { ...message.headers, authorization: `Bearer ${token}` };
    // Headers hold ASCII; the binding encodes the rest.
    if (headers["ce-subject"]) headers["ce-subject"] = encodeURIComponent(headers["ce-subject"]);
    statuses.push((await fetch(url, { method: "POST", headers, body: message.body })).status);
  }
  console.log(JSON.stringify({ statuses }));
} else {
  const { secret, headers, body } = request.receive;
  try {
    new Webhook(secret).verify(body, headers);
    const event = HTTP.toEvent({ headers, body });
    console.log(JSON.stringify({ id: event.id, type: event.type, data: event.data, sourceclient: event.sourceclient }));
  } catch (error) {
    console.log(JSON.stringify({ error: error.constructor.name }));
  }
}
