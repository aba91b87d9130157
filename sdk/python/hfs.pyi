"""What hfs gives to plugins, for editors. The module itself is part of the interpreter.

A plugin's own functions are found by their names, and each takes as many of its arguments as it wants:

    def on_start(session_id: str): ...
    def on_message(message: hfs.Message, is_user: bool) -> str | hfs.Verdict | None: ...
    def on_event(event: hfs.Record, session_id: str): ...       # EVENTS = ["negotiation.*"] chooses
    def on_run_complete(run_snapshot: hfs.Record, session_id: str): ...
    def on_exit(session_id: str): ...
    COMMANDS = {"name": function}
"""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

Tone = Literal["plain", "dim", "accent", "good", "warn", "bad"]
Slot = Literal["sidebar", "status-bar", "panel"]

class Verdict: ...
class Node: ...

class Error(RuntimeError):
    """hfs did not do what was asked. What was not granted is a PermissionError instead."""

    code: str

class Message(str):
    """A message: its text, with what else is known of it."""

    id: str
    session: str
    role: str
    author: str | None
    created_ms: int

class Record(dict[str, Any]):
    """What JSON calls an object; its fields are attributes, too."""

    def __getattr__(self, name: str) -> Any: ...
    def model_dump(self, **options: Any) -> dict[str, Any]: ...

def log(text: object, level: Literal["debug", "info", "warn", "error"] = "info") -> None:
    """Writes to the plugin's log, which `hfs plugin logs` shows. `print` does, too."""

def reject(reason: str) -> Verdict:
    """What `on_message` returns to stop what the user said, with a reason for them."""

def now() -> datetime.datetime:
    """The moment, in the user's own time."""

def command[F: Callable[..., Any]](name: str, about: str = "", usage: str = "") -> Callable[[F], F]:
    """Makes a function a command. It gets what is behind the command's name, and returns Markdown, or nothing."""

def widget[F: Callable[..., Any]](
    id: str, slot: Slot = "sidebar", title: str = "", refresh_ms: int | None = None
) -> Callable[[F], F]:
    """Makes a function a widget. It returns a text, a node, or a list of them."""

def line(*spans: str | tuple[object, Tone]) -> Node:
    """One line: texts, and pairs of a text and its tone."""

def gauge(label: str, ratio: float) -> Node:
    """How full something is, from 0 to 1."""

def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Node:
    """Rows of fields; `header` may be empty."""

def sparkline(values: Iterable[float]) -> Node:
    """A curve through whole numbers."""

class _Kv:
    def get[D](self, key: str, default: D = None) -> str | D: ...
    def set(self, key: str, value: str) -> None: ...
    def delete(self, key: str) -> None: ...
    def keys(self, prefix: str = "") -> list[str]: ...

class _Config:
    def get(self, key: str, default: Any = None) -> Any:
        """A setting of the user's for this plugin."""

class _SessionInfo:
    id: str
    name: str
    messages: int
    created_ms: int
    updated_ms: int

class _Said:
    id: str
    session: str
    role: str
    author: str | None
    text: str
    created_ms: int

class _Session:
    kv: _Kv
    """Kept with the session of the call; part of checkpoints, and comes back on rewind."""

    def current(self) -> str | None: ...
    def recent(self, since_ms: int = 0, limit: int = 20) -> list[_SessionInfo]: ...
    def messages(self, session: str | None = None, skip: int = 0, limit: int = 50) -> list[_Said]: ...
    def runs(self, session: str | None = None, limit: int = 20) -> list[Record]: ...

class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    text: str
    def json(self) -> Any: ...

class _Http:
    def fetch(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
    ) -> Response: ...

class _Entry:
    name: str
    is_folder: bool
    bytes: int

class _Files:
    def read(self, path: str) -> bytes: ...
    def read_text(self, path: str) -> str: ...
    def write(self, path: str, content: str | bytes) -> None: ...
    def list(self, path: str) -> list[_Entry]: ...
    def delete(self, path: str) -> None: ...

class _Ui:
    def notify(self, text: object) -> None:
        """Tells the user something, once, on one line."""

    def invalidate(self, widget: str) -> None:
        """Asks for a widget to be drawn anew soon."""

kv: _Kv
config: _Config
session: _Session
http: _Http
files: _Files
ui: _Ui
