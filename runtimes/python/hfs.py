"""The functions of hfs for plugins.

The functions of a plugin are found by their names: `on_start`, `on_message`, `on_event`, `on_run_complete` and
`on_exit`, and those in `COMMANDS`. Each may leave out arguments at the end, and may be `async`.
"""

import datetime
import json

from componentize_py_types import Err
from wit_world.exports import on_message as _verdicts, widgets as _widgets
from wit_world.imports import (
    clock as _clock,
    config as _config,
    files as _files,
    http as _http,
    kv as _kv,
    log as _log,
    session as _session,
    ui as _ui,
)


class Error(RuntimeError):
    """A call to hfs failed. `code` is `quota`, `not-found`, `timeout`, `failed`, ..."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def _asked(function, *arguments):
    """Calls hfs. An error becomes an exception: the built-in one for a missing permission, `Error` otherwise."""
    try:
        return function(*arguments)
    except Err as refused:
        error = refused.value
        if error.code == "denied":
            raise PermissionError(error.message) from None
        raise Error(error.code, error.message) from None


# ---------------------------------------------------------------------------------------------- log and notices


def log(text, level="info"):
    """Writes to the plugin's log, which `hfs plugin logs NAME` shows. `level`: debug, info, warn or error."""
    _log.write(_log.Level[str(level).upper()], str(text))


def reject(reason):
    """The result of `on_message` that stops a message of the user, with a reason."""
    return _verdicts.Verdict_Reject(str(reason))


class _Ui:
    """Notices and widgets."""

    @staticmethod
    def notify(text):
        """Shows the user a notice, on one line."""
        _ui.notify(str(text))

    @staticmethod
    def invalidate(widget):
        """Asks hfs to render a widget again soon."""
        _ui.invalidate(str(widget))


ui = _Ui()

# ------------------------------------------------------------------------------------------------ settings, time, stored values, sessions


class _Config:
    """The user's settings for this plugin."""

    @staticmethod
    def get(key, default=None):
        """A setting, or `default` if the user has not set it."""
        text = _config.get(str(key))
        return default if text is None else json.loads(text)


config = _Config()


def now():
    """The current time in the user's time zone."""
    at = _clock.now()
    zone = datetime.timezone(datetime.timedelta(minutes=_clock.offset(at)))
    return datetime.datetime.fromtimestamp(at / 1000, zone)


class _Kv:
    """Stored values. Needs `permissions.storage`."""

    def __init__(self, scope):
        self._scope = scope

    def get(self, key, default=None):
        """A value, or `default` if there is none."""
        text = _asked(_kv.get, self._scope, str(key))
        return default if text is None else text

    def set(self, key, value):
        """Stores a value."""
        if not isinstance(value, str):
            raise TypeError(f"only texts can be stored, not {type(value).__name__}; json.dumps turns most values into one")
        _asked(_kv.set, self._scope, str(key), value)

    def delete(self, key):
        """Deletes a value."""
        _asked(_kv.delete, self._scope, str(key))

    def keys(self, prefix=""):
        """The keys that start with a prefix, sorted."""
        return _asked(_kv.keys, self._scope, str(prefix))


#: Stored with the plugin, for all sessions.
kv = _Kv(_kv.Scope.PLUGIN)


class _Session:
    """Reading sessions. Needs `permissions.session: read`."""

    #: Stored with the session of the call; part of checkpoints, and restored by a rewind.
    kv = _Kv(_kv.Scope.SESSION)

    @staticmethod
    def current():
        """The id of the session of the call; `None` if there is none."""
        return _asked(_session.current)

    @staticmethod
    def recent(since_ms=0, limit=20):
        """The newest sessions, newest first: each with id, name, messages, created_ms and updated_ms."""
        return _asked(_session.recent, int(since_ms), int(limit))

    @classmethod
    def messages(cls, session=None, skip=0, limit=50):
        """The newest messages of a session, oldest first: each with id, role, author, text and created_ms."""
        return _asked(_session.messages, cls._named(session), int(skip), int(limit))

    @classmethod
    def runs(cls, session=None, limit=20):
        """The newest runs of a session, newest first: each with id, started_at, ended_at and snapshot."""
        return Record(json.loads(_asked(_session.runs, cls._named(session), int(limit)))).runs

    @classmethod
    def _named(cls, session):
        session = session or cls.current()
        if session is None:
            raise Error("not-found", "this call has no session; pass one")
        return str(session)


