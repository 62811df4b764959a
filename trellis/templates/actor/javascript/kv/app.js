// Counts its visits in a key-value store.

import { increment } from 'wasi:keyvalue/atomics@0.2.0-draft';
import { open } from 'wasi:keyvalue/store@0.2.0-draft';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.0';

export const incomingHandler = {
  handle(request, responseOut) {
    const visits = increment(open('default'), 'visits', 1n);
    answer(responseOut, `visit ${visits} to {{name}}\n`);
  },
};

function answer(responseOut, text) {
  const type = new TextEncoder().encode('text/plain; charset=utf-8');
  const response = new OutgoingResponse(Fields.fromList([['content-type', type]]));
  const body = response.body();
  ResponseOutparam.set(responseOut, { tag: 'ok', val: response });
  const stream = body.write();
  const data = new TextEncoder().encode(text);
  for (let begin = 0; begin < data.length; begin += 4096) {
    stream.blockingWriteAndFlush(data.subarray(begin, begin + 4096)); // what one call takes at most
  }
  stream[Symbol.dispose]();
  OutgoingBody.finish(body, undefined);
}
