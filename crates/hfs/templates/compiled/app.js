// A plugin that componentize-qjs compiles: it speaks the contract itself, as `wit/` has it.

export const onMessage = {
  handle: (message) =>
    message.role === "user" ? { tag: "replace", val: message.text.toUpperCase() } : { tag: "pass" },
};
