"""A plugin that componentize-py compiles: it implements the contract in `wit/` directly."""

from wit_world import exports
from wit_world.exports.on_message import Verdict_Pass, Verdict_Replace


class OnMessage(exports.OnMessage):
    def handle(self, message):
        if message.role != "user":
            return Verdict_Pass()
        return Verdict_Replace(message.text.upper())
