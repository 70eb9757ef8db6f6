"""`gemmapy user`: works on the data folder, so also where no admin can sign in any more."""

from __future__ import annotations

from typing import Annotated

import typer

from gemmapy.cli.options import Concurrent, Data, Requests, Tokens, opened, said, share, table, whole
from gemmapy.gateway import credentials
from gemmapy.storage import people

app = typer.Typer(help="List, create, disable and delete users; set passwords.", no_args_is_help=True)
Username = Annotated[str, typer.Argument(metavar="USERNAME")]
Password = Annotated[
    str | None,
    typer.Option(
        envvar="GEMMAPY_USER_PASSWORD",
        show_envvar=False,
        help="The password; generated and printed where it is not given. Better asked for with --ask, since other "
        "programs can read a command line.",
    ),
]
Ask = Annotated[bool, typer.Option("--ask", help="Ask for the password on the terminal.")]


@app.command("list")
def list_users(data: Data = None) -> None:
    """Show everyone."""
    with opened(data) as store, store.read() as connection:
        table(
            ("ID", "USERNAME", "ADMIN", "STATE", "CREATED"),
            [
                (
                    user["id"],
                    user["username"],
                    "yes" if user["is_admin"] else "",
                    "disabled" if user["disabled_at"] else "active",
                    f"{user['created_at']:%Y-%m-%d}",
                )
                for user in people.list_users(connection)
            ],
        )


@app.command("create")
def create(
    username: Username,
    admin: Annotated[bool, typer.Option("--admin", help="May see and change everything.")] = False,
    password: Password = None,
    ask: Ask = False,
    data: Data = None,
) -> None:
    """Make a user."""
    credentials.check_username(username)
    chosen = _choose(password, ask=ask)
    hashed = credentials.hash_password(chosen)
    with opened(data) as store:
        now = store.clock.now()
        user_id = store.write(lambda c: people.create_user(c, username, hashed, is_admin=admin, now=now))
    print(f"User {username} has id {user_id}.")
    _show(chosen, given=password is not None or ask)


@app.command("password")
def set_password(username: Username, password: Password = None, ask: Ask = False, data: Data = None) -> None:
    """Set a user's password; their login tokens end, their API keys stay."""
    chosen = _choose(password, ask=ask)
    hashed = credentials.hash_password(chosen)
    with opened(data) as store:
        now = store.clock.now()
        store.write(lambda c: people.edit_user(c, people.user_id_of(c, username), {"password_hash": hashed}, now))
    print(f"The password of {username} is set.")
    _show(chosen, given=password is not None or ask)


@app.command("disable")
def disable(username: Username, data: Data = None) -> None:
    """Keep a user out, at once, keys included."""
    _edit(username, {"disabled": True}, data)
    print(f"{username} is disabled.")


@app.command("enable")
def enable(username: Username, data: Data = None) -> None:
    """Let a disabled user in again."""
    _edit(username, {"disabled": False}, data)
    print(f"{username} is enabled.")


@app.command("promote")
def promote(username: Username, data: Data = None) -> None:
    """Make a user an admin."""
    _edit(username, {"is_admin": True}, data)
    print(f"{username} is an admin.")


@app.command("demote")
def demote(username: Username, data: Data = None) -> None:
    """Make an admin a user."""
    _edit(username, {"is_admin": False}, data)
    print(f"{username} is no admin any more.")


@app.command("limit")
def limit(
    username: Username,
    concurrent: Concurrent = None,
    per_model: Annotated[str | None, typer.Option(metavar="N", help="Requests at once with any one model.")] = None,
    requests: Requests = None,
    tokens: Tokens = None,
    weight: Annotated[
        str | None, typer.Option(metavar="W", help="The share where requests wait, beside others' 1.")
    ] = None,
    data: Data = None,
) -> None:
    """Set a user's limits, or show them where none is given. 0: no limit; default: what the settings say."""
    given = {
        "limit_concurrent": whole(concurrent),
        "limit_concurrent_per_model": whole(per_model),
        "limit_requests_per_minute": whole(requests),
        "limit_tokens_per_minute": whole(tokens),
        "weight": share(weight),
    }
    changes = {name: value for name, value in given.items() if value != ""}
    with opened(data) as store:
        now = store.clock.now()
        if changes:
            store.write(lambda c: people.edit_user(c, people.user_id_of(c, username), changes, now))
        with store.read() as connection:
            user = people.user(connection, people.user_id_of(connection, username))
    table(("LIMIT", "VALUE"), [(name.removeprefix("limit_"), said(user[name])) for name in given])


@app.command("delete")
def delete(
    username: Username,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
) -> None:
    """Forget a person; what they used stays in the ledger under their id."""
    if not yes:
        typer.confirm(f"Delete {username}? This cannot be undone", abort=True)
    with opened(data) as store:
        now = store.clock.now()
        store.write(lambda c: people.delete_user(c, people.user_id_of(c, username), now))
    print(f"{username} is deleted.")


def _edit(username: str, changes: dict[str, bool], data: Data) -> None:
    with opened(data) as store:
        now = store.clock.now()
        store.write(lambda c: people.edit_user(c, people.user_id_of(c, username), changes, now))


def _choose(password: str | None, *, ask: bool) -> str:
    if ask:
        return typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password or credentials.generate_password()


def _show(password: str, *, given: bool) -> None:
    if not given:
        print(f"Password, shown this once: {password}")
