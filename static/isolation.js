// Where the host sends no headers of its own: gives the page's files those that make the page
// cross-origin isolated, without which its threads may share no memory. `boot.js` registers it.
"use strict";
const HEADERS = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
};

const isolated = async (request) => {
  const response = await fetch(request);
  const { body, status, statusText } = response;
  // A redirect that the browser follows itself.
  if (status === 0) return response;
  const headers = new Headers(response.headers);
  Object.entries(HEADERS).forEach(([name, value]) => headers.set(name, value));
  return new Response(body, { status, statusText, headers });
};

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  const isOwn = new URL(request.url).origin === self.location.origin;
  // Chromium's own tools ask for these, and no fetch may repeat them.
  const isCacheOnly = request.cache === "only-if-cached" && request.mode !== "same-origin";
  if (isOwn && !isCacheOnly) event.respondWith(isolated(request));
});
