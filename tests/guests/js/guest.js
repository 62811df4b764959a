// What the tests ask of every language, in JavaScript: an answer over HTTP, a counter in a key-value store, an
// interface that it both imports and exports, and a failure.

import { increment } from 'wasi:keyvalue/atomics@0.2.0-draft';
import { open } from 'wasi:keyvalue/store@0.2.0-draft';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.0';
import { shout } from 'demo:text/transform';

const pages = {
  '/': () => 'Hello from JavaScript!',
  '/count': () => String(increment(open('default'), 'visits', 1n)),
  '/fail': () => {
    throw new Error('the guest fails on purpose');
  },
};

export const incomingHandler = {
  handle(request, responseOut) {
    const page = pages[request.pathWithQuery()]();
    const response = new OutgoingResponse(Fields.fromList([['content-type', new TextEncoder().encode('text/plain')]]));
    const body = response.body();
    ResponseOutparam.set(responseOut, { tag: 'ok', val: response });
    const stream = body.write();
    stream.blockingWriteAndFlush(new TextEncoder().encode(page));
    stream[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  },
};

export const transform = {
  shout: (text) => `${shout(text)}, says JavaScript`,
};
