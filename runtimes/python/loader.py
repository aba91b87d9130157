"""Loads the script that hfs passes, and finds the place in it where an error occurred."""

import importlib
import importlib.abc
import importlib.machinery
import linecache
import random
import sys
import traceback

from wit_world.imports import script as _script

#: Package of the script's modules, so that they can use relative imports.
PACKAGE = "hfs_plugin"


class _Source(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules among the script's files, by their own names and below the package."""

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
        # Tracebacks take source lines from this cache, because there is no file system.
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        exec(compile(source, file, "exec"), module.__dict__)


_source = _Source()
_plugin = None
_failed = None


def install():
    """Makes the script's modules importable."""
    sys.meta_path.insert(0, _source)


def plugin():
    """The main module, loaded on first use. If loading failed, the same error is raised again."""
    global _plugin, _failed
    if _failed is not None:
        raise _failed
    if _plugin is None:
        # The state from the build of the interpreter would be the same in every instance.
        random.seed()
        try:
            _plugin = importlib.import_module(PACKAGE)
        except BaseException as error:
            _failed = error
            raise
    return _plugin


def where(error):
    """File and line of the script in which an exception was raised: the innermost of them."""
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
    """One line with the place and the text of an exception."""
    what = error.msg if isinstance(error, SyntaxError) else str(error)
    said = f"{type(error).__name__}: {what}" if what else type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        said += " (a plugin has its own files and what the interpreter brings)"
    place = where(error)
    return f"{place}: {said}" if place else said


def trace(error):
    """The traceback, starting at the script's own code."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename not in _source.known():
        step = step.tb_next
    return "".join(traceback.format_exception(type(error), error, step, limit=-20)).rstrip()
