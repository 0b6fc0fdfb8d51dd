// A WebSocket client: `node client.mjs URL` reports what happens as lines of JSON, and sends the lines of its input.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

let { WebSocket } = globalThis;
let made = "built-in";
if (!WebSocket) {
  // Debian's node-ws stands where its Node looks for it; a Node from elsewhere has to be told.
  const require = createRequire(import.meta.url);
  WebSocket = require(require.resolve("ws", { paths: [".", "/usr/share/nodejs"] })).WebSocket;
  made = "ws";
}
const say = (kind, value) => console.log(JSON.stringify({ name: "node", kind, value }));
const socket = new WebSocket(process.argv[2], ["cloudevents.json"]);
socket.addEventListener("open", () => say("open", { made, protocol: socket.protocol, extensions: socket.extensions }));
socket.addEventListener("message", (event) => say("message", event.data));
socket.addEventListener("close", (event) => {
  say("close", event.code);
  process.exit(0);
});
createInterface({ input: process.stdin }).on("line", (line) => socket.send(line));
