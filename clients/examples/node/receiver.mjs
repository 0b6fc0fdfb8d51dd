// A receiver of Mainstem's webhooks: verify, remember the id, answer, then work.
//
// npm install
// WEBHOOK_SECRET=whsec_... PORT=8090 node receiver.mjs
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const seen = new Set(); // a table with a unique key, where it matters: deliveries come at least once

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString("utf8"); // as it came: it is what is signed, not JSON written anew
  let event;
  try {
    event = webhook.verify(body, request.headers);
  } catch {
    response.writeHead(401).end();
    return;
  }
  response.writeHead(204).end(); // within 15 s; what takes longer belongs in a queue
  if (!seen.has(event.id)) {
    seen.add(event.id);
    console.log(event.type, event.subject);
  }
});
server.listen(Number(process.env.PORT ?? 8090), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/`);
});
