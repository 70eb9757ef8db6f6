"""`gemmapy`: puts the commands together and turns errors into words and exit codes.

0 is success, 1 a request that could not be done, 2 a wrong configuration or usage.
"""

from __future__ import annotations

import sys

import typer

from gemmapy import logs
from gemmapy.cli import audit, backup, books, demo, doctor, keys, machines, prices, serve, users, version
from gemmapy.core.errors import ConfigurationError, GemmaPyError

app = typer.Typer(
    name="gemmapy",
    help="A gateway in front of Ollama, llama.cpp and vLLM that meters, prices and shows every LLM request.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Settings come from the command line, GEMMAPY_* in the environment, and gemmapy.toml, in this order.",
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.add_typer(users.app, name="user")
app.add_typer(keys.app, name="key")
app.add_typer(prices.app, name="price")
app.add_typer(machines.app, name="machine")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("audit")(audit.run)
app.command("reprice")(books.reprice)
app.command("close")(books.close)
app.add_typer(books.statement_app, name="statement")
app.command("retire")(books.retire)
app.command("doctor")(doctor.doctor)
app.command("version")(version.version)


def main() -> None:
    """The console script."""
    # Unconfigured, structlog prints a failure with the local variables of every frame, credentials among them.
    logs.configure("warning")
    try:
        app()
    except GemmaPyError as error:
        print(f"gemmapy: {error.message}\n  {error.hint}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
