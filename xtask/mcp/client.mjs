// Uses every part of `hfs mcp` through the official SDK for TypeScript: node client.mjs PROGRAM ARGUMENTS...
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: "typescript-sdk", version: "1" });
await client.connect(new StdioClientTransport({ command, args, env: process.env }));
assert.equal(client.getServerVersion().name, "hfs");
const { tools } = await client.listTools();
assert.deepEqual(tools.map((tool) => tool.name), ["recall", "search", "read", "timeline", "blame"]);

async function call(name, input) {
  const result = await client.callTool({ name, arguments: input });
  assert.equal(result.content.length, 1);
  assert.ok(result.content[0].text.length < 4096);
  return { isError: result.isError === true, text: result.content[0].text };
}

const recalled = await call("recall", { question: "Why was SQLite chosen for the ledger?" });
assert.match(recalled.text, /it is one file/);
const [, citation] = recalled.text.match(/\[([^\]]+)\]/);
assert.match((await call("read", { session: citation })).text, /it is one file/);
assert.match((await call("search", { query: "ledger" })).text, /SQLite/);
assert.match((await call("timeline", { project: "*" })).text, /asked: We chose SQLite/);
assert.match((await call("blame", { path: "src/absent.rs" })).text, /No saved conversation/);
assert.ok((await call("read", { session: "zzzzzz" })).isError);

const { resources } = await client.listResources();
assert.match((await client.readResource({ uri: resources[0].uri })).contents[0].text, /it is one file/);
assert.equal((await client.listResourceTemplates()).resourceTemplates.length, 2);
assert.equal((await client.listPrompts()).prompts[0].name, "continue");
const prompt = await client.getPrompt({ name: "continue", arguments: { session: "@" } });
assert.match(prompt.messages[0].content.text, /it is one file/);
await client.ping();
await client.close();
