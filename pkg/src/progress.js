// How far a load is, as an event of the Prompt API.

/** Progress of a load: `loaded` goes from 0 to 1 as in the Prompt API; `bytes` and `bytesTotal` say how much. */
class DownloadProgressEvent extends Event {
  constructor(bytes, bytesTotal, loaded) {
    super("downloadprogress");
    this.loaded = loaded;
    this.total = 1;
    this.lengthComputable = true;
    this.bytes = bytes;
    this.bytesTotal = bytesTotal;
  }
}

/** Gives `target` the property `on<type>`. */
export function withHandlerProperty(target, type) {
  let handler = null;
  Object.defineProperty(target, `on${type}`, {
    get: () => handler,
    set(next) {
      if (handler) target.removeEventListener(type, handler);
      handler = typeof next === "function" ? next : null;
      if (handler) target.addEventListener(type, handler);
    },
    enumerable: true,
  });
}

/** Calls `monitor` and gives the function that reports progress to it. */
export function progressReporter(monitor) {
  if (!monitor) return undefined;
  const target = new EventTarget();
  withHandlerProperty(target, "downloadprogress");
  monitor(target);
  let last = -1;
  const report = (bytes, total, loaded) => {
    if (loaded <= last) return;
    last = loaded;
    target.dispatchEvent(new DownloadProgressEvent(bytes, total, loaded));
  };
  let bytesLast = 0;
  report(0, null, 0);
  return {
    onProgress(bytes, total) {
      bytesLast = bytes;
      // Without a known length, less than 1 until the end is there.
      report(bytes, total, total ? bytes / total : bytes / (bytes + 8e6));
    },
    done: () => report(bytesLast, bytesLast, 1),
  };
}
