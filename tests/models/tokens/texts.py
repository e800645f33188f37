"""Texts that are hard to cut, and tokenizers of each published kind, trained on such texts."""

from __future__ import annotations

import json
import random
import sys
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from models.tokens.cutting import GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN

TRICKY = (
    *("a  1", "a 1", "  1", "1  2", "1\n2", "12 345", " 12", "x1y2", "3.14", "1,000", "\t7", "a\n\n1", " \n 1", "1 "),
    *("don't won't I'll we've he'd she's I'm they're", "DON'T", "'tis", "rock'n'roll", "’s", "' s", "x'1", "'1"),
    *("٣٤٥ مرحبا ١", "९८७ नमस्ते", "x²+y³", "½ ¾ Ⅷ ①", "a ²", "a  ²", "a  ٣", "一二三 3", "𝟘𝟙", "x ½ y", "10²"),
    *("    if x:\n        return 1", "\t\tfor i in range(10):\n", "a\r\nb\r\n\r\n1", "\x00\x01", "\u200b1", "\xa01"),
    *(
        "\u3000 1",
        "\u2028",
        " \u20091",
        "\x851",
        "\x1c1",
        "👩‍👩‍👧‍👦 👍🏽 1",
        "🇫🇷🇩🇪",
        "e\u0301 é",
        "ﬁ",
        "İ",
        "ß ẞ",
        "\ufeff1",
    ),
    *("", " ", "  ", "\n", "   \n   ", "...", "?!", " !", "--1--", "$5", "50%", "C++", "<|im_start|>", "<|endoftext|>"),
)
ALPHABETS = (
    *("abcdefghijklmnopqrstuvwxyz", "ABCDEFG", "äöüßéèñçø", "αβγδεζ", "абвгдежз", "אבגדה", "ابتثج", "कखगघङ", "ไทยกข"),
    *(
        "漢字仮名",
        "ひらがな",
        "カタカナ",
        "한국어",
        "0123456789",
        "٠١٢٣٤٥",
        "०१२३",
        "²³¹½¼Ⅷ①㉈",
        " ",
        "  ",
        "\n",
        "\t",
        "\r\n",
    ),
    *(
        "\xa0\u2003\u3000\u200b",
        ".,;:!?",
        "'\"’",
        "()[]{}<>|",
        "+-*/=%^&",
        "_@#$~`\\",
        "😀🎉👍🏽",
        "\u0301\u0308",
        "\x00\x1f\x7f",
    ),
)
WORDS = ("it's", "don't", "we'll", "I've", "you're", "'s", "def", "return", "Thank", "you", "please", "x1", "3rd")


def invented_texts(count: int, seed: int) -> list[str]:
    """Texts of a few runs, each from one script, and now and then a word or any character at all."""
    draw = random.Random(seed)

    def run() -> str:
        kind = draw.random()
        if kind < 0.15:
            return draw.choice(WORDS) + draw.choice(("", " ", "\n"))
        if kind < 0.25:
            return anything(draw)
        alphabet = draw.choice(ALPHABETS)
        return "".join(draw.choice(alphabet) for _ in range(draw.randint(1, 6)))

    return ["".join(run() for _ in range(draw.randint(1, 12))) for _ in range(count)]


def anything(draw: random.Random) -> str:
    """A character of Unicode: no surrogate, which is none, and no unassigned one, on which versions differ."""
    while True:
        char = chr(draw.randrange(sys.maxunicode + 1))
        if unicodedata.category(char) not in ("Cs", "Cn", "Co"):
            return char


