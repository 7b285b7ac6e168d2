// What a page asks a dedicated Worker, one job at a time, and how the Worker answers.

/** A function that has the Worker at `address` do a job, and gives what the job gives. */
export function asking(address) {
  const worker = new Worker(address, { type: "module" });
  return (job, argument) => new Promise((done, failed) => {
    worker.onmessage = ({ data }) => (data.error ? failed(new Error(data.error)) : done(data.result));
    worker.onerror = (event) => failed(new Error(event.message || "the worker does not start"));
    worker.postMessage({ job, argument });
  });
}

/** In the Worker: does what it is asked by the names of `jobs`. */
export function answering(jobs) {
  globalThis.onmessage = async ({ data: { job, argument } }) => {
    try {
      postMessage({ result: await jobs[job](argument) });
    } catch (error) {
      postMessage({ error: String(error?.stack ?? error) });
    }
  };
}
