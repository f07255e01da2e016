// A webhook receiver to start from: it verifies what it is sent, answers at once, works afterwards, and does
// the work of each event once.
//
//   SECRET=whsec_… node receiver.mjs
//
// LISTEN is the address to listen on, 127.0.0.1:8000 if it is not set.

import express from 'express';
import { Webhook } from 'standardwebhooks';

if (!process.env.SECRET) {
  console.error("SECRET is the webhook's secret");
  process.exit(1);
}
const webhook = new Webhook(process.env.SECRET);
const app = express();

app.get('/hc', (request, response) => response.send('OK'));

// The signature is over the bytes that came: they are read as they are, and parsed when they are verified.
app.post('/hooks', express.raw({ type: () => true, limit: '1mb' }), (request, response) => {
  let event;
  try {
    event = webhook.verify(request.body, request.headers);
  } catch (error) {
    console.error(`refused a request from ${request.ip}: ${error.message}`);
    return response.sendStatus(401);
  }
  const id = request.headers['webhook-id'];
  if (seen.has(id)) return response.sendStatus(200); // a repeat
  if (todo.length >= 1000) return response.sendStatus(503); // it comes again
  remember(id);
  todo.push(event);
  response.sendStatus(202);
  setImmediate(work);
});

// What was answered must not be lost: a real receiver writes the event and its id to its database or its
// queue before it answers. An array and a set are enough to show the order of things.
const todo = [];
const seen = new Set();

function remember(id) {
  seen.add(id);
  if (seen.size > 10_000) seen.delete(seen.values().next().value); // the oldest
}

// Does what the events are for.
function work() {
  while (todo.length > 0) {
    const event = todo.shift();
    console.log(`handled ${event.id} ${event.type}`);
  }
}

const [host, port] = (process.env.LISTEN ?? '127.0.0.1:8000').split(/:(?=\d+$)/);
const server = app.listen(Number(port), host, (error) => {
  if (error) throw error;
  console.log(`listening on http://${host}:${server.address().port}/hooks`);
});

// Answers what has come, and ends; what is to do is done by then.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    server.close();
    server.closeIdleConnections();
  });
}
