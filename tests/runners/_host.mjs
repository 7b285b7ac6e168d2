// Starts meetara-host on free ports.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const target = resolve(root, process.env.CARGO_TARGET_DIR ?? "target");

/**
 * Resolves to the address of the port called `port` ("web" or "rest"), and a function that stops the host and
 * resolves when it has ended.
 * @param {string} port
 * @param {string[]} flags beside those for ports and the component
 */
export async function startHost(port, flags) {
  const program = process.env.MEETARA_HOST ?? join(target, "release/meetara-host");
  const component = process.env.MEETARA_COMPONENT ?? join(target, "wasm/meetara_component.wasm");
  for (const [file, command] of [
    [program, "cargo build --release -p meetara-host"],
    [component, "cargo xtask wasm component"],
  ]) {
    if (!existsSync(file)) throw new Error(`${file} is missing: run \`${command}\``);
  }
  const all = ["--web-port", "0", "--rest-port", "0", "--component", component, ...flags];
  const child = spawn(program, all, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, MEETARA_LOG: "warn" } });
  const ended = new Promise((done) => child.once("exit", done));
  for await (const line of createInterface({ input: child.stdout })) {
    const [name, address] = line.split(" ");
    if (name !== port || !address) continue;
    child.stdout.resume();
    const stop = () => {
      child.kill("SIGTERM");
      return ended;
    };
    return { address, stop };
  }
  throw new Error(`meetara-host ended before it listened (status ${await ended})`);
}
