// Starts the compute worker's program and tells the page how much of it has arrived. Errors that
// no handler sees, in a promise or at the start, go to the page as a sentence.
"use strict";
const crashed = (cause) => self.postMessage({ crashed: String((cause && cause.message) || cause) });
self.addEventListener("unhandledrejection", (event) => crashed(event.reason));

// The program's response with a count of its bytes. Where the transfer is compressed the length
// sent by the server is not that of the bytes read here, so there is no total then.
const counted = (response) => {
  const packed = response.headers.get("content-encoding");
  const total = packed ? 0 : Number(response.headers.get("content-length")) || 0;
  let done = 0;
  let told = 0;
  const count = new TransformStream({
    transform(chunk, out) {
      done += chunk.byteLength;
      const now = Date.now();
      if (now - told > 80) {
        told = now;
        self.postMessage({ loading: { done, total } });
      }
      out.enqueue(chunk);
    },
  });
  const headers = { "content-type": "application/wasm" };
  return new Response(response.body.pipeThrough(count), { headers });
};

(async () => {
  try {
    importScripts("./worker.js");
    const response = await fetch("./worker_bg.wasm");
    if (!response.ok) throw new Error(`worker_bg.wasm: the server answered ${response.status}`);
    await wasm_bindgen({ module_or_path: counted(response) });
  } catch (cause) {
    crashed(cause);
  }
})();
