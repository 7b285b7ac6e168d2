// One message of the page itself, above the composer: what is wrong, what to do.

import { byId, make, makeButton } from "./dom.js";
import { scrollToEnd } from "./conversation.js";
import type { Words } from "./words.js";

const place = byId("notice", HTMLDivElement);

export interface Action {
  label: string;
  run(): void;
}

/** Shows a notice; it stays until it is dismissed or another takes its place. */
export function showNotice({ title, text, detail }: Words, actions: Action[] = []): void {
  const card = make("div", "card");
  const buttons = make("div", "card-actions");
  for (const { label, run } of actions) {
    buttons.append(makeButton(label, "button", () => {
      clearNotice();
      run();
    }));
  }
  buttons.append(makeButton("Dismiss", "button plain", clearNotice));
  card.append(make("strong", "", title), make("p", "", text));
  if (detail) card.append(make("p", "detail", detail));
  card.append(buttons);
  place.replaceChildren(card);
  scrollToEnd();
}

export function clearNotice(): void {
  place.replaceChildren();
}
