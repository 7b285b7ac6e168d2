// A worker of the build with threads: does pieces of products until it is ended.

import * as glue from "../dist/threads/meetara_threads.js";

self.addEventListener("message", ({ data: { module, memory, stackBytes } }) => {
  glue.initSync({ module, memory, thread_stack_size: stackBytes });
  self.postMessage("ready");
  try {
    glue.pool_work();
  } catch (error) {
    // A trap: whoever waits for this worker's piece must not wait for ever.
    glue.pool_failed();
    throw error;
  }
}, { once: true });
