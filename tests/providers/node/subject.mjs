#!/usr/bin/env node
// What the tests ask of a provider in JavaScript.

import { serve, WitError } from "./provider.mjs";

let suffix = "";
const seen = [];

await serve({
  linkAdded(link) {
    if (link.config.suffix === "?") throw new Error("no questions");
    seen.push(`added ${link.record.source_id}`);
  },
  linkRemoved: (link) => void seen.push(`removed ${link.record.source_id}`),
  configChanged: (config) => void (suffix = config.suffix),
  health: () => (suffix === "sick" ? "it has a cold" : true),
  exports: {
    "demo:text/transform#shout": (link, text) => text.toUpperCase() + (link.config.suffix ?? suffix),
    "demo:text/transform#fail": (link, how) => {
      throw how === "answer" ? new WitError({ "too-quiet": 3 }) : new TypeError("a bug");
    },
    "demo:text/transform#seen": () => seen.splice(0),
    "demo:text/transform#echo": (link, value) => value,
    "demo:text/transform#measure": async (link, body) => (await body()).length,
    "demo:text/transform#wait": (link, seconds, { signal }) => {
      seen.push("waiting");
      signal.addEventListener("abort", () => seen.push("aborted"));
      return new Promise((resolve) => setTimeout(resolve, seconds * 1000, "waited"));
    },
  },
});
