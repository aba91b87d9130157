/** What hfs gives to plugins, for editors. The module itself is part of the interpreter. */
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

  /** Why hfs did not do what was asked: `denied`, `quota`, `not-found`, `timeout`, `failed`, ... */
  class HfsError extends Error {
    code: string;
  }

  /**
   * A plugin's own functions are found by their names: `onStart(session)`, `onMessage(text, isUser, message)`,
   * `onEvent(event, session)` (`EVENTS = ["negotiation.*"]` chooses), `onRunComplete(snapshot, session)`,
   * `onExit(session)`, and `COMMANDS`, an object of functions. They are exported, or stand in the main file.
   */
  const hfs: {
    Error: typeof HfsError;
    /** Writes to the plugin's log, which `hfs plugin logs` shows. `console.log` does, too. */
    log(text: unknown, level?: "debug" | "info" | "warn" | "error"): void;
    /** What `onMessage` returns to stop what the user said, with a reason for them. */
    reject(reason: string): Verdict;
    /** Milliseconds since 1970. */
    now(): number;
    /** How many minutes the user's own time is ahead of UTC at that moment. */
    offset(at?: number): number;
    /** Makes a function a command. It gets what is behind the command's name, and returns Markdown, or nothing. */
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
    /** One line: texts, and pairs of a text and its tone. */
    line(...spans: Span[]): Node;
    /** How full something is, from 0 to 1. */
    gauge(label: string, ratio: number): Node;
    /** Rows of fields; `header` may be empty. */
    table(header: unknown[], rows: unknown[][]): Node;
    /** A curve through whole numbers. */
    sparkline(values: number[]): Node;
    /** Texts that are kept with the plugin, for all sessions. Wants `permissions.storage`. */
    kv: Kv;
    config: { get(key: string, otherwise?: any): any };
    /** What was said. Wants `permissions.session: read`. */
    session: {
      /** Kept with the session of the call; part of checkpoints, and comes back on rewind. */
      kv: Kv;
      current(): string | null;
      recent(sinceMs?: number, limit?: number): SessionInfo[];
      messages(session?: string | null, skip?: number, limit?: number): Message[];
      runs(session?: string | null, limit?: number): any[];
    };
    /** Calls to the hosts that `permissions.network` names. */
    http: {
      fetch(
        url: string,
        options?: { method?: string; headers?: Record<string, string>; body?: string | Uint8Array },
      ): Response;
    };
    /** Files below the folders that `permissions.filesystem` names. */
    files: {
      read(path: string): Uint8Array;
      readText(path: string): string;
      write(path: string, content: string | Uint8Array): void;
      list(path: string): { name: string; isFolder: boolean; bytes: number }[];
      delete(path: string): void;
    };
    ui: {
      /** Tells the user something, once, on one line. */
      notify(text: unknown): void;
      /** Asks for a widget to be drawn anew soon. */
      invalidate(widget: string): void;
    };
  };
  export default hfs;
}

declare const hfs: typeof import("hfs").default;
