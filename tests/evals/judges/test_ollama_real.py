"""The real clients, a real HTTP server and a real language model behind it: whole verdicts, faults and all."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch

from evals.judges.ollama import OllamaJudge
from evals.judges.openai import OpenAiJudge
from evals.judges.protocol import Question, ask_both_orders
from harness.records import Verdict
from models.decoder import Decoder
from models.packing import Row, pack
from models.tokens import Tokens
from tests.ollama_server import OllamaServer, serve

TOP = 20
QUESTIONS = tuple(
    Question(prompt_id=question, question=question, first=first, second=second)
    for question, first, second in (
        ("What is the capital of France?", "It is Paris.", "Bananas are yellow."),
        ("What is 2 plus 2?", "Find out yourself!", "Happy to help: it is 4."),
    )
)


@dataclass(kw_only=True)
class Replier:
    """Answers a prompt with the model's own next-token distribution, its likeliest tokens; remembers what it said."""

    decoder: Decoder
    tokens: Tokens
    begun: str = "Response"  # what the server's template opens the answer with: " A" or " B" follows
    said: dict[str, dict[str, float]] = field(default_factory=dict)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, prompt_text: str) -> Mapping[str, float]:
        with self._one_at_a_time:
            if prompt_text not in self.said:
                self.said[prompt_text] = self._next_token(prompt_text)
            return self.said[prompt_text]

    @torch.no_grad()
    def _next_token(self, prompt_text: str) -> dict[str, float]:
        prompt = self.tokens.render_chat([{"role": "user", "content": prompt_text}]) + self.begun
        batch = pack([Row(prompt=self.tokens.encode_prompt(prompt))])
        hidden_ND, _ = self.decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32)
        top = (hidden_ND[-1] @ self.decoder.head.T).softmax(-1).topk(TOP)
        return {
            self.tokens.decode([token]): p for p, token in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        }


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the judge gave, and what was asked of the server for it."""

    verdicts: tuple[Verdict, ...]
    requests: int
    replier: Replier


def every_other(number: int) -> str | None:
    """The first, third… request fails, each time in another way; the next attempt succeeds."""
    return ("refused", "malformed", "cut")[number // 2 % 3] if number % 2 == 0 and number < 6 else None


@pytest.fixture(scope="module")
def session(smollm2: tuple[Decoder, Tokens]) -> Session:
    """Two questions, both orders, three of the replies failing on the way."""
    replier = Replier(decoder=smollm2[0], tokens=smollm2[1])
    with serve(OllamaServer(answer=replier, fault=every_other)) as server:
        judge = OllamaJudge("llama3.2", host=server.url, pauses_seconds=(0.0, 0.0, 0.0, 0.0))
        verdicts = ask_both_orders(judge, QUESTIONS)
    return Session(verdicts=verdicts, requests=len(server.requests), replier=replier)


def p_of_a(distribution: Mapping[str, float]) -> float:
    """P(A) / (P(A) + P(B)), every spelling of each."""
    mass = {
        label: sum(p for token, p in distribution.items() if token.strip(" *().:").upper() == label) for label in "AB"
    }
    return mass["A"] / (mass["A"] + mass["B"])


def test_every_question_gets_a_verdict_of_both_orders(session: Session) -> None:
    """A real model answers with a letter, and every verdict is scored."""
    assert [(v.prompt_id, v.problem) for v in session.verdicts] == [(q.prompt_id, None) for q in QUESTIONS]
    both = [(v.p_first, v.p_second) for v in session.verdicts]
    assert all(p is not None and 0 < p < 1 for order in both for p in order)


def test_failed_replies_are_asked_for_again_and_no_others(session: Session) -> None:
    """Four answers and three faults are seven requests."""
    assert session.requests == 7


def test_probabilities_are_those_of_the_model(session: Session) -> None:
    """Of each order's own prompt; in the second, the trial's response is B."""
    said = {(prompt, order): p_of_a(d) for prompt, order, d in orders(session.replier)}
    for question, verdict in zip(QUESTIONS, session.verdicts, strict=True):
        expected = said[question.question, "first"], 1 - said[question.question, "second"]
        assert (verdict.p_first, verdict.p_second) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def orders(replier: Replier) -> list[tuple[str, str, dict[str, float]]]:
    """What was said to each question in each order, told apart by which response comes first in the prompt."""
    found = []
    for prompt, distribution in replier.said.items():
        question = next(q for q in QUESTIONS if q.question in prompt)
        order = "first" if prompt.index(question.first) < prompt.index(question.second) else "second"
        found.append((question.question, order, distribution))
    return found


def test_the_model_reads_what_it_is_asked(session: Session) -> None:
    """Four prompts, four distributions: the orders and questions are not answered by rote."""
    assert len({tuple(sorted(said.items())) for said in session.replier.said.values()}) == 4


def test_a_model_that_would_rather_say_something_else_is_unscored(smollm2: tuple[Decoder, Tokens]) -> None:
    """Where its answer may begin with any word, a small model does not say A or B: no opinion, and not a loss."""
    replier = Replier(decoder=smollm2[0], tokens=smollm2[1], begun="")
    with serve(OllamaServer(answer=replier)) as server:
        (verdict,) = ask_both_orders(OllamaJudge("llama3.2", host=server.url), QUESTIONS[:1])
    assert (verdict.p_win, "the labels A and B together have probability 0." in str(verdict.problem)) == (None, True)


def test_a_lasting_fault_costs_its_own_verdict_alone(session: Session) -> None:
    """The first question's reply never comes: it is unscored and says why, the second is judged as before."""
    broken = QUESTIONS[0].first

    def fault(number: int) -> str | None:
        content = server.requests[number]["messages"][1]["content"]
        return "refused" if broken in content else None

    server = OllamaServer(answer=session.replier, fault=fault)
    with serve(server):
        lost, kept = ask_both_orders(OllamaJudge("llama3.2", host=server.url, pauses_seconds=(0.0,)), QUESTIONS)
    assert (lost.p_win, "the server answered 500" in str(lost.problem)) == (None, True)
    assert kept == session.verdicts[1]


def test_through_openais_api_the_verdicts_are_the_same(session: Session) -> None:
    """The same model behind it, replies failing on the way."""
    with serve(OllamaServer(answer=session.replier, fault=every_other)) as server:
        judge = OpenAiJudge(server.url, "llama3.2:latest", pauses_seconds=(0.0, 0.0, 0.0, 0.0))
        verdicts = ask_both_orders(judge, QUESTIONS)
    assert [(v.p_first, v.p_second) for v in verdicts] == [(v.p_first, v.p_second) for v in session.verdicts]
