#!/usr/bin/env node
// The capability of ../provider/shout.py in JavaScript. After `npm install` here, a host runs this file as it would run
// the one in Python:  image: file://./node/shout.mjs

import { serve } from "./provider.mjs";

await serve({
  linkConfig: { properties: { suffix: { type: "string", default: "!" } }, additionalProperties: false },
  exports: {
    "demo:text/transform#shout": (link, text) => text.toUpperCase() + (link.config.suffix ?? "!"),
  },
});
