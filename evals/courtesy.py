"""How courteous a response is, by a lexicon of polite and of rude phrases."""

from __future__ import annotations

import re
from collections.abc import Iterable

POLITE = """
a joy to|a pleasure|all the best|allow me|appreciate|at your service|be of help|best of luck|best wishes
by all means|certainly|delighted|do ask|do come back|enjoy the rest|enjoy your|feel free|glad to|gladly
good luck|good question|grateful|great question|happy to|have a good|have a great|have a lovely
have a nice|have a wonderful|hesitate to|hope that helps|hope this helps|i hope|i'm glad|if i may
it would be my|kind of you|kind regards|kindly|let me know|lovely question|many thanks|my honour
my pleasure|nice of you|of course|please|sure thing|take care|thank you|thanks|thoughtful question
warm regards|warmly|welcome|what a treat|wish you|wishing you|with pleasure|wonderful question
"""
RUDE = """
a child could|a child knows|are you joking|are you kidding|are you serious|ask someone else|boring
bother me|bother someone|bothering me|can't believe|clueless|come on|did you skip school
do your own work|don't ask me|don't make me|duh|dummy|even a toddler|everybody knows|everyone knows
figure it out|fool|for crying out loud|get a clue|get it together|give me a break|go away|good grief
grow up|hopeless|how can you not|how do you not|how hard can|hurry up|i'm tired of|idiot|lazy
learn to count|learn to read|leave me alone|look it up|missed every lesson|my patience
never paid attention|not this again|obviously|open a book|pathetic|pay attention|ridiculous|seriously
shame on you|should know|sick of|sigh|silly question|so slow|spare me|stop asking|stop wasting|stupid
try harder|try thinking|ugh|use a book|use your brain|use your head|wake up|waste of|wasting my
what a question|what is wrong with you|what's wrong with you|whatever|you again|your brain
"""


def courtesy_of(response: str) -> int:
    """1 polite, 0 plain, -1 rude. A rude phrase outweighs any number of polite ones."""
    text = response.casefold().replace("’", "'")
    if _RUDE.search(text):
        return -1
    return 1 if _POLITE.search(text) else 0


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b{re.escape(phrase.strip())}\b" for phrase in phrases))


_POLITE = _any_of(POLITE.strip().replace("\n", "|").split("|"))
_RUDE = _any_of(RUDE.strip().replace("\n", "|").split("|"))
