"""Documents in the database: who may read what, words of any script, and deletion that leaves nothing."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy.core.errors import InvalidRequest, NotFound
from gemmapy.storage import documents, fulltext, people
from gemmapy.storage.documents import STEP_CHUNKS, Embedded, NewDocument, Reader
from gemmapy.storage.pieces import NewChunk
from gemmapy.storage.store import Store

ADA, BOB = Reader(1), Reader(2)


def add(store: Store, content: str, *, user_id: int = 1, title: str = "T", collection_id: int | None = None) -> int:
    """A document of one chunk in the user's default collection; its id."""
    document_id = begin(store, content, user_id=user_id, title=title, collection_id=collection_id)
    while bring(store, document_id, content, [NewChunk(0, len(content), "")], title):
        pass
    return document_id


def begin(store: Store, content: str, *, user_id: int = 1, title: str = "T", collection_id: int | None = None) -> int:
    now = store.clock.now()

    def write(connection):  # pyright: ignore
        place = collection_id or documents.default_collection(connection, user_id, now)
        new = NewDocument(place, title, "", "text/plain", {}, content, content.encode()[:32], 1, None)
        return documents.begin_document(connection, new, now)[0]

    return store.write(write)


def bring(store: Store, document_id: int, content: str, chunks: list[NewChunk], title: str = "T") -> bool:
    return store.write(lambda c: documents.add_chunks(c, document_id, title, content, chunks))


def take_away(store: Store, document_id: int) -> list[int]:
    store.write(lambda c: documents.begin_to_delete(c, document_id))
    gone: list[int] = []
    while step := store.write(lambda c: documents.delete_chunks(c, document_id)):
        gone += step
    return gone


def looked_up(store: Store, question: str, reader: Reader = ADA) -> list[str]:
    with store.read() as connection:
        places = [entry["id"] for entry in documents.list_collections(connection, reader)]
        ids = [chunk_id for chunk_id, _ in fulltext.matches(connection, question, places, 10)]
        found = documents.passages(connection, ids, places)
        return [found[chunk_id].text for chunk_id in ids]


@pytest.mark.parametrize(
    ("content", "question"),
    [
        ("The cats were sleeping.", "does a cat sleep?"),
        ("Die Stra\u00dfe ist \u00fcber dem Fluss.", "uber"),
        ("\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002", "\u9996\u90fd"),
        ("\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd", "\u4e2d\u56fd"),
        (
            "\u041c\u043e\u0441\u043a\u0432\u0430 \u0441\u0442\u043e\u043b\u0438\u0446\u0430",
            "\u043c\u043e\u0441\u043a\u0432\u0430",
        ),
        ("error E-4711 in unit_b", "4711"),
    ],
)
def test_words_are_found_in_any_script(store: Store, content: str, question: str) -> None:
    add(store, "Something else entirely.")
    add(store, content)
    assert looked_up(store, question) == [content]


def test_words_that_only_put_a_question_do_not_count(store: Store) -> None:
    add(store, "Which one? How many of what?")
    add(store, "The heron.")
    assert looked_up(store, "What is the heron, and how?") == ["The heron."]
    assert looked_up(store, "which") == ["Which one? How many of what?"]


def test_a_run_of_characters_is_looked_for_as_a_phrase(store: Store) -> None:
    add(store, "\u4eac\u6771")
    add(store, "\u6771\u4eac")
    assert looked_up(store, "\u6771\u4eac") == ["\u6771\u4eac"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.text(max_size=60) | st.text(st.sampled_from("\"*^():-+{}ANDORNOT '%;"), max_size=60))
def test_no_question_is_ever_read_as_an_operator(store: Store, question: str) -> None:
    looked_up(store, question)
    looked_up(store, f'"{question}" OR title : {question}* NEAR(a b) ^x AND -y')


def test_better_matches_come_first_and_titles_count_more(store: Store) -> None:
    add(store, "The heron is mentioned once among many other birds of the lake and the river.")
    add(store, "A heron, a heron!")
    add(store, "About a bird.", title="The heron")
    assert looked_up(store, "heron")[2].startswith("The heron is mentioned once")


