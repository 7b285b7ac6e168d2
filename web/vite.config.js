// Builds the page into dist/: hashed files, a strict Content-Security-Policy,
// and a service worker that knows the name of every file.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { defineConfig } from "vite";

/** What the page may do: nothing beyond its own host. A host may send a stricter header of its own. */
const CSP = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "object-src 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

function contentSecurityPolicy() {
  return {
    name: "content-security-policy",
    apply: "build",
    transformIndexHtml: () => [
      { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: CSP }, injectTo: "head-prepend" },
    ],
  };
}

/** The licence of the typeface goes with it. */
function licences() {
  return {
    name: "licences",
    apply: "build",
    generateBundle() {
      const source = readFileSync("node_modules/@fontsource-variable/inter/LICENSE", "utf8");
      this.emitFile({ type: "asset", fileName: "licences.txt", source });
    },
  };
}

/** Whether an output of the build is this .wasm of the package. */
function isBuild(item, variant, name = "meetara_browser") {
  if (!item.fileName.endsWith(".wasm")) return false;
  return readFileSync(`../pkg/dist/${variant}/${name}_bg.wasm`).equals(item.source);
}

/** Writes sw.js from src/sw.js: every file of the build, and a version that follows from their bytes. */
function serviceWorker() {
  return {
    name: "service-worker",
    apply: "build",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_options, bundle) {
        const hash = createHash("sha256");
        const files = ["./"];
        const relaxed = [];
        const simd = [];
        const scalar = [];
        // Fetched when they are first wanted, and kept from then on.
        const late = [];
        for (const [name, item] of Object.entries(bundle).sort(([a], [b]) => (a < b ? -1 : 1))) {
          hash.update(name).update(item.type === "chunk" ? item.code : item.source);
          // The engines differ in nothing but their bytes; a browser needs one of them.
          if (isBuild(item, "relaxed")) relaxed.push(name);
          else if (isBuild(item, "simd128")) simd.push(name);
          else if (isBuild(item, "scalar")) scalar.push(name);
          else if (isBuild(item, "webgpu", "meetara_webgpu") || /meetara_webgpu[^/]*\.js$/.test(name)) late.push(name);
          else if (["encoder", "encoder-simd128"].some((build) => isBuild(item, build, "meetara_encoder")) || /meetara_encoder[^/]*\.js$/.test(name)) late.push(name);
          else if (isBuild(item, "threads", "meetara_threads") || /(meetara_threads|pool-worker)[^/]*\.js$/.test(name)) late.push(name);
          else if (isBuild(item, "constraint", "meetara_constraint") || /meetara_constraint[^/]*\.js$/.test(name)) late.push(name);
          else if (name !== "index.html") files.push(name);
        }
        for (const name of readdirSync("public").sort()) {
          hash.update(name).update(readFileSync(`public/${name}`));
          files.push(name);
        }
        const template = readFileSync("src/sw.js", "utf8");
        hash.update(template);
        const source = template
          .replace('"__VERSION__"', JSON.stringify(hash.digest("hex").slice(0, 16)))
          .replace('["__FILES__"]', JSON.stringify(files))
          .replace('["__RELAXED__"]', JSON.stringify(relaxed))
          .replace('["__SIMD128__"]', JSON.stringify(simd))
          .replace('["__SCALAR__"]', JSON.stringify(scalar))
          .replace('["__LATE__"]', JSON.stringify(late));
        this.emitFile({ type: "asset", fileName: "sw.js", source });
      },
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [contentSecurityPolicy(), licences(), serviceWorker()],
  worker: { format: "es" },
  build: {
    target: "es2022",
    // Everything is a file of its own: data: addresses are not in the policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  // Linked from ../pkg as it is, not copied into a cache that would lose its .wasm files.
  optimizeDeps: { exclude: ["meetara"] },
  server: {
    fs: { allow: [".."] },
    // `npm run dev` takes the models from a running meetara-host.
    proxy: { "/models": "http://127.0.0.1:2025" },
  },
});
