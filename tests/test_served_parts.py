"What stores that many machines share have in common: sessions that end with them, and nothing that others pay for."

import os
from pathlib import Path

from servers import run

from cjm_media_storage.served_parts import cache_folder
from cjm_media_storage.storage import ContentStore


def test_where_a_machine_keeps_what_may_be_lost(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(None, "f47a") == Path(os.path.realpath(tmp_path)) / "cjm-media-storage" / "f47a"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(None, "f47a").parts[-3:] == (".cache", "cjm-media-storage", "f47a")
    assert cache_folder("~/films", "f47a") == Path(os.path.realpath(tmp_path)) / "films"


def test_all_sessions_end_when_the_store_is_closed(shared):
    "Those of the index, of the locks and of the pins"
    database = f"{shared.database}&application_name=of-the-store"
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'of-the-store'"
    with shared.open(database=database) as store:
        hash = store.put(b"a poster").hash
        with store.pin(hash), store.parts.maintenance():
            assert run(shared.database, count)[0][0] >= 3
    waiting = (
        "DO $$ BEGIN FOR n IN 1..500 LOOP PERFORM pg_stat_clear_snapshot(); EXIT WHEN (%s) = 0; %s END LOOP; END $$"
    )
    run(shared.database, waiting % (count, "PERFORM pg_sleep(0.02);"))  # a session ends some time after it was closed
    assert run(shared.database, count) == [(0,)]
    store.close()  # closing twice is fine


PLAIN = """
import sys
from cjm_media_storage.storage import ContentStore

with ContentStore(sys.argv[1]) as store:
    store.put(b"a poster")
    list(store.put_many([b"a", b"b"]))
names = ("psycopg", "cjm_media_storage.folder_store", "cjm_media_storage.served_parts", "cjm_media_storage.sharing")
print([name for name in names if name in sys.modules])
"""


def test_a_store_on_one_machine_loads_nothing_of_it(program, tmp_path):
    assert program(PLAIN, tmp_path / "store") == "[]"
    ContentStore(tmp_path / "store", create=False).close()
