// How the feelings of a conversation went: a column for each turn, its height shared out among the seven classes. The
// same numbers stand in a table, for those who cannot or do not want to see colours.

import type { EmotionName, Feelings } from "meetara";
import { make } from "./dom.js";

/** From the foot of a column to its top, and how each is called. */
const CLASSES: [EmotionName, string][] = [
  ["neutral", "neutral"],
  ["joy", "joyful"],
  ["surprise", "surprised"],
  ["sadness", "sad"],
  ["fear", "afraid"],
  ["anger", "angry"],
  ["disgust", "disgusted"],
];

const SVG = "http://www.w3.org/2000/svg";
/** The newest turns that are drawn. */
const SHOWN_MAX = 24;
const [HEIGHT, COLUMN, GAP] = [96, 22, 4];
/** Classes below this share of every turn are left out of the legend. */
const NAMED_MIN = 0.1;

/** A class as a word for how somebody feels. */
export function wordOf(name: EmotionName): string {
  return CLASSES.find(([known]) => known === name)?.[1] ?? name;
}

/** A state in a few words, such as "sad, a little afraid, getting better". */
export function phraseOf({ primary_emotion: first, mixed, trajectory }: Feelings): string {
  const words = [first ? wordOf(first) : "unclear"];
  if (mixed) words.push(`a little ${wordOf(mixed)}`);
  if (trajectory === "improving") words.push("getting better");
  if (trajectory === "worsening") words.push("getting worse");
  return words.join(", ");
}

const percent = (share: number) => `${Math.round(share * 100)} %`;

/** The chart and its table. */
export function chartOf(turns: Feelings[]): HTMLElement {
  const shown = turns.slice(-SHOWN_MAX);
  const figure = make("figure", "emotion-chart");
  const svg = document.createElementNS(SVG, "svg");
  const width = SHOWN_MAX * (COLUMN + GAP) - GAP;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const last = shown.at(-1);
  const summary = last ? `Feelings over ${shown.length} ${shown.length === 1 ? "message" : "messages"}; now ${phraseOf(last)}.` : "";
  svg.setAttribute("aria-label", `${summary} The table below has the numbers.`);
  shown.forEach(({ emotion_scores: scores }, turn) => {
    let foot = HEIGHT;
    for (const [name] of CLASSES) {
      const height = (scores?.[name] ?? 0) * HEIGHT;
      foot -= height;
      const part = document.createElementNS(SVG, "rect");
      const place = { x: turn * (COLUMN + GAP), y: foot, width: COLUMN, height };
      for (const [key, value] of Object.entries(place)) part.setAttribute(key, value.toFixed(2));
      part.setAttribute("class", `emotion-${name}`);
      svg.append(part);
    }
  });
  const legend = make("ul", "legend");
  for (const [name, word] of CLASSES) {
    if (!shown.some(({ emotion_scores: scores }) => (scores?.[name] ?? 0) >= NAMED_MIN)) continue;
    const item = make("li");
    item.append(make("span", `dot emotion-${name}`), word);
    legend.append(item);
  }
  figure.append(svg, legend, tableOf(shown, turns.length - shown.length));
  return figure;
}

function tableOf(shown: Feelings[], before: number): HTMLDetailsElement {
  const details = make("details");
  const table = make("table");
  const head = make("tr");
  head.append(...["Message", ...CLASSES.map(([, word]) => word)].map((text) => {
    const cell = make("th", "", text);
    cell.scope = "col";
    return cell;
  }));
  table.append(head);
  shown.forEach(({ emotion_scores: scores }, turn) => {
    const row = make("tr");
    const number = make("th", "", String(before + turn + 1));
    number.scope = "row";
    row.append(number, ...CLASSES.map(([name]) => make("td", "", scores ? percent(scores[name]) : "not read")));
    table.append(row);
  });
  const box = make("div", "table");
  // It may be wider than a telephone: then it is scrolled, by keyboard too.
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Feelings by message");
  box.append(table);
  details.append(make("summary", "", "As a table"), box);
  return details;
}
