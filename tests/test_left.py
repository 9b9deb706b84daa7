"That every test notices what it leaves behind."

import gc
import os
import threading

import left
from left import Before


def test_a_descriptor_that_is_left_is_told():
    before = Before()
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        assert before.left() == ["1 open: /dev/null"]
    finally:
        os.close(fd)
    assert before.left() == []


def test_another_descriptor_in_place_of_one_that_was_closed_is_none_too_many():
    fd = os.open(os.devnull, os.O_RDONLY)
    before = Before()
    os.close(fd)
    fd = os.open("/dev/zero", os.O_RDONLY)
    assert before.left() == []
    os.close(fd)


def test_garbage_is_collected_before_anybody_is_blamed():
    class Holder:
        "A cycle that keeps a descriptor"

        def __init__(self):
            self.itself, self.fd = self, os.open(os.devnull, os.O_RDONLY)

        def __del__(self):
            os.close(self.fd)

    before = Before()
    gc.disable()
    try:
        Holder()
        assert before.left() == []
    finally:
        gc.enable()


def test_a_thread_that_is_left_is_told_and_one_that_ends_is_waited_for(monkeypatch):
    before, go = Before(), threading.Event()
    thread = threading.Thread(target=go.wait, daemon=True, name="forgotten")
    thread.start()
    with monkeypatch.context() as patch:
        patch.setattr(left, "PATIENCE", 0.01)
        (told,) = before.left()
    assert "forgotten" in told
    threading.Timer(0, go.set).start()
    assert before.left() == [] and not thread.is_alive()
