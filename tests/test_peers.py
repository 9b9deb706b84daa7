"The power is cut on stores of others as on ours. Ours keep all; what the others keep is only shown, in POWER.md"

import pytest
from peers import TOOLS, Ours
from power_cuts import KINDS, CannotMount
from power_table import COUNT, PAGE, Count, DidNotRun, cut_power_on, head

OURS = [name for name, tool in TOOLS.items() if issubclass(tool, Ours)]
PEERS = [name for name in TOOLS if name not in OURS]


def count(name, kind, folder):
    try:
        return cut_power_on(name, kind, folder)
    except CannotMount as e:
        pytest.skip(str(e))


@pytest.mark.power
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OURS)
def test_fault_22_all_that_a_store_acknowledged_is_right_after_a_power_cut(name, kind, tmp_path):
    assert count(name, kind, tmp_path) == Count(acknowledged=COUNT, right=COUNT)


@pytest.mark.power
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_tried_in_the_same_way(name, kind, tmp_path):
    try:
        found = count(name, kind, tmp_path)
    except DidNotRun as e:
        pytest.skip(f"{name} did not run: {e}")
    print(f"{name} on {kind}: {found.right} of {found.acknowledged}")
    assert found.acknowledged == COUNT and 0 <= found.right <= COUNT


def test_the_page_shows_every_tool():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0] == head()
    assert [row[0] for row in cells[2:]] == list(TOOLS)
    assert all(row[2:] == [str(COUNT), str(COUNT), "0"] * len(KINDS) for row in cells[2:] if row[0] in OURS)


def test_the_readme_shows_the_page():
    assert PAGE.read_text().strip() in (PAGE.parent.parent / "README.md").read_text()
