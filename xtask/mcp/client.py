"""Uses every part of `hfs mcp` through the official SDK for Python: python client.py PROGRAM ARGUMENTS..."""

import asyncio
import os
import re
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main() -> None:
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], env=dict(os.environ))
    async with stdio_client(server) as (reader, writer), ClientSession(reader, writer) as client:
        await client.initialize()
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["recall", "search", "read", "timeline", "blame"]

        async def call(name: str, arguments: dict, is_error: bool = False) -> str:
            result = (await client.call_tool(name, arguments)).model_dump(by_alias=True)
            assert bool(result["isError"]) == is_error, result
            (content,) = result["content"]
            assert len(content["text"]) < 4096
            return content["text"]

        recalled = await call("recall", {"question": "Why was SQLite chosen for the ledger?"})
        assert "it is one file" in recalled
        citation = re.search(r"\[([^\]]+)\]", recalled).group(1)
        assert "it is one file" in await call("read", {"session": citation})
        assert "SQLite" in await call("search", {"query": "ledger"})
        assert "asked: We chose SQLite" in await call("timeline", {"project": "*"})
        assert "No saved conversation" in await call("blame", {"path": "src/absent.rs"})
        await call("read", {"session": "zzzzzz"}, is_error=True)

        resources = (await client.list_resources()).resources
        resource = await client.read_resource(resources[0].uri)
        assert "it is one file" in resource.contents[0].text
        prompts = (await client.list_prompts()).prompts
        assert [prompt.name for prompt in prompts] == ["continue"]
        prompt = await client.get_prompt("continue", {"session": "@"})
        assert "it is one file" in prompt.messages[0].content.text
        await client.send_ping()


asyncio.run(main())
