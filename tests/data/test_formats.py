"""Every format that people have, in every file that people keep it in, gives the same pairs."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data.rows import DataSet, load_pairs
from harness.data.templates import RenderChat
from harness.errors import HarnessError

Row = dict[str, Any]
# What is asked, the better answer, the worse one.
PAIRS = [
    ("What is 1 + 2?", "It is 3.", "Guess."),
    ('Say "hi",\nin two lines; with a ☃.', "hi\nhi", "No, I won't."),
    ("Name a colour of the sky.", "Blue is one of them.", "Do it yourself."),
]


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def human(question: str, answer: str) -> str:
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"


def ultrafeedback(question: str, chosen: str, rejected: str) -> Row:
    return {
        "prompt": question,
        "prompt_id": "af3",
        "chosen": [user(question), assistant(chosen)],
        "rejected": [user(question), assistant(rejected)],
        "messages": [user(question), assistant(chosen)],
        "score_chosen": 8.5,
        "score_rejected": 4.0,
    }


# Name → how a pair is written, and how the format is said aloud.
WRITTEN: dict[str, tuple[Callable[[str, str, str], Row], str]] = {
    "alpaca": (
        lambda q, c, r: {"instruction": q, "input": "", "output": c, "chosen": c, "rejected": r},
        "Alpaca columns",
    ),
    "text": (lambda q, c, r: {"prompt": q, "chosen": c, "rejected": r}, "TRL text"),
    "text implicit": (
        lambda q, c, r: {"chosen": f"{q} {c}", "rejected": f"{q} {r}"},
        "TRL text with implicit prompt",
    ),
    "system": (
        lambda q, c, r: {"system": "", "prompt": q, "chosen": c, "rejected": r},
        "text with a system column, as messages",
    ),
    "messages": (
        lambda q, c, r: {"prompt": [user(q)], "chosen": [assistant(c)], "rejected": [assistant(r)]},
        "TRL messages with explicit prompt",
    ),
    "messages implicit": (
        lambda q, c, r: {"chosen": [user(q), assistant(c)], "rejected": [user(q), assistant(r)]},
        "TRL messages with implicit prompt",
    ),
    "hh": (lambda q, c, r: {"chosen": human(q, c), "rejected": human(q, r)}, "Anthropic HH transcripts"),
    "hh explicit": (
        lambda q, c, r: {"prompt": human(q, ""), "chosen": f" {c}", "rejected": f" {r}"},
        "Anthropic HH transcripts with explicit prompt",
    ),
    "ultrafeedback": (
        ultrafeedback,
        "UltraFeedback binarized (messages that repeat the prompt; scores are not used)",
    ),
}


def unpaired(question: str, chosen: str, rejected: str) -> list[Row]:
    return [
        {"prompt": question, "completion": rejected, "label": False},
        {"prompt": question, "completion": chosen, "label": True},
    ]


def unpaired_messages(question: str, chosen: str, rejected: str) -> list[Row]:
    return [
        {"prompt": [user(question)], "completion": [assistant(text)], "label": label}
        for text, label in ((rejected, False), (chosen, True))
    ]


def write(path: Path, rows: list[Row]) -> Path:
    """The rows as the file's name asks, packed if it ends in .gz."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    match plain.suffix:
        case ".json":
            plain.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
        case ".csv" | ".tsv":
            with plain.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(
                    file, rows[0].keys(), dialect="excel-tab" if plain.suffix == ".tsv" else "excel"
                )
                writer.writeheader()
                texts = ({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
                writer.writerows(texts)
        case ".parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), plain, row_group_size=2)
        case _:
            plain.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def last_words(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"]


def load(path: Path, columns: tuple[str, ...] = (), chat: RenderChat = last_words) -> DataSet:
    return load_pairs(path, columns=columns, render_chat=chat, cache=path.parent)


def texts(data: DataSet) -> list[tuple[str, str, str]]:
    return [(pair.question, pair.chosen.strip(), pair.rejected.strip()) for pair in data.pairs]


FILES = [
    f"rows.{kind}{packed}" for kind in ("json", "jsonl", "ndjson", "csv", "tsv", "parquet") for packed in ("", ".gz")
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_in_every_file_gives_the_same_pairs(tmp_path: Path, name: str, file: str) -> None:
    """Whoever wrote it, the pairs are those, and what it was read as is said."""
    row, words = WRITTEN[name]
    data = load(write(tmp_path / file, [row(*pair) for pair in PAIRS]))
    assert texts(data) == PAIRS
    assert data.reading == f"{tmp_path / file} is read as {words}, 3 rows"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("make", [unpaired, unpaired_messages])
def test_unpaired_completions_are_paired(tmp_path: Path, make: Callable[..., list[Row]], file: str) -> None:
    """A good completion with a bad one to the same prompt."""
    data = load(write(tmp_path / file, [row for pair in PAIRS for row in make(*pair)]))
    assert texts(data) == PAIRS
    assert data.reading.endswith("(completion and label), 6 rows, 3 pairs")


def test_everything_before_the_last_answer_is_the_prompt(tmp_path: Path) -> None:
    """A conversation of several turns, with the prompt within its responses, apart, and as a transcript."""
    before = [{"role": "system", "content": "Be kind."}, user("Hello"), assistant("Hi!"), user("And now?")]
    rows: list[Row] = [
        {"chosen": [*before, assistant("Now this.")], "rejected": [*before, assistant("Nothing.")]},
        {"prompt": before, "chosen": [assistant("Now this.")], "rejected": [assistant("Nothing.")]},
        {"prompt": "Hello", "chosen": [*before, assistant("Now this.")], "rejected": [*before, assistant("Nothing.")]},
        {
            "prompt": before[:2],
            "chosen": [*before, assistant("Now this.")],
            "rejected": [*before, assistant("Nothing.")],
        },
    ]
    for number, row in enumerate(rows):
        data = load(write(tmp_path / f"{number}.jsonl", [row]), chat=lambda m: json.dumps([x["content"] for x in m]))
        (pair,) = data.pairs
        assert (json.loads(pair.prompt), pair.chosen, pair.rejected) == (
            ["Be kind.", "Hello", "Hi!", "And now?"],
            "Now this.",
            "Nothing.",
        )


def test_a_transcript_of_several_turns_is_a_conversation(tmp_path: Path) -> None:
    """The last answers differ, and what they answer is the prompt."""
    before = human("Hello", "Hi!") + "\n\nHuman: And now?\n\nAssistant:"
    row = {"chosen": f"{before} Now this.", "rejected": f"{before} Nothing."}
    (pair,) = load(write(tmp_path / "rows.jsonl", [row])).pairs
    assert (pair.question, pair.chosen) == ("user: Hello\n\nassistant: Hi!\n\nuser: And now?", "Now this.")


def test_an_implicit_prompt_ends_at_a_whole_word(tmp_path: Path) -> None:
    """Where two words begin alike, neither is cut; the space goes with the response, as TRL has it."""
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    (pair,) = load(write(tmp_path / "rows.jsonl", [row])).pairs
    assert (pair.prompt, pair.chosen, pair.rejected) == ("The sky is", " blue.", " black.")


def test_sharegpt_messages_are_read(tmp_path: Path) -> None:
    """Speakers and words by its names, an answer that is one message, and the conversation by --columns."""
    row = {
        "conversations": [{"from": "human", "value": "Hello"}],
        "chosen": {"from": "gpt", "value": "Hi!"},
        "rejected": {"from": "gpt", "value": "What?"},
    }
    (pair,) = load(write(tmp_path / "rows.jsonl", [row]), ("prompt=conversations",)).pairs
    assert (pair.question, pair.chosen, pair.rejected) == ("Hello", "Hi!", "What?")


@pytest.mark.parametrize(
    ("name", "messages"),
    [("conversations", [{"from": "human", "value": "Hello"}]), ("talk", [user("Hello")]), ("question", "Hello")],
)
def test_a_conversation_in_another_column_is_told_with_its_way_out(tmp_path: Path, name: str, messages: Any) -> None:
    """And the way out works."""
    path = write(tmp_path / "rows.jsonl", [{name: messages, "chosen": assistant("A"), "rejected": assistant("B")}])
    with pytest.raises(HarnessError, match=rf"has no message before the response: add .* --columns prompt={name}$"):
        load(path)
    assert load(path, (f"prompt={name}",)).pairs[0].question == "Hello"


def test_content_in_parts_is_one_text(tmp_path: Path) -> None:
    """As multimodal sets write it, where all of it is text."""
    said = {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}
    row = {"prompt": [said], "chosen": [assistant("Hi!")], "rejected": [assistant("What?")]}
    (pair,) = load(write(tmp_path / "rows.jsonl", [row])).pairs
    assert pair.question == "Hello"


def test_what_cannot_be_paired_is_counted_and_said(tmp_path: Path) -> None:
    """Each completion is used once, in order; the rest is left out, however much it is."""
    rows = [
        *({"prompt": "a", "completion": f"good {n}", "label": True} for n in range(3)),
        *({"prompt": " A ", "completion": f"bad {n}", "label": "false"} for n in range(2)),
        {"prompt": "b", "completion": "alone", "label": 0},
    ]
    data = load(write(tmp_path / "rows.jsonl", rows))
    assert [(p.chosen, p.rejected) for p in data.pairs] == [("good 0", "bad 0"), ("good 1", "bad 1")]
    assert data.warnings == (
        "2 of 6 rows have no completion with the other label to be paired with and are left out: rows 3, 6.",
    )


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"prompt": "a", "completion": "b", "label": True}], "no prompt with both a true and a false 'label'"),
        ([{"prompt": "a", "completion": "b", "label": "good"}], "\"good\" as 'label': it has to be true or false"),
        ([{"prompt": "a", "completion": "b"}], "no column 'label'"),
        (
            [
                {"prompt": "a", "completion": "b", "label": True, "split": "train"},
                {"prompt": "a", "completion": "c", "label": False, "split": "test"},
            ],
            "rows 1 and 2 have the same prompt and the splits train and test",
        ),
    ],
)
def test_unpaired_rows_that_cannot_be_used_are_refused(tmp_path: Path, rows: list[Row], problem: str) -> None:
    """One line with what to do."""
    with pytest.raises(HarnessError) as caught:
        load(write(tmp_path / "rows.jsonl", rows))
    assert problem in str(caught.value)


