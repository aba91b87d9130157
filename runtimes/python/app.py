"""The Python interpreter of hfs. It exports the whole contract, and calls the functions of the script that it runs."""

import asyncio
import inspect
import io
import json
import sys
import time

import hfs
import loader
import stdlib  # noqa: F401  Plugins can import only modules that are imported while the interpreter is built.
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import commands as _commands, on_message as _verdicts, widgets as _widgets
from wit_world.imports import log as _log, types as _types

# ------------------------------------------------------------------------------------------------ environment of the script


class _Log(io.TextIOBase):
    """Writes printed text to the plugin's log, line by line."""

    def __init__(self, level):
        self.level = level
        self.rest = ""

    def writable(self):
        return True

    def write(self, text):
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            _log.write(self.level, line)
        return len(text)

    def flush(self):
        if self.rest:
            line, self.rest = self.rest, ""
            _log.write(self.level, line)


class _Waiting:
    """A selector for timers only: there are no sockets to wait for."""

    def select(self, timeout):
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever come")
        if timeout > 0:
            time.sleep(timeout)
        return []

    def close(self):
        pass


class _Loop(asyncio.BaseEventLoop):
    """An event loop without sockets and threads."""

    def __init__(self):
        super().__init__()
        self._selector = _Waiting()

    def _process_events(self, events):
        pass

    def _write_to_self(self):
        pass


sys.stdout = _Log(_log.Level.INFO)
sys.stderr = _Log(_log.Level.WARN)
asyncio.new_event_loop = asyncio.events.new_event_loop = _Loop
# Below the stack limit of the sandbox, so that a recursion that is too deep ends with a traceback.
sys.setrecursionlimit(900)
loader.install()

# ---------------------------------------------------------------------------------------------- calls into the script

_HOOKS = ("on_start", "on_message", "on_event", "on_run_complete", "on_exit")
_fits = {}


def _call(function, *arguments):
    """Calls a function with as many arguments as it takes, and runs it to its end if it is `async`."""
    if function not in _fits:
        _fits[function] = _most(function, len(arguments))
    result = function(*arguments[: _fits[function]])
    if inspect.iscoroutine(result):
        with asyncio.Runner(loop_factory=_Loop) as runner:
            return runner.run(result)
    return result


def _most(function, offered):
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return offered
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return offered
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(offered, sum(parameter.kind in positional for parameter in parameters))


def _with_contract_errors(method):
    """Turns an exception of the script into an error with file and line, and logs its traceback."""

    def guarded(*arguments):
        try:
            return method(*arguments)
        except BaseException as error:
            _log.write(_log.Level.ERROR, loader.trace(error))
            raise Err(_types.Error("failed", loader.describe(error))) from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    return guarded


_objects = None


def _hook(name, *arguments):
    function = getattr(loader.plugin(), name, None)
    if function is None:
        methods = (getattr(one, name, None) for one in _classes())
        function = next((method for method in methods if method is not None), None)
    return None if function is None else _call(function, *arguments)


def _classes():
    """One object of each class in the main file that has a hook, because hooks may be methods."""
    global _objects
    if _objects is None:
        module = loader.plugin()
        own = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
        wanted = [one for one in own if any(hasattr(one, hook) for hook in _HOOKS)]
        _objects = [one() for one in wanted if not getattr(one, "_is_protocol", False)]
    return _objects


class Interpreter(exports.Interpreter):
    @_with_contract_errors
    def load(self):
        loader.plugin()


class OnStart(exports.OnStart):
    @_with_contract_errors
    def handle(self, session):
        _hook("on_start", session)


class OnMessage(exports.OnMessage):
    @_with_contract_errors
    def handle(self, message):
        answer = _hook("on_message", hfs.Message(message), message.role == "user")
        if answer is None:
            return _verdicts.Verdict_Pass()
        if isinstance(answer, str):
            return _verdicts.Verdict_Replace(str(answer))
        if isinstance(answer, _verdicts.Verdict_Reject):
            return answer
        raise TypeError(f"on_message returned {type(answer).__name__}: expected a text, hfs.reject(...) or None")


class OnEvent(exports.OnEvent):
    def patterns(self):
        wanted = getattr(loader.plugin(), "EVENTS", ["*"])
        return [str(pattern) for pattern in wanted]

    @_with_contract_errors
    def handle(self, session, event):
        _hook("on_event", hfs.Record(json.loads(event)), session)


class OnRunComplete(exports.OnRunComplete):
    @_with_contract_errors
    def handle(self, session, snapshot):
        _hook("on_run_complete", hfs.Record(json.loads(snapshot)), session)


class OnExit(exports.OnExit):
    def handle(self, session):
        try:
            _with_contract_errors(_hook)("on_exit", session)
        except Err:
            pass  # Logged by `_with_contract_errors`; on-exit cannot return an error.


def _all_commands():
    named = getattr(loader.plugin(), "COMMANDS", {})
    plain = {name: (function, hfs._first_line(function), "[TEXT]") for name, function in named.items()}
    return plain | hfs._commands


class Commands(exports.Commands):
    def list(self):
        return [
            _commands.Command(str(name), str(about), str(usage))
            for name, (_, about, usage) in _all_commands().items()
        ]

    @_with_contract_errors
    def run(self, invocation):
        function, _, _ = _all_commands()[invocation.name]
        shown = _call(function, invocation.arguments, invocation.session)
        return _commands.Outcome_Done() if shown is None else _commands.Outcome_Show(str(shown))


class Widgets(exports.Widgets):
    def list(self):
        loader.plugin()
        return [
            _widgets.Widget(str(id), str(slot), str(title), None if refresh is None else int(refresh))
            for id, (_, slot, title, refresh) in hfs._drawn.items()
        ]

    @_with_contract_errors
    def render(self, id, session):
        function, *_ = hfs._drawn[id]
        return _nodes(_call(function, session))


def _nodes(drawn):
    if drawn is None:
        return []
    if isinstance(drawn, str):
        return [hfs.line(text) for text in drawn.split("\n")]
    if isinstance(drawn, (list, tuple)):
        return [node for piece in drawn for node in _nodes(piece)]
    return [drawn]
