// A peer by the client of Phoenix channels, as a web page would be one: node peer.mjs FOLDER REQUEST. Joins, tells on standard output what it gets, a JSON
// object a line, and does what it reads on standard input, a JSON array [event, payload] a line. "end" takes leave.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, request] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { Socket, Presence } = require("phoenix");
const { WebSocket } = require("ws");
const { url, token, vsn } = JSON.parse(request);

const tell = (what, data) => console.log(JSON.stringify({ what, data }));
// The client writes arrays by itself; this is how its first versions wrote.
const first = {
  encode: ({ topic, event, payload, ref }, give) => give(JSON.stringify({ topic, event, payload, ref })),
  decode: (text, give) => give({ join_ref: null, ...JSON.parse(text) }),
};
const socket = new Socket(url, {
  params: { token },
  transport: WebSocket,
  vsn,
  heartbeatIntervalMs: 500,
  ...(vsn.startsWith("1.") ? first : {}),
});
socket.onError(() => tell("error", null));
socket.onClose((event) => tell("closed", event.code));
socket.connect();

const channel = socket.channel("", {});
const presence = new Presence(channel);
presence.onSync(() => tell("present", presence.list((name) => name).sort()));
for (const event of ["pending_messages", "offer", "answer", "candidate", "phx_close"]) {
  channel.on(event, (payload) => tell(event, payload));
}
channel
  .join()
  .receive("ok", (response) => tell("joined", response))
  .receive("error", (response) => tell("refused", response))
  .receive("timeout", () => tell("timeout", null));

for await (const line of createInterface({ input: process.stdin })) {
  const [event, payload] = JSON.parse(line);
  if (event === "end") {
    channel.leave().receive("ok", () => {
      tell("left", null);
      socket.disconnect(() => process.exit(0));
    });
    continue;
  }
  channel
    .push(event, payload)
    .receive("ok", (response) => tell("ok", response))
    .receive("error", (response) => tell("refused", response))
    .receive("timeout", () => tell("timeout", null));
}
