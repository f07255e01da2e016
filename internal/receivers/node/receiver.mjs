// A webhook receiver that verifies with the npm package standardwebhooks, or with svix. Only tests use it.
//
//   FANFARE_SECRET=whsec_… node receiver.mjs standardwebhooks|svix

import { createServer } from "node:http";
import { listen, report } from "./listen.mjs";

const { Webhook } = await import(process.argv[2]);
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
  report(request, body, error);
  response.writeHead(error === "" ? 204 : 400).end();
});

listen(server);