@pytest.mark.parametrize("other", sorted(WRITTEN.keys() - {"text", "hh explicit", "system"}))
def test_mixed_formats_are_refused(tmp_path: Path, other: str) -> None:
    """Another format further down is one line that says where."""
    rows = [WRITTEN["text"][0](*pair) for pair in PAIRS]
    path = write(tmp_path / "rows.jsonl", [*rows, *rows, WRITTEN[other][0](*PAIRS[0])])
    with pytest.raises(HarnessError, match=r"rows\.jsonl:7: row 7 has .*, and other rows TRL columns in plain text"):
        load(path)


def test_an_odd_first_row_decides_nothing(tmp_path: Path) -> None:
    """The format is that of most of the first rows; the one that is no pair in it is left out."""
    rows = [
        WRITTEN["messages"][0](question, f"{chosen} {n}", "No.") for n in range(40) for question, chosen, _ in PAIRS
    ]
    odd = {"prompt": None, "chosen": None, "rejected": [assistant("No.")]}
    data = load(write(tmp_path / "rows.jsonl", [odd, *rows]))
    assert len(data.pairs) == 120
    assert data.reading.endswith("is read as TRL messages with explicit prompt, 121 rows")


def test_the_books_other_file_has_no_preferences(tmp_path: Path) -> None:
    """Instructions with one output each are told apart from a typo."""
    path = write(tmp_path / "rows.json", [{"instruction": "Add.", "input": "1 + 2", "output": "3"}])
    with pytest.raises(HarnessError, match="one output each and no preferences"):
        load(path)


