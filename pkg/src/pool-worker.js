// A worker of the build with threads: does pieces of products until it is ended.

import * as glue from "../dist/threads/meetara_threads.js";

self.addEventListener("message", ({ data: { module, memory, stackBytes } }) => {
  glue.initSync({ module, memory, thread_stack_size: stackBytes });
  self.postMessage("ready");
  glue.pool_work();
}, { once: true });
