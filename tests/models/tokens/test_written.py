"""What is written of tokens gives other tools, and ourselves, the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.decoder import Decoder
from models.failure import ModelError
from models.tokens import MARK, Ranked, Tokens, tokens_from_folder, tokens_from_gguf
from tests.conftest import CHAT_TEMPLATE
from tests.models.tokens.test_folder import write_gpt2
from tests.models.tokens.texts import OTHERS, RANKED, SPECIAL, hard_texts, write_trained

TEXTS = hard_texts(1500, seed=9)
HONEST = [t for t in TEXTS if not any(name in t for name in SPECIAL)]  # transformers reads special tokens in texts
TALK = [
    {"role": "user", "content": " hi\n"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "12"},
]
IN_GGUF = ("gpt2", "smollm", "llama3", "qwen2", "qwen3", "llama2")


def read_kind(kind: str, folder: Path, **settings: Any) -> Tokens:
    """A trained tokenizer with GGUF's own settings for its kind."""
    folder.mkdir()
    write_trained(kind, folder, bos_token="<s>", chat_template=CHAT_TEMPLATE, **settings)
    if kind == "llama3":
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace('"ignore_merges":false', '"ignore_merges":true'))
    return tokens_from_folder(folder)


def agree(tokens: Tokens, other: Tokens) -> bool:
    """Same ids of texts and of a chat, same names, ends and beginnings."""
    assert (tokens.end, tokens.begin, tokens.special, tokens.highest) == (
        other.end,
        other.begin,
        other.special,
        other.highest,
    )
    chats = [one.encode_prompt(one.render_chat(TALK)) for one in (tokens, other)]
    return chats[0] == chats[1] and all(tokens.encode(t) == other.encode(t) for t in TEXTS)


def agrees_with_transformers(tokens: Tokens, theirs: PreTrainedTokenizerFast) -> bool:
    """Same ids of texts, same text and ids of a chat, same end."""
    assert theirs.eos_token_id == tokens.end
    said = tokens.render_chat(TALK)
    how: dict[str, Any] = {"add_generation_prompt": True}
    assert theirs.apply_chat_template(TALK, tokenize=False, **how) == said.replace(MARK, "")
    assert theirs.apply_chat_template(TALK, return_dict=False, **how) == list(tokens.encode_prompt(said))
    ids = theirs(HONEST, add_special_tokens=False).input_ids
    return all(list(tokens.encode(text)) == own for text, own in zip(HONEST, ids, strict=True))


@pytest.mark.parametrize("kind", [*RANKED, *OTHERS])
def test_a_folder_is_written_as_it_was_read(kind: str, tmp_path: Path) -> None:
    """The same files, byte for byte, which transformers and we read as before."""
    tokens = read_kind(kind, tmp_path / "in", tokenizer_class="PreTrainedTokenizerFast")
    tokens.write_folder(tmp_path / "out")
    for file in (tmp_path / "in").iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    assert agrees_with_transformers(tokens, AutoTokenizer.from_pretrained(tmp_path / "out"))


