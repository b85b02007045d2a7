// A third party that speaks AMQP 1.0: sends or receives what the request asks for and prints one line of JSON.
//   node peer.mjs FOLDER-OF-THE-CLIENT REQUEST
// The request: {host, port, vhost, user, password, send: {address, messages}} or {..., receive: {address, count}}.
// A message: {content_type, application_properties, data} (data: text of a data section; value: of an amqp-value section instead).
import { createRequire } from "node:module";

const [folder, text] = process.argv.slice(2);
const rhea = createRequire(folder + "/")("rhea");
const request = JSON.parse(text);
const container = rhea.create_container();

function end(result) {
  process.stdout.write(JSON.stringify(result) + "\n", () => process.exit(0));
}

// The broker tells why it refuses in the error of whatever it closes.
for (const event of ["sender_error", "receiver_error", "session_error", "connection_error", "disconnected"]) {
  container.on(event, (context) => {
    const of = [context.sender, context.receiver, context.session, context.connection];
    const error = of.map((part) => part && part.error).find(Boolean) ?? context.error;
    end({ error: `${event}: ${describe(error)}` });
  });
}

// RabbitMQ 3 writes errors as lists where rhea expects its own type: the words are in them all the same.
function describe(error) {
  if (!error) return "no reason";
  if (error.condition) return `${error.condition} ${error.description ?? ""}`;
  if (Array.isArray(error.value)) return error.value.map((part) => part?.value ?? part).join(" ");
  return error.message ?? String(error);
}

const connection = container.connect({
  host: request.host,
  port: request.port,
  hostname: `vhost:${request.vhost}`,
  username: request.user,
  password: request.password,
  reconnect: false,
});

if (request.send) {
  const { address, messages } = request.send;
  const outcomes = [];
  connection.open_sender(address);
  container.once("sendable", ({ sender }) => {
    for (const { data, value, ...rest } of messages) {
      const body = data === undefined ? value : rhea.message.data_section(Buffer.from(data));
      sender.send({ ...rest, durable: true, body });
    }
  });
  for (const outcome of ["accepted", "released", "rejected", "modified"]) {
    container.on(outcome, () => {
      outcomes.push(outcome);
      if (outcomes.length === messages.length) end({ outcomes });
    });
  }
} else {
  const { address, count } = request.receive;
  const messages = [];
  connection.open_receiver({ source: address, credit_window: 0, autoaccept: true });
  container.once("receiver_open", ({ receiver }) => receiver.add_credit(count));
  container.on("message", ({ message }) => {
    const { content_type, application_properties, body } = message;
    // A data section, and nothing else, is bytes.
    const data = body?.typecode === 0x75 ? body.content.toString() : undefined;
    messages.push({ content_type, application_properties, data });
    // Closing flushes the acceptance.
    if (messages.length === count) connection.close();
  });
  container.on("connection_close", () => end({ messages }));
}
