// The country whose help lines are named: that of the browser's language, until somebody chooses another.

import { regionChoice } from "./choices.js";
import { make } from "./dom.js";
import { loadReader } from "./reader.js";

/** The country as a code; null for none in particular. */
export function currentRegion(): string | null {
  const chosen = regionChoice.get();
  if (chosen !== null) return chosen || null;
  for (const tag of navigator.languages) {
    const region = new Intl.Locale(tag).region;
    if (region?.length === 2) return region;
  }
  return null;
}

const names = new Intl.DisplayNames(["en"], { type: "region" });

/** A labelled list of countries; `change` is called with what is chosen, which is remembered. */
export function regionSelect(id: string, current: string | null, change: (region: string | null) => void): HTMLElement {
  const box = make("div", "region");
  const label = make("label", "", "Help lines of");
  label.htmlFor = id;
  const select = make("select");
  select.id = id;
  box.append(label, select);
  const option = (value: string, text: string) => {
    const item = make("option", "", text);
    item.value = value;
    return item;
  };
  const elsewhere = option("", "another country");
  select.append(elsewhere);
  void loadReader().then(({ regions }) => {
    const known = regions.map((code) => [code, names.of(code) ?? code] as const).sort(([, a], [, b]) => a.localeCompare(b, "en"));
    select.replaceChildren(...known.map(([code, name]) => option(code, name)), elsewhere);
    select.value = current && regions.includes(current) ? current : "";
  }, () => {});
  select.addEventListener("change", () => {
    regionChoice.set(select.value);
    change(select.value || null);
  });
  return box;
}
