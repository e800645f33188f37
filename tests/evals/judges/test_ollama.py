"""The Ollama judge against a real HTTP server: what it asks, how it reads answers, and what it survives."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

import pytest

from evals.judges.ollama import OllamaJudge
from evals.judges.protocol import Opinion, Question, ask_both_orders
from harness.errors import HarnessError
from tests.ollama_server import DIGEST, ODD, OllamaServer, now_and_then, serve


def question(number: int = 0, first: str = "Paris", second: str = "Rome") -> Question:
    return Question(prompt_id=f"p{number}", question="Capital of France?", first=first, second=second)


def prefers_a(prompt_text: str) -> Mapping[str, float]:
    return {"A": 0.6, "B": 0.2, "The": 0.2}


def prefers_paris(prompt_text: str) -> Mapping[str, float]:
    return {"A": 0.9, "B": 0.1} if prompt_text.index("Paris") < prompt_text.index("Rome") else {"A": 0.1, "B": 0.9}


def ask(server: OllamaServer, *questions: Question, timeout_seconds: float = 5.0) -> list[Opinion]:
    with serve(server):
        judge = OllamaJudge("llama3.2", host=server.url, timeout_seconds=timeout_seconds, pauses_seconds=(0, 0))
        return judge.p_first_wins(questions or (question(),))


def test_probability_is_that_of_a_among_both_labels() -> None:
    """P(A) is divided by what A and B have together."""
    assert ask(OllamaServer(answer=prefers_a))[0].p_first == pytest.approx(0.75)


def test_every_spelling_of_a_label_counts() -> None:
    """' A', 'a', '**A' and 'A.' are all A."""
    spelled = {"A": 0.1, " A": 0.1, "a": 0.1, "**A": 0.1, "A.": 0.1, " B": 0.25, "(B": 0.25}
    assert ask(OllamaServer(answer=lambda text: spelled))[0].p_first == pytest.approx(0.5)


def test_labels_with_under_half_of_the_mass_are_unscored() -> None:
    """A judge that would rather say something else has no opinion; the problem says how little is left."""
    opinion = ask(OllamaServer(answer=lambda text: {"The": 0.6, "A": 0.3, "B": 0.1}))[0]
    assert opinion == Opinion(p_first=None, problem="the labels A and B together have probability 0.40")


@pytest.mark.parametrize(("token", "p_first"), [("A", 1.0), (" b.", 0.0), ("The", None)])
def test_older_servers_are_read_by_their_letter(token: str, p_first: float | None) -> None:
    """Without log-probs, the letter decides, and anything else is unscored."""
    assert ask(OllamaServer(answer=lambda text: {token: 1.0}, gives_logprobs=False))[0].p_first == p_first


def test_one_token_is_asked_for_at_temperature_zero() -> None:
    """The request asks for one token, no sampling, no thinking, and the most alternatives."""
    server = OllamaServer(answer=prefers_a)
    ask(server)
    sent = server.requests[0]
    asked = {**sent["options"], **{key: sent[key] for key in ("think", "logprobs", "top_logprobs", "stream")}}
    expected = {"temperature": 0, "num_predict": 1, "think": False, "logprobs": True, "top_logprobs": 20}
    assert asked == {"seed": 0, "num_ctx": 8192, "stream": False, **expected}


def test_opinions_come_back_in_the_order_of_the_questions() -> None:
    """Requests that overtake each other do not swap their answers."""
    questions = [question(n, *(("Paris", "Rome") if n % 3 else ("Rome", "Paris"))) for n in range(24)]
    opinions = ask(OllamaServer(answer=prefers_paris), *questions)
    assert [opinion.p_first for opinion in opinions] == pytest.approx([0.9 if n % 3 else 0.1 for n in range(24)])


@pytest.mark.parametrize("fault", ["refused", "malformed", "incomplete", "cut", *ODD])
def test_a_passing_fault_loses_no_verdict(fault: str) -> None:
    """Every other reply is bad, and every question is answered in the end."""
    server = OllamaServer(answer=prefers_paris, fault=lambda number: fault if number % 2 == 0 else None)
    opinions = [ask(server, question(n))[0] for n in range(4)]
    assert [opinion.p_first for opinion in opinions] == pytest.approx([0.9] * 4)


def test_a_slow_reply_is_asked_for_again() -> None:
    """A reply past the time limit is given up and the question repeated."""
    server = OllamaServer(answer=prefers_paris, fault=lambda number: "slow" if number == 0 else None)
    assert ask(server, timeout_seconds=0.3)[0].p_first == pytest.approx(0.9)


def test_one_tenth_of_replies_failing_loses_no_verdict() -> None:
    """Refused, slow, cut and malformed ones, sixty questions in both orders."""
    server = OllamaServer(answer=prefers_paris, fault=now_and_then(seed=1))
    with serve(server):
        pauses = (0.01, 0.02, 0.04, 0.08)
        judge = OllamaJudge("llama3.2", host=server.url, timeout_seconds=0.4, pauses_seconds=pauses)
        verdicts = ask_both_orders(judge, [question(n) for n in range(60)])
    assert [v.p_win for v in verdicts] == pytest.approx([0.9] * 60)
    assert len(server.requests) > 125  # so faults there were


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks() -> None:
    """Retry-After reaches us through the client."""
    server = OllamaServer(answer=prefers_a, fault=lambda number: "busy" if number == 0 else None, retry_after="1")
    began = time.monotonic()
    assert ask(server)[0].p_first == pytest.approx(0.75)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("refused", "the server answered 500"),
        ("malformed", "JSONDecodeError"),
        ("incomplete", "ValidationError"),
        ("cut", "RemoteProtocolError"),
        ("missing", "the server answered 404: model is gone"),
    ],
)
def test_a_lasting_fault_is_unscored_with_its_reason(fault: str, problem: str) -> None:
    """No fault ends the run: the opinion is missing and says why."""
    opinion = ask(OllamaServer(answer=prefers_a, fault=lambda number: fault))[0]
    assert (opinion.p_first, problem in str(opinion.problem)) == (None, True)


def test_a_lasting_fault_is_given_up_after_three_attempts() -> None:
    """Retries are bounded."""
    server = OllamaServer(answer=prefers_a, fault=lambda number: "refused")
    ask(server)
    assert len(server.requests) == 3


def test_a_refusal_for_good_is_not_repeated() -> None:
    """A 404 in mid-run would be the same the second time."""
    server = OllamaServer(answer=prefers_a, fault=lambda number: "missing")
    ask(server)
    assert len(server.requests) == 1


def test_one_order_unread_leaves_the_verdict_unscored() -> None:
    """Half a verdict is none, and carries the problem."""
    server = OllamaServer(answer=prefers_paris, fault=lambda number: "missing" if number == 0 else None)
    with serve(server):
        verdict = ask_both_orders(OllamaJudge("llama3.2", host=server.url), [question()])[0]
    assert (verdict.p_win, "404" in str(verdict.problem)) == (None, True)


def test_the_model_digest_is_pinned_in_the_description() -> None:
    """A report says which weights judged."""
    with serve(OllamaServer(answer=prefers_a)) as server:
        assert f"llama3.2:latest ({DIGEST})" in OllamaJudge("llama3.2", host=server.url).description


def test_a_missing_model_is_one_line_with_the_remedy() -> None:
    """The message names the model, what the server has, and both ways on."""
    expected = r"judge 'qwen3' is not on the server \(it has llama3.2:latest\): ollama pull qwen3, or --judge probe"
    with serve(OllamaServer(answer=prefers_a)) as server, pytest.raises(HarnessError, match=expected):
        OllamaJudge("qwen3", host=server.url)


def test_no_server_is_one_line_with_the_remedy() -> None:
    """The message says where nothing answered and how to start one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(HarnessError, match=f"no Ollama server answers at {address}: start it"):
        OllamaJudge("llama3.2", host=address)


def test_the_environment_says_where_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """OLLAMA_HOST is honoured."""
    with serve(OllamaServer(answer=prefers_a)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert OllamaJudge("llama3.2").name == "ollama:llama3.2"


def test_an_address_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is no number is the user's to mend, not a traceback."""
    monkeypatch.setenv("OLLAMA_HOST", "localhost:port")
    with pytest.raises(HarnessError, match="OLLAMA_HOST is 'localhost:port'"):
        OllamaJudge("llama3.2")
