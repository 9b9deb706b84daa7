"The words for what is wrong, and reports of it in every format."

import csv
import errno
import io
import json
import os

import pytest
from on_disk import ODD_NAMES

from cjm_media_storage.problems import AWAY, KINDS, Problem, VerifyReport, check_root, raise_if_away
from cjm_media_storage.storage import StoreUnavailable


def report_of(*problems, **options):
    return VerifyReport("hash", 0.0, 1.0, 3, 10, tuple(problems), **options)


def test_a_report_without_problems_is_ok_and_one_of_a_store_that_is_away_is_not():
    assert report_of().ok and report_of(complete=False).ok
    assert not report_of(Problem("missing", "a")).ok and not report_of(unavailable="it is gone").ok


def test_counts_are_in_the_order_of_the_words():
    report = report_of(*(Problem(kind, "a") for kind in [*reversed(KINDS), "corrupt"]))
    assert list(report.counts) == list(KINDS)
    assert report.counts["corrupt"] == 2


def test_many_problems_are_not_all_printed():
    text = str(report_of(*(Problem("missing", f"assets/{n}") for n in range(30))))
    assert len(text.splitlines()) == 22
    assert text.endswith("and 10 more")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_can_be_printed_and_written(name):
    path = f"assets/{os.fsdecode(name)}"
    report = report_of(Problem("foreign", path, detail=path))
    str(report).encode()
    assert len(str(report).splitlines()) == 2 and "\x1b" not in str(report)
    report.to_csv().encode()
    assert json.loads(report.to_json())["problems"][0]["path"] == path
    assert len(list(csv.reader(io.StringIO(report.to_csv(), newline="")))) == 2


def test_no_cell_is_a_formula():
    report = report_of(*(Problem("foreign", f"{sign}1+1") for sign in "=+-@\t"))
    rows = list(csv.DictReader(io.StringIO(report.to_csv(), newline="")))
    assert [row["path"][0] for row in rows] == ["'"] * 5


def test_only_some_errors_mean_that_the_store_is_away(store):
    for number in AWAY:
        with pytest.raises(StoreUnavailable):
            raise_if_away(OSError(number, "gone"), store.root)
    for number in (errno.EACCES, errno.EIO, errno.ENOENT):
        raise_if_away(OSError(number, "one file"), store.root)


def test_a_root_that_cannot_be_looked_at_is_away(store, monkeypatch):
    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    check_root(store.parts)
    monkeypatch.setattr(os, "stat", stale)
    with pytest.raises(StoreUnavailable):
        check_root(store.parts)
