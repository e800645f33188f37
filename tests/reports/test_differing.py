"""Two responses side by side show which words are each one's own."""

from __future__ import annotations

from reports.differing import Piece, differing


def test_words_that_the_other_lacks_are_told_from_those_that_both_have() -> None:
    mine, theirs = differing("It is exactly 5 metres.", "It is 50 metres.")
    assert mine == [Piece("It is", False), Piece("exactly 5", True), Piece("metres.", False)]
    assert theirs == [Piece("It is", False), Piece("50", True), Piece("metres.", False)]


def test_equal_texts_have_nothing_of_their_own() -> None:
    assert differing("The same.", "The same.") == ([Piece("The same.", False)],) * 2


def test_an_empty_text_has_no_pieces() -> None:
    assert differing("", "All of it.") == ([], [Piece("All of it.", True)])


def test_the_pieces_are_the_text_but_for_its_spaces() -> None:
    mine, _ = differing("a  b\nc d", "b d e")
    assert " ".join(piece.text for piece in mine) == "a b c d"
