// The functions of hfs for plugins: `import hfs from "hfs"`, or the global `hfs`.

import * as clockPort from "hfs:plugin/clock@0.1.0";
import * as configPort from "hfs:plugin/config@0.1.0";
import * as filesPort from "hfs:plugin/files@0.1.0";
import * as httpPort from "hfs:plugin/http@0.1.0";
import * as kvPort from "hfs:plugin/kv@0.1.0";
import * as logPort from "hfs:plugin/log@0.1.0";
import * as sessionPort from "hfs:plugin/session@0.1.0";
import * as uiPort from "hfs:plugin/ui@0.1.0";

/** A call to hfs failed. `code` is `denied`, `quota`, `not-found`, `timeout`, `failed`, ... */
export class HfsError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "HfsError";
    this.code = code;
  }
}

/** Calls hfs. An error becomes an exception. */
const asked = (ask, ...values) => {
  try {
    return ask(...values);
  } catch (refused) {
    const error = refused?.payload ?? refused;
    throw typeof error?.code === "string" ? new HfsError(error.code, error.message) : refused;
  }
};

export const commands = new Map();
export const widgets = new Map();
const stops = new WeakSet();

export const isRejection = (value) => typeof value === "object" && value !== null && stops.has(value);

const storedValues = (scope) =>
  Object.freeze({
    get: (key, otherwise) => asked(kvPort.get, scope, String(key)) ?? otherwise,
    set: (key, value) => {
      if (typeof value !== "string") {
        throw new TypeError(`only texts can be stored, not ${typeof value}; JSON.stringify turns most values into one`);
      }
      asked(kvPort.set, scope, String(key), value);
    },
    delete: (key) => asked(kvPort.delete, scope, String(key)),
    keys: (prefix = "") => asked(kvPort.keys, scope, String(prefix)),
  });

const named = (session) => {
  const id = session ?? sessionPort.current();
  if (id == null) throw new HfsError("not-found", "this call has no session; pass one");
  return String(id);
};

const utf8 = {
  encode: (text) => {
    const escaped = encodeURIComponent(text.toWellFormed?.() ?? text);
    const bytes = [];
    for (let at = 0; at < escaped.length; at += 1) {
      if (escaped[at] === "%") {
        bytes.push(Number.parseInt(escaped.slice(at + 1, at + 3), 16));
        at += 2;
      } else bytes.push(escaped.charCodeAt(at));
    }
    return Uint8Array.from(bytes);
  },
  decode: (bytes) => {
    let escaped = "";
    for (const byte of bytes) escaped += `%${byte.toString(16).padStart(2, "0")}`;
    try {
      return decodeURIComponent(escaped);
    } catch {
      return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : "\ufffd")).join("");
    }
  },
};

/** A value as a number that the contract allows: whole and not negative; 0 if it is not a number. */
const whole = (value) => Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Math.trunc(Number(value) || 0)));
const count = (value) => Math.min(0x7fffffff, whole(value));

const tones = new Set(["plain", "dim", "accent", "good", "warn", "bad"]);

const span = (piece) => {
  const [text, tone] = Array.isArray(piece) ? piece : [piece, "plain"];
  if (!tones.has(tone)) throw new TypeError(`${JSON.stringify(tone)} is not a tone; expected one of ${[...tones].join(", ")}`);
  return { text: String(text), tone };
};

const hfs = Object.freeze({
  Error: HfsError,
  log: (text, level = "info") => logPort.write(level, String(text)),
  reject: (reason) => {
    const verdict = Object.freeze({ tag: "reject", val: String(reason) });
    stops.add(verdict);
    return verdict;
  },
  now: () => clockPort.now(),
  offset: (at) => clockPort.offset(whole(at ?? clockPort.now())),
  config: Object.freeze({
    get: (key, otherwise) => {
      const text = configPort.get(String(key));
      return text == null ? otherwise : JSON.parse(text);
    },
  }),
  kv: storedValues("plugin"),
  session: Object.freeze({
    kv: storedValues("session"),
    current: () => asked(sessionPort.current) ?? null,
    recent: (sinceMs = 0, limit = 20) => asked(sessionPort.recent, whole(sinceMs), count(limit)),
    messages: (session, skip = 0, limit = 50) =>
      asked(sessionPort.messages, named(session), count(skip), count(limit)),
    runs: (session, limit = 20) => JSON.parse(asked(sessionPort.runs, named(session), count(limit))).runs,
  }),
  http: Object.freeze({
    fetch: (url, { method = "GET", headers = {}, body } = {}) => {
      const bytes = typeof body === "string" ? utf8.encode(body) : body;
      const pairs = Object.entries(headers).map(([name, value]) => [String(name), String(value)]);
      const response = asked(httpPort.fetch, { method, url: String(url), headers: pairs, body: bytes });
      const text = () => utf8.decode(response.body);
      return {
        status: response.status,
        headers: Object.fromEntries(response.headers.map(([name, value]) => [name.toLowerCase(), value])),
        body: response.body,
        text,
        json: () => JSON.parse(text()),
      };
    },
  }),
  files: Object.freeze({
    read: (path) => asked(filesPort.read, String(path)),
    readText: (path) => utf8.decode(asked(filesPort.read, String(path))),
    write: (path, content) =>
      asked(filesPort.write, String(path), typeof content === "string" ? utf8.encode(content) : content),
    list: (path) => asked(filesPort.list, String(path)),
    delete: (path) => asked(filesPort.delete, String(path)),
  }),
  ui: Object.freeze({
    notify: (text) => uiPort.notify(String(text)),
    invalidate: (widget) => uiPort.invalidate(String(widget)),
  }),
  command: (name, options, run) => {
    const [{ about = "", usage = "" }, call] = typeof options === "function" ? [{}, options] : [options, run];
    commands.set(String(name), { about, usage, call });
  },
  widget: (id, options, draw) => {
    const [settings, call] = typeof options === "function" ? [{}, options] : [options, draw];
    widgets.set(String(id), { slot: "sidebar", title: "", ...settings, call });
  },
  line: (...pieces) => ({ tag: "text", val: pieces.map(span) }),
  gauge: (label, ratio) => ({ tag: "gauge", val: { label: String(label), ratio: Number(ratio) } }),
  table: (header, rows) => ({
    tag: "table",
    val: { header: header.map(String), rows: rows.map((row) => row.map(String)) },
  }),
  sparkline: (values) => ({
    tag: "sparkline",
    val: values.map(whole),
  }),
});

export default hfs;
