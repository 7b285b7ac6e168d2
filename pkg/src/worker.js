// The dedicated worker of a browser.

import { serve } from "./server.js";

serve((message) => self.postMessage(message), (receive) => {
  self.addEventListener("message", (event) => receive(event.data));
});
