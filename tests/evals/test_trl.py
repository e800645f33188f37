"""TRL's own evaluation of one of our checkpoints says what ours says: `rewards/accuracies` and `rewards/margins`.

Checkpoint and anchor are exported as a user exports them, and TRL is given the held-out pairs in two ways: as text, the
way its users do, and as the token ids that we read. Both see the same ids, which is asserted, because

- we encode prompt and response apart, and TRL both together, so a token that spans the seam would be another: none does
  here, and where one did the ids alone would be comparable;
- we end a response with `tokens.end`, and TRL with the tokenizer's `eos_token`, which is set to that token;
- neither puts anything before the prompt, as these tokenizers begin no text with a token of their own.

TRL averages over batches, so one batch holds all pairs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cache import cache_root
from harness.ground import Ground, lay_ground
from harness.records import PairLogp
from harness.settings import read_bench
from harness.store import read_jsonl
from models.language_model import make_row
from models.packing import Row
from tests.harness.door import harness, write_sums

BETA = 0.1
TRIAL = "dpo_learning_rate=0.0005"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A finished trial and its anchor as TRL reads them, and what our records say of both."""

    root: Path
    ground: Ground

    @property
    def rows(self) -> list[Row]:
        """The held-out pairs in the token ids that we read."""
        return [make_row(self.ground.tokens, p.prompt, (p.chosen, p.rejected)) for p in self.ground.labelled]

    def logps(self, folder: str) -> Sequence[PairLogp]:
        return read_jsonl(self.root / "run" / folder / "pairs.jsonl", PairLogp)

    @property
    def ours(self) -> dict[str, float]:
        """The means of TRL's metrics, from pairs.jsonl of the trial and of the anchor."""
        both = zip(self.logps(f"trials/{TRIAL}@0"), self.logps("anchor"), strict=True)
        shifts = [(p.chosen_logp - a.chosen_logp, p.rejected_logp - a.rejected_logp) for p, a in both]
        margins = [BETA * (chosen - rejected) for chosen, rejected in shifts]
        return {
            "eval_rewards/chosen": mean([BETA * chosen for chosen, _ in shifts]),
            "eval_rewards/rejected": mean([BETA * rejected for _, rejected in shifts]),
            "eval_rewards/margins": mean(margins),
            "eval_rewards/accuracies": mean([float(margin > 0) for margin in margins]),
        }


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def exported(root: Path, cache: Path, model: str, data: str, prompts: int) -> Exported:
    """Train, export, and lay the ground again for its held-out pairs."""
    recipe = ("--recipes", "dpo:learning_rate=0.0005", "--judge", "rule:length", "--budget", "96pairs")
    sizes = ("--eval-prompts", prompts, "--max-new-tokens", 4, "--dtype", "float32")
    ended = harness("run", "--model", model, "--data", data, *recipe, *sizes, "--out", root / "run", cache=cache)
    assert ended.code == 0, ended.err
    for trial in (TRIAL, "anchor"):
        assert harness("export", root / "run", trial, root / trial, cache=cache).code == 0
    return Exported(root=root, ground=lay_ground(read_bench(root / "run" / "bench.toml").asked, cache, print))


def trainer(made: Exported) -> Any:
    """TRL's, in float32 on the CPU, with the held-out pairs as text."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    tokens, pairs = made.ground.tokens, made.ground.labelled
    tokenizer = AutoTokenizer.from_pretrained(made.root / TRIAL)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(tokens.end)
    data = Dataset.from_list([{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs])
    config = DPOConfig(
        output_dir=str(made.root / "trl"),
        beta=BETA,
        per_device_eval_batch_size=len(pairs),
        max_length=None,
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    policy, reference = (AutoModelForCausalLM.from_pretrained(made.root / name) for name in (TRIAL, "anchor"))
    return DPOTrainer(
        model=policy,
        ref_model=reference,
        args=config,
        processing_class=tokenizer,
        train_dataset=data,
        eval_dataset=data,
    )


def agree(made: Exported) -> dict[str, float]:
    """Both ways; what TRL said of the text."""
    from datasets import Dataset

    trl = trainer(made)
    ids = [
        {"prompt_ids": list(r.prompt), "chosen_ids": list(r.responses[0]), "rejected_ids": list(r.responses[1])}
        for r in made.rows
    ]
    read = [{name: list(row[name]) for name in ids[0]} for row in trl.eval_dataset]
    assert read == ids  # TRL made the same of the text
    by_text = trl.evaluate()
    trl.eval_dataset = Dataset.from_list(ids)
    by_ids = trl.evaluate()
    ours = made.ours
    for theirs in (by_text, by_ids):
        print({name: f"{theirs[name] - ours[name]:+.1e}" for name in ours})  # for docs/log.md: pytest -s
        assert {name: theirs[name] for name in ours} == pytest.approx(ours, abs=1e-3)
    return {name: by_text[name] for name in ours}


def test_trl_scores_a_trained_trial_as_we_do(tmp_path: Path, tiny_model_folder: Path) -> None:
    """Of a checkpoint that did move, and not alike for all pairs."""
    data = with_labels_turned(write_sums(tmp_path / "sums.jsonl", 120))
    made = exported(tmp_path, tmp_path / "cache", str(tiny_model_folder), str(data), 16)
    theirs = agree(made)
    assert abs(theirs["eval_rewards/margins"]) > 0.02  # twenty times what they may differ by
    assert 0.4 < theirs["eval_rewards/accuracies"] < 1


def with_labels_turned(path: Path) -> Path:
    """Every third row's chosen and rejected change places, so that not all pairs can be ranked rightly."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[::3]:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trl_scores_the_embedded_model_as_we_do(tmp_path: Path, smollm2_path: Path) -> None:
    """With a tokenizer that merges, on the embedded data in Alpaca's template."""
    made = exported(tmp_path, cache_root(), "smollm2-135m", "courtesy", 8)
    assert abs(agree(made)["eval_rewards/margins"]) > 0.02
