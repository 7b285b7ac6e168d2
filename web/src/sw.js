// Keeps the page, its scripts and the engine on this device, so that it works
// without a network. Models are not kept here: the package keeps them in OPFS.
//
// The build writes the version and the list of files below. A new version is
// fetched as a whole beside the old one and takes over when no tab uses the
// old one any more, so a tab never sees files of two versions.

const VERSION = "__VERSION__";
const FILES = ["__FILES__"];
/** The builds of the engine; only the one that runs here is kept. */
const RELAXED = ["__RELAXED__"];
const SIMD128 = ["__SIMD128__"];
const SCALAR = ["__SCALAR__"];
/** The builds for the GPU and with threads, and the module for schemas, which are kept once they were wanted. */
const LATE = ["__LATE__"];

/** Modules that hold one instruction each, as in the package's engine.js. */
const RELAXED_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
  10, 15, 1, 13, 0, 65, 0, 253, 15, 65, 0, 253, 15, 253, 146, 2, 11,
);
const SIMD128_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

const PREFIX = "meetara-page-";
const CACHE = PREFIX + VERSION;

self.addEventListener("install", (event) => {
  // `reload`: past the HTTP cache, which might still hold the old version.
  const simd = WebAssembly.validate(SIMD128_PROBE) ? SIMD128 : SCALAR;
  const engine = WebAssembly.validate(RELAXED_PROBE) ? RELAXED : simd;
  const requests = [...FILES, ...engine].map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    const key = request.mode === "navigate" ? "./" : request;
    const kept = await cache.match(key, { ignoreSearch: request.mode === "navigate" });
    if (kept) return kept;
    const response = await fetch(request);
    const late = LATE.some((file) => new URL(file, self.location.href).href === request.url);
    if (late && response.ok) await cache.put(request, response.clone());
    return response;
  })());
});
