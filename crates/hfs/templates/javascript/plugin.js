// A plugin for hfs. `hfs plugin dev` runs it and reloads it whenever this file is saved.

import hfs from "hfs";

hfs.command("hello", { about: "says hello", usage: "[WHOM]" }, (text) => `Hello, **${text || "world"}**!`);

/** Called with every message before it is saved. Return a text to replace it, or `hfs.reject(reason)` to stop it. */
export function onMessage(text, isUser) {
  if (isUser && text.toLowerCase().includes("fix")) {
    hfs.kv.set("fixes", String(Number(hfs.kv.get("fixes", "0")) + 1));
  }
}

hfs.widget("fixes", { slot: "sidebar", title: "Fixes" }, () =>
  hfs.line("asked for: ", [hfs.kv.get("fixes", "0"), "accent"]),
);
