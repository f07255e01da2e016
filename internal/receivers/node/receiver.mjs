// A webhook receiver that verifies with the npm package standardwebhooks. Only tests use it.
//
//   FANFARE_SECRET=whsec_… node receiver.mjs
//
// It listens on a free port of the loopback, prints "listening PORT" and then one line of JSON a
// request, and ends when its standard input does.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.FANFARE_SECRET);

const server = createServer(async (request, response) => {
  const chunks = [];
  try {
    for await (const chunk of request) chunks.push(chunk);
  } catch {
    return; // the sender went away within the body
  }
  const body = Buffer.concat(chunks);
  let error = "";
  try {
    if (request.method !== "POST") throw new Error(`the method is ${request.method}`);
    webhook.verify(body, request.headers);
  } catch (e) {
    error = e.message;
  }
  const report = {
    id: request.headers["webhook-id"] ?? "",
    ok: error === "",
    error,
    attempt: Number.parseInt(request.headers["x-fanfare-attempt"], 10) || 0,
    sha256: createHash("sha256").update(body).digest("hex"),
  };
  process.stdout.write(JSON.stringify(report) + "\n");
  response.writeHead(error === "" ? 204 : 400).end();
});

server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`listening ${server.address().port}\n`);
});

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
process.stdin.on("error", () => process.exit(0));
