// What the receivers here have in common: how they are started, ended and read. Each listens on a free port
// of the loopback, prints "listening PORT" and then one line of JSON a request, and ends when its standard
// input does.

import { createHash } from "node:crypto";

export function listen(server) {
  server.listen(0, "127.0.0.1", () => {
    process.stdout.write(`listening ${server.address().port}\n`);
  });
  process.stdin.resume();
  process.stdin.on("end", () => process.exit(0));
  process.stdin.on("error", () => process.exit(0));
}

// report prints what became of a request; error is "" if it was accepted.
export function report(request, body, error) {
  const line = {
    id: request.headers["webhook-id"] ?? "",
    ok: error === "",
    error,
    attempt: Number.parseInt(request.headers["x-fanfare-attempt"], 10) || 0,
    sha256: createHash("sha256").update(body).digest("hex"),
  };
  process.stdout.write(JSON.stringify(line) + "\n");
}
