// Feelings: asking whether they may be read, the switch, the quiet sign of how somebody feels, and the sheet with the
// chart. Off until somebody says yes; off again, all that was read is gone.

import type { LanguageModel } from "meetara";
import { feelingsChoice } from "./choices.js";
import { announce, byId, make, makeButton } from "./dom.js";
import { chartOf, phraseOf } from "./emotion-chart.js";
import { loadReader, readerKept, readerState } from "./reader.js";
import { currentRegion, regionSelect } from "./region.js";
import { megabytes } from "./words.js";

const dialog = byId("feelings", HTMLDialogElement);
const button = byId("feelings-button", HTMLButtonElement);
const sign = byId("feeling", HTMLSpanElement);
const toggle = byId("feelings-on", HTMLInputElement);
const chart = byId("feelings-chart", HTMLDivElement);
const ask = byId("ask", HTMLElement);

let session: () => LanguageModel | null = () => null;

/** Wires the sheet; `current` gives the open session, and `regionChanged` is called when help lines are of another country. */
export function setUpFeelings(current: () => LanguageModel | null, regionChanged: (region: string | null) => void): void {
  session = current;
  toggle.checked = feelingsAreOn();
  toggle.addEventListener("change", () => choose(toggle.checked));
  button.addEventListener("click", () => {
    dialog.showModal();
    draw();
    void fillReader();
    byId("help-region", HTMLDivElement).replaceChildren(regionSelect("feelings-region", currentRegion(), regionChanged));
  });
  byId("feelings-close", HTMLButtonElement).addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  showFeeling();
}

export function feelingsAreOn(): boolean {
  return feelingsChoice.get() === true;
}

function choose(on: boolean): void {
  feelingsChoice.set(on);
  toggle.checked = on;
  hideAsk();
  const open = session();
  if (open) open.readsEmotion = on;
  announce(on ? "Feelings are read from your next message on." : "Feelings are off, and what was read is deleted.");
  showFeeling();
}

/** Asks once, below the first reply, when the reader is there. Whoever says nothing is not read. */
export function askOnce(): void {
  if (feelingsChoice.get() !== null || readerState() !== "ready" || !ask.hidden) return;
  const actions = make("div", "card-actions");
  actions.append(
    makeButton("Turn on", "button", () => choose(true)),
    makeButton("No, thank you", "button plain", () => choose(false)),
  );
  ask.replaceChildren(
    make("strong", "", "May this page notice how you feel?"),
    make("p", "", "A small model would read the feeling in each message that you send, and show it to you. It runs on this device: nothing is sent or stored, and it is gone when you close the page or start a new chat. You can switch it off at any time under “Feelings”, above."),
    actions,
  );
  ask.hidden = false;
}

export function hideAsk(): void {
  ask.hidden = true;
}

/** Shows what is known by now. */
export function showFeeling(): void {
  const open = session();
  const on = feelingsAreOn();
  sign.hidden = !on;
  const [words, kind] = state(open);
  sign.replaceChildren(make("span", `dot ${kind}`), make("span", "wide-only", words === "on" ? "Feelings on" : words));
  button.setAttribute("aria-label", on ? `Feelings: ${words}` : "Feelings: off");
  button.title = on ? `Feelings: ${words}` : "Feelings: off";
  byId("feelings-label", HTMLSpanElement).hidden = on;
  if (dialog.open) draw();
}

/** How somebody feels in words, and the class of its colour. */
function state(open: LanguageModel | null): [words: string, kind: string] {
  const emotion = open?.emotion;
  if (emotion) return [phraseOf(emotion), `emotion-${emotion.primary_emotion ?? "none"}`];
  const domain = open?.domain;
  if (domain && !domain.emotion_default) return ["not read here", "emotion-none"];
  return ["on", "emotion-none"];
}

function draw(): void {
  const open = session();
  const turns = open?.emotionTurns ?? [];
  if (!feelingsAreOn()) chart.replaceChildren();
  else if (turns.length === 0) chart.replaceChildren(make("p", "hint", "Nothing was read yet. Send a message, and its feeling appears here."));
  else chart.replaceChildren(chartOf(turns));
  const domain = open?.domain;
  if (feelingsAreOn() && domain && !domain.emotion_default) {
    chart.append(make("p", "hint", `Your last message is about ${domain.category === "education" ? "education" : "work"}. There feelings are not read: in the EU that is prohibited.`));
  }
}

/** Whether the reader is there, and where. */
async function fillReader(): Promise<void> {
  const place = byId("reader-line", HTMLParagraphElement);
  const kept = await readerKept();
  const words = {
    waiting: "It comes with the first chat model.",
    loading: "It is on its way.",
    ready: kept ? `${megabytes(kept.bytes)}, on this device.` : "It is open, but not kept on this device.",
    failed: "It could not be fetched, so messages are not checked.",
  }[readerState()];
  place.replaceChildren(`The model that reads: ${words} `);
  if (readerState() === "failed") {
    place.append(makeButton("Try again", "link", () => void loadReader().catch(() => {}).finally(() => void fillReader())));
  } else if (kept) {
    const remove = makeButton("Delete", "link", () => void kept.remove().then(fillReader));
    remove.setAttribute("aria-label", "Delete the model that reads from this device");
    place.append(remove);
  }
}
