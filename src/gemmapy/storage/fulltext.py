"""Full text of chunks: SQLite's FTS5 with BM25, behind a few functions that another engine can have in its own way.

The index holds words, made by `words_of` from a chunk's text and from a question alike, so both are cut the same way.
A question reaches the index as quoted words only: no character of it is ever read as an operator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from gemmapy.storage.engine import scan
from gemmapy.storage.tables import HERE
from gemmapy.storage.words import WORD, spread, words_of

QUESTION_WORDS = 64
"""More words of a question are not looked for: a page pasted as a question would be slow, and match everything."""
TABLE = "chunk_words"
_WEIGHTS = "2.0, 1.5, 1.0"
_TIDY_PAGES = 64


# What a question is put with and not about: in passages such words are rare or everywhere, and either way they mislead.
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about all also an and any are as at be been before being both but by can could did do does doing done down "
        "each few for from get had has have having he her here him his how i if in into is it its just let may me "
        "might more most much must my no nor not of off on one only or other our out over own same she should so some "
        "such than that the their them then there these they this those through to too under until up us very was we "
        "were what when where which while who whom whose why will with would you your",
    )
)


def question_of(text: str) -> str | None:
    """What is looked for: any of the question's words, English function words only where there are no others; None
    where it has none at all."""
    words = list(dict.fromkeys(word.lower() for word in WORD.findall(text)))
    telling = [word for word in words if word not in _FUNCTION_WORDS] or words
    return " OR ".join(f'"{spread(word)}"' for word in telling[:QUESTION_WORDS]) or None


def create(connection: Connection) -> None:
    """Makes the index, with nothing in it."""
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE {TABLE} USING fts5("
        "title, heading, body, tokenize = 'porter unicode61 remove_diacritics 2')"
    )


def add(connection: Connection, rows: Iterable[tuple[int, str, str, str]]) -> None:
    """Puts chunks in: id, title, heading, and the text's words as `words_of` has them."""
    given = [(chunk_id, words_of(title), words_of(heading), words) for chunk_id, title, heading, words in rows]
    if given:
        connection.exec_driver_sql(f"INSERT INTO {TABLE} (rowid, title, heading, body) VALUES (?, ?, ?, ?)", given)  # noqa: S608


def remove(connection: Connection, chunk_ids: Iterable[int]) -> None:
    """Takes chunks out."""
    gone = [(chunk_id,) for chunk_id in chunk_ids]
    if gone:
        connection.exec_driver_sql(f"DELETE FROM {TABLE} WHERE rowid = ?", gone)  # noqa: S608


def matches(
    connection: Connection, question: str, collection_ids: Sequence[int], limit: int
) -> list[tuple[int, float]]:
    """Chunks of the collections that have words of the question: id and BM25 score, higher is better, best first."""
    wanted = question_of(question)
    if wanted is None or not collection_ids:
        return []
    marks = ", ".join("?" * len(collection_ids))
    statement = (
        f"SELECT chunks.id, -bm25({TABLE}, {_WEIGHTS}) AS score FROM {TABLE}"  # noqa: S608 - only names and marks
        f" JOIN chunks ON chunks.id = {TABLE}.rowid JOIN documents ON documents.id = chunks.document_id"
        f" WHERE {TABLE} MATCH ? AND documents.stage = ? AND documents.collection_id IN ({marks})"
        " ORDER BY score DESC, chunks.id LIMIT ?"
    )
    rows = connection.exec_driver_sql(statement, (wanted, HERE, *collection_ids, limit))
    return [(row[0], row[1]) for row in rows]


def tidy(connection: Connection, *, first: bool) -> bool:
    """Merges a little of what deletions left in the index, until words of deleted chunks are gone from it too.

    `first` begins; then again until it returns False. SQLite's `merge` command; each step takes milliseconds.
    """
    before = _changes(connection)
    # A negative number first puts all segments on one level, so that the merges after it end with a single one.
    pages = -_TIDY_PAGES if first else _TIDY_PAGES
    connection.exec_driver_sql(f"INSERT INTO {TABLE} ({TABLE}, rank) VALUES ('merge', {pages})")  # noqa: S608
    return _changes(connection) - before >= 2


def _changes(connection: Connection) -> int:
    return next(scan(connection, "SELECT total_changes()"))[0]
