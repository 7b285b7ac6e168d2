// The list of messages on the page. Nothing of it is stored.

import { byId, make, makeButton } from "./dom.js";

/** A reply that is being written. */
export interface ReplyView {
  /** Adds a piece of text. */
  write(delta: string): void;
  /** The reply is complete: shows what it cost, or why it ended early, and a table below where there is one. */
  finish(note: string, table?: string): void;
  /** From now on it is a fixed help text, not a model's reply: it looks different, and `below` stands under it. */
  help(below: HTMLElement): void;
  /** Another text in place of what is written. */
  replace(text: string): void;
  /** A line in small type under it. */
  remark(text: string): void;
  /** Takes it from the page. */
  remove(): void;
  readonly text: string;
}

const scroller = byId("scroller", HTMLElement);
const list = byId("messages", HTMLDivElement);
const welcome = byId("welcome", HTMLElement);

/** How close to the end still counts as following the reply, in CSS pixels. */
const FOLLOW_PX = 80;

function nearEnd(): boolean {
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < FOLLOW_PX;
}

export function scrollToEnd(): void {
  scroller.scrollTop = scroller.scrollHeight;
}

function add(item: HTMLElement): void {
  welcome.hidden = true;
  list.hidden = false;
  list.append(item);
  scrollToEnd();
}

/** Adds what the user wrote; gives a function that takes it away again. */
export function addUserMessage(text: string): () => void {
  const item = make("div", "message user");
  item.append(make("span", "hidden", "You: "), make("p", "text", text));
  add(item);
  return () => {
    item.remove();
    showWelcomeIfEmpty();
  };
}

/** Adds an empty reply to write into. */
export function addReply(): ReplyView {
  const item = make("div", "message reply");
  // While it is busy screen readers wait; then they read it as a whole.
  item.setAttribute("aria-busy", "true");
  const body = make("p", "text");
  const text = document.createTextNode("");
  body.append(text, make("span", "caret"));
  const speaker = make("span", "hidden", "AI: ");
  // What stands under the reply, in this order.
  const [aside, remarks] = [make("div"), make("div")];
  item.append(speaker, body, aside, remarks);
  add(item);
  let isHelp = false;
  const following = () => !isHelp && nearEnd();
  return {
    write(delta) {
      const follow = following();
      // Some models begin with a space, which would stand out of line.
      text.appendData(text.length === 0 ? delta.trimStart() : delta);
      if (follow) scrollToEnd();
    },
    finish(note, table) {
      const follow = following();
      item.removeAttribute("aria-busy");
      const foot = make("div", "foot");
      const copy = makeButton("Copy", "link", () => {
        void navigator.clipboard.writeText(text.data).then(() => {
          copy.textContent = "Copied";
        });
      });
      foot.append(make("span", "note", note), copy);
      item.append(foot);
      if (table) item.append(make("pre", "profile", table));
      if (follow) scrollToEnd();
      else if (isHelp) item.scrollIntoView({ block: "start" });
    },
    help(below) {
      // Whom to call stands at its beginning, which stays in view.
      isHelp = true;
      item.classList.add("help");
      speaker.textContent = "Help: ";
      item.prepend(make("strong", "help-title", "You may need a person now"));
      aside.append(below);
      item.scrollIntoView({ block: "start" });
    },
    replace(next) {
      text.data = next;
    },
    remark(words) {
      const follow = following();
      remarks.append(make("p", "remark", words));
      if (follow) scrollToEnd();
    },
    remove() {
      item.remove();
      showWelcomeIfEmpty();
    },
    get text() {
      return text.data;
    },
  };
}

/** A line across the conversation. */
export function addDivider(text: string): void {
  if (list.childElementCount > 0) add(make("div", "divider", text));
}

export function clearConversation(): void {
  list.replaceChildren();
  showWelcomeIfEmpty();
}

export function isEmpty(): boolean {
  return list.childElementCount === 0;
}

function showWelcomeIfEmpty(): void {
  welcome.hidden = !isEmpty();
  list.hidden = isEmpty();
}
