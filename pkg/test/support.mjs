// What the tests share: the tiny model, and a host that can be told to misbehave.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

/** A llama of random weights: 512 tokens, a context of 256; it talks nonsense until the context is full. */
export const tinyUrl = new URL("../../tests/vectors/tiny/tiny-f32.gguf", import.meta.url);
export const tinyPath = fileURLToPath(tinyUrl);
export const tinyBytes = readFileSync(tinyPath);
export const TINY_CONTEXT = 256;
/** A LoRA adapter over it. */
export const adapterBytes = readFileSync(new URL("../../tests/vectors/adapters/tiny-all.gguf", import.meta.url));

/**
 * A host on a free port of this machine.
 *
 *   /model.gguf    the model
 *   /chunked.gguf  the model, its length not announced
 *   /cut.gguf      the connection ends half-way
 *   /page.gguf     a web page, with status 200
 *   /adapter.gguf  an adapter of the model
 *   /slow.gguf     the beginning of a file, and the rest after a while
 *   else           404
 */
export async function startHost() {
  const server = createServer((request, response) => {
    const half = tinyBytes.subarray(0, tinyBytes.length >> 1);
    switch (request.url) {
      case "/model.gguf":
        response.setHeader("content-length", tinyBytes.length);
        return response.end(tinyBytes);
      case "/chunked.gguf":
        response.write(half);
        return response.end(tinyBytes.subarray(half.length));
      case "/cut.gguf":
        response.setHeader("content-length", tinyBytes.length);
        return response.write(half, () => response.destroy());
      case "/adapter.gguf":
        return response.end(adapterBytes);
      case "/slow.gguf":
        response.setHeader("content-length", tinyBytes.length);
        response.write(half);
        return setTimeout(() => response.end(tinyBytes.subarray(half.length)), 300);
      case "/page.gguf":
        return response.end("<!doctype html><title>Not a model</title>");
      default:
        response.statusCode = 404;
        return response.end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: (path) => `http://127.0.0.1:${server.address().port}${path}`,
    close: () => new Promise((resolve) => server.close(resolve)),
  };
}

/** The whole of a stream of text, as a list of its pieces. */
export async function piecesOf(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

/** The sizes of GGUF's value types by their ids; strings (8) and arrays (9) have none. */
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

/** A GGUF file with another chat template; its metadata must have one. */
export function withTemplate(file, template) {
  let at = 8;
  const u32 = () => file.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(file.readBigUInt64LE((at += 8) - 8));
  const string = () => {
    const length = u64();
    return file.toString("utf8", at, (at += length));
  };
  const skip = (type) => {
    if (type === 8) string();
    else if (type === 9) {
      const element = u32();
      for (let left = u64(); left > 0; left -= 1) skip(element);
    } else at += VALUE_BYTES[type];
  };
  const [tensors, keys] = [u64(), u64()];
  let place = null;
  for (let key = 0; key < keys; key += 1) {
    const name = string();
    const type = u32();
    const start = at;
    skip(type);
    if (name === "tokenizer.chat_template") place = [start, at];
  }
  for (let tensor = 0; tensor < tensors; tensor += 1) {
    string();
    const dims = u32();
    at += 8 * dims + 12;
  }
  const aligned = (length) => Math.ceil(length / 32) * 32;
  const text = Buffer.from(template);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const head = Buffer.concat([file.subarray(0, place[0]), length, text, file.subarray(place[1], at)]);
  return Buffer.concat([head, Buffer.alloc(aligned(head.length) - head.length), file.subarray(aligned(at))]);
}
