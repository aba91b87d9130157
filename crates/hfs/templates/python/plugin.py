"""A plugin for hfs. `hfs plugin dev` runs it and reloads it whenever this file is saved."""

import hfs


@hfs.command("hello", about="says hello", usage="[WHOM]")
def hello(text):
    return f"Hello, **{text or 'world'}**!"


def on_message(message, is_user):
    """Called with every message before it is saved. Return a text to replace it, or `hfs.reject(reason)` to stop it."""
    if is_user and "fix" in message.lower():
        hfs.kv.set("fixes", str(int(hfs.kv.get("fixes", "0")) + 1))
    return None


@hfs.widget("fixes", slot="sidebar", title="Fixes")
def fixes():
    return hfs.line("asked for: ", (hfs.kv.get("fixes", "0"), "accent"))
