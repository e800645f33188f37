"""Text to the ids of a model's own tokenizer, and back: in tiktoken where that is exact, else by `tokenizers`."""

from models.tokens.cutting import DIGITS_PATTERN, GPT2_PATTERN
from models.tokens.folder import byte_level, read_json, tokens_from_folder
from models.tokens.gguf_fields import tokens_from_gguf
from models.tokens.marks import MARK
from models.tokens.ranked import Ranked, printable_bytes
from models.tokens.tokens import Speller, Tokens

__all__ = [
    "DIGITS_PATTERN",
    "GPT2_PATTERN",
    "MARK",
    "Ranked",
    "Speller",
    "Tokens",
    "byte_level",
    "printable_bytes",
    "read_json",
    "tokens_from_folder",
    "tokens_from_gguf",
]
