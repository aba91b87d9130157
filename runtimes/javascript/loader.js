// Loads a plugin from the source that hfs hands over, and tells where in it something went wrong.

import { transform } from "sucrase";
import { entry, files, read, seed } from "hfs:runner/script@0.1.0";
import hfs from "./hfs.js";

/** Hooks that may stand in the main file without `export`. */
const NAMES = ["onStart", "onMessage", "onEvent", "onRunComplete", "onExit", "EVENTS", "COMMANDS"];
/** A file with one of these is a module of the language; others may use `exports` and `require`. */
const MODULE = /^[ \t]*(?:import|export)\b/m;

const modules = new Map();
let known;
let loaded;

/**
 * The engine calls every source by one name, so that files are told apart by their lines: each begins behind where the
 * one before it can have ended.
 */
const STEP = 10_000;
const places = [];

const placed = (source, file) => {
  const before = places.at(-1)?.end ?? 0;
  const end = before + STEP * Math.ceil((source.split("\n").length + 2) / STEP);
  places.push({ file, before, end });
  return "\n".repeat(before) + source;
};

/** The file and line behind a line that the engine names. */
const unplaced = (line) => {
  const place = places.find(({ before, end }) => line > before && line <= end);
  return place ? `${place.file}:${line - place.before}` : undefined;
};

const NAMED = /(?:<input>|<evalScript>|<eval>):(\d+)(?::\d+)?/;

/** The first line of a file stays its first line. */
const wrapped = (source, file, isMain) => {
  const kept = isMain ? NAMES.map((name) => `${name}: typeof ${name} === "undefined" ? undefined : ${name}`) : [];
  const tail = isMain ? `\nmodule.found = { ${kept.join(", ")} };` : "";
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

/** Random numbers (sfc32) from a seed of this instance's own: the engine's was drawn while it was built. */
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

/** What the plugin's main file has, loaded the first time it is asked for. One that failed is not tried again. */
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

/** The plugin's file and line in which something went wrong. */
const where = (error) => {
  for (const line of String(error?.stack ?? "").split("\n")) {
    const named = NAMED.exec(line);
    const place = named && unplaced(Number(named[1]));
    if (place) return place;
  }
  return undefined;
};

/** One line that says what went wrong, and where. */
export const describe = (error) => {
  const place = where(error);
  const said = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return place ? `${place}: ${said}` : said;
};

/** The stack, as far as it is the plugin's own. */
export const trace = (error) => {
  const lines = String(error?.stack ?? "").split("\n");
  const own = lines.filter((line) => NAMED.test(line));
  const told = own.map((line) => line.replace(NAMED, (all, number) => unplaced(Number(number)) ?? all));
  return [error instanceof Error ? String(error) : `thrown: ${error}`, ...told].join("\n");
};
