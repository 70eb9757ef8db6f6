"""`gemmapy`: puts the commands together and turns errors into words and exit codes.

0 is success, 1 a request that could not be done, 2 a wrong configuration or usage.
"""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from gemmapy import logs
from gemmapy.core.errors import ConfigurationError, GemmaPyError
from gemmapy.core.loading import loading

COMMANDS = {
    "serve": "serve:serve",
    "demo": "demo:demo",
    "user": "users:app",
    "key": "keys:app",
    "price": "prices:app",
    "machine": "machines:app",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "audit": "audit:run",
    "reprice": "books:reprice",
    "close": "books:close",
    "statement": "books:statement_app",
    "retire": "books:retire",
    "doctor": "doctor:doctor",
    "version": "version:version",
}
"""Where each is; an `app` is a group of commands."""


def application(asked: str | None = None) -> typer.Typer:
    """The one command that is asked for, since to load and build all of them takes longer than most run; all of them
    where it is none."""
    app = typer.Typer(
        name="gemmapy",
        help="A gateway in front of Ollama, llama.cpp and vLLM that meters, prices and shows every LLM request.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        epilog="Settings come from the command line, GEMMAPY_* in the environment, and gemmapy.toml, in this order.",
    )
    app.callback()(lambda: None)  # or a single command would be the whole application, without its name
    for name in [asked] if asked in COMMANDS else COMMANDS:
        module, _, what = COMMANDS[name].partition(":")
        command = getattr(import_module(f"gemmapy.cli.{module}"), what)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main() -> None:
    """The console script."""
    # Unconfigured, structlog prints a failure with the local variables of every frame, credentials among them.
    logs.configure("warning")
    try:
        with loading():
            app = application(sys.argv[1] if len(sys.argv) > 1 else None)
        app()
    except GemmaPyError as error:
        print(f"gemmapy: {error.message}\n  {error.hint}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
