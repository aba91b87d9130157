// The JavaScript interpreter of hfs. It exports the whole contract, and calls the functions of the script that it runs.

import * as logPort from "hfs:plugin/log@0.1.0";
import hfs, { commands as registered, isRejection, widgets as drawn } from "./hfs.js";
import { describe, plugin, trace } from "./loader.js";

const shown = (value) => {
  if (typeof value === "string") return value;
  try {
    return value instanceof Error ? String(value) : (JSON.stringify(value) ?? String(value));
  } catch {
    return String(value);
  }
};

const printer = (level) => (...values) => logPort.write(level, values.map(shown).join(" "));

globalThis.console = Object.freeze({
  log: printer("info"),
  info: printer("info"),
  debug: printer("debug"),
  warn: printer("warn"),
  error: printer("error"),
});
globalThis.hfs = hfs;

const failed = (error) => {
  logPort.write("error", trace(error));
  return { code: "failed", message: describe(error) };
};

/** Turns an exception of the script into an error with file and line, and logs its stack. */
const withContractErrors = (call) => (...values) => {
  try {
    return call(...values);
  } catch (error) {
    throw failed(error);
  }
};

/** Calls a function of the script. It must not be async: all functions of hfs return their results directly. */
const called = (name, call, ...values) => {
  const result = call(...values);
  if (typeof result?.then === "function") {
    throw new TypeError(`${name} returned a promise: functions of a plugin must not be async; the functions of hfs return their results directly`);
  }
  return result;
};

const hook = (name, ...values) => {
  const call = plugin()[name];
  return call == null ? undefined : called(name, call, ...values);
};

export const interpreter = {
  load: withContractErrors(() => {
    plugin();
  }),
};

export const onStart = {
  handle: withContractErrors((session) => {
    hook("onStart", session);
  }),
};

const verdict = (answer) => {
  if (answer == null) return { tag: "pass" };
  if (typeof answer === "string") return { tag: "replace", val: answer };
  if (isRejection(answer)) return answer;
  throw new TypeError(`onMessage returned ${typeof answer}: expected a text, hfs.reject(...) or nothing`);
};

export const onMessage = {
  handle: withContractErrors((message) => verdict(hook("onMessage", message.text, message.role === "user", message))),
};

export const onEvent = {
  patterns: () => (plugin().EVENTS ?? ["*"]).map(String),
  handle: withContractErrors((session, event) => {
    hook("onEvent", JSON.parse(event), session);
  }),
};

export const onRunComplete = {
  handle: withContractErrors((session, snapshot) => {
    hook("onRunComplete", JSON.parse(snapshot), session);
  }),
};

export const onExit = {
  handle: (session) => {
    try {
      hook("onExit", session);
    } catch (error) {
      failed(error); // Logs it; on-exit cannot return an error.
    }
  },
};

const allCommands = () => {
  const plain = Object.entries(plugin().COMMANDS ?? {});
  return new Map([...plain.map(([name, call]) => [name, { about: "", usage: "[TEXT]", call }]), ...registered]);
};

export const commands = {
  list: () => [...allCommands()].map(([name, { about, usage }]) => ({ name, about, usage })),
  run: withContractErrors(({ name, arguments: text, session }) => {
    const result = called(`/${name}`, allCommands().get(name).call, text, session ?? null);
    return result == null ? { tag: "done" } : { tag: "show", val: String(result) };
  }),
};

const nodes = (result) => {
  if (result == null) return [];
  if (typeof result === "string") return result.split("\n").map((text) => hfs.line(text));
  return Array.isArray(result) ? result.flatMap(nodes) : [result];
};

export const widgets = {
  list: () => {
    plugin();
    return [...drawn].map(([id, { slot, title, refreshMs }]) => ({ id, slot, title, refreshMs }));
  },
  render: withContractErrors((id, session) => nodes(called(id, drawn.get(id).call, session ?? null))),
};
