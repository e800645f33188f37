"""The judge on a server of OpenAI's API, against a real HTTP server: what it asks, how it reads, what it survives."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from evals.judges.openai import OpenAiJudge, make
from evals.judges.protocol import Opinion, Question, ask_both_orders
from harness.errors import HarnessError
from tests.ollama_server import ODD, OllamaServer, now_and_then, serve

MODEL = "llama3.2:latest"


def question(number: int = 0, first: str = "Paris", second: str = "Rome") -> Question:
    return Question(prompt_id=f"p{number}", question=f"Capital of country {number}?", first=first, second=second)


def prefers_a(prompt_text: str) -> Mapping[str, float]:
    return {"A": 0.6, "B": 0.2, "The": 0.2}


def prefers_paris(prompt_text: str) -> Mapping[str, float]:
    return {"A": 0.9, "B": 0.1} if prompt_text.index("Paris") < prompt_text.index("Rome") else {"A": 0.1, "B": 0.9}


def judge_of(server: OllamaServer, *, path: str = "", timeout_seconds: float = 5.0) -> OpenAiJudge:
    return OpenAiJudge(f"{server.url}{path}", MODEL, timeout_seconds=timeout_seconds, pauses_seconds=(0, 0))


def ask(server: OllamaServer, *questions: Question) -> list[Opinion]:
    with serve(server):
        return judge_of(server).p_first_wins(questions or (question(),))


def test_probability_is_that_of_a_among_both_labels() -> None:
    """P(A) is divided by what A and B have together."""
    assert ask(OllamaServer(answer=prefers_a))[0].p_first == pytest.approx(0.75)


def test_one_token_is_asked_for_at_temperature_zero() -> None:
    """With a seed, the most alternatives, and no thinking."""
    server = OllamaServer(answer=prefers_a)
    ask(server)
    sent = {key: value for key, value in server.requests[0].items() if key != "messages"}
    assert sent == {
        "model": MODEL,
        "max_tokens": 1,
        "temperature": 0,
        "seed": 0,
        "logprobs": True,
        "top_logprobs": 20,
        "chat_template_kwargs": {"enable_thinking": False},
    }


@pytest.mark.parametrize(("token", "p_first"), [("A", 1.0), (" b.", 0.0), ("The", None)])
def test_servers_without_logprobs_are_read_by_their_letter(token: str, p_first: float | None) -> None:
    """Those that leave them out say nothing of it."""
    assert ask(OllamaServer(answer=lambda text: {token: 1.0}, gives_logprobs=False))[0].p_first == p_first


@pytest.mark.parametrize("refused", ["logprobs", "top_logprobs", "seed", "chat_template_kwargs"])
def test_what_a_server_refuses_is_left_out_and_not_asked_for_again(refused: str) -> None:
    """A 400 that names it costs one request, not a verdict."""
    server = OllamaServer(answer=prefers_paris, refuses=(refused,))
    opinions = ask(server, *map(question, range(12)))
    assert all(opinion.p_first is not None and opinion.p_first >= 0.9 for opinion in opinions)
    assert sum(refused in sent for sent in server.requests) <= 4  # those that were under way together


def test_a_server_may_refuse_everything_that_it_need_not_know() -> None:
    """One after the other."""
    server = OllamaServer(answer=prefers_paris, refuses=("seed", "top_logprobs", "chat_template_kwargs", "logprobs"))
    assert ask(server)[0].p_first == 1.0


@pytest.mark.parametrize("fault", ["refused", "malformed", "incomplete", "cut", "busy", *ODD])
def test_a_passing_fault_loses_no_verdict(fault: str) -> None:
    """Every other reply is bad, and every question is answered in the end."""
    server = OllamaServer(
        answer=prefers_paris, fault=lambda number: fault if number % 2 == 0 else None, retry_after="0"
    )
    assert [ask(server, question(n))[0].p_first for n in range(3)] == pytest.approx([0.9] * 3)


def test_a_slow_reply_is_asked_for_again() -> None:
    """A reply past the time limit is given up and the question repeated."""
    server = OllamaServer(answer=prefers_paris, fault=lambda number: "slow" if number == 0 else None)
    with serve(server):
        opinions = judge_of(server, timeout_seconds=0.3).p_first_wins([question()])
    assert opinions[0].p_first == pytest.approx(0.9)


def test_one_tenth_of_replies_failing_loses_no_verdict() -> None:
    """Refused, slow, cut and malformed ones, sixty questions in both orders."""
    server = OllamaServer(answer=prefers_paris, fault=now_and_then(seed=1))
    asked = [question(n) for n in range(60)]
    with serve(server):
        judge = OpenAiJudge(server.url, MODEL, timeout_seconds=0.4, pauses_seconds=(0.01, 0.02, 0.04, 0.08))
        verdicts = ask_both_orders(judge, asked)
    assert [v.p_win for v in verdicts] == pytest.approx([0.9] * 60)
    assert len(server.requests) > 125  # so faults there were


def test_what_the_server_says_of_the_model_is_pinned() -> None:
    """The weights, who has them and how large they are; not when it was asked or how much it reads at once."""
    with serve(OllamaServer(answer=prefers_a)) as server:
        first, second = judge_of(server).description, judge_of(server).description
    assert first == second
    assert "(owned by tests, weights weights/llama, n_params 134515008)" in first
    assert "4096" not in first


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_an_address_without_a_path_means_v1(path: str) -> None:
    """With or without, and with a slash too much: the same place."""
    with serve(OllamaServer(answer=prefers_a)) as server:
        assert f"at {server.url}/v1, asked" in judge_of(server, path=path).description


def test_the_key_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenAI's own clients send it."""
    monkeypatch.setenv("OPENAI_API_KEY", " sk-secret \n")
    with serve(OllamaServer(answer=prefers_a, key="sk-secret")) as server:
        assert judge_of(server).p_first_wins([question()])[0].p_first == pytest.approx(0.75)


