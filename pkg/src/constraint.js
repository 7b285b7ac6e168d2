// Replies that follow a JSON schema.
//
// A module beside the engine's says before each token which ones may come next; the engine chooses among them. It
// is fetched when the first reply is to follow a schema, fits every build of the engine, and has a memory of its own.

import { wasmSource } from "#platform";
import { failure } from "./errors.js";

// Written out, so that bundlers find the files.
const glue = () => import("../dist/constraint/meetara_constraint.js");
const wasm = new URL("../dist/constraint/meetara_constraint_bg.wasm", import.meta.url);

/** What the engine shows for a character that was begun and not ended. */
const UNFINISHED = "\uFFFD";

/**
 * The vocabulary of a model for `follow`; made once, as it takes longer than a token.
 * @param {{ vocabulary(): Uint8Array }} model
 */
export async function vocabularyOf(model) {
  let classes;
  try {
    classes = await glue();
    await classes.default({ module_or_path: await wasmSource(wasm) });
  } catch (error) {
    throw failure("invalid_constraint", `A reply can follow a schema only with the files of dist/constraint, which could not be loaded (${error.message}).`);
  }
  return new classes.Vocabulary(model.vocabulary());
}

/** One reply and the schema that it follows. */
export class Follower {
  #constraint;

  /**
   * @param {object} vocabulary of `vocabularyOf`
   * @param {string} schema the text of a JSON schema
   */
  constructor(vocabulary, schema) {
    this.#constraint = vocabulary.json_schema(schema);
  }

  /** Tells the engine's session which tokens may come next. */
  guide(session) {
    session.allow(this.#constraint.mask());
  }

  /** A token was chosen. */
  accept(id) {
    this.#constraint.accept(id);
  }

  /** The last text of a reply that was cut off after `text`, so that the whole is valid. */
  close(text) {
    const cut = this.#constraint.inside_character() && text.endsWith(UNFINISHED);
    return (cut ? text.slice(0, -UNFINISHED.length) : text) + this.#constraint.close();
  }

  free() {
    this.#constraint.free();
  }
}
