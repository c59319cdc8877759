// The first lines that run: the chosen colours, then the page's program, or a sentence that says
// why it cannot run here. The build writes the addresses of the program into this script's tag.
"use strict";
(() => {
  const root = document.documentElement;
  const { js, wasm } = document.currentScript.dataset;
  try {
    root.dataset.theme = localStorage.getItem("theme") || "auto";
  } catch {
    root.dataset.theme = "auto";
  }

  // The smallest module with a SIMD instruction: v128.const, i8x16.popcnt, drop.
  const simd = () =>
    WebAssembly.validate(
      new Uint8Array([
        0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253,
        15, 253, 98, 11,
      ]),
    );

  const lacks = () => {
    if (typeof WebAssembly !== "object") return "WebAssembly, which this browser lacks or has switched off";
    if (!simd()) return "WebAssembly with SIMD, which this browser lacks";
    if (typeof Worker !== "function") return "Web Workers, which this browser lacks";
    return "";
  };

  const say = (sentence, cause) => {
    root.dataset.boot = "failed";
    const place = document.getElementById("boot-message");
    if (place) {
      place.textContent = sentence;
      place.title = cause || "";
    }
    if (cause) console.error(cause);
  };

  // How long the service worker may take to stand ready; without it one thread computes.
  const PATIENCE_MS = 3000;

  // Whether the page is loaded anew: once, on a host without the headers that let threads share
  // memory, through a service worker that adds them.
  const isolate = async () => {
    if (self.crossOriginIsolated || !navigator.serviceWorker) return false;
    try {
      if (sessionStorage.getItem("isolation")) return false;
      sessionStorage.setItem("isolation", "tried");
      await navigator.serviceWorker.register("./isolation.js");
      const late = new Promise((_, reject) => setTimeout(reject, PATIENCE_MS));
      await Promise.race([navigator.serviceWorker.ready, late]);
      location.reload();
      return true;
    } catch {
      return false;
    }
  };

  const start = async () => {
    const missing = lacks();
    if (missing) {
      say(`Ventral needs ${missing}. Please use a current Chrome, Edge, Firefox or Safari.`);
      return;
    }
    if (await isolate()) return;
    try {
      const program = await import(new URL(js, document.baseURI).href);
      await program.default({ module_or_path: new URL(wasm, document.baseURI).href });
    } catch (cause) {
      say("The page's program could not be loaded. Check the connection and reload.", String(cause));
    }
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
