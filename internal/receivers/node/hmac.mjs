// A webhook receiver as they were written before there were standards: Express, and hex(HMAC-SHA256) in a
// header. Only tests use it.
//
//   FANFARE_SECRET=… node hmac.mjs HEADER raw|stringify
//
// raw: over the body as it came, compared in constant time. stringify: over JSON.stringify of the body that
// Express has parsed, which is wrong for other bodies than JavaScript's own, and common.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import express from "express";
import { listen, report } from "./listen.mjs";

const [header, over] = process.argv.slice(2);
const hex = (body) => createHmac("sha256", process.env.FANFARE_SECRET).update(body).digest("hex");

const app = express();

if (over === "stringify") {
  app.post("/", express.json({ limit: "1mb" }), (request, response) => {
    const body = JSON.stringify(request.body);
    answer(request, response, body, request.get(header) === hex(body));
  });
} else {
  app.post("/", express.raw({ type: "*/*", limit: "1mb" }), (request, response) => {
    const want = Buffer.from(hex(request.body));
    const got = Buffer.from(request.get(header) ?? "");
    answer(request, response, request.body, got.length === want.length && timingSafeEqual(got, want));
  });
}

app.use((error, request, response, next) => {
  report(request, "", error.message);
  response.sendStatus(400);
});

function answer(request, response, body, ok) {
  report(request, body, ok ? "" : "the signature does not match");
  response.sendStatus(ok ? 204 : 401);
}

listen(createServer(app));
