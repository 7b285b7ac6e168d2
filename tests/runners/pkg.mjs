// The tests of the npm package in Node: the Prompt API, OpenAI's shape, sources and bad days.
//
// Needs `cargo xtask wasm scalar simd128 relaxed`.

import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../../pkg/test/", import.meta.url));
const files = readdirSync(folder).filter((name) => name.endsWith(".test.mjs")).sort();
const child = spawn(process.execPath, ["--test", "--test-reporter=spec", ...files], { cwd: folder, stdio: "inherit" });
child.on("exit", (code) => {
  process.exitCode = code ?? 1;
});
