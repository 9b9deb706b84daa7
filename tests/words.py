"A database of words, and what tests and the programs they start do with it"

from cjm_media_storage.database import Database

TABLE = "CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)"


def words_plan(con):
    return [] if con.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone() else [TABLE]


def open_words(path, version=1, **options):
    return Database(path, words_plan, version, **options)


def add(database, *words):
    database.execute_many("INSERT INTO words (word) VALUES (?)", [(word,) for word in words])


def words(database):
    return [word for (word,) in database.fetch("SELECT word FROM words ORDER BY id")]
