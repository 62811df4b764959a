// The provider's side of docs/provider-protocol.md: everything that a provider in JavaScript needs, in one file.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { decode, encode, ExtensionCodec } from "@msgpack/msgpack";
import { connect, createInbox, credsAuthenticator, nkeyAuthenticator } from "nats";

const [OK, CALL, ERR, FAILURE, LARGE] = [0, 1, 2, 3, 4];
const STREAM = 1;
const ENVELOPE = 512;
const WINDOW = 1024 * 1024;

/** The `err` side of a WIT result. */
export class WitError extends Error {
  constructor(payload) {
    super(JSON.stringify(payload));
    this.payload = payload;
  }
}

/** A call without an answer: one of the codes of the protocol. */
export class Failure extends Error {
  constructor(code, message, details = {}) {
    super(message);
    Object.assign(this, { code, details });
  }
}

/**
 * Be the provider that the line of JSON on standard input asks for; resolves when it has drained.
 *
 * `provider.exports` has a function `(link, ...args, { signal, trace, source })` for each WIT function; `linkAdded`,
 * `linkRemoved`, `configChanged`, `health` and `stopped` are hooks, none of which must be there. `linkConfig` and `config`
 * are JSON Schemas of a link's configuration and of the provider's own; without one, any keys are taken.
 */
export async function serve(provider) {
  const [line] = await once(createInterface({ input: process.stdin }), "line");
  const start = JSON.parse(line);
  const nats = await connect(login(start.nats));
  await new Running(provider, start, nats).run();
  process.exit(0); // standard input may still be open
}

function login({ url, user, password, token, nkey_seed, creds_file, ca_file, cert_file, key_file }) {
  const options = { servers: url.split(","), maxReconnectAttempts: -1, user: user ?? undefined, pass: password ?? undefined };
  if (token) options.token = token;
  if (nkey_seed) options.authenticator = nkeyAuthenticator(Buffer.from(nkey_seed));
  if (creds_file) options.authenticator = credsAuthenticator(readFileSync(creds_file));
  if (ca_file) options.tls = { caFile: ca_file, certFile: cert_file ?? undefined, keyFile: key_file ?? undefined };
  return options;
}

class Running {
  constructor(provider, start, nats) {
    Object.assign(this, { provider, start, nats, config: start.config ?? {}, links: new Map(), calls: new Map() });
    this.held = new Set(); // where the answers to calls in hand go
    this.flow = new Flow(nats);
    this.stopped = new Promise((resolve) => (this.stop = resolve));
  }

