// Opening models: the shipped one, one kept on this device, a file, an address.

import { LanguageModel, models, type EmotionOptions, type StoredModel } from "meetara";
import { lastModel } from "./choices.js";
import { byId } from "./dom.js";
import { megabytes } from "./words.js";

/** Where a model comes from. */
export type Choice =
  | { kind: "shipped" }
  | { kind: "stored"; key: string; name: string }
  | { kind: "file"; file: File }
  | { kind: "address"; url: string };

export const SHIPPED_URL = new URL("/models/pocket/meetara-pocket-q4_k_m.gguf", location.href).href;
export const SHIPPED_NAME = "MeeTARA Pocket";

/** Small models repeat themselves; this holds them back a little. */
const REPEAT_PENALTY = 1.1;

const loading = byId("loading", HTMLDivElement);
const loadingText = byId("loading-text", HTMLLabelElement);
const loadingBar = byId("loading-bar", HTMLProgressElement);

/** What the page calls a choice in its sentences. */
export function nameOf(choice: Choice): string {
  switch (choice.kind) {
    case "shipped":
      return SHIPPED_NAME;
    case "stored":
      return choice.name;
    case "file":
      return choice.file.name;
    case "address":
      return choice.url.split("/").pop() || choice.url;
  }
}

/** The key under which a choice is kept. */
export function keyOf(choice: Choice): string {
  switch (choice.kind) {
    case "shipped":
      return SHIPPED_URL;
    case "stored":
      return choice.key;
    case "file":
      return `file:${choice.file.name}:${choice.file.size}`;
    case "address":
      return choice.url;
  }
}

/** The model to open at the start: the last one, if it is still there, else the shipped one. */
export async function firstChoice(): Promise<Choice> {
  const key = lastModel.get();
  if (!key || key === SHIPPED_URL) return { kind: "shipped" };
  const kept = (await models.list().catch((): StoredModel[] => [])).find((model) => model.key === key);
  return kept ? { kind: "stored", key, name: kept.name } : { kind: "shipped" };
}

/**
 * An address as the user wrote it, made whole.
 *
 * The page's policy lets it talk to its own host only, so another host is
 * refused here, in words, rather than by the browser.
 */
export function addressChoice(written: string): Choice {
  let url: URL;
  try {
    url = new URL(written.trim(), location.href);
  } catch {
    throw new TypeError("This is not an address. Write one like /models/name.gguf.");
  }
  if (url.origin !== location.origin) {
    throw new TypeError(
      "So that nothing leaves this device, this page talks to its own host only. Download the file in a new tab, then use “Open a file”.",
    );
  }
  return { kind: "address", url: url.href };
}

type Device = "auto" | "cpu" | "gpu";

/** What `?device=` in the page's address asks for, if anything. */
export function wantedDevice(): Device | null {
  const wanted = new URLSearchParams(location.search).get("device");
  return wanted === "auto" || wanted === "cpu" || wanted === "gpu" ? wanted : null;
}

/** The shipped model is too small to gain from a GPU; one that the user brings may be large. */
function deviceFor(choice: Choice): Device {
  return wantedDevice() ?? (choice.kind === "shipped" ? "cpu" : "auto");
}

/** Loads a model and shows how far it is, until `hideProgress`. */
export async function open(choice: Choice, emotion: EmotionOptions, signal: AbortSignal): Promise<LanguageModel> {
  const name = nameOf(choice);
  const source =
    choice.kind === "shipped" ? SHIPPED_URL
    : choice.kind === "stored" ? { key: choice.key }
    : choice.kind === "file" ? choice.file
    : choice.url;
  loadingText.textContent = `Opening ${name}…`;
  loadingBar.removeAttribute("value");
  loading.hidden = false;
  const model = await LanguageModel.create({
    model: source,
    signal,
    cache: keyOf(choice),
    name: choice.kind === "shipped" ? SHIPPED_NAME : undefined,
    repeatPenalty: REPEAT_PENALTY,
    device: deviceFor(choice),
    emotion,
    monitor(monitor) {
      monitor.addEventListener("downloadprogress", (event) => {
        if (signal.aborted) return;
        if (event.loaded > 0) loadingBar.value = event.loaded;
        if (event.bytesTotal === null) return;
        loadingText.textContent = `Opening ${name}: ${megabytes(event.bytes)} of ${megabytes(event.bytesTotal)}`;
      });
    },
  });
  lastModel.set(keyOf(choice));
  // A model that the user brought should outlast a shortage of room. (Some browsers ask first.)
  if (choice.kind === "file") void navigator.storage?.persist?.();
  return model;
}

export function hideProgress(): void {
  loading.hidden = true;
}
