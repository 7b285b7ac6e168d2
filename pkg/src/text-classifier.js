// Encoders: what a text is about and how it sounds, as vectors and as the
// probabilities of labels. They have a build of the engine of their own, without
// chat models, which runs in a worker, as for LanguageModel.

import { EncoderClient, loadedOf, request } from "./encoder-client.js";

export class TextClassifier extends EncoderClient {
  /** Loads an encoder. See types/index.d.ts for the options. */
  static create(options = {}) {
    return EncoderClient.start(TextClassifier, "encoder", options);
  }

  /**
   * What each head says of a text: `{ heads: { NAME: [{ label, probability, chosen }] }, tokens, tokensCut }`.
   * Of the labels of one head that exclude one another the likeliest is chosen, else each above its threshold.
   */
  async classify(text, { signal } = {}) {
    const { probabilities, tokens, tokensCut } = await this.#encode(text, signal);
    const heads = {};
    let from = 0;
    for (const { name, labels, several, thresholds } of loadedOf(this).info.heads) {
      const own = probabilities.subarray(from, (from += labels.length));
      const best = own.indexOf(Math.max(...own));
      heads[name] = labels.map((label, i) => ({
        label,
        probability: own[i],
        chosen: several ? own[i] >= (thresholds?.[i] ?? 0.5) : i === best,
      }));
    }
    return { heads, tokens, tokensCut };
  }

  /** The vector of a text, a Float32Array of length 1 (L2): texts of like meaning have a large product. */
  async embed(text, { signal } = {}) {
    return (await this.#encode(text, signal)).embedding;
  }

  #encode(text, signal) {
    if (typeof text !== "string") throw new TypeError("The text must be a string.");
    return request(this, "encode", { text }, signal);
  }
}
