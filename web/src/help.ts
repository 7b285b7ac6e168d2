// What the page shows when the gate spoke: the help text apart from replies, and that a message was not checked.

import type { LanguageModel, SafetyState } from "meetara";
import type { ReplyView } from "./conversation.js";
import { byId, make, makeButton } from "./dom.js";
import { loadReader } from "./reader.js";
import { currentRegion, regionSelect } from "./region.js";

let lists = 0;

/** The reply is a help text: it says so, and its country can be changed. */
export function showHelp(view: ReplyView, { category, help }: SafetyState, model: LanguageModel): void {
  if (category === "none") return;
  const below = make("div");
  const numbers = make("p", "remark", datesOf(help?.checked ?? null));
  lists += 1;
  below.append(regionSelect(`help-region-${lists}`, help ? help.region : currentRegion(), (region) => {
    model.region = region;
    void loadReader().then((reader) => reader.help(category, { region })).then((other) => {
      view.replace(other.text);
      numbers.textContent = datesOf(other.checked);
    }).catch(() => {});
  }), numbers);
  view.help(below);
}

function datesOf(checked: string | null): string {
  return checked ? `Numbers written down on ${checked}. Nobody has verified them yet.` : "";
}

/** Says that messages are not checked, until that is over (`null`). */
export function showUnchecked(words: string | null): void {
  const note = byId("safety-note", HTMLParagraphElement);
  note.hidden = words === null;
  if (words === null) return note.replaceChildren();
  note.replaceChildren(`${words} In danger, call your local emergency number. `, makeButton("Try again", "link", () => void loadReader().catch(() => {})));
}