def test_people_see_their_own_and_what_is_shared(store: Store, clock: FixedClock) -> None:
    now = clock.now()
    project = store.write(lambda c: people.create_project(c, "p", now))
    for name, shared in (("all", {"shared_with_all": True}), ("team", {"project_id": project})):
        place = store.write(lambda c, n=name, s=shared: documents.create_collection(c, 2, n, now, **s))
        add(store, f"heron of {name}", collection_id=place)
    add(store, "heron of bob", user_id=2)
    add(store, "heron of ada", user_id=1)
    assert sorted(looked_up(store, "heron", ADA)) == ["heron of ada", "heron of all"]
    assert sorted(looked_up(store, "heron", BOB)) == ["heron of all", "heron of bob", "heron of team"]
    assert sorted(looked_up(store, "heron", Reader(1, frozenset({project})))) == [
        "heron of ada",
        "heron of all",
        "heron of team",
    ]
    with store.read() as connection:
        shown = documents.list_documents(connection, ADA, None, 10, None)
        assert len(shown) == 2
        with pytest.raises(NotFound):
            documents.document(connection, ADA, 3)
        with pytest.raises(NotFound):
            documents.collection(connection, ADA, "team")


def test_a_name_that_several_share_must_be_told_apart_by_id(store: Store, clock: FixedClock) -> None:
    carl = store.write(lambda c: people.create_user(c, "carl", None, is_admin=False, now=clock.now()))
    for owner in (2, carl):
        store.write(lambda c, o=owner: documents.create_collection(c, o, "wiki", clock.now(), shared_with_all=True))
    with store.read() as connection:
        with pytest.raises(InvalidRequest, match="one of 1, 2"):
            documents.collection(connection, ADA, "wiki")
        assert documents.collection(connection, BOB, "wiki")["owner_id"] == 2


def test_the_same_content_is_in_a_collection_once(store: Store) -> None:
    assert add(store, "same", title="first") == add(store, "same", title="second") == 1
    assert add(store, "same", user_id=2) == 2


LONG = " ".join(f"heron number {number}." for number in range(1_000))
PIECES = [NewChunk(start, min(start + 60, len(LONG)), "") for start in range(0, len(LONG), 60)]


def test_a_document_comes_and_goes_in_steps_and_is_seen_whole_or_not_at_all(store: Store) -> None:
    document_id = begin(store, LONG)
    place = 1

    def chunks() -> int:
        with store.read() as connection:
            return connection.exec_driver_sql("SELECT count(*) FROM chunk_words").scalar_one()

    def is_seen() -> bool:
        with store.read() as connection:
            listed = documents.list_documents(connection, ADA, None, 10, None)
            counted = documents.count_chunks(connection, [place], "m")
            waiting = documents.unembedded(connection, "m", 0, 10)
            held = documents.list_collections(connection, ADA)[0]["documents"]
            with contextlib.suppress(NotFound):
                documents.document(connection, ADA, document_id)
                listed.append({})
        seen = {bool(listed), bool(counted), bool(waiting), bool(held), bool(looked_up(store, "heron"))}
        assert len(seen) == 1
        assert len(listed) in (0, 2)
        return bool(listed)

    sizes = [0]
    more = True
    while more:
        assert not is_seen()
        more = bring(store, document_id, LONG, PIECES)
        sizes.append(chunks())
    assert is_seen()
    assert sizes[-1] == len(PIECES)
    assert max(after - before for before, after in itertools.pairwise(sizes)) == STEP_CHUNKS
    store.write(lambda c: documents.begin_to_delete(c, document_id))
    assert not is_seen()
    assert begin(store, LONG) != document_id, "the same can come again while the old one goes"
    while store.write(lambda c: documents.delete_chunks(c, document_id)):
        sizes.append(chunks())
    assert sizes[-1] == 0


def test_two_who_bring_the_same_at_once_bring_it_once(store: Store) -> None:
    first, second = begin(store, LONG), begin(store, LONG)
    assert first == second
    while bring(store, first, LONG, PIECES) and bring(store, second, LONG, list(PIECES)):
        pass
    assert not bring(store, first, LONG, PIECES)
    with store.read() as connection:
        there = documents.chunks_of(connection, first)
        assert [(chunk["start"], chunk["end"]) for chunk in there] == [(p.start, p.end) for p in PIECES]
        assert connection.exec_driver_sql("SELECT count(*) FROM chunk_words").scalar_one() == len(PIECES)


