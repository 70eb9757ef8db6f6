"""`gemmapy serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemmapy.cli.options import Config, Data
from gemmapy.config import Settings, UpstreamSettings
from gemmapy.core.errors import ConfigurationError
from gemmapy.core.loading import loading


def serve(
    data: Data = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all. [GEMMAPY_HOST; default: 127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [GEMMAPY_PORT; default: 5000]")] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME:]KIND=URL",
            help="A server that runs models; repeatable. KIND is ollama, openai or llamacpp (the embedded model, which "
            "takes a GGUF file in place of the URL, or nothing). A key goes into GEMMAPY_UPSTREAM_<NAME>_API_KEY. "
            "[GEMMAPY_UPSTREAMS; default: Ollama if it answers, else the embedded model]",
        ),
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL>OTHER",
            help="Which model takes another's place where nobody can serve that: 'llama3>mistral>phi4'; repeatable. "
            "[GEMMAPY_FALLBACKS; default: none]",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that answer requests; one for each core is enough. [GEMMAPY_WORKERS; default: 1]"),
    ] = None,
    config: Config = None,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    Everything is kept in the data folder. The first start prints an admin's password and an API key, once; set
    GEMMAPY_ADMIN_PASSWORD to choose the password. On SIGTERM, running requests are finished first.

    For example: gemmapy serve --upstream ollama=http://gpu-box:11434 --upstream vllm:openai=http://gpu-2:8000/v1
    """
    with loading():
        from gemmapy.serving import serve

    upstreams = None
    if upstream:
        try:
            upstreams = tuple(UpstreamSettings.parse(text) for text in upstream)
        except ValueError as error:
            raise ConfigurationError(f"--upstream: {_words(error)}.") from None
    fallbacks = ",".join(fallback) if fallback else None
    given = {"data": data, "host": host, "port": port, "upstreams": upstreams, "fallbacks": fallbacks}
    serve(Settings.load(config, **given, workers=workers))


def _words(error: ValueError) -> str:
    """What a validation found, without its frame."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
    return str(error)
