// What the page asks of the browser itself.

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): unknown;
}

/**
 * Under "require-trusted-types-for 'script'" a worker's address must pass a
 * policy. This one lets the page's own scripts pass and nothing else.
 */
export function allowOwnScripts(): void {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  trustedTypes?.createPolicy("default", {
    createScriptURL(url) {
      if (new URL(url, location.href).origin === location.origin) return url;
      throw new TypeError("scripts come from this page's own host only");
    },
  });
}

/** Registers the service worker, which keeps the page for times without a network. */
export function keepPageOffline(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  addEventListener("load", () => {
    // Without one the page works as before, only not offline.
    navigator.serviceWorker.register("./sw.js").catch(() => {});
  });
}
