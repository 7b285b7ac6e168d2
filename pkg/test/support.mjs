// What the tests share: the tiny model, and a host that can be told to misbehave.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

/** A llama of random weights: 512 tokens, a context of 256; it talks nonsense until the context is full. */
export const tinyUrl = new URL("../../tests/vectors/tiny/tiny-f32.gguf", import.meta.url);
export const tinyPath = fileURLToPath(tinyUrl);
export const tinyBytes = readFileSync(tinyPath);
export const TINY_CONTEXT = 256;

/**
 * A host on a free port of this machine.
 *
 *   /model.gguf    the model
 *   /chunked.gguf  the model, its length not announced
 *   /cut.gguf      the connection ends half-way
 *   /page.gguf     a web page, with status 200
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
