// Loads the script that hfs passes, and finds the place in it where an error occurred.

import { transform } from "sucrase";
import { entry, files, read, seed } from "hfs:runner/script@0.1.0";
import hfs from "./hfs.js";

/** Names that the main file may define without exporting them. */
const NAMES = ["onStart", "onMessage", "onEvent", "onRunComplete", "onExit", "EVENTS", "COMMANDS"];
/** A file that matches is an ES module; others may use `exports` and `require`. */
const MODULE = /^[ \t]*(?:import|export)\b/m;

const modules = new Map();
let known;
let loaded;

/**
 * The engine gives every source the same name, so files are distinguished by their line numbers: each file gets a range
 * of lines of its own, a multiple of STEP.
 */
const STEP = 10_000;
const places = [];

const placed = (source, file) => {
  const before = places.at(-1)?.end ?? 0;
  const end = before + STEP * Math.ceil((source.split("\n").length + 2) / STEP);
  places.push({ file, before, end });
  return "\n".repeat(before) + source;
};

/** The file and line for a line number of the engine. */
const unplaced = (line) => {
  const place = places.find(({ before, end }) => line > before && line <= end);
  return place ? `${place.file}:${line - place.before}` : undefined;
};

const NAMED = /(?:<input>|<evalScript>|<eval>):(\d+)(?::\d+)?/;

/** Wraps a source into a function, on the same line, so that line numbers do not change. */
const wrapped = (source, file, isMain) => {
  const names = isMain ? NAMES.map((name) => `${name}: typeof ${name} === "undefined" ? undefined : ${name}`) : [];
  const tail = isMain ? `\nmodule.found = { ${names.join(", ")} };` : "";
  return placed(`(function (module, exports, require, hfs) { ${source}${tail}\n})`, file);
};

const prepared = (file) => {
  const source = read(file) ?? "";
  if (!MODULE.test(source)) return source;
  const options = { transforms: ["imports"], filePath: file, disableESTransforms: true, production: true };
  return transform(source, options).code;
};

const resolve = (name, from) => {
  const parts = name.startsWith(".") ? from.split("/").slice(0, -1) : [];
  for (const part of name.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  const path = parts.join("/");
  return [path, `${path}.js`, `${path}/index.js`].find((candidate) => known.has(candidate));
};

const load = (file) => {
  const before = modules.get(file);
  if (before) return before;
  const module = { exports: {}, found: {} };
  modules.set(file, module);
  const require = (name) => {
    if (name === "hfs") return hfs;
    const wanted = resolve(name, file);
    if (wanted === undefined) {
      throw new Error(`there is no module ${JSON.stringify(name)} (a plugin has its own files and "hfs")`);
    }
    return load(wanted).exports;
  };
  const run = (0, eval)(wrapped(prepared(file), file, file === entry()));
  run.call(undefined, module, module.exports, require, hfs);
  return module;
};

/** Random numbers (sfc32) with a new seed: the engine's seed was set when the interpreter was built, for all instances. */
const reseed = () => {
  const drawn = [seed(), seed()];
  let [a, b, c, d] = drawn.flatMap((number) => [number | 0, Math.trunc(number / 2 ** 32) | 0]);
  const next = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  for (let round = 0; round < 12; round += 1) next();
  Math.random = () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
};

/** The names that the main file defines or exports, loaded on first use. If loading failed, the same error is thrown again. */
export const plugin = () => {
  if (loaded === undefined) {
    known = new Set(files());
    reseed();
    try {
      const { exports, found } = load(entry());
      loaded = { value: { ...found, ...exports.default, ...exports } };
    } catch (error) {
      loaded = { error };
    }
  }
  if ("error" in loaded) throw loaded.error;
  return loaded.value;
};

/** File and line of the script in which an error was thrown. */
const where = (error) => {
  for (const line of String(error?.stack ?? "").split("\n")) {
    const named = NAMED.exec(line);
    const place = named && unplaced(Number(named[1]));
    if (place) return place;
  }
  return undefined;
};

/** One line with the place and the text of an error. */
export const describe = (error) => {
  const place = where(error);
  const said = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return place ? `${place}: ${said}` : said;
};

/** The lines of the stack that belong to the script. */
export const trace = (error) => {
  const lines = String(error?.stack ?? "").split("\n");
  const own = lines.filter((line) => NAMED.test(line));
  const translated = own.map((line) => line.replace(NAMED, (all, number) => unplaced(Number(number)) ?? all));
  return [error instanceof Error ? String(error) : `thrown: ${error}`, ...translated].join("\n");
};
