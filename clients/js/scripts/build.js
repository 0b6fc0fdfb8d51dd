// Makes what is made from src/: types/*.d.ts, and the one small file that the gateway serves as /client.js.
// `--check` writes nothing and fails where something differs.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = fileURLToPath(new URL("..", import.meta.url));
const house = join(here, "..", "..");
const { name, version } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
/** path → what belongs there */
const made = new Map();

const python = process.env.PYTHON ?? join(house, ".venv", "bin", "python");
const env = { ...process.env, PYTHONPATH: house };
const events = execFileSync(python, [join(here, "scripts", "event_types.py")], { env, encoding: "utf8" });
made.set(join(here, "types", "event.d.ts"), events);

const scratch = mkdtempSync(join(tmpdir(), "mainstem-types-"));
try {
  const tsc = join(here, "node_modules", "typescript", "bin", "tsc");
  execFileSync(process.execPath, [tsc, "-p", here, "--outDir", scratch], { stdio: "inherit" });
  for (const file of readdirSync(scratch)) made.set(join(here, "types", file), readFileSync(join(scratch, file), "utf8"));
} finally {
  rmSync(scratch, { recursive: true });
}

const bundle = await build({
  entryPoints: [join(here, "src", "client.js")],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  write: false,
  banner: { js: `/*! ${name} ${version} */` },
});
made.set(join(house, "gateway", "static", "client.js"), bundle.outputFiles[0].text);

const stale = [...made].filter(([path, text]) => !existsSync(path) || readFileSync(path, "utf8") !== text);
if (process.argv.includes("--check")) {
  for (const [path] of stale) console.error(`${path} is not what \`npm run build\` makes`);
  process.exitCode = stale.length ? 1 : 0;
} else {
  for (const [path, text] of stale) {
    writeFileSync(path, text);
    console.log(`wrote ${path}`);
  }
}
