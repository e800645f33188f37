"""Law 2: a pair in one row, what its texts and all prompts begin with shared, is two separate rows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from models.architecture import Architecture
from models.decoder import Decoder
from models.logprobs import sum_logps, target_logps, token_logps
from models.packing import Row, common_prefix, pack
from models.tokens import Tokens
from tests.tiny import GPT2, LLAMA, decoder_of, logits_of, pair_rows

SHAPES = {
    "uneven rows with a common beginning": pair_rows(6),
    "no common beginning": [Row(prompt=(9 - i, 2, 3), responses=((4, 5, 6), (7, 8))) for i in range(3)],
    "one row": pair_rows(1),
    "one row, prompt of one token": [Row(prompt=(5,), responses=((1, 2), (3, 4)))],
    "identical prompts": [Row(prompt=(1, 2, 3), responses=((4, i, 6), (i, 8))) for i in range(3)],
    "identical prompts of one token": [Row(prompt=(1,), responses=((4, i), (i, 8))) for i in range(3)],
    "one prompt begins another": [
        Row(prompt=(1, 2), responses=((3, 4), (4, 3))),
        Row(prompt=(1, 2, 3, 4), responses=((5, 6), (6,))),
    ],
    "responses of one token": [Row(prompt=(1, 2, i), responses=((4,), (5,))) for i in range(3)],
    "one token against many": [Row(prompt=(1, 2, i), responses=((4,), (5, 6, 7, 8, 9))) for i in range(3)],
    "identical responses": [Row(prompt=(1, 2, 3), responses=((4, 5), (4, 5)))],
    "identical responses of one token": [Row(prompt=(1, 2, 3), responses=((4,), (4,)))],
    "responses that begin alike": [Row(prompt=(1, 2, i), responses=((4, 5, i, 6), (4, 5, 7))) for i in range(3)],
    "one response begins another": [Row(prompt=(1, i), responses=((4, 5), (4, 5, 6, 7))) for i in range(3)],
    "some of three begin alike": [Row(prompt=(1, i), responses=((4, 5), (4, 5, 6), (4, 7, 8))) for i in range(2)],
    "one response": [Row(prompt=(1, 2, i), responses=((4, 5, i),)) for i in range(3)],
    "many responses": [Row(prompt=(1, 2, i), responses=((4, 5), (6,), (7, 8, i), (9,), (1, 1))) for i in range(2)],
}


def separate_logps(decoder: Decoder, rows: list[Row]) -> Tensor:
    """By the definition: each prompt with each response is a text of its own, its whole softmax taken."""
    sums = []
    for row in rows:
        for response in row.responses:
            batch = pack([Row(prompt=row.prompt + response)])
            hidden_ND, _ = decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32)
            logps_NV = (hidden_ND @ decoder.head.T).log_softmax(-1)
            places = torch.arange(len(response)) + len(row.prompt) - 1
            sums.append(logps_NV[places, torch.tensor(response)].sum())
    return torch.stack(sums)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def gradients(decoder: Decoder, logps_R: Tensor) -> Tensor:
    """Of a sum with other weights for each response, so that no mistake cancels out."""
    weights_R = torch.linspace(-1, 2, len(logps_R))
    found = torch.autograd.grad((weights_R * logps_R).sum(), list(decoder.parameters()))
    return torch.cat([g.flatten() for g in found])


MULTIPLES = [1, 16]  # of the stream's tokens and of its predictions; 16 is filled up


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=lambda a: a.family)
@pytest.mark.parametrize("shape", SHAPES)
def test_packed_log_probs_are_those_of_separate_rows(shape: str, architecture: Architecture, multiple: int) -> None:
    """Relative error at most 1e-5 in float32."""
    decoder, rows = decoder_of(architecture), SHAPES[shape]
    packed = sum_logps(decoder, pack(rows, multiple=multiple), dtype=torch.float32)
    assert relative_error(packed, separate_logps(decoder, rows)) <= 1e-5


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=lambda a: a.family)
@pytest.mark.parametrize("shape", SHAPES)
def test_packed_gradients_are_those_of_separate_rows(shape: str, architecture: Architecture, multiple: int) -> None:
    """Relative error at most 1e-5 in float32, over all weights together."""
    decoder, rows = copy.deepcopy(decoder_of(architecture)).requires_grad_(True), SHAPES[shape]
    packed = gradients(decoder, sum_logps(decoder, pack(rows, multiple=multiple), dtype=torch.float32))
    assert relative_error(packed, gradients(decoder, separate_logps(decoder, rows))) <= 1e-5


def test_packed_log_probs_of_smollm2_are_those_of_separate_rows(smollm2: tuple[Decoder, Tokens]) -> None:
    """Law 2 on the embedded model, with real text."""
    decoder, tokens = smollm2
    texts = [("What is 3 + 4?", "It is 7.", "It is 9, whatever."), ("What is a lemma?", "A proven step.", "No.")]
    rows = [
        Row(
            prompt=tokens.encode(f"Question: {ask}\nAnswer: "),
            responses=tuple((*tokens.encode(y), tokens.end) for y in answers),
        )
        for ask, *answers in texts
    ]
    with torch.no_grad():
        packed = sum_logps(decoder, pack(rows), dtype=torch.float32)
        assert relative_error(packed, separate_logps(decoder, rows)) <= 1e-5


def test_a_row_is_the_same_in_any_company() -> None:
    """Log-probs of a row do not depend on which rows are packed with it."""
    decoder, rows = decoder_of(), pair_rows(5)
    together = sum_logps(decoder, pack(rows), dtype=torch.float32).view(-1, 2)
    alone = torch.stack([sum_logps(decoder, pack([row]), dtype=torch.float32) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_the_rejected_response_is_not_seen_by_the_chosen_one() -> None:
    """Changing one response leaves the other's log-prob, to the last bit where lengths agree."""
    decoder = decoder_of()
    first, second = (
        sum_logps(decoder, pack([Row(prompt=(1, 2), responses=((3, 4, 5), other))]), dtype=torch.float32)[0]
        for other in ((6, 7, 8), (30, 31, 32))
    )
    assert first == second


