// The text model, which reads each message before it is answered: one for the page, fetched behind the chat model.

import { models, TextReader } from "meetara";

const READER_URL = new URL("/models/emotion/text-emotion.gguf", location.href).href;

/** A message waits so long for a reader that is on its way. Then it is answered, and the page says that nobody read it. */
const PATIENCE_MS = 20_000;

export type ReaderState = "waiting" | "loading" | "ready" | "failed";

let reader: Promise<TextReader> | null = null;
let state: ReaderState = "waiting";
let memoryBytes = 0;
let tell: (state: ReaderState) => void = () => {};

/** Calls `listener` whenever the reader comes or fails to. */
export function onReader(listener: (state: ReaderState) => void): void {
  tell = listener;
}

export function readerState(): ReaderState {
  return state;
}

/** Memory of its engine. */
export function readerMemoryBytes(): number {
  return memoryBytes;
}

function become(next: ReaderState): void {
  state = next;
  tell(next);
}

/** The reader; one that did not come is asked for again. */
export function loadReader(): Promise<TextReader> {
  if (!reader) {
    const coming = TextReader.create({ model: READER_URL, name: "MeeTARA text emotion" });
    reader = coming;
    become("loading");
    coming.then((ready) => {
      memoryBytes = ready.memoryBytes;
      become("ready");
    }, () => {
      reader = null;
      become("failed");
    });
  }
  return reader;
}

/** The reader for a message that somebody waits to see answered. */
export function readerInTime(): Promise<TextReader> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("The text model is still on its way.")), PATIENCE_MS);
  });
  return Promise.race([loadReader(), late]).finally(() => clearTimeout(timer));
}

/** What the reader takes on this device; null where it is not kept. */
export async function readerKept(): Promise<{ bytes: number; remove(): Promise<void> } | null> {
  const kept = await models.list({ kind: "encoder" }).catch(() => []);
  const own = kept.find(({ key }) => key === READER_URL);
  return own ? { bytes: own.bytes, remove: () => models.delete(READER_URL) } : null;
}