session = _Session()

# --------------------------------------------------------------------------------------------------- network and files


class Response:
    """A response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers}
        self.body = response.body

    @property
    def text(self):
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self):
        """The body, parsed as JSON."""
        return json.loads(self.body)


class _Http:
    """Requests to the hosts that `permissions.network` lists. hfs sends them."""

    @staticmethod
    def fetch(url, method="GET", headers=None, body=None):
        """Sends a request and waits for the response."""
        if isinstance(body, str):
            body = body.encode()
        pairs = [(str(name), str(value)) for name, value in (headers or {}).items()]
        return Response(_asked(_http.fetch, _http.Request(str(method), str(url), pairs, body)))


http = _Http()


class _Files:
    """Files below the folders that `permissions.filesystem` lists."""

    @staticmethod
    def read(path):
        """The bytes of a file."""
        return _asked(_files.read, str(path))

    @classmethod
    def read_text(cls, path):
        """The text of a file."""
        return cls.read(path).decode()

    @staticmethod
    def write(path, content):
        """Writes a file: bytes or text."""
        _asked(_files.write, str(path), content.encode() if isinstance(content, str) else bytes(content))

    @staticmethod
    def list(path):
        """The entries of a folder: each with name, is_folder and bytes."""
        return _asked(_files.list, str(path))

    @staticmethod
    def delete(path):
        """Deletes a file."""
        _asked(_files.delete, str(path))


files = _Files()

# --------------------------------------------------------------------------------------------- commands and widgets

_commands = {}
_drawn = {}


def command(name, about="", usage=""):
    """Makes a function a command. It gets the text after the command's name, and returns Markdown or None."""

    def register(function):
        _commands[name] = (function, about or _first_line(function), usage)
        return function

    return register


def widget(id, slot="sidebar", title="", refresh_ms=None):
    """Makes a function a widget in `sidebar`, `status-bar` or `panel`. It returns the content."""

    def register(function):
        _drawn[id] = (function, slot, title, refresh_ms)
        return function

    return register


def _first_line(function):
    return (getattr(function, "__doc__", None) or "").strip().split("\n")[0]


def line(*spans):
    """One line of texts, and of pairs of a text and a tone (plain, dim, accent, good, warn, bad)."""
    pairs = [(span, "plain") if isinstance(span, str) else span for span in spans]
    return _widgets.Node_Text([_widgets.Span(str(text), _widgets.Tone[tone.upper()]) for text, tone in pairs])


def gauge(label, ratio):
    """A bar that is filled from 0 to 1."""
    return _widgets.Node_Gauge(_widgets.Gauge(str(label), float(ratio)))


def table(header, rows):
    """Rows of cells; `header` may be empty."""
    rows = [[str(field) for field in row] for row in rows]
    return _widgets.Node_Table(_widgets.Table([str(field) for field in header], rows))


def sparkline(values):
    """A small curve of whole numbers."""
    return _widgets.Node_Sparkline([max(0, int(value)) for value in values])


# ----------------------------------------------------------------------------------------------------- values that plugins get


class Message(str):
    """The text of a message, with its other fields as attributes."""

    def __new__(cls, message):
        self = super().__new__(cls, message.text)
        self.id, self.session, self.role = message.id, message.session, message.role
        self.author, self.created_ms = message.author, message.created_ms
        return self


class _Text(str):
    @property
    def value(self):
        return str(self)


class Record(dict):
    """A JSON object, whose fields are also attributes."""

    def __getattr__(self, name):
        try:
            return _attribute(self[name])
        except KeyError:
            raise AttributeError(name) from None

    def model_dump(self, **_options):
        """The same as a plain dict."""
        return dict(self)


def _attribute(value):
    if isinstance(value, dict):
        return Record(value)
    if isinstance(value, list):
        return [_attribute(item) for item in value]
    return _Text(value) if isinstance(value, str) else value