  async run() {
    const { lattice, provider_id: id, host_id: host, links = [] } = this.start;
    const own = (verb) => `trellis.provider.${lattice}.${id}.${host}.${verb}`;
    const refused = [];
    for (const record of links) {
      const answer = await this.answered(() => this.putLink(record));
      if (!answer.ok) refused.push({ link: record, error: answer.error });
    }
    const shared = `trellis.rpc.${lattice}.${id}`;
    const calls = [
      this.listen(shared, (message) => this.arrived(message), { queue: shared }),
      this.listen(`${shared}.${host}`, (message) => this.arrived(message), { queue: `${shared}.${host}` }),
    ];
    this.listen(`trellis.cancel.${lattice}.${id}`, (message) => this.calls.get(message.string())?.abort());
    this.listen(`trellis.inhand.${lattice}.${id}`, (message) =>
      message.respond(message.string().split("\n").filter((reply) => this.held.has(reply)).join("\n")),
    );
    const verbs = {
      "link.put": (record) => this.putLink(record),
      "link.del": (key) => this.deleteLink(key),
      config: (config) => this.setConfig(config),
      health: async () => this.health(),
      stop: ({ grace } = {}) => void this.stop(Math.min(grace ?? Infinity, this.start.grace ?? 10)),
    };
    const asked = Object.entries(verbs).map(([verb, act]) =>
      this.listen(own(verb), async (message) => {
        const body = message.data.length ? message.json() : undefined;
        message.respond(JSON.stringify(await this.answered(() => act(body))));
      }),
    );
    const about = `trellis.provider.${lattice}.${id}.describe`;
    const says = JSON.stringify(this.description());
    asked.push(this.listen(about, (message) => message.respond(says), { queue: about }));
    await this.nats.flush();
    this.nats.publish(own("ready"), JSON.stringify({ ok: true, refused }));
    for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => this.stop(this.start.grace ?? 10));
    const grace = await this.stopped;
    for (const subscription of asked) subscription.unsubscribe(); // another process may have taken our place
    await Promise.all(calls.map((subscription) => subscription.drain()));
    await Promise.race([this.idle(), new Promise((resolve) => setTimeout(resolve, grace * 1000))]);
    for (const call of this.calls.values()) call.abort(new Failure("unreachable", "the provider has stopped"));
    for (const link of this.links.values()) await this.provider.linkRemoved?.(link);
    await this.provider.stopped?.();
    await this.nats.drain();
  }

  listen(subject, arrived, options = {}) {
    return this.nats.subscribe(subject, { ...options, callback: (error, message) => error || arrived(message) });
  }

  description() {
    const functions = {};
    for (const key of Object.keys(this.provider.exports)) {
      const [name, of] = key.split("#");
      (functions[name] ??= []).push(of);
    }
    const { config = null, linkConfig = null } = this.provider;
    return { functions, config, link_config: linkConfig, reference: pathToFileURL(process.argv[1]).href };
  }

  async idle() {
    while (this.calls.size) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  /** `{ok: true, ...}` with what `act` returns, or `{ok: false, error}` with what it throws. */
  async answered(act) {
    try {
      return { ok: true, ...(await act()) };
    } catch (error) {
      return { ok: false, error: error.message };
    }
  }

  // -- links and configuration

  async putLink(record) {
    const key = linkKey(record);
    const old = this.links.get(key);
    if (old && JSON.stringify(old.record) === JSON.stringify(record)) return;
    const incoming = record.target === this.start.provider_id;
    const { link_concurrency: most, ...config } = incoming ? record.target_config : record.source_config;
    if (most !== undefined && !/^[1-9]\d*$/.test(most)) throw new Error('"link_concurrency" must be a whole number from 1');
    const link = { record, config, turns: new Turns(most) };
    if (old) await this.provider.linkRemoved?.(old); // calls go on by the old one until the new one is there
    try {
      await this.provider.linkAdded?.(link);
    } catch (error) {
      if (old) await this.provider.linkAdded?.(old);
      throw error;
    }
    this.links.set(key, link);
  }

  async deleteLink(key) {
    for (const [known, link] of this.links) {
      if (linkKey({ target: link.record.target, ...key }) === known) {
        this.links.delete(known);
        await this.provider.linkRemoved?.(link);
      }
    }
  }

  async setConfig(config) {
    this.config = config;
    await this.provider.configChanged?.(config);
  }

  async health() {
    const said = (await this.provider.health?.()) ?? true;
    return { healthy: said === true, message: said === true ? "" : String(said) };
  }

  linkOf(source, name, interface_) {
    for (const { record } of this.links.values()) {
      const covers = record.interfaces.some((one) => `${record.wit_namespace}:${record.wit_package}/${one}` === interface_);
      if (covers && record.source_id === source && record.name === name) return this.links.get(linkKey(record));
    }
    throw new Failure("not-linked", `"${source}" is not linked to ${interface_} (link "${name}")`);
  }

  // -- calls

  async arrived(message) {
    this.held.add(message.reply);
    const reply = await this.answer(message.data);
    this.held.delete(message.reply);
    if (message.reply && reply) this.nats.publish(message.reply, this.fit(reply));
  }

  async answer(data) {
    const call = new AbortController();
    let id, timer;
    try {
      let frame = decode(data, this.flow.reading);
      if (frame[0] === LARGE) frame = decode(await this.flow.pull(frame[1]), this.flow.reading);
      if (frame[0] !== CALL) throw new Failure("protocol", "not an invocation");
      const [, name, source, link, left, trace, args] = frame;
      id = frame[7];
      this.calls.set(id, call);
      const late = new Failure("deadline-exceeded", `${name} was not done within ${left} ms`);
      if (left !== null) timer = setTimeout(() => call.abort(late), left);
      const ended = new Promise((_, reject) =>
        call.signal.addEventListener("abort", () => reject(call.signal.reason)),
      );
      return encode([OK, (await Promise.race([this.called(name, source, link, args, trace, call.signal), ended])) ?? null]);
    } catch (error) {
      if (error.name === "AbortError") return null; // the caller has left
      if (error instanceof WitError) return encode([ERR, error.payload]);
      if (error instanceof Failure) return encode([FAILURE, error.code, error.message, error.details]);
      return encode([FAILURE, "trap", `${error.name}: ${error.message}`, {}]);
    } finally {
      clearTimeout(timer);
      this.calls.delete(id);
    }
  }

  async called(name, source, linkName, args, trace, signal) {
    const [versioned, short] = name.split("#");
    const interface_ = versioned.split("@")[0];
    const method = this.provider.exports[`${interface_}#${short}`];
    if (!method) throw new Failure("unknown-function", `there is no ${interface_}#${short} here`);
    const link = this.linkOf(source, linkName, interface_);
    await link.turns.take(signal);
    try {
      return await method(link, ...args, { signal, trace: trace ?? {}, source });
    } finally {
      link.turns.give();
    }
  }

  /** The frame, or a short one that tells where to pull it from. */
  fit(frame) {
    if (frame.length <= this.nats.info.max_payload - ENVELOPE) return frame;
    return encode([LARGE, this.flow.offer(frame), frame.length]);
  }
}

