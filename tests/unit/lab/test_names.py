"""Whose a lab thing is, told from its name and label alone."""

import os

import pytest

from lab import names


def test_this_process_is_alive_and_another_start_of_its_number_is_not():
    mine = names.this_process()
    pid, began = mine.split(".")
    assert names.alive(mine)
    assert not names.alive(f"{pid}.{int(began) - 1}")


@pytest.mark.parametrize("owner", ["", "x", "12", "0.1", "-1.5", "4194305.1", "1.x"])
def test_marks_that_no_process_has_are_nobodys(owner):
    assert not names.alive(owner)


def test_a_site_that_is_kept_is_always_somebodys():
    assert names.alive(names.KEPT)


def test_names_carry_the_process_and_tell_sites_and_hosts_apart():
    mine = names.this_process()
    assert names.network(mine, "a") == f"haechi-lab-{os.getpid()}-a"
    assert names.container(mine, "a", "b") == f"haechi-lab-{os.getpid()}-a-b"
    assert names.network(names.KEPT, "a") == "haechi-lab-kept-a"


@pytest.mark.parametrize("name", ["a", "nuc-1", "a" * 30])
def test_good_names(name):
    assert names.valid(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a/b", "a" * 31, "게이트"])
def test_bad_names_are_refused(name):
    with pytest.raises(ValueError, match="small letters"):
        names.valid(name)


def test_all_subnets_come_once_from_wherever_one_starts():
    found = [str(subnet) for subnet in names.subnets(300)]
    assert len(found) == len(set(found)) == 256
    assert found[0] == "10.77.44.0/24"


def test_a_process_named_like_a_status_line_is_read_right(tmp_path, monkeypatch):
    stat = "7 (a) R 1 (b) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0"
    monkeypatch.setattr(names.Path, "read_text", lambda _self: stat)
    assert names.started(7) == 4242
