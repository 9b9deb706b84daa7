"Names for every file system: what is changed, where it is cut, and what counts as the same."

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjm_media_storage.names import folded, free_path, safe_name, safe_path, split_extension, wanted_path
from cjm_media_storage.storage import UnsafePath

TEXTS = st.text(st.characters(codec=None), max_size=300)  # surrogates, too
REFUSED = set('<>:"/\\|?*') | {chr(n) for n in range(32)}
DEVICES = {"CON", "PRN", "AUX", "NUL"} | {f"{kind}{n}" for kind in ("COM", "LPT") for n in "123456789¹²³"}


@given(TEXTS)
def test_fault_35_any_text_becomes_a_name_that_every_file_system_takes(text):
    name = safe_name(text)
    assert name and not set(name) & REFUSED and name[-1] not in ". "
    assert name.partition(".")[0].rstrip(" ").upper() not in DEVICES
    assert len(name.encode()) <= 255 and unicodedata.is_normalized("NFC", name)
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Face/Off", "Face_Off"),
        ('a<b>c:d"e\\f|g?h*i', "a_b_c_d_e_f_g_h_i"),
        ("tab\tnew\nline\0", "tab_new_line_"),
        ("The End...", "The End___"),
        ("trailing ", "trailing_"),
        (" leading", " leading"),
        (".hidden", ".hidden"),
        ("CON", "CON_"),
        ("con .txt", "con_.txt"),
        ("Nul.tar.gz", "Nul_.tar.gz"),
        ("LPT¹.jpg", "LPT¹_.jpg"),
        ("COM0", "COM0"),
        ("console.log", "console.log"),
        ("AUX (1997)", "AUX (1997)"),
        ("東京物語.mkv", "東京物語.mkv"),
        ("caf\udce9.mp3", "caf_.mp3"),
        ("", "_"),
        ("..", "__"),
    ],
)
def test_fault_35_only_what_is_refused_somewhere_is_changed(wanted, name):
    assert safe_name(wanted) == name


@pytest.mark.parametrize("letter", ["a", "é", "東", "🎬", "q\u0323\u0307"])
@pytest.mark.parametrize("extension", ["", ".jpg", ".matroska"])
def test_fault_34_a_long_name_is_cut_at_a_character_and_keeps_its_extension(letter, extension):
    name = safe_name(letter * 300 + extension)
    stem = name.removesuffix(extension)
    assert name.endswith(extension) and 255 - len(letter.encode()) < len(name.encode()) <= 255
    assert stem == letter * (len(stem) // len(letter))


def test_a_letter_with_more_accents_than_fit_keeps_some():
    assert safe_name("x" + "\u0323" * 300 + ".jpg").startswith("x\u0323")


@given(TEXTS)
def test_an_extension_and_its_stem_are_the_name(text):
    assert "".join(split_extension(text)) == text


@pytest.mark.parametrize("path", ["../a", "a/../b", "a/..", "..", "/a", "//a", "/", "a/./../../b"])
def test_fault_36_a_path_that_leads_upward_is_refused(path):
    with pytest.raises(UnsafePath):
        wanted_path(path)


@pytest.mark.parametrize(("path", "tidy"), [("./a//b/", "a/b"), ("", ""), ("a/...", "a/..."), ("e\u0301", "é")])
def test_a_wanted_path_is_tidied_and_no_more(path, tidy):
    assert wanted_path(path) == tidy


@given(TEXTS)
def test_no_path_leaves_its_folder(text):
    try:
        path = safe_path(wanted_path(text))
    except UnsafePath:
        return
    assert not path.startswith("/") and all(step not in ("", ".", "..") for step in path.split("/"))


@pytest.mark.parametrize(("one", "other"), [("ÉTÉ", "e\u0301te\u0301"), ("Straße", "STRASSE"), ("ﬁlm", "FILM")])
def test_fault_35_what_is_the_same_on_a_mac_is_the_same(one, other):
    assert folded(one) == folded(other)


@given(st.lists(TEXTS, max_size=8))
def test_fault_35_wanted_paths_get_paths_that_are_different_everywhere(texts):
    taken = set()
    for text in texts:
        path = free_path(safe_name(text), lambda path: folded(path) in taken)
        assert folded(path) not in taken and len(path.encode()) <= 255
        taken.add(folded(path))


def test_fault_35_a_number_goes_before_the_extension():
    taken = {"a/poster.jpg", "a/poster (2).jpg"}
    assert free_path("a/poster.jpg", taken.__contains__) == "a/poster (3).jpg"
    long = "é" * 125 + ".jpg"
    assert free_path(long, {long}.__contains__) == "é" * 123 + " (2).jpg"
