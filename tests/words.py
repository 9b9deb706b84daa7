"A database of words, and what tests and the programs they start do with it"

import shutil

from on_disk import query

from cjm_media_storage.database import Database

TABLE = "CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)"


def words_plan(con):
    return [] if con.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone() else [TABLE]


def open_words(path, version=1, **options):
    return Database(path, words_plan, version, **options)


def add(database, *words):
    with database.transaction() as con:
        con.executemany("INSERT INTO words (word) VALUES (?)", [(word,) for word in words])


def words(database):
    return [word for (word,) in database.fetch("SELECT word FROM words ORDER BY id")]


def alone(path):
    "The words in a copy of the one file, without those beside it"
    copy = shutil.copy(path, path.with_name("copy.db"))
    assert query(copy, "PRAGMA integrity_check") == [("ok",)]
    return sorted(word for (word,) in query(copy, "SELECT word FROM words"))


# What programs begin with: `open_words` opens the database that their first argument names
WORDS = """
import os, sqlite3, sys, threading
from multiprocessing import get_context
from on_disk import held_by
from words import add, open_words
"""
