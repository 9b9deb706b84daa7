"A worker's journal hears of hits and saved results, in little, and nobody else does."

import json
import sys
from contextvars import ContextVar, copy_context
from types import SimpleNamespace

import pytest
from on_disk import query
from results import KINDS, A, B

from cjm_media_storage.journal import LIMIT, WIRES, listening, record


@pytest.fixture(params=WIRES)
def wire(request, monkeypatch):
    "The module that a worker of either host has loaded; it keeps the entries of a call in a list"
    accounts = ContextVar("accounts", default=None)

    def record_account(event, payload=None):
        if accounts.get() is not None:
            accounts.get().append({"event_type": event, "payload": payload})

    accounts.set([])
    module = SimpleNamespace(_CALL_ACCOUNTS=accounts, record_account=record_account)
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def entries(wire):
    return wire._CALL_ACCOUNTS.get()


def header(wire):
    "What travels to the host"
    return json.dumps(entries(wire))


def test_nobody_listens_outside_a_worker(monkeypatch):
    for name in WIRES:
        monkeypatch.delitem(sys.modules, name, raising=False)  # another suite may have imported it
    assert not listening()
    record("cache_hit", file_hash=A)


def test_accounts_of_a_save_and_a_hit(wire, kind):
    row = kind.row(metadata={"secret": "content"})
    with kind.storage(":memory:") as storage:
        storage.save(**kind.arguments(row))
        assert kind.get(storage, row) and kind.find(storage, row)
        assert kind.get(storage, kind.row(1)) is None
        storage.list_jobs()
        assert [e["event_type"] for e in entries(wire)] == ["result_saved", "cache_hit", "cache_hit"]
    for entry in entries(wire):
        assert {entry["payload"][name] for name in kind.hashes} == {getattr(row, name) for name in kind.hashes}
    assert entries(wire)[0]["payload"]["ok"] is True
    assert "content" not in header(wire)


def test_in_a_worker_the_file_alone_holds_every_result_at_once(wire, kind, path):
    "Its host ends it with a signal, after which nothing can be folded in: test_plugins has a real one"
    with kind.storage(path) as storage:
        for n in range(3):
            storage.save(**kind.arguments(kind.row(n)))
            copy = path.with_name(f"copy_{n}.db")
            copy.write_bytes(path.read_bytes())
            assert len(query(copy, f"SELECT * FROM {kind.table}")) == n + 1


def test_account_of_a_save_that_failed(wire, kind):
    with kind.storage(":memory:") as storage:
        row = kind.row(metadata={"poster": b"\xff"})
        assert storage.save_with_logging(**kind.arguments(row)) is False
    [entry] = entries(wire)
    assert entry["event_type"] == "result_saved"
    assert entry["payload"]["ok"] is False and "bytes is not JSON" in entry["payload"]["error"]


def test_many_saves_in_a_call_stay_below_the_limit(wire, kind):
    with kind.storage(":memory:") as storage:
        storage.save_many(kind.row(n) for n in range(400))
        for n in range(100):
            storage.save(**kind.arguments(kind.row(n)))
        assert LIMIT / 2 < len(header(wire)) <= LIMIT + 2
        wire._CALL_ACCOUNTS.set([])  # the next call
        storage.save(**kind.arguments(kind.row(7)))
        assert len(entries(wire)) == 1


def test_the_limit_holds_when_each_save_has_a_context_of_its_own(wire):
    "As with `asyncio.to_thread`: the contexts differ, the list that travels is one"
    for _ in range(400):
        copy_context().run(record, "result_saved", ok=True, file_hash=A, config_hash=B)
    assert LIMIT / 2 < len(header(wire)) <= LIMIT + 2


def test_outside_a_call_nothing_is_kept(wire):
    wire._CALL_ACCOUNTS.set(None)
    for _ in range(400):
        record("cache_hit", file_hash=A)
    wire._CALL_ACCOUNTS.set([])
    record("cache_hit", file_hash=A)
    assert len(entries(wire)) == 1


def test_journal_that_fails_does_not_fail_the_work(wire, caplog):
    def record_account(event, payload=None):
        raise RuntimeError("the host changed")

    wire.record_account = record_account
    with KINDS["analysis"].storage(":memory:") as storage:
        storage.save("/media/a.wav", A, B)
        assert storage.get_cached("/media/a.wav", B)
    assert "refused an entry" in caplog.text


@pytest.mark.plugins
def test_published_wire():
    wire = pytest.importorskip("cjm_plugin_system.core.wire", reason="cjm-plugin-system is not installed")

    def call():
        wire.begin_account_capture()
        with KINDS["processing"].storage(":memory:") as storage:
            storage.save_many(KINDS["processing"].row(n) for n in range(400))
        return wire.drain_accounts()

    accounts = copy_context().run(call)
    assert {a["event_type"] for a in accounts} == {"result_saved"}
    assert LIMIT / 2 < len(json.dumps(accounts)) <= LIMIT + 2
