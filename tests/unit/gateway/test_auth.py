"""Who is it? Tokens, keys, passwords, and everything that looks like them."""

from __future__ import annotations

import base64
import hmac
import json
import os
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from argon2 import Type, extract_parameters
from tests.support.clock import FixedClock
from tests.support.quick import REAL_HASHER

from gemmapy.core.errors import ConfigurationError, Conflict, InvalidRequest, TooManyRequests, Unauthorized
from gemmapy.gateway import credentials
from gemmapy.gateway.auth import Auth, Caller, new_key
from gemmapy.gateway.credentials import load_secret
from gemmapy.gateway.throttle import LoginThrottle
from gemmapy.storage import people
from gemmapy.storage.store import Store
from gemmapy.storage.watch import RevisionWatch

SECRET = b"s" * 32
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def password_hash() -> str:
    return credentials.hash_password(PASSWORD)


@pytest.fixture
def auth(store: Store, clock: FixedClock, password_hash: str) -> Generator[Auth]:
    store.write(lambda c: people.edit_user(c, 1, {"password_hash": password_hash}, clock.now()))
    clock.go_on(seconds=1)
    made = Auth(store, SECRET, clock)
    yield made
    made.close()


def key_for(auth: Auth, store: Store, clock: FixedClock, user_id: int = 2, **limits: object) -> tuple[int, str]:
    key = credentials.generate_key()
    made = new_key(user_id, "test", key, **limits)
    key_id = store.write(lambda c: people.create_key(c, made, clock.now()))
    auth.refresh()
    return key_id, key


def test_a_login_gives_a_token_that_names_the_user(auth: Auth) -> None:
    token, caller = auth.login("ADA", PASSWORD, "10.0.0.1")
    assert (caller.user_id, caller.username, caller.is_admin) == (1, "ada", True)
    assert auth.identify(token) == caller


def test_a_session_in_use_goes_on_for_thirty_days_with_one_csrf_text(auth: Auth, clock: FixedClock) -> None:
    token, _ = auth.login("ada", PASSWORD, "10.0.0.1")
    first = auth.session(token)
    clock.go_on(hours=11, minutes=59)
    assert auth.renewed(auth.session(token)) is None
    renewals = 0
    for _ in range(200):
        clock.go_on(hours=6)
        try:
            session = auth.session(token)
        except Unauthorized:
            break
        renewed = auth.renewed(session)
        if renewed is not None:
            token, renewals = renewed, renewals + 1
            assert auth.session(token).csrf == first.csrf
    age = clock.now() - first.claims.signed_in_at
    assert timedelta(days=30) <= age < timedelta(days=30, hours=7)
    assert renewals > 30


def test_a_session_that_is_not_used_for_a_day_is_over(auth: Auth, clock: FixedClock) -> None:
    token, _ = auth.login("ada", PASSWORD, "10.0.0.1")
    clock.go_on(hours=24)
    with pytest.raises(Unauthorized):
        auth.session(token)


def test_a_token_that_is_renewed_while_its_user_signs_out_everywhere_is_void(
    auth: Auth, store: Store, clock: FixedClock
) -> None:
    session = auth.session(auth.login("ada", PASSWORD, "10.0.0.1")[0])
    clock.go_on(hours=13)
    store.write(lambda c: people.end_sessions(c, 1, clock.now()))
    clock.go_on(seconds=1)
    renewed = auth.renewed(session)
    auth.refresh()
    with pytest.raises(Unauthorized):
        auth.session(renewed)


def test_two_sessions_and_two_secrets_have_different_csrf_texts(auth: Auth, store: Store, clock: FixedClock) -> None:
    one, two = (auth.login("ada", PASSWORD, "10.0.0.1")[0] for _ in range(2))
    assert auth.session(one).csrf != auth.session(two).csrf
    claims = auth.session(one).claims
    assert credentials.Tokens(b"t" * 32, clock.now).csrf(claims) != auth.session(one).csrf


