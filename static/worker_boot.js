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

// There are two programs. One owns the GPU and computes on one thread of the CPU, in every browser;
// the other computes on all the CPU's cores. That takes memory shared between threads, which only a
// cross-origin isolated page may have, and fused multiply-adds.
const asked = new URL(self.location.href).searchParams;

// The smallest module with a relaxed instruction: i8x16.relaxed_swizzle.
const relaxed = () =>
  WebAssembly.validate(
    new Uint8Array([
      0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253,
      15, 65, 2, 253, 15, 253, 128, 2, 11,
    ]),
  );

// Programs that play a GPU, as `compute::device` knows them.
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|warp/i;

const hasGpu = async () => {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return false;
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info ?? {};
  const name = [vendor, architecture, description].join(" ");
  return !isFallbackAdapter && !adapter.isFallbackAdapter && !SOFTWARE.test(name);
};

const canThreads = () => self.crossOriginIsolated && relaxed();

const wantsThreads = async () => {
  if (!canThreads()) return false;
  const device = asked.get("device");
  return device === "cpu" || (device === "auto" && !(await hasGpu()));
};

const fetched = async (address) => {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: the server answered ${response.status}`);
  return { module_or_path: counted(response) };
};

// The most threads: beyond, the layers of a network have too little for each.
const MOST_THREADS = 16;

// Another thread of a program, once it is there.
const startThread = (parts) => {
  const thread = new Worker("./thread_boot.js");
  const started = new Promise((resolve, reject) => {
    thread.onmessage = ({ data }) => (data.ready ? resolve() : reject(new Error(data.failed)));
    thread.onerror = (event) => reject(new Error(event.message || "a thread could not be started"));
  });
  thread.postMessage(parts);
  return { thread, started };
};

const startThreads = async () => {
  const program = await import("./threads/threads.js");
  // Built where the standard library's source was not at hand.
  if (!program.default) return false;
  await program.default(await fetched("./threads/threads_bg.wasm"));
  const cores = Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS);
  const count = Number(asked.get("threads")) || cores;
  // This thread is one of them.
  const parts = program.shared_program();
  const others = Array.from({ length: count - 1 }, () => startThread(parts));
  try {
    await Promise.all(others.map(({ started }) => started));
    program.start_pool(count);
  } catch (cause) {
    others.forEach(({ thread }) => thread.terminate());
    throw cause;
  }
  program.listen();
  return true;
};

// `cargo xtask serve` answers before this program is compiled: a line stands in its place until then.
const startOne = async () => {
  importScripts("./worker.js");
  if (self.notCompiledYet) return false;
  await wasm_bindgen(await fetched("./worker_bg.wasm"));
  return true;
};

// Tells the page when that program is there.
const awaitProgram = async () => {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const response = await fetch("./worker.js").catch(() => undefined);
    if (response?.ok && !(await response.text()).includes("notCompiledYet")) break;
  }
  self.postMessage({ compiled: true });
};

(async () => {
  try {
    if (await wantsThreads()) {
      try {
        if (await startThreads()) return;
      } catch (cause) {
        console.warn(`One thread computes: ${(cause && cause.message) || cause}`);
      }
    }
    if (await startOne()) return;
    if (!canThreads() || !(await startThreads())) {
      throw new Error("the program for this browser is still being compiled: load the page again in some minutes");
    }
    self.postMessage({ compiled: false });
    awaitProgram();
  } catch (cause) {
    crashed(cause);
  }
})();
