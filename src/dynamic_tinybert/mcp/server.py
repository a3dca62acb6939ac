"""The server: its tools, and errors in one line."""

from __future__ import annotations

import logging
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError

from dynamic_tinybert.mcp.library import Library
from dynamic_tinybert.mcp.tools import make_tools

logger = logging.getLogger("dynamic_tinybert.mcp")

_INSTRUCTIONS = """
These tools answer questions from the user's own documents, on this machine. `ask` gives short answers, word for word,
with document and place: cite them. `find` gives passages, `read` a part of a document, `list` the documents. If the
tools find nothing, say so, and do not answer from memory as if it stood in the documents.
""".strip().replace("\n", " ")
_LONGEST_ERROR = 500


def create_server(library: Library) -> MCPServer[Any]:
    """Return a server whose tools work on the documents of a library."""
    return _Server(library)


class _Server(MCPServer[Any]):
    def __init__(self, library: Library) -> None:
        from dynamic_tinybert import __version__

        tools = make_tools(library)
        self._arguments = {tool.name: set(tool.parameters["properties"]) for tool in tools}
        super().__init__(
            "dynamic-tinybert",
            title="Dynamic-TinyBERT",
            description="Exact, cited answers from the user's documents.",
            instructions=_INSTRUCTIONS,
            version=__version__,
            tools=tools,
            log_level="WARNING",
        )

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. An error becomes a result of one line."""
        known = self._arguments.get(name)
        if known is None:
            return _failed(f"there is no tool {name!r:.100}: the tools are {', '.join(self._arguments)}")
        unknown = sorted(arguments.keys() - known)
        if unknown:
            return _failed(f"{name} has no argument {unknown[0]!r:.100}: it has {', '.join(sorted(known))}")
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            logger.error("the tool %s failed", name, exc_info=error.__cause__ or error)
            return _failed("the server failed: its log says why")
        except ToolError as error:
            cause = error.__cause__
            return _failed(_of_arguments(cause) if isinstance(cause, ValidationError) else str(cause or error))


def _failed(line: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=line[:_LONGEST_ERROR])], is_error=True)


def _of_arguments(error: ValidationError) -> str:
    """Return one line about all arguments that are not valid, without their values."""
    said: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        message = item["msg"][:1].lower() + item["msg"][1:]
        messages = said.setdefault(str(item["loc"][0]), [])
        if message not in messages:
            messages.append(message)
    return "; ".join(f"{name}: {', or '.join(messages)}" for name, messages in said.items())
