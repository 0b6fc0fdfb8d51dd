// Reads one JSON object a line: {"keys": [...], "headers": {...}, "body": <base64>}. Answers a line with an array: does each
// key verify the message? Shared secrets are tried by the `standardwebhooks` package, public keys by Node's own crypto.
import { createPublicKey, verify } from "node:crypto";
import { createInterface } from "node:readline";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const SPKI = Buffer.from("302a300506032b6570032100", "hex"); // what stands before the 32 bytes of an Ed25519 key (RFC 8410)

function byPublicKey(key, headers, body) {
  const raw = Buffer.from(key.slice("whpk_".length), "base64");
  const publicKey = createPublicKey({ key: Buffer.concat([SPKI, raw]), format: "der", type: "spki" });
  const signed = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`), body]);
  return headers["webhook-signature"]
    .split(" ")
    .map((entry) => entry.split(","))
    .some(([version, value]) => version === "v1a" && verify(null, signed, publicKey, Buffer.from(value, "base64")));
}

function bySecret(key, headers, body) {
  try {
    new Webhook(key).verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { keys, headers, body } = JSON.parse(line);
  const bytes = Buffer.from(body, "base64");
  const answers = keys.map((key) => (key.startsWith("whpk_") ? byPublicKey : bySecret)(key, headers, bytes));
  console.log(JSON.stringify(answers));
}