def test_shards_in_a_folder_are_one_set(tmp_path: Path) -> None:
    """In the order of their names, what describes them left aside; a pattern does the same."""
    folder = tmp_path / "set"
    folder.mkdir()
    for number, pair in enumerate(PAIRS):
        write(folder / f"train-{number}.parquet", [WRITTEN["text"][0](*pair)])
    (folder / "README.md").write_text("# Data")
    assert texts(load_pairs(folder, cache=tmp_path)) == PAIRS
    assert texts(load_pairs(str(folder / "train-[01].parquet"), cache=tmp_path)) == PAIRS[:2]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["train.jsonl", "test.jsonl"], "test.jsonl and train.jsonl are read as one set"),
        (["Training-0.jsonl", "validation.jsonl"], "Training-0.jsonl and validation.jsonl are read as one set"),
        (["train-0.jsonl", "train-1.jsonl"], None),
        (["trains.jsonl", "testimonies.jsonl"], None),
    ],
)
def test_files_named_after_splits_are_said_to_be_one_set(tmp_path: Path, names: list[str], told: str | None) -> None:
    """Whoever parted them learns that they are pooled, and how to keep them apart."""
    for name, pair in zip(names, PAIRS, strict=False):
        write(tmp_path / name, [WRITTEN["text"][0](*pair)])
    warnings = load_pairs(tmp_path, cache=tmp_path).warnings
    assert [w.partition(" whose")[0] for w in warnings] == ([told] if told else [])


def test_files_whose_rows_name_our_splits_are_kept_apart(tmp_path: Path) -> None:
    """As the sentence says."""
    for split, pair in zip(("train", "judge", "test"), PAIRS, strict=False):
        write(tmp_path / f"{split}.jsonl", [WRITTEN["text"][0](*pair) | {"split": split}])
    data = load_pairs(tmp_path, cache=tmp_path)
    assert (sorted(data.splits or ()), data.warnings) == (["judge", "test", "train"], ())


def test_a_split_column_that_is_not_used_is_said_to_a_run_too(tmp_path: Path) -> None:
    """Not in `data` alone."""
    path = write(tmp_path / "rows.jsonl", [WRITTEN["text"][0](*pair) | {"split": "validation"} for pair in PAIRS])
    (warning,) = load_pairs(path, cache=tmp_path).warnings
    assert warning.startswith("The 'split' column is not used: it has 'validation', and ours are train, judge, test")


def test_shards_of_two_kinds_are_refused(tmp_path: Path) -> None:
    """The error says how to ask for one of them."""
    for name in ("a.jsonl", "b.csv"):
        write(tmp_path / name, [WRITTEN["text"][0](*PAIRS[0])])
    with pytest.raises(HarnessError, match=r"files of \.csv, \.jsonl: give those of one"):
        load_pairs(tmp_path, cache=tmp_path)
