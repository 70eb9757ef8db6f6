"""Documents over HTTP: uploads, search, sharing, who may what, figures; every error in the contract's shape."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tests.support.embedding import embed
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole
from tests.unit.rag.test_extraction import pdf
from urllib3.filepost import encode_multipart_formdata

from gemmapy.storage import documents, people

CATS = "The cat is a small animal that sleeps sixteen hours a day."
CARS = "A car has four wheels and an engine."


@pytest.fixture(scope="module")
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream("llama3", "embedder") as started:
        started.on("/api/embed", embed())
        yield started


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    data = tmp_path_factory.mktemp("rag") / "data"
    with gateway(data, f"ollama={upstream.url}", embedding_model="embedder", max_body_mb=1) as started:
        yield started


_made = iter(range(10_000))


class Person:
    """A user of the test's own."""

    def __init__(self, api: RunningGateway) -> None:
        self.name = f"reader{next(_made)}"
        now = api.store.clock.now()
        self.id = api.store.write(lambda c: people.create_user(c, self.name, None, is_admin=False, now=now))
        api.services.auth.refresh()
        self.key = api.post(f"/api/admin/users/{self.id}/keys", {"name": "k"}).json["key"]
        self._api = api

    def ask(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        return self._api.request(method, path, body, key=self.key, **how)

    def add(self, content: str, **fields: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/api/rag/documents", {"content": content, **fields})
        assert answer.status == 201, answer.body
        return answer.json

    def upload(self, name: str, data: bytes, kind: str = "application/octet-stream", **fields: str) -> Any:
        body, content_type = encode_multipart_formdata({**fields, "file": (name, data, kind)})
        return self.ask("POST", "/api/rag/documents", body, headers={"Content-Type": content_type})

    def search(self, query: str, **fields: Any) -> Any:
        return self.ask("POST", "/api/rag/search", {"query": query, **fields})

    def stats(self) -> Any:
        return self.ask("GET", "/api/rag/stats").json


@pytest.fixture
def ada(api: RunningGateway) -> Person:
    return Person(api)


@pytest.fixture
def bob(api: RunningGateway) -> Person:
    return Person(api)


def refused(answer: Any, status: int, says: str) -> None:
    assert answer.status == status, answer.body
    assert set(answer.json) == {"error", "code", "hint"}
    assert says in answer.json["error"]


def embedded(running: RunningGateway) -> None:
    """Waits until all that can be embedded is."""
    library = running.services.library
    asyncio.run_coroutine_threadsafe(library.embedder.idle(), library.loop).result(20)


def test_a_document_is_added_shown_and_deleted(ada: Person) -> None:
    content = f"# Cats\n\n{CATS}\n\n## Food\n\nMice."
    added = ada.add(content, source="https://cats.test/", metadata={"tags": ["a"], "n": 1})
    assert (added["title"], added["chunks"], added["duplicate"]) == ("Cats", 2, False)
    assert (added["source"], added["metadata"]) == ("https://cats.test/", {"tags": ["a"], "n": 1})
    shown = ada.ask("GET", f"/api/rag/documents/{added['id']}").json
    assert shown["content"] == content
    assert [chunk["heading"] for chunk in shown["chunks"]] == ["Cats", "Cats > Food"]
    assert all(content[chunk["start"] : chunk["end"]] == chunk["text"] for chunk in shown["chunks"])
    assert ada.ask("GET", "/api/rag/documents").json["documents"][0]["id"] == added["id"]
    assert ada.ask("DELETE", f"/api/rag/documents/{added['id']}").status == 200
    refused(ada.ask("GET", f"/api/rag/documents/{added['id']}"), 404, "There is no document")
    refused(ada.ask("DELETE", f"/api/rag/documents/{added['id']}"), 404, "There is no document")
    assert ada.search("mice").json["results"] == []
    assert ada.stats()["chunks"] == 0


def _until(condition: Any) -> None:
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to pass")


def test_what_a_crash_left_half_way_is_finished_at_the_next_start(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    content = "\n\n".join(f"The heron number {number} stands in the water." for number in range(4_000))

    def sizes(running: RunningGateway) -> tuple[int, ...]:
        tables = ("documents", "chunks", "chunk_words", "collections")
        with running.store.read() as connection:
            return tuple(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in tables)

    with gateway(tmp_path / "data", f"ollama={upstream.url}") as running:
        kept = running.post("/api/rag/documents", {"content": content}).json
        whole_size = sizes(running)
        running.post("/api/rag/collections", {"name": "other"})
        gone = running.post("/api/rag/documents", {"content": content, "collection": "other"}).json
        # As a crash leaves them: one has all but its last chunks, the other has lost its first.
        running.store.write(lambda c: documents.begin_to_delete(c, gone["id"]))
        running.store.write(lambda c: documents.delete_chunks(c, gone["id"]))
        last = "document_id = ? AND ordinal >= 5"
        running.store.write(
            lambda c: [
                c.exec_driver_sql(statement, (kept["id"],))
                for statement in (
                    "UPDATE documents SET stage = 'coming' WHERE id = ?",
                    f"DELETE FROM chunk_words WHERE rowid IN (SELECT id FROM chunks WHERE {last})",
                    f"DELETE FROM chunks WHERE {last}",
                )
            ]
        )
        assert running.get("/api/rag/documents").json["documents"] == []
        found = running.post("/api/rag/search", {"query": "heron"}).json["results"]
        assert found == []
        key = running.key
    with gateway(tmp_path / "data", f"ollama={upstream.url}") as running:
        running.key = key
        _until(lambda: sizes(running) == (*whole_size[:3], 2))
        (listed,) = running.get("/api/rag/documents").json["documents"]
        assert (listed["id"], listed["chunks"]) == (kept["id"], kept["chunks"])
        results = running.post("/api/rag/search", {"query": "number 3999"}).json["results"]
        assert "3999" in results[0]["text"]


def test_a_user_who_is_deleted_takes_along_what_was_theirs_alone(api: RunningGateway, ada: Person, bob: Person) -> None:
    shared = ada.ask("POST", "/api/rag/collections", {"name": "for all", "shared_with_all": True}).json
    ada.add("The bittern for all.", collection="for all")
    ada.add("The bittern of ada.")

    def texts() -> int:
        with api.store.read() as connection:
            found = "SELECT count(*) FROM chunk_words WHERE chunk_words MATCH 'bittern'"
            return connection.exec_driver_sql(found).scalar_one()

    assert texts() == 2
    assert api.request("DELETE", f"/api/admin/users/{ada.id}").status == 200
    everyones = api.get("/api/rag/collections?all=true").json["collections"]
    assert [entry["id"] for entry in everyones if entry["owner_id"] == ada.id] == [shared["id"]]
    assert [hit["text"] for hit in bob.search("bittern").json["results"]] == ["The bittern for all."]
    _until(lambda: texts() == 1)
    assert api.request("DELETE", f"/api/rag/collections/{shared['id']}").status == 200
    assert texts() == 0


def test_the_same_content_again_is_recognised(ada: Person, bob: Person) -> None:
    first = ada.add(CATS, title="One")
    again = ada.ask("POST", "/api/rag/documents", {"content": CATS, "title": "Two"})
    assert again.status == 200
    assert (again.json["id"], again.json["title"], again.json["duplicate"]) == (first["id"], "One", True)
    assert bob.add(CATS)["id"] != first["id"]


@pytest.mark.parametrize(
    ("name", "data", "kind", "title"),
    [
        ("cats.txt", CATS.encode(), "text/plain", "cats.txt"),
        ("cats.md", f"# All about cats\n\n{CATS}".encode(), "text/markdown", "All about cats"),
        ("cats.html", f"<html><title>Cat page</title><p>{CATS}".encode(), "text/html", "Cat page"),
        ("cats.pdf", pdf(CATS, title="Cat paper"), "application/pdf", "Cat paper"),
    ],
)
def test_a_file_is_taken_in_by_its_kind(ada: Person, name: str, data: bytes, kind: str, title: str) -> None:
    answer = ada.upload(name, data, kind, metadata='{"a": 1}')
    assert answer.status == 201, answer.body
    assert (answer.json["media_type"], answer.json["title"], answer.json["source"]) == (kind, title, name)
    assert answer.json["metadata"] == {"a": 1}
    assert answer.json["size_bytes"] == len(data)
    found = ada.search("sixteen hours", mode="text").json["results"]
    assert [CATS in result["text"] for result in found] == [True]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "content: is required"),
        ({"content": ""}, "content"),
        ({"content": " \n"}, "holds no text"),
        ({"content": 1}, "content: Input should be a valid string"),
        ({"content": "x", "extra": 1}, "extra: there is no such field"),
        ({"content": "x", "metadata": []}, "metadata"),
        ({"content": "x", "metadata": {"a": "x" * 20_000}}, "at most 16384 bytes"),
        (b"{", "not valid JSON"),
        (b"[]", "object"),
    ],
)
def test_a_document_that_cannot_be_is_told(ada: Person, body: Any, says: str) -> None:
    refused(ada.ask("POST", "/api/rag/documents", body), 400, says)


