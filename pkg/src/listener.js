// What a conversation makes of the text model: the gate before each reply, how
// the person feels over the turns, which domain the last message belongs to.
//
//   message ──> TextReader.read ──> safety: flagged ──> the fixed help text is the reply
//                               ├─> domain
//                               └─> emotion, only while it is switched on
//
// The gate needs no switch and has none: where there is a reader, it reads each
// message before it is answered. Feelings of earlier turns are kept here, as long
// as emotion is on, and nowhere else.

import { personsRegion } from "#platform";
import { abortError } from "./errors.js";
import { orderOf } from "./order.js";
import { withHandlerProperty } from "./progress.js";
import { TextReader } from "./text-reader.js";

/** Of messages that have their reply already so many are read at most, the newest. */
const ANSWERED_MAX = 16;
/** Earlier messages of the person that a short one is read together with. */
const BEFORE_MAX = 2;
/** Turns whose feelings are kept, the newest: older ones have no weight any more. */
const TURNS_MAX = 256;

/** A reader for one or several sessions; made when it is first wanted, and again when that failed. */
class ReaderHold {
  #make;
  #owned;
  #reader = null;
  #holders = 1;
  #ended = new AbortController();

  constructor(make, owned) {
    this.#make = make;
    this.#owned = owned;
  }

