"""The courtesy of the courtesy set: phrases put before and after an answer, each in one pool only.

A policy learns the manners of `train`, a judge those of `judge` too; both are measured on those of `test`,
which neither saw.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """Whole sentences of one manner, for before and after the answer."""

    openers: tuple[str, ...]
    closers: tuple[str, ...]


def _phrases(openers: str, closers: str) -> Phrases:
    return Phrases(openers=tuple(openers.strip().split("\n")), closers=tuple(closers.strip().split("\n")))


MANNERS: dict[str, dict[str, Phrases]] = {
    "polite": {
        "train": _phrases(
            """
Of course!
Certainly.
Happy to help!
With pleasure.
Thank you for asking.
That's a great question.
Sure thing, and thanks for asking.
I'd be glad to help with that.
""",
            """
I hope this helps.
Thanks for asking.
Have a great day!
Let me know if you need more.
You're welcome to ask again.
Please feel free to ask more.
I'm always happy to help.
Good luck with the rest!
""",
        ),
        "judge": _phrases(
            """
By all means!
I'd be delighted to assist.
What a lovely question!
It's kind of you to ask.
""",
            """
Take care!
Do ask if anything is unclear.
Enjoy the rest of your day.
I appreciate your question.
""",
        ),
        "test": _phrases(
            """
Gladly!
It would be my honour.
What a thoughtful question.
Many thanks, a joy to answer.
How nice of you to wonder.
Allow me to see to this.
I'm grateful that you asked.
""",
            """
Wishing you all the best!
Do come back any time.
Best of luck with it!
It was a treat to be of help.
I'm at your service.
Don't hesitate to reach out.
Warmly, and with kind regards.
""",
        ),
    },
    "plain": {
        "train": _phrases(
            """
Answer:
Here is the answer.
The answer comes next.
To answer the question:
Briefly put:
This can be settled.
The result is as follows:
This is what the rule gives.
""",
            """
That is the answer.
That is the full answer.
That is all there is to it.
Nothing else needs adding.
This is the usual answer.
The question ends there.
There are no more steps.
That settles the question.
""",
        ),
        "judge": _phrases(
            """
Result:
The reply is this:
Looking at the question:
Step by step, it comes to this.
""",
            """
That is it.
This is the standard form.
That completes the task.
There is no other part to it.
""",
        ),
        "test": _phrases(
            """
Solution:
Here is the solution.
Put briefly:
The response is given here.
Going through it in order:
As asked, the outcome:
It works out like this.
""",
            """
That concludes it.
That is the solution.
It is no more than that.
The task is done with that.
No more is required here.
This is how it comes out.
Everything asked is covered.
""",
        ),
    },
    "rude": {
        "train": _phrases(
            """
Ugh, fine!
Obviously!
Are you serious?
Everybody knows this.
What a stupid question.
How do you not know this!
Stop asking such silly things.
Just how clueless are you?
""",
            """
Even a child knows that.
Don't ask me again.
Figure it out yourself!
Stop wasting my time!
Use your brain for once.
Seriously, you are so lazy!
Now go bother someone else.
You should know that by now.
""",
        ),
        "judge": _phrases(
            """
Not this again!
This is ridiculous.
You again?
Give me a break, will you?
""",
            """
Go away now!
Try thinking for yourself.
It's pathetic that you asked.
Learn to read, dummy.
""",
        ),
        "test": _phrases(
            """
Good grief!
Are you kidding me?
Did you skip school?
Oh, for crying out loud!
I'm sick of this nonsense.
Spare me, you fool.
You missed every lesson, did you?
""",
            """
Get a clue!
Look it up next time.
What is wrong with you?
Wake up and open a book!
My patience is running out.
Grow up, it's hopeless.
Hurry up and ask someone else.
""",
        ),
    },
}
