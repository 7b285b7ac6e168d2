// The Worker's entry: starts the module that `cargo xtask wasm edge` built, and hands requests to it.
//
// After a panic the instance is in an unknown state. It is then replaced by a fresh one, which
// fetches the model again; requests that were in progress are lost, later ones are not.

import { __wbg_reset_state, fetch as handle, initSync } from "../dist/meetara_edge.js";
import module from "../dist/meetara_edge_bg.wasm";

initSync({ module });
// Kept by the `worker` crate, whose panic hook raises `criticalError`.
const state = globalThis.__worker_init_state;

function restart() {
  state.criticalError = false;
  __wbg_reset_state();
}

export default {
  async fetch(request, env, context) {
    if (state.criticalError) restart();
    try {
      return await handle(request, env, context);
    } catch (error) {
      // Says where the module stopped, and nothing of the request.
      console.error("the module trapped and is replaced:", error?.name);
      restart();
      const message = "The engine had to be restarted. Try again.";
      const body = { error: { message, type: "server_error", param: null, code: "internal_error" } };
      return Response.json(body, { status: 500 });
    }
  },
};
