"""The README.md of an exported checkpoint: what it scored and how sure, what made it, how to use it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.records import JudgeCard, RunRecord, TrialScores
from reports.deciding import deciding
from reports.glossary import term
from reports.judges import verdict_of
from reports.markdown import fenced, inline
from reports.numbers import MISSING, flops, phrase, score_cell
from reports.sides import Side
from reports.text import one_line

# Models that come under another name than the Hub's: their name there, and their licence.
_KNOWN = {"smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
_FIRST = ("reward_accuracy", "reward_margin_nats", "kl_nats", "correct")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, as far as its card speaks of it."""

    form: str  # "hf", "gguf" or "peft"
    dtype: str  # of the weights
    name: str  # a short one, for servers
    before: str  # what the model reads before a question
    after: str  # and after it
    retrained: bool = False  # the cache had lost the checkpoint
    same_log: bool = True  # it was trained again to the same log, to the last digit

    @property
    def weights(self) -> str:
        """The GGUF file's name."""
        return f"{self.name}-F16.gguf"

    @property
    def hint(self) -> str:
        """How to begin with it."""
        if self.form == "gguf":
            return f"ollama create {self.name} -f Modelfile, typed there; README.md says more"
        return "README.md says how to use it"


def model_card(run: RunRecord, side: Side, exported: Exported) -> str:
    """Markdown with the Hub's header. Nothing in it that a stranger wrote acts as markup."""
    sections = {
        "Scores": _scores(run, side, exported),
        "The judges": _judges(run),
        "How it was made": _making(run, side, exported),
        "How to use it": _use(run, exported),
        "Licence": _licence(run),
    }
    parts = [_header(run, side, exported), f"# {_said(_title(run, side))}", _said(_opening(run, side))]
    for title, blocks in sections.items():
        parts += [f"## {title}", *blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(run: RunRecord, side: Side) -> str:
    return f"{run.bench.model}: {side.name}"


def _opening(run: RunRecord, side: Side) -> str:
    bench = run.bench
    what = "the anchor, an SFT checkpoint that all trials of its bench are scored against"
    if side.trial is not None:
        what = f"recipe {side.trial.recipe}, seed {side.trial.seed}"
    return f"{bench.model} after preference tuning on {bench.data} with prefbench: {what}."


def _header(run: RunRecord, side: Side, exported: Exported) -> str:
    """The Hub's metadata, in YAML; JSON's strings are YAML's."""
    base, licence = base_of(run)
    facts: dict[str, object] = {
        "library_name": {"hf": "transformers", "peft": "peft"}.get(exported.form, "gguf"),
        "pipeline_tag": "text-generation",
        "tags": ["prefbench", re.sub(r"[^\w.-]", "-", side.trial.recipe if side.trial else side.name)],
        **({"base_model": base} if base else {}),
        **({"license": licence} if licence else {}),
    }
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in facts.items()), "---"])


def base_of(run: RunRecord) -> tuple[str, str]:
    """The base model's name on the Hub and its licence, each empty where it is not known."""
    if run.bench.model in _KNOWN:
        return _KNOWN[run.bench.model]
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)@[0-9a-f]{7,}", run.bench.model)
    return (found[1] if found else "", "")


def _scores(run: RunRecord, side: Side, exported: Exported) -> Iterator[str]:
    scores = side.trial.scores if side.trial else run.anchor_scores
    if scores is None:
        yield "This run has no scores of its anchor."
        return
    basis = deciding(run)
    yield (
        f"On held-out prompts and pairs of {_said(run.bench.data)}; n is their number, the interval is 95%. "
        f"The run's answer rests on {inline(term(basis.metric).title.lower())}."
    )
    yield _table(("Metric", "Value", "95% interval", "n", "What it says"), _score_rows(scores, basis.metric))
    seeds = "With one seed this speaks of this checkpoint, not of the recipe." if run.bench.seeds == 1 else ""
    yield f"{_again(exported)} {seeds}".strip()


def _score_rows(scores: TrialScores, first: str) -> Iterator[tuple[str, ...]]:
    """The deciding metric, the most telling ones, then the rest."""
    names = dict.fromkeys((first, *_FIRST, *scores.scores))
    for name in names:
        if name in scores.scores:
            cell, what = score_cell(scores.scores[name]), term(name)
            n = MISSING if cell.n is None else f"{cell.n:,}"
            yield (what.title, cell.value, cell.interval or MISSING, n, what.meaning)


def _again(exported: Exported) -> str:
    if not exported.same_log:
        return (
            "**The checkpoint was trained again, and went another way than in the run** (other code, another machine): "
            "these are the scores of the one that was lost."
        )
    if exported.retrained:
        return "The checkpoint was trained again for this export; its log is the run's, to the last digit."
    return ""


