"""Loads a plugin from the source that hfs hands over, and tells where in it something went wrong."""

import importlib
import importlib.abc
import importlib.machinery
import linecache
import random
import sys
import traceback

from wit_world.imports import script as _script

#: What the plugin's own modules are found below, so that they can import each other with dots.
PACKAGE = "hfs_plugin"


class _Source(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules among the plugin's files: by their own names, and below the plugin's package."""

    def __init__(self):
        self.files = None

    def known(self):
        if self.files is None:
            self.files = set(_script.files())
        return self.files

    def find_spec(self, name, path=None, target=None):
        if name == PACKAGE:
            entry = _script.entry()
            return importlib.machinery.ModuleSpec(name, self, origin=entry, is_package=True)
        place = name.removeprefix(PACKAGE + ".").replace(".", "/")
        for file, is_package in ((f"{place}/__init__.py", True), (f"{place}.py", False)):
            if file in self.known():
                return importlib.machinery.ModuleSpec(name, self, origin=file, is_package=is_package)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        file = module.__spec__.origin
        source = _script.read(file) or ""
        # With the lines in this cache a traceback shows them without a file system.
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        exec(compile(source, file, "exec"), module.__dict__)


_source = _Source()
_plugin = None
_failed = None


def install():
    """Lets the plugin's modules be found."""
    sys.meta_path.insert(0, _source)


def plugin():
    """The plugin's main module, loaded the first time it is asked for. One that failed is not tried again."""
    global _plugin, _failed
    if _failed is not None:
        raise _failed
    if _plugin is None:
        # Seeded while the interpreter was built, it would draw the same in every instance.
        random.seed()
        try:
            _plugin = importlib.import_module(PACKAGE)
        except BaseException as error:
            _failed = error
            raise
    return _plugin


def where(error):
    """The plugin's file and line in which something went wrong: the innermost, where there are several."""
    if isinstance(error, SyntaxError) and error.filename in _source.known():
        return f"{error.filename}:{error.lineno}"
    place = None
    step = error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if file in _source.known():
            place = f"{file}:{step.tb_lineno}"
        step = step.tb_next
    return place


def describe(error):
    """One line that says what went wrong, and where."""
    what = error.msg if isinstance(error, SyntaxError) else str(error)
    said = f"{type(error).__name__}: {what}" if what else type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        said += " (a plugin has its own files and what the interpreter brings)"
    place = where(error)
    return f"{place}: {said}" if place else said


def trace(error):
    """The traceback, from the plugin's own code on."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename not in _source.known():
        step = step.tb_next
    return "".join(traceback.format_exception(type(error), error, step, limit=-20)).rstrip()
