// Drives @wasmcloud/lattice-client-core for a test: one JSON array [controller, method, ...arguments] per line of
// standard input, one JSON object {ok} or {error} per line of standard output.
import {createInterface} from 'node:readline';
import {LatticeClient} from '@wasmcloud/lattice-client-core';

const [latticeUrl, latticeId] = process.argv.slice(2);
const client = new LatticeClient({config: {latticeUrl, latticeId}});
await client.instance.connect();

for await (const line of createInterface({input: process.stdin})) {
  const [controller, method, ...args] = JSON.parse(line);
  let said;
  try {
    said = {ok: await client[controller][method](...args)};
  } catch (error) {
    said = {error: String(error)};
  }
  process.stdout.write(JSON.stringify(said) + '\n');
}
await client.instance.disconnect();
process.exit(0);
