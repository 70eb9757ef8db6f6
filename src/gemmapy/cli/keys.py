"""`gemmapy key`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from gemmapy.cli.options import Concurrent, Data, Requests, Tokens, opened, table, whole
from gemmapy.core.errors import NotFound
from gemmapy.gateway import credentials
from gemmapy.gateway.auth import new_key
from gemmapy.storage import people

app = typer.Typer(help="List, create and revoke API keys.", no_args_is_help=True)


@app.command("list")
def list_keys(
    user: Annotated[str | None, typer.Option(help="This user's only.")] = None,
    data: Data = None,
) -> None:
    """Show the keys that are valid."""
    with opened(data) as store, store.read() as connection:
        user_id = None if user is None else people.user_id_of(connection, user)
        table(
            ("ID", "USER", "NAME", "BEGINS", "EXPIRES", "LAST USED", "MODELS", "PROJECT"),
            [
                (
                    key["id"],
                    key["username"],
                    key["name"],
                    key["prefix"] + "...",
                    f"{key['expires_at']:%Y-%m-%d %H:%M}" if key["expires_at"] else "never",
                    f"{key['last_used_at']:%Y-%m-%d %H:%M}" if key["last_used_at"] else "never",
                    ", ".join(key["models"]) if key["models"] else "all",
                    key["project"],
                )
                for key in people.list_keys(connection, user_id)
            ],
        )


@app.command("create")
def create(
    user: Annotated[str, typer.Argument(metavar="USERNAME", help="Whose requests its requests are.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "made on the command line",
    days: Annotated[
        float | None, typer.Option(min=0.001, help="Ends after so many days; never where not given.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model, or pattern with *; repeatable.")] = None,
    route: Annotated[list[str] | None, typer.Option(help="Only this path and all below; repeatable.")] = None,
    project: Annotated[str | None, typer.Option(help="Who pays.")] = None,
    trusted: Annotated[bool, typer.Option("--trusted", help="Its requests may name their end user.")] = False,
    data: Data = None,
) -> None:
    """Make a key and print it, this once."""
    key = credentials.generate_key()
    with opened(data) as store:
        now = store.clock.now()

        def make(connection: people.Connection) -> int:
            user_id = people.user_id_of(connection, user)
            project_id = None
            if project is not None:
                found = [entry for entry in people.list_projects(connection) if entry["name"] == project]
                if not found:
                    raise NotFound(f"There is no project named {project!r}.")
                project_id = found[0]["id"]
            made = new_key(
                user_id,
                name,
                key,
                expires_at=None if days is None else now + timedelta(days=days),
                models=model or None,
                routes=route or None,
                project_id=project_id,
                is_trusted=trusted,
            )
            return people.create_key(connection, made, now)

        key_id = store.write(make)
    print(f"Key {key_id} of {user}, shown this once:\n{key}")


@app.command("limit")
def limit(
    key_id: Annotated[int, typer.Argument(metavar="ID")],
    concurrent: Concurrent = None,
    requests: Requests = None,
    tokens: Tokens = None,
    data: Data = None,
) -> None:
    """Set a key's limits, which hold beside its user's. 0 and default: none of its own."""
    given = {
        "limit_concurrent": whole(concurrent),
        "limit_requests_per_minute": whole(requests),
        "limit_tokens_per_minute": whole(tokens),
    }
    changes = {name: value for name, value in given.items() if value != ""}
    with opened(data) as store:
        store.write(lambda connection: people.edit_key(connection, key_id, changes))
    print(f"The limits of key {key_id} are set.")


@app.command("revoke")
def revoke(key_id: Annotated[int, typer.Argument(metavar="ID")], data: Data = None) -> None:
    """End a key; a running gateway refuses it within a quarter of a second."""
    with opened(data) as store:
        now = store.clock.now()
        store.write(lambda connection: people.revoke_key(connection, key_id, now))
    print(f"Key {key_id} is revoked.")