def test_a_wrong_key_is_one_line_that_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the server repeats it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    said = r"wants another key \(the server answered 401: Incorrect API key: Bearer …\): set OPENAI_API_KEY"
    with serve(OllamaServer(answer=prefers_a, key="sk-secret")) as server, pytest.raises(HarnessError, match=said):
        judge_of(server)


def test_a_key_that_cannot_be_sent_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key in it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-gehéim")
    with pytest.raises(HarnessError, match=r"^OPENAI_API_KEY holds characters that no key has: set it again$"):
        OpenAiJudge("http://127.0.0.1:1", MODEL)


def test_a_missing_model_is_one_line_with_what_is_close() -> None:
    """Or with what there is."""
    with serve(OllamaServer(answer=prefers_a)) as server:
        for asked, hint in (("llama3.2", "did you mean 'llama3.2:latest'"), ("qwen", "it has llama3.2:latest")):
            with pytest.raises(HarnessError, match=f"judge '{asked}' is not on the server at .*: {hint}"):
                make(f"{server.url}#{asked}")


def test_a_server_that_keeps_no_list_is_asked_all_the_same() -> None:
    """Where it answers a question, it is taken at its word."""
    with serve(OllamaServer(answer=prefers_a, lists=False)) as server:
        assert "does not list its models" in judge_of(server).description


def test_a_wrong_path_is_one_line_before_any_work() -> None:
    """No list there and no answer either."""
    with serve(OllamaServer(answer=prefers_a)) as server:
        said = r"no chat model answers at .*/v2/chat/completions \(the server answered 404: no\)"
        with pytest.raises(HarnessError, match=said):
            judge_of(server, path="/v2")


def test_no_server_is_one_line_with_the_remedy() -> None:
    """Where nothing answered."""
    said = r"no server answers at http://127.0.0.1:9/v1 \(ConnectError: .*\): start it, or use --judge probe"
    with pytest.raises(HarnessError, match=said):
        OpenAiJudge("http://127.0.0.1:9", MODEL, pauses_seconds=())


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        (None, r"judge 'openai:' names no server: write it as openai:BASE_URL#MODEL"),
        ("http://localhost:8000", r"names no model: write it as"),
        ("http://localhost:8000#", r"names no model"),
        ("#llama", r"names no server"),
        ("localhost:8000#llama", r"judge address 'localhost:8000' is none: it begins with http:// or https://"),
        ("http://#llama", r"judge address 'http://' is none"),
        ("http://localhost:port#llama", r"judge address 'http://localhost:port' is none"),
        ("http://localhost:8000/v1/chat/completions#llama", r"leave /chat/completions out"),
        ("http://me:secret@localhost#llama", r"^(?!.*secret).*leave out user, password and query"),
        ("http://localhost/v1?key=secret#llama", r"^(?!.*secret).*leave out user, password and query"),
    ],
)
def test_a_mistyped_address_is_one_line(detail: str | None, said: str) -> None:
    """It shows how to write it, and no secret."""
    with pytest.raises(HarnessError, match=said):
        make(detail)