def test_nothing_is_read_twice_and_nothing_is_padded() -> None:
    """The stream has each shared beginning once, and no last token of any response."""
    rows = pair_rows(6)
    shared = common_prefix(rows)
    assert len(pack(rows).tokens_N) == sum(r.input_tokens for r in rows) - shared * (len(rows) - 1)
    assert len(pack(rows).targets_U) == sum(r.predicted_tokens for r in rows)
    tokens = pack([Row(prompt=(1, 2), responses=((4, 5, 6), (4, 5, 7, 8)))]).tokens_N
    assert tokens.tolist() == [1, 2, 4, 5, 7]


@pytest.mark.parametrize("rows", SHAPES.values(), ids=SHAPES.keys())
def test_a_stream_is_filled_up_to_a_multiple(rows: list[Row]) -> None:
    """At its end, so that all places are those of the stream that is not."""
    plain, filled = pack(rows), pack(rows, multiple=16)
    for name in ("tokens_N", "positions_N", "segments_N", "sources_U", "targets_U"):
        found, wanted = getattr(filled, name), getattr(plain, name)
        assert len(found) == -(-len(wanted) // 16) * 16
        assert torch.equal(found[: len(wanted)], wanted)
    assert torch.equal(filled.places_M, plain.places_M)
    assert torch.equal(filled.ends_R, plain.ends_R)


def test_each_response_token_has_its_prediction() -> None:
    """Those that responses share have one for all."""
    rows = pair_rows(6)
    batch = pack(rows)
    responses = [y for row in rows for y in row.responses]
    assert batch.targets_U[batch.places_M].tolist() == [token for y in responses for token in y]
    assert batch.response_M.tolist() == [number for number, y in enumerate(responses) for _ in y]
    assert len(batch.targets_U) < len(batch.places_M)


@pytest.mark.parametrize("rows", SHAPES.values(), ids=SHAPES.keys())
def test_each_response_ends_with_the_last_of_its_tokens_that_is_read(rows: list[Row]) -> None:
    """`read_last` adds its last one, and `ends_R` is where it lies; else the one before lies there."""
    texts = [row.prompt + response for row in rows for response in row.responses]
    for read_last in (False, True):
        batch = pack(rows, read_last=read_last)
        assert batch.tokens_N[batch.ends_R].tolist() == [text[-1 if read_last else -2] for text in texts]


@pytest.mark.parametrize("rows", SHAPES.values(), ids=SHAPES.keys())
def test_reading_the_last_token_changes_no_log_prob(rows: list[Row]) -> None:
    """It is read, and nothing predicted comes after it."""
    decoder = decoder_of()
    plain, longer = (token_logps(decoder, pack(rows, read_last=last), dtype=torch.float32) for last in (False, True))
    torch.testing.assert_close(plain, longer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("prompts", "shared"),
    [
        ([(1, 2, 3), (1, 2, 4)], 2),
        ([(1, 2, 3), (1, 2, 3)], 2),
        ([(1,), (1, 2)], 0),
        ([(2, 1), (1, 2)], 0),
        ([(1, 2, 3)], 0),
    ],
)
def test_every_prompt_keeps_a_token_of_its_own(prompts: list[tuple[int, ...]], shared: int) -> None:
    """The common beginning stops before the shortest prompt does; one row shares with nobody."""
    assert common_prefix([Row(prompt=p) for p in prompts]) == shared


@pytest.mark.parametrize("rows", SHAPES.values(), ids=SHAPES.keys())
def test_attended_pairs_are_counted_as_the_mask_has_them(rows: list[Row]) -> None:
    """A row's `attended` is the number of True entries in its mask."""
    for row in rows:
        batch = pack([row])
        assert int(batch.mask_B1TS.sum()) == row.attended


def test_prompts_without_responses_can_be_read() -> None:
    """What generation packs: hidden states of prompts alone are those of each prompt."""
    decoder, prompts = decoder_of(), [(1, 2, 3), (1, 2, 4, 5)]
    batch = pack([Row(prompt=p) for p in prompts])
    with torch.no_grad():
        hidden_ND, _ = decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=torch.float32)
    last = (hidden_ND @ decoder.head.T)[-1]
    torch.testing.assert_close(last, logits_of(decoder, prompts[1])[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("rows", SHAPES.values(), ids=SHAPES.keys())
def test_a_gpus_grid_and_a_processors_tiles_attend_alike(architecture: Architecture, rows: list[Row]) -> None:
    decoder, batch = decoder_of(architecture).requires_grad_(True), pack(rows, multiple=8)
    found = []
    for attend in (batch.attend_in_grid, batch.attend_in_tiles):
        hidden_ND, _ = decoder(
            batch.tokens_N, batch.positions_N, lambda _, *qkv, attend=attend: attend(*qkv), dtype=torch.float32
        )
        logps_M = target_logps(hidden_ND, decoder.head, batch, dtype=torch.float32)
        found.append((hidden_ND.detach(), gradients(decoder, logps_M)))
    (grid_ND, grid), (tiles_ND, tiles) = found
    assert relative_error(tiles_ND, grid_ND) < 1e-5
    assert relative_error(tiles, grid) < 1e-5
