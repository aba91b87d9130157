/** Type declarations of the module `hfs`, for editors. The module itself is part of the interpreter. */
declare module "hfs" {
  type Tone = "plain" | "dim" | "accent" | "good" | "warn" | "bad";
  type Span = string | number | [text: string | number, tone: Tone];
  interface Node {
    readonly tag: string;
  }
  interface Verdict {
    readonly tag: "reject";
  }
  type Drawn = string | Node | null | undefined | Drawn[];

  interface Message {
    id: string;
    session: string;
    role: string;
    author?: string;
    text: string;
    createdMs: number;
  }
  interface SessionInfo {
    id: string;
    name: string;
    messages: number;
    createdMs: number;
    updatedMs: number;
  }
  interface Response {
    status: number;
    headers: Record<string, string>;
    body: Uint8Array;
    text(): string;
    json(): any;
  }
  interface Kv {
    get(key: string): string | undefined;
    get<T>(key: string, otherwise: T): string | T;
    set(key: string, value: string): void;
    delete(key: string): void;
    keys(prefix?: string): string[];
  }

  /** A call to hfs failed. `code` is `denied`, `quota`, `not-found`, `timeout`, `failed`, ... */
  class HfsError extends Error {
    code: string;
  }

  /**
   * The functions of a plugin are found by their names: `onStart(session)`, `onMessage(text, isUser, message)`,
   * `onEvent(event, session)` (`EVENTS = ["negotiation.*"]` selects), `onRunComplete(snapshot, session)`,
   * `onExit(session)`, and `COMMANDS`, an object of functions. They are exported, or are in the main file.
   */
  const hfs: {
    Error: typeof HfsError;
    /** Writes to the plugin's log, as `console.log` does. `hfs plugin logs` shows it. */
    log(text: unknown, level?: "debug" | "info" | "warn" | "error"): void;
    /** The result of `onMessage` that stops a message of the user, with a reason. */
    reject(reason: string): Verdict;
    /** The current time, in milliseconds since 1970. */
    now(): number;
    /** Offset of the user's time zone from UTC, in minutes. */
    offset(at?: number): number;
    /** Makes a function a command. It gets the text after the command's name, and returns Markdown or nothing. */
    command(name: string, run: (text: string, session: string | null) => unknown): void;
    command(
      name: string,
      options: { about?: string; usage?: string },
      run: (text: string, session: string | null) => unknown,
    ): void;
    /** Makes a function a widget. */
    widget(id: string, draw: (session: string | null) => Drawn): void;
    widget(
      id: string,
      options: { slot?: "sidebar" | "status-bar" | "panel"; title?: string; refreshMs?: number },
      draw: (session: string | null) => Drawn,
    ): void;
    /** One line of texts, and of pairs of a text and a tone. */
    line(...spans: Span[]): Node;
    /** A bar that is filled from 0 to 1. */
    gauge(label: string, ratio: number): Node;
    /** Rows of cells; `header` may be empty. */
    table(header: unknown[], rows: unknown[][]): Node;
    /** A small curve of whole numbers. */
    sparkline(values: number[]): Node;
    /** Values that are stored with the plugin, for all sessions. Needs `permissions.storage`. */
    kv: Kv;
    config: { get(key: string, otherwise?: any): any };
    /** Reading sessions. Needs `permissions.session: read`. */
    session: {
      /** Stored with the session of the call; part of checkpoints, and restored by a rewind. */
      kv: Kv;
      current(): string | null;
      recent(sinceMs?: number, limit?: number): SessionInfo[];
      messages(session?: string | null, skip?: number, limit?: number): Message[];
      runs(session?: string | null, limit?: number): any[];
    };
    /** Requests to the hosts that `permissions.network` lists. */
    http: {
      fetch(
        url: string,
        options?: { method?: string; headers?: Record<string, string>; body?: string | Uint8Array },
      ): Response;
    };
    /** Files below the folders that `permissions.filesystem` lists. */
    files: {
      read(path: string): Uint8Array;
      readText(path: string): string;
      write(path: string, content: string | Uint8Array): void;
      list(path: string): { name: string; isFolder: boolean; bytes: number }[];
      delete(path: string): void;
    };
    ui: {
      /** Shows the user a notice, on one line. */
      notify(text: unknown): void;
      /** Asks hfs to render a widget again soon. */
      invalidate(widget: string): void;
    };
  };
  export default hfs;
}

declare const hfs: typeof import("hfs").default;