SPECIAL = ("<|endoftext|>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "[INST]", "<|eot_id|>")
LEVEL = pre_tokenizers.ByteLevel


def hard_texts(count: int, seed: int) -> list[str]:
    """The tricky ones, and invented ones of which every tenth has special tokens written in it."""
    draw = random.Random(seed)
    texts = invented_texts(count - len(TRICKY), seed)
    spoilt = [f"{a}{draw.choice(SPECIAL)}{b}" for a, b in zip(texts[::10], texts[5::10], strict=False)]
    return [*TRICKY, *spoilt, *texts[len(spoilt) :]]


def _level(cutter: pre_tokenizers.PreTokenizer, normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    """Byte-level BPE of 1,500 tokens, cut in this way."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = cutter, decoders.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    alphabet = LEVEL.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(_lessons(), trainer)
    return made


def _split(pattern: str, behavior: str = "isolated", *, invert: bool = False) -> pre_tokenizers.PreTokenizer:
    step = pre_tokenizers.Split(Regex(pattern), behavior, invert)
    return pre_tokenizers.Sequence([step, LEVEL(add_prefix_space=False, use_regex=False)])


def _digits(*, individual: bool) -> pre_tokenizers.PreTokenizer:
    digits = pre_tokenizers.Digits(individual_digits=individual)
    return pre_tokenizers.Sequence([digits, LEVEL(add_prefix_space=False)])


def _llama2(*, first_only: bool) -> Tokenizer:
    """SentencePiece's BPE with bytes for unknown characters, <s> before a text; two ways of putting a blank there."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    blank = normalizers.Replace(" ", "▁")
    if first_only:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blank])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    first = ["<unk>", "<s>", "</s>"]
    fallback = [f"<0x{n:02X}>" for n in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=[*first, *fallback], limit_alphabet=80, max_token_length=8, show_progress=False
    )
    made.train_from_iterator([word for text in _lessons() for word in text.split(" ")], trainer)
    state = json.loads(made.to_str())
    state["added_tokens"] = state["added_tokens"][:3]
    made = Tokenizer.from_str(json.dumps(state))
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


def _unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(_lessons()[:300], trainer)
    return made


def _wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=["<unk>", "</s>"], show_progress=False)
    made.train_from_iterator(_lessons()[:500], trainer)
    return made


def _many_splits() -> Tokenizer:
    steps = [pre_tokenizers.Split(Regex(p), "isolated") for p in ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+")]
    level = LEVEL(add_prefix_space=False, use_regex=False)
    return _level(pre_tokenizers.Sequence([*steps, pre_tokenizers.Digits(individual_digits=True), level]))


def _with_thoughts() -> Tokenizer:
    """Qwen 3's: tokens that are themselves in any text, and no control."""
    made = _level(_split(QWEN2_PATTERN), normalizers.NFC())
    made.add_tokens([AddedToken(name, normalized=False) for name in ("<think>", "</think>", "</s><think>", "hi")])
    return made


# A published kind of tokenizer → how one is trained. Those of the first dictionary go through tiktoken.
RANKED: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: _level(LEVEL(add_prefix_space=False)),
    "gpt2 after a blank": lambda: _level(LEVEL(add_prefix_space=True)),
    "neox": lambda: _level(LEVEL(add_prefix_space=False), normalizers.NFC()),
    "smollm": lambda: _level(_digits(individual=True)),
    "numbers": lambda: _level(_digits(individual=False)),
    "llama3": lambda: _level(_split(LLAMA3_PATTERN)),
    "qwen2": lambda: _level(_split(QWEN2_PATTERN), normalizers.NFC()),
    "qwen3": _with_thoughts,
    "matches only": lambda: _level(_split(GPT2_PATTERN, "removed", invert=True)),
}
OTHERS: dict[str, Callable[[], Tokenizer]] = {
    "llama2": lambda: _llama2(first_only=False),
    "mistral": lambda: _llama2(first_only=True),
    "unigram": _unigram,
    "wordpiece": _wordpiece,
    "many splits": _many_splits,
}


def _lessons() -> list[str]:
    return invented_texts(2500, seed=99)


@lru_cache(maxsize=32)
def trained(kind: str) -> str:
    """A tokenizer.json of that kind, each trained once."""
    return str((RANKED | OTHERS)[kind]().to_str())


def write_trained(kind: str, folder: Path, **settings: Any) -> Tokenizer:
    """Its folder, ended by </s> or <|endoftext|>; the tokenizer itself, to whom special tokens in texts are text."""
    description = json.loads(trained(kind))
    ends = [t["content"] for t in description["added_tokens"] if t["content"] in ("</s>", "<|endoftext|>")]
    (folder / "tokenizer.json").write_text(trained(kind), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": ends[0]} | settings), encoding="utf-8")
    theirs = Tokenizer.from_str(trained(kind))
    theirs.encode_special_tokens = True
    return theirs