def test_a_form_that_cannot_be_is_told(ada: Person) -> None:
    def form(fields: dict[str, Any]) -> Any:
        body, content_type = encode_multipart_formdata(fields)
        return ada.ask("POST", "/api/rag/documents", body, headers={"Content-Type": content_type})

    refused(form({"title": "x"}), 400, "file is required")
    refused(form({"file": "no file"}), 400, "file is required")
    refused(ada.upload("a.txt", b"x", metadata="[]"), 400, "metadata must be a JSON object")
    refused(ada.upload("a.txt", b"x", colour="red"), 400, "colour: there is no such field")
    refused(ada.upload("a.bin", b"\x00\x01"), 400, "no text that this gateway can read")
    broken = ada.ask("POST", "/api/rag/documents", b"rubbish", headers={"Content-Type": "multipart/form-data"})
    refused(broken, 400, "form is not valid")
    cut = ada.ask(
        "POST", "/api/rag/documents", b"--x\r\nrubb", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    refused(cut, 400, "")


def test_a_document_that_is_too_large_is_told(ada: Person) -> None:
    large = b"x" * (1024 * 1024 + 1)
    refused(ada.upload("a.txt", large), 413, "at most 1048576 bytes")
    refused(ada.ask("POST", "/api/rag/documents", json.dumps({"content": large.decode()}).encode()), 413, "at most")


def test_pages_of_documents_follow_each_other(ada: Person) -> None:
    ids = [ada.add(f"document {number}")["id"] for number in range(5)]
    first = ada.ask("GET", "/api/rag/documents?limit=2").json
    second = ada.ask("GET", f"/api/rag/documents?limit=2&before={first['next']}").json
    third = ada.ask("GET", f"/api/rag/documents?limit=2&before={second['next']}").json
    listed = [entry["id"] for page in (first, second, third) for entry in page["documents"]]
    assert listed == sorted(ids, reverse=True)
    assert third["next"] is None


def test_search_finds_by_words_by_meaning_and_by_both(api: RunningGateway, ada: Person) -> None:
    cats, cars = ada.add(CATS), ada.add(CARS)
    embedded(api)
    by_word = ada.search("automobile", mode="text").json
    assert by_word == {"results": [], "mode": "text"}
    by_meaning = ada.search("automobile", mode="vector", top_k=1).json
    assert (by_meaning["mode"], by_meaning["results"][0]["document_id"]) == ("vector", cars["id"])
    both = ada.search("a feline that sleeps", top_k=1).json
    assert both["mode"] == "hybrid"
    best = both["results"][0]
    assert (best["document_id"], best["text_rank"], best["vector_rank"]) == (cats["id"], 1, 1)
    assert best["score"] == pytest.approx(2 / 61)
    assert CATS[best["start"] : best["end"]] == best["text"] == CATS


def test_embedding_is_metered_and_paid_by_who_it_is_for(api: RunningGateway, ada: Person) -> None:
    api.request("PUT", "/api/admin/costs/pricing", {"model": "embedder", "input_cost": 0.001, "output_cost": 0})
    ada.add(CATS, title="T")
    embedded(api)
    ada.search("sleeps", mode="vector")
    rows = [row for row in api.rows() if row["user_id"] == ada.id]
    assert [(row["endpoint"], row["model"], row["status"], row["error"]) for row in rows] == [
        ("/api/rag/documents", "embedder", 200, 0),
        ("/api/rag/search", "embedder", 200, 0),
    ]
    assert [row["cost_nusd"] for row in rows] == [row["prompt_tokens"] * 1000 for row in rows]
    assert rows[0]["prompt_tokens"] == len(f"T\n\n{CATS}".split())


def test_figures_say_what_there_is(api: RunningGateway, ada: Person) -> None:
    ada.add(CATS)
    ada.add("# One\n\nx\n\n# Two\n\ny")
    embedded(api)
    stats = ada.stats()
    assert (stats["documents"], stats["chunks"], stats["collections"]) == (2, 3, 1)
    assert stats["bytes"] == len(CATS) + len("# One\n\nx\n\n# Two\n\ny")
    assert stats["embedded"] == [{"model": "embedder", "dimension": 64, "chunks": 3}]
    assert (stats["pending"], stats["trouble"], stats["embedding_model"]) == (0, None, "embedder")
    assert stats["index"]["vectors"] == "exact"


def test_nobody_else_sees_a_document(api: RunningGateway, ada: Person, bob: Person) -> None:
    added = ada.add(CATS)
    embedded(api)
    path = f"/api/rag/documents/{added['id']}"
    for other in (bob.key, api.key):  # an admin neither
        refused(api.get(path, key=other), 404, "There is no document")
        refused(api.request("DELETE", path, key=other), 404, "There is no document")
        for mode in ("text", "vector", "hybrid"):
            found = api.post("/api/rag/search", {"query": CATS, "mode": mode, "top_k": 50}, key=other).json
            assert added["id"] not in [result["document_id"] for result in found["results"]]
        listed = api.get("/api/rag/documents?limit=500", key=other).json["documents"]
        assert added["id"] not in [entry["id"] for entry in listed]
    refused(bob.search("x", collection=added["collection_id"]), 404, "There is no collection")
    refused(bob.ask("POST", "/api/rag/documents", {"content": "x", "collection": added["collection_id"]}), 404, "")
    assert bob.stats()["documents"] == 0


def test_a_shared_collection_is_read_and_not_written_by_others(api: RunningGateway, ada: Person, bob: Person) -> None:
    made = ada.ask("POST", "/api/rag/collections", {"name": "wiki"})
    assert made.status == 201
    wiki = made.json["id"]
    added = ada.add(CATS, collection="wiki")
    refused(bob.search("sleeps", collection=wiki), 404, "There is no collection")
    assert ada.ask("PATCH", f"/api/rag/collections/{wiki}", {"shared_with_all": True}).json["shared_with_all"]
    found = bob.search("sleeps", collection=wiki, mode="text").json["results"]
    assert [result["document_id"] for result in found] == [added["id"]]
    assert bob.ask("GET", f"/api/rag/documents/{added['id']}").status == 200
    refused(bob.ask("POST", "/api/rag/documents", {"content": "x", "collection": wiki}), 403, "another's")
    refused(bob.ask("DELETE", f"/api/rag/documents/{added['id']}"), 403, "another's")
    refused(bob.ask("PATCH", f"/api/rag/collections/{wiki}", {"name": "mine"}), 403, "another's")
    refused(bob.ask("DELETE", f"/api/rag/collections/{wiki}"), 403, "another's")
    api.request("PATCH", f"/api/rag/collections/{wiki}", {"shared_with_all": False})  # an admin can
    refused(bob.search("sleeps", collection=wiki), 404, "There is no collection")
    assert ada.ask("DELETE", f"/api/rag/collections/{wiki}").status == 200
    refused(ada.ask("GET", f"/api/rag/documents/{added['id']}"), 404, "There is no document")


def test_a_collection_is_shared_with_a_project(api: RunningGateway, ada: Person, bob: Person) -> None:
    project = api.post("/api/admin/projects", {"name": f"team-{ada.name}"}).json
    member = f"/api/admin/projects/{project['id']}/members"
    refused(ada.ask("POST", "/api/rag/collections", {"name": "team", "project": project["name"]}), 400, "none of your")
    api.request("PUT", f"{member}/{ada.id}")
    made = ada.ask("POST", "/api/rag/collections", {"name": "team", "project": project["name"]}).json
    assert made["project"] == project["name"]
    added = ada.add(CATS, collection="team")
    assert bob.search("sleeps", mode="text").json["results"] == []
    api.request("PUT", f"{member}/{bob.id}")
    assert bob.search("sleeps", mode="text").json["results"][0]["document_id"] == added["id"]
    assert [entry["name"] for entry in bob.ask("GET", "/api/rag/collections").json["collections"]] == ["team"]
    api.request("DELETE", f"{member}/{bob.id}")
    assert bob.search("sleeps", mode="text").json["results"] == []


def test_admins_list_everyones_collections_and_others_do_not(api: RunningGateway, ada: Person) -> None:
    added = ada.add(CATS)
    every = api.get("/api/rag/collections?all=true").json["collections"]
    assert (added["collection_id"], ada.name) in [(entry["id"], entry["owner"]) for entry in every]
    own = api.get("/api/rag/collections").json["collections"]
    assert added["collection_id"] not in [entry["id"] for entry in own]
    refused(ada.ask("GET", "/api/rag/collections?all=true"), 403, "for admins")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/rag/documents", None),
        ("POST", "/api/rag/documents", {"content": "x"}),
        ("GET", "/api/rag/documents/1", None),
        ("DELETE", "/api/rag/documents/1", None),
        ("GET", "/api/rag/collections", None),
        ("POST", "/api/rag/collections", {"name": "x"}),
        ("PATCH", "/api/rag/collections/1", {}),
        ("DELETE", "/api/rag/collections/1", None),
        ("POST", "/api/rag/search", {"query": "x"}),
        ("POST", "/api/rag/generate", {"query": "x", "model": "llama3"}),
        ("GET", "/api/rag/stats", None),
    ],
)
def test_nobody_gets_in_without_a_key_or_with_one_for_something_else(
    api: RunningGateway, ada: Person, method: str, path: str, body: Any
) -> None:
    refused(api.request(method, path, body, key=None), 401, "Sign in")
    other = api.post(f"/api/admin/users/{ada.id}/keys", {"name": "k", "routes": ["/api/chat"]}).json["key"]
    refused(api.request(method, path, body, key=other), 403, "may not use /api/rag/")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "query: is required"),
        ({"query": ""}, "query"),
        ({"query": "  "}, "query"),
        ({"query": "x", "top_k": 0}, "top_k"),
        ({"query": "x", "top_k": 51}, "top_k"),
        ({"query": "x", "mode": "magic"}, "mode"),
        ({"query": "x", "collection": True}, "collection"),
    ],
)
def test_a_search_that_cannot_be_is_told(ada: Person, body: Any, says: str) -> None:
    refused(ada.ask("POST", "/api/rag/search", body), 400, says)


