// The worker thread of Node.

import { parentPort } from "node:worker_threads";
import { serve } from "./server.js";

serve((message) => parentPort.postMessage(message), (receive) => {
  parentPort.on("message", receive);
});
