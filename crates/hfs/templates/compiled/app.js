// A plugin that componentize-qjs compiles: it implements the contract in `wit/` directly.

export const onMessage = {
  handle: (message) =>
    message.role === "user" ? { tag: "replace", val: message.text.toUpperCase() } : { tag: "pass" },
};