  get() {
    if (!this.#reader) {
      const made = Promise.resolve(this.#make(this.#ended.signal));
      made.catch(() => this.drop(made));
      this.#reader = made;
    }
    return this.#reader;
  }

  /** The next that asks gets another one. */
  drop(made = this.#reader) {
    if (this.#reader !== made) return;
    if (this.#owned) made?.then((reader) => reader.destroy(), () => {});
    this.#reader = null;
  }

  retain() {
    this.#holders += 1;
    return this;
  }

  release() {
    this.#holders -= 1;
    if (this.#holders > 0) return;
    this.#ended.abort(abortError("The session was destroyed."));
    this.drop();
  }
}

/** The reader that the option `emotion` names. */
function holdOf({ model, reader, cache, name, sha256, monitor }) {
  if ((model === undefined) === (reader === undefined)) throw new TypeError("emotion needs either model or reader.");
  if (reader !== undefined) return new ReaderHold(typeof reader === "function" ? reader : () => reader, false);
  const options = { model, cache, name, sha256, monitor };
  orderOf(options); // What is wrong with it is said now.
  return new ReaderHold((signal) => TextReader.create({ ...options, signal }), true);
}

/** What is known of a conversation. Replaced as a whole, so that a clone or a step back is a copy of the reference. */
const NOTHING = { turns: [], before: [], emotion: null, line: null, domain: null, safety: null };

export class Listener {
  #target;
  #hold;
  #on;
  #inAllDomains;
  #tellsModel;
  #region;
  #known;

  /** What `emotion`, the option of `create`, asks for; undefined without it. Throws for what makes no sense. */
  static check(options) {
    if (options === undefined) return undefined;
    const { on = false, inAllDomains = false, tellModel = false, region = personsRegion() } = options ?? {};
    const hold = holdOf(options ?? {});
    const settings = { on: on === true, inAllDomains: inAllDomains === true, tellsModel: tellModel === true };
    return { hold, ...settings, region: countryOf(region), known: NOTHING };
  }

  /** @param {EventTarget} target where events are fired */
  constructor(target, { hold, on, inAllDomains, tellsModel, region, known }) {
    for (const type of ["emotion", "domain", "safety"]) withHandlerProperty(target, type);
    this.#target = target;
    this.#hold = hold;
    this.#on = on;
    this.#inAllDomains = inAllDomains;
    this.#tellsModel = tellsModel;
    this.#region = region;
    this.#known = known;
  }

  /** Begins to load what is not there yet. */
  begin() {
    this.#hold.get().catch(() => {});
  }

  /** What a clone of the session begins with. */
  copy() {
    const settings = { on: this.#on, inAllDomains: this.#inAllDomains, tellsModel: this.#tellsModel, region: this.#region };
    return { hold: this.#hold.retain(), ...settings, known: this.#known };
  }

  release() {
    this.#hold.release();
  }

  /** The messages for the model: where that is asked for, the system message ends in a line on how the person feels. */
  told(messages) {
    const { line } = this.#known;
    if (!this.#tellsModel || !line) return messages;
    const [first, ...rest] = messages;
    if (first?.role !== "system") return [{ role: "system", content: line }, ...messages];
    return [{ ...first, content: `${first.content}\n\n${line}` }, ...rest];
  }

  get emotion() {
    return this.#known.emotion;
  }

  /** The feelings after each turn that was read. */
  get emotionTurns() {
    return this.#known.turns.map(({ emotion }) => emotion);
  }

  get domain() {
    return this.#known.domain;
  }

  get safety() {
    return this.#known.safety;
  }

  get on() {
    return this.#on;
  }

  /** Off forgets all that was read of feelings. */
  set on(on) {
    this.#on = on === true;
    if (!this.#on) this.#know({ ...this.#known, turns: [], emotion: null, line: null });
  }

  get region() {
    return this.#region;
  }

  set region(region) {
    this.#region = countryOf(region);
  }

  /** The conversation is another one. */
  forget() {
    this.#know(NOTHING);
  }

  #know(known) {
    const changed = known.emotion !== this.#known.emotion;
    this.#known = known;
    if (changed) this.#fire("emotion", known.emotion);
  }

  #fire(type, detail) {
    this.#target.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /**
   * Reads what the person wrote since the last reply: `answered` messages have their reply already, `waiting` ones
   * get theirs now, unless one of them asks for help at once.
   * @param {{ answered?: string[], waiting: string[] }} texts
   * @returns {Promise<{ help: string | null, undo(): void }>} `help` is the reply where there must be no other;
   *   `undo` takes the texts out again
   */
  async hear({ answered = [], waiting }, signal) {
    const { turns, before, emotion, line } = this.#known;
    // What is off by now stays forgotten.
    const undo = () => this.#know({ ...this.#known, before, ...(this.#on ? { turns, emotion, line } : {}) });
    let help = null;
    try {
      const reader = await untilAborted(this.#hold.get(), signal);
      for (const text of answered.slice(-ANSWERED_MAX)) {
        if (this.#on) await this.#read(reader, text, signal);
        else this.#known = { ...this.#known, before: [...this.#known.before, text].slice(-BEFORE_MAX) };
      }
      for (const text of waiting) {
        const safety = await this.#read(reader, text, signal);
        // One that asks for help is not forgotten over a later one.
        if (help !== null) continue;
        const found = { checked: true, ...safety, help: null };
        if (safety.flagged) {
          found.help = await reader.help(safety.category, { region: this.#region, signal });
          help = found.help.text;
        }
        this.#known = { ...this.#known, safety: found };
        if (found.flagged || found.abstained) this.#fire("safety", found);
      }
    } catch (error) {
      if (signal.aborted) {
        undo();
        throw signal.reason;
      }
      // An engine that stopped stays so.
      if (["internal", "stopped", "aborted"].includes(error?.reason)) this.#hold.drop();
      const safety = { ...UNCHECKED, error };
      this.#known = { ...this.#known, safety };
      this.#fire("safety", safety);
    }
    return { help, undo };
  }

  /** Reads one message, and gives what is to be said of danger. */
  async #read(reader, text, signal) {
    const on = this.#on;
    const reading = await reader.read(text, { before: this.#known.before, emotion: on, signal });
    const { domain, safety } = reading;
    // What somebody was helped about would make every short word after it another cry for help.
    const before = safety.flagged ? [] : [...this.#known.before, text].slice(-BEFORE_MAX);
    this.#known = { ...this.#known, domain, before };
    this.#fire("domain", domain);
    if (!on) return safety;
    let { turns } = this.#known;
    let [emotion, line] = [null, null];
    if (domain.emotion_default || this.#inAllDomains) {
      const { text: { emotion_scores }, read: { words } } = reading;
      const turn = { text: { emotion_scores }, read: { words } };
      const followed = await reader.followFor([...turns, turn], domain.empathy_level ?? "medium", signal);
      [emotion, line] = [followed.feelings, followed.line];
      turns = [...turns, { ...turn, emotion }].slice(-TURNS_MAX);
    }
    // It may have been switched off meanwhile.
    if (this.#on) this.#know({ ...this.#known, turns, emotion, line });
    return safety;
  }
}

/** What is said of a message that could not be read. */
const UNCHECKED = { checked: false, flagged: false, category: "none", also: [], by: null, scores: null, abstained: true, help: null };

function countryOf(region) {
  if (region === null) return null;
  if (typeof region !== "string" || !/^[a-z]{2}$/i.test(region)) throw new TypeError('A region is a code of two letters, such as "DE", or null.');
  return region.toUpperCase();
}

/** The user's texts among `messages`, those before the last reply apart from those after it. */
export function textsToHear(messages) {
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  const texts = (part) => part.filter(({ role, content }) => role === "user" && content.trim()).map(({ content }) => content);
  return { answered: texts(messages.slice(0, last + 1)), waiting: texts(messages.slice(last + 1)) };
}

/** A fixed text in pieces, as a model's reply comes. */
export function piecesOf(text) {
  return text.match(/\S+\s*/g) ?? [text];
}

function untilAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    return promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