def _judges(run: RunRecord) -> Iterator[str]:
    if not run.judges:
        yield "None was asked."
    yield "\n".join(f"- {_said(_judge(card))}" for card in run.judges)


def _judge(card: JudgeCard) -> str:
    accuracy = f"ranks {phrase(card.accuracy)} of labelled pairs rightly"
    return f"{one_line(card.name, 80)} ({one_line(card.description, 120)}): {accuracy}. {verdict_of(card)}"


def _making(run: RunRecord, side: Side, exported: Exported) -> Iterator[str]:
    bench = run.bench
    budget = f"{bench.budget} a trial"
    if bench.budget_flops is not None:
        budget += f" = {flops(bench.budget_flops)}"
    facts = {
        "Base model": f"{bench.model} (sha256 {bench.model_digest})",
        "What the base is": bench.model_note,
        "Data": f"{bench.data} (digest {bench.data_digest})",
        "Template": bench.template,
        "Budget": budget,
        **_recipe(run, side),
        "Adapter": bench.adapter,
        "Computed in": bench.dtype,
        "Weights here": {"hf": f"safetensors in {exported.dtype}", "gguf": "GGUF in F16"}.get(
            exported.form, "the adapter alone, in float32"
        ),
        "Bench digest": bench.digest,
        "Made again by": bench.command,
    }
    yield _table(("", ""), ((name, one_line(value, 300)) for name, value in facts.items() if value))


def _recipe(run: RunRecord, side: Side) -> Mapping[str, str]:
    if side.trial is None:
        return {"Recipe": "the anchor: SFT on the chosen responses with the budget's first part"}
    recipe = side.trial.recipe
    knobs = ", ".join(f"{name}={value}" for name, value in run.bench.recipe_knobs.get(recipe, {}).items())
    return {
        "Recipe": f"{recipe}: {run.bench.recipe_summaries.get(recipe, '')}".rstrip(": "),
        "Knobs": knobs,
        "Seed": str(side.trial.seed),
        "Trained for": flops(side.trial.ledger.flops),
    }


def _use(run: RunRecord, exported: Exported) -> Iterator[str]:
    limit = run.bench.max_new_tokens or 64
    yield "It was trained to answer prompts of this form, which the chat template here writes:"
    yield fenced(f"{exported.before}What is 3 plus 4?{exported.after}", 4000, wrap=False)
    if run.bench.template == "alpaca":
        yield "Where an instruction has an input, it follows in the same message, after a blank line and `### Input:`."
    if exported.form == "gguf":
        yield "With Ollama, in this folder (written for it, not tried against its server):"
        yield f"```sh\n{_ollama(exported)}\n```"
        yield f"With llama.cpp: `llama-server -m {exported.weights} --jinja`."
        return
    yield "With transformers, in this folder:"
    yield f"```python\n{_python(exported.form, limit)}\n```"
    if exported.form == "peft" and run.bench.model_note:
        yield _said(f"The adapter was trained on a {run.bench.model_note}; on other weights it computes other numbers.")
    if exported.form == "hf":
        yield f"With vLLM, in this folder: `vllm serve . --served-model-name {exported.name}`."
        yield "For Ollama, export it once more with `--to gguf`."
    yield "Responses were judged as greedy decoding writes them; sampling gives others."


def _python(form: str, limit: int) -> str:
    kind = {"hf": "AutoModelForCausalLM"}.get(form, "AutoPeftModelForCausalLM")
    sources = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    if form == "peft":
        sources = ["from peft import AutoPeftModelForCausalLM", "from transformers import AutoTokenizer"]
    return "\n".join(
        (
            *sources,
            "",
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            f'model = {kind}.from_pretrained(".")',
            'messages = [{"role": "user", "content": "What is 3 plus 4?"}]',
            "prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)",
            'inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)',
            f"written = model.generate(**inputs, max_new_tokens={limit})",
            'print(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
        )
    )


def _ollama(exported: Exported) -> str:
    return f"ollama create {exported.name} -f Modelfile\nollama run {exported.name} 'What is 3 plus 4?'"


def _licence(run: RunRecord) -> Iterator[str]:
    base, licence = base_of(run)
    if licence:
        yield f"The base model, {_said(base)}, is under {licence}, which holds for these weights too."
    else:
        yield (
            f"The licence of the base model, {_said(run.bench.model)}, holds for these weights too: see where it came "
            "from."
        )
    yield f"What the licence of the data ({_said(run.bench.data)}) asks of models trained on it holds besides."


def _said(text: str) -> str:
    """On one line, nothing hidden in it, and no markup."""
    return inline(one_line(text, 600))


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = tuple(titles)
    lines = [titles, tuple("---" for _ in titles), *(tuple(map(_said, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