const linkKey = (one) =>
  [one.source_id, one.wit_namespace, one.wit_package, one.name ?? "default", one.target].join(" ");

/** So many calls at a time; the others wait in line, until they are aborted. */
class Turns {
  constructor(size) {
    this.free = size === undefined ? Infinity : Number(size);
    this.waiting = [];
  }

  take(signal) {
    if (this.free > 0) return void this.free--;
    return new Promise((resolve, reject) => {
      this.waiting.push(resolve);
      signal.addEventListener("abort", () => {
        const place = this.waiting.indexOf(resolve);
        if (place >= 0) this.waiting.splice(place, 1);
        reject(signal.reason);
      });
    });
  }

  give() {
    const next = this.waiting.shift();
    if (next) next();
    else this.free++;
  }
}

/** Streams of bytes: chunks against credit. */
class Flow {
  constructor(nats) {
    Object.assign(this, { nats, ends: new Map(), numbers: 0, base: createInbox() });
    nats.subscribe(`${this.base}.*`, {
      callback: (error, message) => {
        if (error) return;
        if (message.data[0] === 0x70 /* p */) message.respond("p");
        else this.ends.get(message.subject)?.(message);
      },
    });
    // a stream inside a value is read by whoever gets it: `await value()`
    const extensions = new ExtensionCodec();
    extensions.register({ type: STREAM, encode: () => null, decode: (data) => () => this.pull(Buffer.from(data).toString()) });
    this.reading = { extensionCodec: extensions };
  }

  open(arrived) {
    const subject = `${this.base}.${++this.numbers}`;
    this.ends.set(subject, arrived);
    return subject;
  }

  /** All bytes of the stream that is offered under `subject`. */
  pull(subject) {
    return new Promise((resolve, reject) => {
      const parts = [];
      let [expected, unpaid] = [0, 0];
      const mine = this.open(({ data }) => {
        const [kind, sequence, rest] = [String.fromCharCode(data[0]), Buffer.from(data).readUInt32BE(1), data.slice(5)];
        if (kind === "d" && sequence === expected++) {
          parts.push(rest);
          unpaid += rest.length;
          if (unpaid >= WINDOW / 4) {
            this.nats.publish(subject, word("c", unpaid));
            unpaid = 0;
          }
          return;
        }
        this.ends.delete(mine);
        if (kind === "e") resolve(Buffer.concat(parts));
        else reject(kind === "x" ? new Failure(...decode(rest)) : new Failure("protocol", "a chunk was lost"));
      });
      this.nats.publish(subject, word("o", WINDOW), { reply: mine });
    });
  }

  /** Offer `bytes` to whoever pulls the subject that is returned. */
  offer(bytes) {
    let [reader, credit, sent, sequence] = ["", 0, 0, 0];
    const chunk = Math.min(64 * 1024, this.nats.info.max_payload - 64);
    const mine = this.open(({ data, reply }) => {
      const kind = String.fromCharCode(data[0]);
      if (kind === "q") return void this.ends.delete(mine);
      if (kind === "o") reader = reply;
      credit += Buffer.from(data).readUInt32BE(1);
      while (credit > 0 && sent < bytes.length) {
        const piece = bytes.subarray(sent, sent + Math.min(chunk, credit));
        this.nats.publish(reader, Buffer.concat([word("d", sequence++), piece]));
        sent += piece.length;
        credit -= piece.length;
      }
      if (sent === bytes.length) {
        this.nats.publish(reader, Buffer.concat([word("e", sequence++), encode(null)]));
        this.ends.delete(mine);
      }
    });
    return mine;
  }
}

/** One letter and a number. */
function word(letter, number) {
  const made = Buffer.alloc(5);
  made.write(letter);
  made.writeUInt32BE(number, 1);
  return made;
}