def test_titles_and_metadata_come_back_as_they_were(ada: Person) -> None:
    title = "<img src=x onerror=alert(1)>\"'\u2028\r\nX-Evil: 1"
    added = ada.add("x", title=title, metadata={"<script>": "</script>", "$ref": "http://evil.test/"})
    answer = ada.ask("GET", f"/api/rag/documents/{added['id']}")
    assert answer.headers["content-type"].startswith("application/json")
    assert "x-evil" not in answer.headers
    assert answer.json["title"] == "<img src=x onerror=alert(1)>\"' X-Evil: 1"
    assert answer.json["metadata"] == {"<script>": "</script>", "$ref": "http://evil.test/"}


def test_without_an_embedding_model_search_is_of_full_text(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with gateway(tmp_path / "data", f"ollama={upstream.url}") as running:
        ada = Person(running)
        ada.add(CATS)
        assert ada.search("sleeps").json["mode"] == "text"
        refused(ada.search("sleeps", mode="vector"), 400, "no embedding model")
        assert (ada.stats()["pending"], ada.stats()["embedded"]) == (0, [])


def test_documents_are_embedded_when_a_model_comes_and_again_when_it_changes(tmp_path: Path) -> None:
    with ScriptedUpstream("llama3", "one", "two") as upstream:
        upstream.on("/api/embed", embed())
        with gateway(tmp_path / "data", f"ollama={upstream.url}") as running:
            ada = Person(running)
            ada.add(CATS)
            key = ada.key
        for model, dimension in (("one", 64), ("two", 64), ("two", 32)):
            upstream.on("/api/embed", embed(dimension))
            with gateway(tmp_path / "data", f"ollama={upstream.url}", embedding_model=model) as running:
                embedded(running)
                ask = {"query": "feline", "mode": "vector"}
                running.post("/api/rag/search", ask, key=key)  # where the dimension is another, this finds out
                embedded(running)
                assert running.get("/api/rag/stats", key=key).json["embedded"] == [
                    {"model": model, "dimension": dimension, "chunks": 1}
                ]
                assert len(running.post("/api/rag/search", ask, key=key).json["results"]) == 1


def test_a_collection_can_have_an_embedding_model_of_its_own(tmp_path: Path) -> None:
    with ScriptedUpstream("llama3", "one", "two") as upstream:
        upstream.on("/api/embed", lambda request: embed(64 if request.json["model"] == "one" else 16)(request))
        with gateway(tmp_path / "data", f"ollama={upstream.url}", embedding_model="one") as running:
            ada = Person(running)
            own = ada.ask("POST", "/api/rag/collections", {"name": "own", "embedding_model": "two"}).json["id"]
            ids = {ada.add(CATS)["id"], ada.add(CARS, collection="own")["id"]}
            embedded(running)
            found = ada.search("feline automobile", mode="vector").json["results"]
            assert {result["document_id"] for result in found} == ids
            ada.ask("PATCH", f"/api/rag/collections/{own}", {"embedding_model": None})
            embedded(running)
            assert ada.stats()["embedded"] == [{"model": "one", "dimension": 64, "chunks": 2}]


def test_a_chunk_that_the_model_refuses_holds_nobody_up(tmp_path: Path) -> None:
    def choosy(request: Any) -> Any:
        if any("poison" in text for text in request.json["input"]):
            return whole({"error": "input is too large"}, 500)
        return embed()(request)

    with ScriptedUpstream("llama3", "embedder") as upstream:
        upstream.on("/api/embed", choosy)
        with gateway(tmp_path / "data", f"ollama={upstream.url}", embedding_model="embedder") as running:
            ada = Person(running)
            ada.add("# One\n\ngood\n\n# Two\n\n" + "poison " * 30 + "\n\n# Three\n\ngood")
            embedded(running)
            stats = ada.stats()
            assert (stats["embedded"][0]["chunks"], stats["not_embeddable"], stats["pending"]) == (2, 1, 0)
            assert ada.search("poison").json["results"][0]["text"].startswith("# Two")


def test_while_the_embedding_model_is_away_search_says_so_and_documents_wait(tmp_path: Path) -> None:
    with (
        ScriptedUpstream("llama3") as upstream,
        gateway(tmp_path / "data", f"ollama={upstream.url}", embedding_model="embedder") as running,
    ):
        ada = Person(running)
        ada.add(CATS)
        embedded(running)
        found = ada.search("sleeps").json
        assert (found["mode"], len(found["results"])) == ("text", 1)
        assert "'embedder' not found" in found["note"]
        refused(ada.search("sleeps", mode="vector"), 404, "'embedder' not found")
        stats = ada.stats()
        assert stats["pending"] == 1
        assert "no upstream has the embedding model" in stats["trouble"]
        assert running.rows() == []  # nobody was asked, so nobody has an error in their figures
