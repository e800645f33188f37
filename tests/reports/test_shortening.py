"""Names are cut to the room there is, and stay distinct."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from reports.shortening import narrowest, shortened

SEEDS = ["dpo-soft-reference@1", "dpo-soft-reference@2", "dpo-hard-reference@1"]


def test_names_that_fit_are_left_as_they_are() -> None:
    """To the last cell."""
    assert shortened(SEEDS, 20) == tuple(SEEDS)


def test_a_name_is_cut_at_its_end_where_that_is_enough() -> None:
    """Its beginning is what a reader knows it by."""
    assert shortened(["sft", "dpo-soft-reference"], 8) == ("sft", "dpo-sof…")


def test_an_end_that_tells_names_apart_is_kept() -> None:
    """As little of it as will do."""
    assert shortened(SEEDS, 12) == ("dpo-soft-r…1", "dpo-soft-r…2", "dpo-hard-r…1")


def test_names_that_no_cut_tells_apart_are_numbered() -> None:
    """They differ in their middles alone."""
    assert shortened(["aaaaaaaabccccccc", "aaaaaaaadccccccc"], 6) == ("aaaa…1", "aaaa…2")


@pytest.mark.parametrize("cells", range(6, 25))
def test_no_two_names_become_the_same(cells: int) -> None:
    """In whatever room, and none takes more than it."""
    names = [*SEEDS, "dpo_beta=0.1_reference=soft", "dpo_beta=0.1_reference=hard", "sft", "偏好偏好偏好偏好"]
    short = shortened(names, cells)
    assert len(set(short)) == len(names)
    assert max(map(cell_len, short)) <= cells


def test_the_same_name_twice_is_the_same_twice() -> None:
    """It is one name."""
    assert len(set(shortened(["a" * 30, "a" * 30, "b"], 10))) == 2


@pytest.mark.parametrize(("least", "most", "cells"), [(11, 40, 11), (4, 40, 7), (30, 40, 20), (4, 6, 6)])
def test_the_room_for_names_is_what_tells_them_apart(least: int, most: int, cells: int) -> None:
    """No less than asked for, no more than there is or the longest needs."""
    assert narrowest(SEEDS, least, most) == cells


def test_nothing_needs_no_room_and_does_no_harm() -> None:
    """A run without trials."""
    assert shortened([], 5) == ()
    assert narrowest([], 5, 9) == 1