def test_gpt2s_old_layout_is_written_as_a_new_one(tmp_path: Path) -> None:
    """vocab.json and merges.txt become one tokenizer.json, with the same ids in transformers."""
    write_gpt2(tmp_path)
    tokens = tokens_from_folder(tmp_path)
    tokens.write_folder(tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert [t for t in HONEST if list(tokens.encode(t)) != theirs(t).input_ids] == []
    assert theirs.eos_token_id == tokens.end


@pytest.mark.parametrize("kind", IN_GGUF)
def test_gguf_has_the_same_tokens(kind: str, tmp_path: Path) -> None:
    """Its fields, read back from a real file, give the same ids, the same chat and the same end."""
    tokens = read_kind(kind, tmp_path / "in")
    back = read_back(tokens, tmp_path)
    assert type(back.speller) is type(tokens.speller)
    assert agree(tokens, back)


@pytest.mark.parametrize("kind", IN_GGUF)
def test_what_came_from_gguf_is_written_for_transformers(kind: str, tmp_path: Path) -> None:
    """Vocabulary, merges, cuts, beginning, end and chat template."""
    tokens = read_back(read_kind(kind, tmp_path / "in"), tmp_path)
    tokens.write_folder(tmp_path / "out")
    assert agrees_with_transformers(tokens, AutoTokenizer.from_pretrained(tmp_path / "out"))
    assert agree(tokens, tokens_from_folder(tmp_path / "out"))


@pytest.mark.parametrize("kind", sorted({*RANKED, *OTHERS} - {*IN_GGUF}))
def test_what_gguf_has_no_word_for_is_refused(kind: str, tmp_path: Path) -> None:
    """Else its readers would have other tokens."""
    if kind == "matches only":
        pytest.skip("cut as gpt2 is, in other words")
    with pytest.raises(ModelError, match="GGUF has no word for this model's tokenizer: export it with --to hf"):
        read_kind(kind, tmp_path / "in").gguf_fields()


def test_transformers_reads_a_gguf_of_tokens_without_merges(tiny_model: tuple[Decoder, Tokens], tmp_path: Path) -> None:
    """Single bytes: an empty list of merges cannot be written, and transformers asks for scores where there is none."""
    tokens = tiny_model[1]
    assert agree(tokens, read_back(tokens, tmp_path))
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tokens.gguf")
    texts = [text for text in HONEST if not text.startswith(" ")]
    assert [theirs(t, add_special_tokens=False).input_ids for t in texts] == [list(tokens.encode(t)) for t in texts]


def test_a_sentencepiece_gguf_without_scores_is_one_line(tmp_path: Path) -> None:
    """They alone say how tokens are joined."""
    fields = read_kind("llama2", tmp_path / "in").gguf_fields()
    del fields["tokenizer.ggml.scores"]
    with pytest.raises(ModelError, match=r"x\.gguf has a llama tokenizer without scores.*: bring the model's folder"):
        tokens_from_gguf(fields, tmp_path / "x.gguf")


def test_the_embedded_models_tokens_are_written_for_transformers(smollm2_path: Path, tmp_path: Path) -> None:
    """49,152 tokens of a GGUF: AutoTokenizer has the same ids and the same chat, and so have we."""
    fields = {name: f.contents() for name, f in gguf.GGUFReader(smollm2_path).fields.items() if "token" in name}
    tokens = tokens_from_gguf(fields, smollm2_path)
    tokens.write_folder(tmp_path)
    assert isinstance(tokens_from_folder(tmp_path).speller, Ranked)
    assert agrees_with_transformers(tokens, AutoTokenizer.from_pretrained(tmp_path))
    ours, said = tokens.gguf_fields(), dict(fields)
    assert {key: value for key, value in said.items() if ours.get(key) != value}.keys() <= {
        "tokenizer.ggml.scores",
        "tokenizer.ggml.add_space_prefix",
    }


def read_back(tokens: Tokens, folder: Path) -> Tokens:
    """Through a GGUF file that the gguf package writes and reads."""
    writer = gguf.GGUFWriter(folder / "tokens.gguf", "llama")
    for key, value in tokens.gguf_fields().items():
        if key == "general.architecture":
            continue
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    reader = gguf.GGUFReader(folder / "tokens.gguf")
    return tokens_from_gguf({name: f.contents() for name, f in reader.fields.items()}, folder / "tokens.gguf")


def test_a_gguf_that_is_silent_on_the_beginning_begins_as_llama_3(tmp_path: Path) -> None:
    """Its readers put the first token before a text unless they are told not to."""
    fields = read_kind("llama3", tmp_path / "in").gguf_fields()
    silent = {key: value for key, value in fields.items() if key != "tokenizer.ggml.add_bos_token"}
    tokens = tokens_from_gguf(silent, tmp_path / "x.gguf")
    assert tokens.encode_prompt("hi")[0] == tokens.special["<s>"]
    assert tokens_from_gguf(fields, tmp_path / "x.gguf").begin == ()


def test_the_end_of_a_turn_that_a_gguf_names_ends_a_response(tmp_path: Path) -> None:
    """Where its chat template writes it, as Gemma's does."""
    fields = read_kind("gpt2", tmp_path / "in", eos_token="</s>").gguf_fields()
    turn_end = fields["tokenizer.ggml.tokens"].index("<|im_end|>")
    assert tokens_from_gguf(fields, tmp_path / "x.gguf").end != turn_end
    assert tokens_from_gguf(fields | {"tokenizer.ggml.eot_token_id": turn_end}, tmp_path / "x.gguf").end == turn_end


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tokenizer.ggml.pre": "runes"}, "has a 'runes' tokenizer, and llama's, gpt-2, smollm"),
        ({"tokenizer.ggml.model": "rwkv"}, "has a 'rwkv' tokenizer"),
        ({"tokenizer.ggml.eos_token_id": 700}, "end token"),
    ],
)
def test_a_gguf_of_another_kind_is_refused(changes: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    """Guessing would give other tokens than the model was trained on."""
    fields = read_kind("gpt2", tmp_path / "in").gguf_fields()
    with pytest.raises(ModelError, match=complaint):
        tokens_from_gguf(fields | changes, tmp_path / "x.gguf")
