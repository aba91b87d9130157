"""Type stubs of the module `hfs`, for editors. The module itself is part of the interpreter.

The functions of a plugin are found by their names. Each may leave out arguments at the end:

    def on_start(session_id: str): ...
    def on_message(message: hfs.Message, is_user: bool) -> str | hfs.Verdict | None: ...
    def on_event(event: hfs.Record, session_id: str): ...       # EVENTS = ["negotiation.*"] selects
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
    """A call to hfs failed. A missing permission is a PermissionError instead."""

    code: str

class Message(str):
    """The text of a message, with its other fields as attributes."""

    id: str
    session: str
    role: str
    author: str | None
    created_ms: int

class Record(dict[str, Any]):
    """A JSON object, whose fields are also attributes."""

    def __getattr__(self, name: str) -> Any: ...
    def model_dump(self, **options: Any) -> dict[str, Any]: ...

def log(text: object, level: Literal["debug", "info", "warn", "error"] = "info") -> None:
    """Writes to the plugin's log, as `print` does. `hfs plugin logs` shows it."""

def reject(reason: str) -> Verdict:
    """The result of `on_message` that stops a message of the user, with a reason."""

def now() -> datetime.datetime:
    """The current time in the user's time zone."""

def command[F: Callable[..., Any]](name: str, about: str = "", usage: str = "") -> Callable[[F], F]:
    """Makes a function a command. It gets the text after the command's name, and returns Markdown or None."""

def widget[F: Callable[..., Any]](
    id: str, slot: Slot = "sidebar", title: str = "", refresh_ms: int | None = None
) -> Callable[[F], F]:
    """Makes a function a widget. It returns a text, a node, or a list of these."""

def line(*spans: str | tuple[object, Tone]) -> Node:
    """One line of texts, and of pairs of a text and a tone."""

def gauge(label: str, ratio: float) -> Node:
    """A bar that is filled from 0 to 1."""

def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Node:
    """Rows of cells; `header` may be empty."""

def sparkline(values: Iterable[float]) -> Node:
    """A small curve of whole numbers."""

class _Kv:
    def get[D](self, key: str, default: D = None) -> str | D: ...
    def set(self, key: str, value: str) -> None: ...
    def delete(self, key: str) -> None: ...
    def keys(self, prefix: str = "") -> list[str]: ...

class _Config:
    def get(self, key: str, default: Any = None) -> Any:
        """A setting of the user for this plugin."""

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
    """Stored with the session of the call; part of checkpoints, and restored by a rewind."""

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
        """Shows the user a notice, on one line."""

    def invalidate(self, widget: str) -> None:
        """Asks hfs to render a widget again soon."""

kv: _Kv
config: _Config
session: _Session
http: _Http
files: _Files
ui: _Ui
