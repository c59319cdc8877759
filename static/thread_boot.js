// One of the compute worker's threads: starts the program it is sent, in the memory it is sent, and
// computes for as long as the worker lives.
"use strict";
self.onmessage = async ({ data: [module, memory] }) => {
  try {
    const program = await import("./threads/threads.js");
    await program.default({ module_or_path: module, memory });
    self.postMessage({ ready: true });
    program.join_pool();
  } catch (cause) {
    self.postMessage({ failed: String((cause && cause.message) || cause) });
  }
};
