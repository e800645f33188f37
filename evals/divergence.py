"""How far a policy has moved from the anchor: Rao-Blackwellised reverse KL along its own samples (arXiv:2504.10637)."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import Pair, Sample
from models.generation import Generated
from models.language_model import LanguageModel, read_in_parts
from models.logprobs import Divergence, divergence
from models.packing import Row, pack


def measure_samples(
    policy: LanguageModel, anchor: LanguageModel, prompts: Sequence[Pair], written: Sequence[Generated]
) -> tuple[Sample, ...]:
    """Each sample of the policy with the exact KL at each of its positions, summed, and log π − log a beside it."""
    tokens = policy.tokens
    rows = [
        Row(prompt=tokens.encode_prompt(p.prompt), responses=(g.tokens,)) for p, g in zip(prompts, written, strict=True)
    ]

    def read(part: list[Row]) -> Divergence:
        batch = pack(part).to(policy.decoder.device)
        return divergence(policy.decoder, anchor.decoder, batch, dtype=policy.dtype)

    found: dict[int, Sample] = {}
    for part, (kl_R, policy_logp_R, anchor_logp_R) in read_in_parts(rows, policy.rooms.reading, read):
        for i, kl, k1 in zip(part, kl_R.tolist(), (policy_logp_R - anchor_logp_R).tolist(), strict=True):
            found[i] = Sample(
                prompt_id=prompts[i].prompt_id,
                text=tokens.decode(written[i].tokens).strip(),
                tokens=len(written[i].tokens),
                truncated=written[i].truncated,
                kl_nats=max(kl, 0.0),  # rounding alone can put an exact zero a hair below
                k1_nats=k1,
            )
    return tuple(found[i] for i in range(len(rows)))
