// Reads what people write: how they feel, which domain it belongs to, and
// whether somebody may need help at once. The text model runs in a worker of
// its own, in the build for encoders.
//
// A reader keeps nothing of what it read: how somebody feels over a conversation
// follows from the readings of its turns, which whoever holds it keeps.

import { EncoderClient, loadedOf, request } from "./encoder-client.js";

/** The classes in the order of the engine's scores. */
const CLASSES = ["anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"];

export class TextReader extends EncoderClient {
  /** Loads the text model. See types/index.d.ts for the options. */
  static create(options = {}) {
    return EncoderClient.start(TextReader, "reader", options);
  }

  /** Countries, as codes of two letters, whose help lines are known. */
  get regions() {
    return [...loadedOf(this).regions];
  }

  /**
   * Reads a text: `{ text, domain, safety, read }`. `before` are earlier messages of the same person, the oldest first:
   * a short text is read together with them. With `emotion: false` nothing is said of the feeling, and `text` is null.
   */
  async read(text, { before = [], emotion = true, signal } = {}) {
    const turns = [...before, text];
    if (turns.some((turn) => typeof turn !== "string")) throw new TypeError("The text, and those before it, must be strings.");
    return request(this, "read", { turns, emotion: emotion === true }, signal);
  }

  /** How somebody feels after the last of several readings of one conversation, the oldest first. */
  async follow(readings, { signal } = {}) {
    return (await this.followFor(readings, null, signal)).feelings;
  }

  /** The same, and the line for a model that replies at this level of empathy. For sessions. */
  followFor(readings, empathy, signal) {
    return request(this, "follow", { turns: Float32Array.from(readings.flatMap(turnOf)), empathy }, signal);
  }

  /** What is said, and whom it names, when somebody may need help at once: `{ text, region, checked }`. */
  async help(category, { region = null, signal } = {}) {
    const help = await request(this, "help", { category, region: region ?? undefined }, signal);
    if (!help.text) throw new TypeError('category must be "mental_health", "medical" or "abuse".');
    return help;
  }
}

/** A reading as the engine follows it: seven scores and a number of words. */
function turnOf({ text, read }) {
  const scores = text?.emotion_scores;
  return [...CLASSES.map((name) => scores?.[name] ?? NaN), read.words];
}