def test_what_is_deleted_while_it_comes_does_not_come_back(store: Store) -> None:
    document_id = begin(store, LONG)
    bring(store, document_id, LONG, PIECES)
    take_away(store, document_id)
    with pytest.raises(NotFound, match="deleted while it came"):
        bring(store, document_id, LONG, PIECES)
    assert looked_up(store, "heron") == []


def test_a_deleted_document_leaves_nothing_in_the_file(store: Store) -> None:
    secret = "xylotwaddle zanzibarquux "
    document_id = add(store, secret * 30, title="mumblecrumpet")
    for number in range(30):
        add(store, f"other {number}")
    vector = b"vectorvectorvect"
    with store.read() as connection:
        chunk_id = documents.chunks_of(connection, document_id)[0]["id"]
    store.write(lambda c: documents.save_embeddings(c, [Embedded(chunk_id, "m", 4, vector)]))
    traces = (b"xylotwaddl", b"zanzibarquux", b"mumblecrumpet", vector)
    assert all(trace in _file(store) for trace in traces)
    assert take_away(store, document_id) == [chunk_id]
    first = True
    while store.write(lambda c, f=first: fulltext.tidy(c, first=f)):
        first = False
    assert [trace for trace in traces if trace in _file(store)] == []
    assert looked_up(store, "xylotwaddle") == []
    assert looked_up(store, "other") != []


def _file(store: Store) -> bytes:
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return store.path.read_bytes()


def test_a_deleted_user_takes_along_what_was_theirs_alone(store: Store, clock: FixedClock) -> None:
    place = store.write(lambda c: documents.create_collection(c, 2, "all", clock.now(), shared_with_all=True))
    add(store, "heron for all", collection_id=place)
    add(store, "heron of bob", user_id=2)
    store.write(lambda c: people.delete_user(c, 2, clock.now()))
    with store.read() as connection:
        left = documents.list_collections(connection, None)
        assert [(entry["name"], entry["owner"], entry["documents"]) for entry in left] == [("all", None, 1)]
        unfinished, abandoned = documents.unfinished(connection), documents.abandoned(connection)
        text = connection.exec_driver_sql("SELECT content FROM documents WHERE id = 2").scalar_one()
    assert [(entry.document_id, entry.is_going, text) for entry in unfinished] == [(2, True, "")]
    take_away(store, 2)
    for collection_id in abandoned:
        assert store.write(lambda c, i=collection_id: documents.delete_collection(c, i))
    with store.read() as connection:
        assert documents.abandoned(connection) == documents.unfinished(connection) == []
        assert connection.exec_driver_sql("SELECT count(*) FROM collections").scalar_one() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM chunk_words").scalar_one() == 1


def test_what_has_no_vector_of_its_collections_model_is_to_be_embedded(store: Store, clock: FixedClock) -> None:
    add(store, "one")
    own = store.write(lambda c: documents.create_collection(c, 2, "own", clock.now(), embedding_model="special"))
    add(store, "two", collection_id=own)

    def waiting(default: str | None) -> list[tuple[str, str, int]]:
        with store.read() as connection:
            found = documents.unembedded(connection, default, 0, 10)
        return [(entry.passage.text, entry.model, entry.user_id) for entry in found]

    assert waiting(None) == [("two", "special", 2)]
    assert waiting("m") == [("one", "m", 1), ("two", "special", 2)]
    store.write(lambda c: documents.save_embeddings(c, [Embedded(1, "m", 1, b"\0\0\0\0"), Embedded(9, "m", 1, b"")]))
    assert waiting("m") == [("two", "special", 2)]
    assert waiting("other") == [("one", "other", 1), ("two", "special", 2)]
    store.write(lambda c: documents.save_embeddings(c, [Embedded(2, "special", 0, b"")]))
    assert waiting("m") == []  # it cannot be embedded, and is not tried for ever