@pytest.mark.parametrize(("username", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("bob", ""), ("", "")])
def test_a_wrong_name_and_a_wrong_password_are_told_apart_by_nobody(auth: Auth, username: str, password: str) -> None:
    with pytest.raises(Unauthorized, match=r"The username or the password is wrong\."):
        auth.login(username, password, "10.0.0.1")


def test_a_token_ends_after_24_hours(auth: Auth, clock: FixedClock) -> None:
    token, _ = auth.issue(1)
    clock.go_on(hours=23, minutes=59)
    auth.identify(token)
    clock.go_on(minutes=2)
    with pytest.raises(Unauthorized):
        auth.identify(token)


def _claims(clock: FixedClock, **changes: object) -> dict[str, object]:
    """What a valid token of ada's says, with changes; a claim that becomes `...` is left out."""
    now = clock.now().timestamp()
    said = {"sub": "1", "iat": now, "exp": int(now + 3600), "sid": "s", "auth_time": now, "jti": "j", **changes}
    return {name: value for name, value in said.items() if value is not ...}


def _sealed(claims: object, header: dict[str, object], secret: bytes = SECRET) -> str:
    """A token with any header and any content, signed as HS256 signs."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    signature = hmac.digest(secret, ".".join(parts).encode(), "sha256")
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


HS256: dict[str, object] = {"alg": "HS256", "typ": "JWT"}


def test_a_token_with_all_its_claims_and_the_right_signature_is_taken(auth: Auth, clock: FixedClock) -> None:
    """Or none of the tests after this one could fail."""
    assert auth.identify(jwt.encode(_claims(clock), SECRET, "HS256")).username == "ada"
    assert auth.identify(_sealed(_claims(clock), HS256)).username == "ada"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": ""},
        {},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"alg": "ES256"},
        {"alg": "EdDSA"},
        {"alg": "HS256", "crit": ["exp"], "b64": False},
        {"alg": "HS256", "b64": False},
    ],
)
def test_a_token_of_another_kind_is_refused(auth: Auth, clock: FixedClock, header: dict[str, object]) -> None:
    for token in (_sealed(_claims(clock), header), _sealed(_claims(clock), header).rpartition(".")[0] + "."):
        with pytest.raises(Unauthorized):
            auth.identify(token)


@pytest.mark.parametrize(
    "more",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "0"},
        {"kid": "' UNION SELECT 'x' --"},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode()}},
        {"x5c": ["eA=="]},
    ],
)
def test_no_header_chooses_the_key(auth: Auth, clock: FixedClock, more: dict[str, object]) -> None:
    """Neither to open a token that another key has signed, nor to fetch one."""
    for secret in (b"x" * 32, b"", b"\0"):
        with pytest.raises(Unauthorized):
            auth.identify(_sealed(_claims(clock), {**HS256, **more}, secret))


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in ("sub", "iat", "exp", "sid", "auth_time")),
        *({name: None} for name in ("sub", "iat", "exp", "auth_time")),
        {"sub": "99"},
        {"sub": "0"},
        {"sub": "-1"},
        {"sub": "x"},
        {"sub": "1e0"},
        {"sub": ["1"]},
        {"sub": {"id": 1}},
        {"sub": "9" * 5000},
        {"exp": 1},
        {"exp": "tomorrow"},
        {"exp": [1]},
        {"exp": 10**40},
        {"exp": -(10**20)},
        {"iat": 10**12},
        {"iat": "x"},
        {"auth_time": "x"},
        {"auth_time": 10**40},
        {"nbf": 10**11},
        {"aud": "elsewhere"},
    ],
)
def test_a_token_that_says_something_else_is_refused(auth: Auth, clock: FixedClock, changes: dict[str, object]) -> None:
    with pytest.raises(Unauthorized):
        auth.identify(_sealed(_claims(clock, **changes), HS256))


def test_a_token_that_is_over_or_not_yet_is_refused(auth: Auth, clock: FixedClock) -> None:
    now = clock.now().timestamp()
    auth.identify(_sealed(_claims(clock, iat=now + 240), HS256))  # clocks of two gateways may differ by minutes
    for changes in ({"exp": int(now)}, {"exp": int(now) - 1}, {"iat": now + 400, "exp": int(now) + 7200}):
        with pytest.raises(Unauthorized):
            auth.identify(_sealed(_claims(clock, **changes), HS256))


@pytest.mark.parametrize(
    "token",
    [
        *("gp-" + "a" * 43, "eyJ", "", ".", "..", "...", "a.b.c", "\x00", "\ud800", "é.é.é", "a" * 5000),
        *("." * 4000, "eyJhbGciOiJIUzI1NiJ9.W10.x", "gp-", "gp-\ud800"),
    ],
)
def test_what_is_no_token_is_refused(auth: Auth, token: str) -> None:
    with pytest.raises(Unauthorized):
        auth.identify(token)


@pytest.mark.parametrize("content", [[], "x", 1, None, {"sub": "1"}])
def test_a_token_that_holds_something_else_is_refused(auth: Auth, content: object) -> None:
    with pytest.raises(Unauthorized):
        auth.identify(_sealed(content, HS256))


def test_a_signature_is_for_one_token(auth: Auth, clock: FixedClock) -> None:
    head, body, signature = auth.issue(2)[0].split(".")
    other = _sealed(_claims(clock), HS256, b"x" * 32)
    swapped = ".".join([*other.split(".")[:2], signature])
    cut = f"{head}.{body}.{signature[:-1]}"
    padded = f"{head}.{body}.{signature}=="
    flipped = f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    for token in (swapped, cut, flipped, f"{head}.{body}", f"{head}.{body}.", padded + "x"):
        with pytest.raises(Unauthorized):
            auth.identify(token)


def test_a_new_password_ends_the_tokens_before_it_and_not_those_after(
    auth: Auth, store: Store, clock: FixedClock, password_hash: str
) -> None:
    before, _ = auth.issue(1)
    auth.identify(before)
    clock.go_on(seconds=0.5)
    store.write(lambda c: people.edit_user(c, 1, {"password_hash": password_hash}, clock.now()))
    auth.refresh()
    after, _ = auth.issue(1)
    with pytest.raises(Unauthorized):
        auth.identify(before)
    auth.identify(after)


def test_a_disabled_user_is_out_with_tokens_and_keys(auth: Auth, store: Store, clock: FixedClock) -> None:
    token, _ = auth.issue(2)
    _, key = key_for(auth, store, clock)
    clock.go_on(seconds=1)
    store.write(lambda c: people.edit_user(c, 2, {"disabled": True}, clock.now()))
    auth.refresh()
    for credential in (token, key):
        with pytest.raises(Unauthorized):
            auth.identify(credential)
    store.write(lambda c: people.edit_user(c, 2, {"disabled": False}, clock.now()))
    auth.refresh()
    auth.identify(key)
    with pytest.raises(Unauthorized):
        auth.identify(token)  # what was signed out stays signed out


def test_a_key_names_its_user_and_its_limits(auth: Auth, store: Store, clock: FixedClock) -> None:
    key_id, key = key_for(auth, store, clock, models=["llama3", "qwen*"], routes=["/api/chat"])
    caller = auth.identify(key)
    assert (caller.user_id, caller.api_key_id, caller.is_limited) == (2, key_id, True)
    allowed = {model: caller.allows_model(model) for model in ("llama3", "llama3:8b", "qwen2", "llama3.1", "phi")}
    assert allowed == {"llama3": True, "llama3:8b": True, "qwen2": True, "llama3.1": False, "phi": False}
    assert [caller.allows_route(path) for path in ("/api/chat", "/api/chat/x", "/api/chats")] == [True, True, False]


def test_a_key_expires(auth: Auth, store: Store, clock: FixedClock) -> None:
    _, key = key_for(auth, store, clock, expires_at=clock.now() + timedelta(hours=1))
    auth.identify(key)
    clock.go_on(hours=1)
    with pytest.raises(Unauthorized):
        auth.identify(key)


def test_a_key_revoked_by_another_process_ends_within_250_ms(auth: Auth, store: Store, clock: FixedClock) -> None:
    key_id, key = key_for(auth, store, clock)
    watch = RevisionWatch(store, {"people": auth.refresh})
    watch.start()
    try:
        with Store.open(store.data_dir, clock) as other:
            other.write(lambda c: people.revoke_key(c, key_id, clock.now()))
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                auth.identify(key)
            except Unauthorized:
                break
        else:
            pytest.fail("the key still works")
    finally:
        watch.stop()


def test_when_a_key_was_last_used_is_written_down(auth: Auth, store: Store, clock: FixedClock) -> None:
    _, key = key_for(auth, store, clock)
    auth.identify(key)
    auth.close()
    with store.read() as connection:
        assert people.list_keys(connection)[0]["last_used_at"] == clock.now()


def test_neither_keys_nor_passwords_are_stored(auth: Auth, store: Store, clock: FixedClock) -> None:
    _, key = key_for(auth, store, clock)
    store.close()
    stored = b"".join(path.read_bytes() for path in store.data_dir.iterdir() if path.is_file())
    assert key.encode() not in stored
    assert PASSWORD.encode() not in stored


def test_the_first_admin_is_made_once(tmp_path: Path, clock: FixedClock) -> None:
    with Store.open(tmp_path / "new", clock) as store:
        auth = Auth(store, SECRET, clock)
        first = auth.first_admin(None)
        assert first is not None
        username, password, key = first
        assert auth.identify(key).is_admin
        assert auth.login(username, password, "x")[1].username == "admin"
        assert auth.first_admin("another password") is None
        assert Auth(store, SECRET, clock).first_admin(None) is None


def test_the_last_admin_stays(store: Store, clock: FixedClock) -> None:
    for change in ({"is_admin": False}, {"disabled": True}):
        with pytest.raises(Conflict, match="last admin"):
            store.write(lambda c, change=change: people.edit_user(c, 1, change, clock.now()))
    with pytest.raises(Conflict, match="last admin"):
        store.write(lambda c: people.delete_user(c, 1, clock.now()))
    with store.read() as connection:
        assert people.user(connection, 1)["is_admin"] is True


def test_a_deleted_user_is_forgotten_and_their_id_is_not_given_again(store: Store, clock: FixedClock) -> None:
    store.write(lambda c: people.delete_user(c, 2, clock.now()))
    again = store.write(lambda c: people.create_user(c, "bob", None, is_admin=False, now=clock.now()))
    assert again == 3
    with store.read() as connection:
        row = connection.exec_driver_sql("SELECT username, password_hash FROM users WHERE id = 2").one()
    assert tuple(row) == (None, None)


@pytest.mark.parametrize("name", ["Ada", "ADA"])
def test_names_differ_in_more_than_their_case(store: Store, clock: FixedClock, name: str) -> None:
    with pytest.raises(InvalidRequest, match="already"):
        store.write(lambda c: people.create_user(c, name, None, is_admin=False, now=clock.now()))


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "a/b", "ä", "a\n"])
def test_a_username_is_what_can_be_typed_and_read(name: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 64 characters"):
        credentials.check_username(name)


@pytest.mark.parametrize("length", [0, 7, 1025])
def test_a_password_has_8_to_1024_characters(length: int) -> None:
    with pytest.raises(InvalidRequest, match="8 to 1024"):
        credentials.hash_password("x" * length)


# Guessing


def guess(throttle: LoginThrottle, times: int, username: str = "ada", address: str = "10.0.0.1") -> None:
    for _ in range(times):
        throttle.failed(username, address)


def test_guessing_is_slowed_down_more_and_more() -> None:
    now = [0.0]
    throttle = LoginThrottle(lambda: now[0])
    guess(throttle, 4)
    throttle.check("ada", "10.0.0.1")
    waits: list[float] = []
    for _ in range(4):
        guess(throttle, 1)
        with pytest.raises(TooManyRequests) as refusal:
            throttle.check("ada", "10.0.0.1")
        waits.append(refusal.value.retry_after_s or 0)
        now[0] += waits[-1]
        throttle.check("ada", "10.0.0.1")
    assert waits == [1, 2, 4, 8]


def test_a_guesser_elsewhere_does_not_keep_a_person_out_for_long() -> None:
    now = [0.0]
    throttle = LoginThrottle(lambda: now[0])
    for number in range(1000):
        guess(throttle, 1, address=f"10.0.{number // 250}.{number % 250}")
    now[0] += 61
    throttle.check("ada", "192.0.2.1")


def test_a_right_password_forgives_the_wrong_ones() -> None:
    throttle = LoginThrottle(lambda: 0.0)
    guess(throttle, 4)
    throttle.succeeded("ada", "10.0.0.1")
    guess(throttle, 4)
    throttle.check("ada", "10.0.0.1")


def test_guesses_do_not_fill_the_memory() -> None:
    throttle = LoginThrottle(lambda: 0.0, max_entries=100)
    for number in range(1000):
        guess(throttle, 1, username=f"u{number}", address=f"a{number}")
    assert len(throttle) <= 100


def test_the_login_is_throttled(auth: Auth) -> None:
    for _ in range(5):
        with pytest.raises(Unauthorized):
            auth.login("bob", "wrong", "10.0.0.1")
    with pytest.raises(TooManyRequests):
        auth.login("bob", "wrong", "10.0.0.1")


# The secret


def test_the_secret_is_made_once_and_for_nobody_else_to_read(tmp_path: Path) -> None:
    first = load_secret(tmp_path, None)
    assert load_secret(tmp_path, None) == first
    assert len(first) >= 32
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0
    assert load_secret(tmp_path, "g" * 32) == b"g" * 32


def test_a_secret_that_a_crash_left_half_made_is_in_nobodys_way(tmp_path: Path) -> None:
    # In a container every start has the same process number.
    (tmp_path / f"secret.{os.getpid()}.new").touch()
    assert len(load_secret(tmp_path, None)) == 64


def test_a_damaged_secret_is_told(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    with pytest.raises(ConfigurationError, match="no secret of at least 32"):
        load_secret(tmp_path, None)


def test_a_caller_without_limits_may_everything() -> None:
    caller = Caller(1, "ada", False)
    assert caller.allows_model("x")
    assert caller.allows_route("/y")
    assert not caller.is_limited


def test_a_password_costs_what_rfc_9106_recommends_and_an_unknown_name_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credentials, "_hasher", REAL_HASHER)
    for stored in (credentials.hash_password(PASSWORD), credentials._nobodys_hash()):
        found = extract_parameters(stored)
        assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (Type.ID, 65_536, 3, 1)
        assert (found.salt_len, found.hash_len) == (16, 32)
    verified: list[str] = []
    monkeypatch.setattr(credentials, "_hasher", _Counting(verified))
    assert not credentials.verify_password(None, PASSWORD)
    assert [credentials.is_outdated(stored) for stored in verified] == [False]


@pytest.mark.parametrize("who", ["ada", "bob", "nobody", "eve", "ada\x00", "a" * 1000])
def test_every_login_that_fails_costs_one_hash(
    auth: Auth, store: Store, clock: FixedClock, password_hash: str, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Of a known name, one without a password, an unknown one, one that is disabled, and what is no name."""
    eve = store.write(lambda c: people.create_user(c, "eve", password_hash, is_admin=False, now=clock.now()))
    store.write(lambda c: people.edit_user(c, eve, {"disabled": True}, clock.now()))
    auth.refresh()
    verified: list[str] = []
    monkeypatch.setattr(credentials, "_hasher", _Counting(verified))
    with pytest.raises(Unauthorized) as refused:
        auth.login(who, "wrong", "10.0.0.1")
    assert len(verified) == 1
    assert refused.value.message == "The username or the password is wrong."


class _Counting:
    """The real hasher, which tells what was verified by it."""

    salt_len, hash_len = REAL_HASHER.salt_len, REAL_HASHER.hash_len
    memory_cost, time_cost, parallelism = REAL_HASHER.memory_cost, REAL_HASHER.time_cost, REAL_HASHER.parallelism
    check_needs_rehash = REAL_HASHER.check_needs_rehash

    def __init__(self, verified: list[str]) -> None:
        self._verified = verified

    def verify(self, stored: str, password: str) -> bool:
        self._verified.append(stored)
        return REAL_HASHER.verify(stored, password)
