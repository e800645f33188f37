"""The command line. Nothing heavy is imported until a command needs it, so help and listings answer at once.

Exit codes: 0 done · 1 the gate found a regression, or a judge is not qualified · 2 the user can mend it, said in one
line · 3 some trials failed and the rest is reported · 4 the gate cannot tell · 130 interrupted, as is the run that was
only watched.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness import __version__
from harness.errors import HarnessError
from harness.plain import on_one_line
from models.failure import ModelError

if TYPE_CHECKING:
    from harness.records import RunRecord
    from harness.settings import BenchFile

# What a mistyped command or option raises. Typer shows only its descendants; where they live depends on its version.
USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

# What the machine can lack, and the way out; any other OSError is our own fault and keeps its traceback.
_MENDABLE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EACCES: "choose a place that can be written",
    errno.EPERM: "choose a place that can be written",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "choose another place",
    errno.EISDIR: "choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Which preference-tuning recipe should I use, and how sure are we?",
)


@app.command()
def run(
    context: typer.Context,
    recipes: Annotated[
        str,
        typer.Option(help="all, a group (core), names, globs or dpo:beta=0.2:reference=soft; commas between"),
    ] = "core",
    model: Annotated[
        str, typer.Option(help="smollm2-135m, gpt2, hf:ORG/NAME@REVISION, a folder in Hugging Face layout, a .gguf")
    ] = "smollm2-135m",
    data: Annotated[
        str, typer.Option(help="courtesy, rasbt, hf:ORG/NAME:split, or files of JSON, JSONL, CSV or Parquet")
    ] = "courtesy",
    columns: Annotated[
        str, typer.Option(help="which of the data's columns holds what: chosen=accepted,rejected=declined")
    ] = "",
    template: Annotated[str, typer.Option(help="auto (follows the data), alpaca, plain or chat")] = "auto",
    adapter: Annotated[
        str, typer.Option(help="train this beside frozen weights: lora:r=16:alpha=32:target=all-linear")
    ] = "",
    budget: Annotated[
        str, typer.Option(help="what one trial may train for: 60s, 10m, 12TFLOP, 800pairs, 2epochs")
    ] = "60s",
    seeds: Annotated[int, typer.Option(help="trials of each recipe, each with its own order of the data")] = 1,
    first_seed: Annotated[int, typer.Option(help="the first of them: another one repeats a bench with other luck")] = 0,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="probe[:SRC], lm[:SRC], ollama:MODEL, openai:BASE_URL#MODEL, rule:gold or rule:length; give several: "
            "the first that qualifies decides"
        ),
    ] = None,
    eval_prompts: Annotated[int, typer.Option(help="held-out prompts to answer and judge, at most")] = 128,
    precision: Annotated[
        str, typer.Option(help="3pp: add held-out prompts until the main contrast is known to ±3 points")
    ] = "",
    batch_pairs: Annotated[int, typer.Option(help="pairs in a training step")] = 16,
    max_new_tokens: Annotated[int, typer.Option(help="length limit of a completion, in tokens")] = 64,
    dtype: Annotated[
        str, typer.Option(help="to multiply in: auto (whichever is fast here), float32 or bfloat16")
    ] = "auto",
    memory: Annotated[
        str, typer.Option(help="what it may take: 6GB, 800MB, or auto (what this machine has left); no result changes")
    ] = "auto",
    out: Annotated[Path | None, typer.Option(help="the run's folder  [default: runs/DATA-MODEL-BUDGET-DIGEST]")] = None,
    config: Annotated[Path | None, typer.Option(help="a bench.toml to run; flags given beside it overrule it")] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            help="also show steps and scores in tensorboard[:DIR], wandb[:PROJECT], trackio[:PROJECT] or "
            "mlflow[:EXPERIMENT]; may be repeated"
        ),
    ] = None,
    watch_only: Annotated[
        Path | None, typer.Option(metavar="RUN", help="follow the run that goes on in this folder, and start none")
    ] = None,
) -> None:
    """Train every recipe on one budget, score them, and write the report. An existing run is continued."""
    if watch_only:
        _follow(context, watch_only)
        return
    from harness.settings import (
        BenchFile,
        absolute,
        absolute_data,
        absolute_judge,
        asked,
        default_folder,
        read_bench,
    )

    given = {
        "recipes": tuple(recipes.split(",")),
        "model": absolute(model),
        "data": absolute_data(data),
        "columns": tuple(filter(None, columns.split(","))),
        "template": template,
        "adapter": adapter,
        "budget": budget,
        "seeds": seeds,
        "first_seed": first_seed,
        "judges": tuple(map(absolute_judge, judge or ["probe"])),
        "eval_prompts": eval_prompts,
        "precision": precision,
        "batch_pairs": batch_pairs,
        "max_new_tokens": max_new_tokens,
        "dtype": dtype,
        "memory": memory,
    }
    base = read_bench(config) if config else BenchFile(asked=asked(given))
    wanted = asked(base.asked.model_dump() | _explicit(context, given))
    _conduct(base.asking(wanted), out or default_folder(wanted), log or ())


def _explicit(context: typer.Context, given: dict[str, Any]) -> dict[str, Any]:
    """The settings that were typed, not defaulted."""
    flags = {"judges": "judge"}
    return {k: v for k, v in given.items() if _typed(context, flags.get(k, k))}


def _typed(context: typer.Context, parameter: str) -> bool:
    return getattr(context.get_parameter_source(parameter), "name", "") == "COMMANDLINE"


def _follow(context: typer.Context, folder: Path) -> None:
    """Show a run that goes on elsewhere until it ends, then its table; exit as it did, or with 130 if it stopped."""
    from harness.following import follow
    from harness.progress import Terminal, Watch
    from reports.load import load_run
    from reports.terminal import print_report

    for name in context.params:
        if name != "watch_only" and _typed(context, name):
            raise HarnessError(f"--{name.replace('_', '-')} asks for a run, and --watch-only starts none: leave it out")
    progress = Terminal(stderr=True)
    try:
        stop = follow(folder, Watch(progress))
    except KeyboardInterrupt:
        progress.print("no longer watching; the run goes on", highlight=False)
        raise
    if stop is not None:
        progress.print(on_one_line(stop.line(folder)), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(130)
    run = load_run(folder)
    print_report(run, Terminal(), folder / "report.md")
    if run.bench.failed:
        raise typer.Exit(3)


def _conduct(bench: BenchFile, folder: Path, logs: Sequence[str]) -> None:
    """Run a bench in its folder, with progress on the terminal, and end with the table."""
    from harness.bench import run_bench
    from harness.doctor import ollama_models
    from harness.loggers.registry import make_loggers
    from harness.loggers.relay import LoggedWatch
    from harness.progress import Terminal, Watch
    from reports.load import load_run
    from reports.terminal import print_report

    console = Terminal()
    progress = Terminal(stderr=True)

    reading = progress.status("reading the model and the data")

    def say(line: str) -> None:
        reading.stop()
        progress.print(on_one_line(line), highlight=False, markup=False, soft_wrap=True)

    def make_watch() -> Watch:
        reading.stop()
        return LoggedWatch(progress, loggers, folder)

    try:
        loggers = make_loggers(logs, folder)
        if progress.is_terminal:
            reading.start()
        outcome = run_bench(bench, folder, say, make_watch)
    except KeyboardInterrupt:
        say(f"interrupted: run the same command again to go on in {folder}")
        raise
    finally:
        reading.stop()
    print_report(load_run(folder), console, outcome.report)
    if not any(name.startswith("ollama:") for name in bench.asked.judges) and (models := ollama_models()):
        say(f"an Ollama server answers: to judge with it too, add --judge probe --judge ollama:{models[0]}")
    if outcome.failed:
        raise typer.Exit(3)


@app.command()
def recipes() -> None:
    """List the recipes that can be compared, and their knobs' syntax."""
    from rich.console import Console
    from rich.table import Table

    from harness.recipes.registry import KNOBS, SUMMARIES, VARIANTS, families

    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "group", "what it is"):
        table.add_column(heading, no_wrap=heading != "what it is")
    for name, variant in VARIANTS.items():
        table.add_row(name, ", ".join(variant.groups), variant.summary)
    for name, point in families().items():
        if name not in VARIANTS:
            table.add_row(name, "", SUMMARIES.get(name) or f"from {point.dist.name if point.dist else point.value}")
    console = Console()
    console.print(table)
    console.print(
        "\nKnobs follow a colon, as in --recipes dpo:beta=0.2:reference=soft,sft. They are, with their defaults:"
    )
    for name, knobs in KNOBS.items():
        console.print(f"  {name}: {knobs}", highlight=False)


@app.command()
def report(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="a run's folder; several make one report, in --out")
    ],
    out: Annotated[
        Path | None, typer.Option(help="the folder of a report of several runs  [default, for one run: RUN]")
    ] = None,
) -> None:
    """Write a run's report again from its records alone, or one of several runs: same records, same bytes."""
    from harness.progress import Terminal
    from reports.build import write_report
    from reports.load import load_run
    from reports.terminal import print_report

    alone = len(run_folders) == 1 and out is None
    record, folder = (load_run(run_folders[0]), run_folders[0]) if alone else _joined(run_folders, out)
    print_report(record, Terminal(), write_report(record, folder))


def _joined(run_folders: list[Path], out: Path | None) -> tuple[RunRecord, Path]:
    """Several runs as one, and the folder that its report goes to."""
    from evals.joining import join
    from harness.progress import Terminal
    from reports.destination import joining_command, own_folder
    from reports.load import load_runs

    folder = own_folder(out, run_folders)
    with Terminal(stderr=True).status("comparing every two trials"):
        return join(load_runs(run_folders), joining_command(folder, run_folders)), folder


@app.command(name="open")
def open_report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")]) -> None:
    """Open a run's report in the web browser."""
    import webbrowser

    page = run_folder / "report.html"
    if not page.is_file():
        raise HarnessError(f"{run_folder} has no report.html: python -m harness report {run_folder}")
    typer.echo(page)
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo("no web browser was found here: open that file in one", err=True)


@app.command()
def compare(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")],
    a: Annotated[str, typer.Argument(metavar="A", help="a trial as the report names it, or anchor")],
    b: Annotated[str, typer.Argument(metavar="B", help="the one to compare it with")],
    samples: Annotated[int, typer.Option(min=0, help="prompts to show, the most telling first; 0 for none")] = 10,
) -> None:
    """Compare two trials of a run prompt by prompt: which is better, every difference, the responses that tell."""
    from evals.comparison import compare_two
    from harness.progress import Terminal
    from reports.comparing import print_two
    from reports.load import load_run
    from reports.sides import recorded, two_sides

    record = load_run(run_folder)
    first, second = sides = two_sides(record, a, b)
    found = compare_two(first.name, second.name, first.per_prompt, second.per_prompt, recorded(record, *sides))
    print_two(record, sides, found, Terminal(), samples)


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")],
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="a trial as the report names it, or anchor")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="the folder to write, a new one")],
    to: Annotated[
        str, typer.Option(help="hf (transformers, vLLM), gguf (llama.cpp, Ollama), or peft (an adapter alone)")
    ] = "hf",
    dtype: Annotated[
        str, typer.Option(help="hf's weights: float32, as they were scored, or bfloat16 or float16, half the size")
    ] = "float32",
) -> None:
    """Take a trial's final checkpoint out, with tokenizer and a card of its scores. Trains it again if it is lost."""
    from harness.exporting import ExportCommand
    from harness.progress import Terminal

    command = ExportCommand(run=run_folder, trial=trial, to=to, out=out, dtype=dtype)
    command.carry_out(Terminal(), Terminal(stderr=True))


@app.command()
def gate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="the folder of the run to check")],
    baseline: Annotated[
        Path | None, typer.Option(help="a run's folder, or a file that --save-baseline wrote", show_default=False)
    ] = None,
    rules: Annotated[Path | None, typer.Option(help="gate.toml: which metrics, and how much each may fall")] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(help="NEW=OLD: check the run's NEW against the baseline's OLD; may be repeated")
    ] = None,
    save_baseline: Annotated[Path | None, typer.Option(help="write RUN's per-prompt scores to this file")] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="unless worse, make RUN the new baseline in --baseline's file")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="write the verdicts as JUnit XML")] = None,
    markdown: Annotated[Path | None, typer.Option(help="write the verdicts as a comment for a pull request")] = None,
) -> None:
    """Stop a worse model: compare RUN with a baseline. Exit 0 no regression, 1 regression, 4 cannot tell."""
    from harness.gating import GateCommand
    from harness.progress import Terminal

    command = GateCommand(
        run=run_folder,
        baseline=baseline,
        rules=rules,
        recipes=tuple(recipe or ()),
        save_baseline=save_baseline,
        update_baseline=update_baseline,
        junit=junit,
        markdown=markdown,
    )
    raise typer.Exit(command.carry_out(Terminal()))


@app.command()
def judge(
    judge: Annotated[
        list[str] | None, typer.Option(help="a judge as for run; may be repeated (probe, where none is given)")
    ] = None,
    data: Annotated[
        str, typer.Option(help="courtesy, rasbt, hf:ORG/NAME:split, or files of JSON, JSONL, CSV or Parquet")
    ] = "courtesy",
    columns: Annotated[
        str, typer.Option(help="which of the data's columns holds what: chosen=accepted,rejected=declined")
    ] = "",
    model: Annotated[
        str, typer.Option(help="the model of the bench: the data has to fit it, and a probe may share it")
    ] = "smollm2-135m",
    template: Annotated[str, typer.Option(help="auto (follows the data), alpaca, plain or chat")] = "auto",
    pairs: Annotated[int, typer.Option(min=2, help="held-out labelled pairs to measure it on, at most")] = 128,
    attacks: Annotated[
        bool, typer.Option("--attacks", help="also ask it about some seventy hostile responses to each of 32 prompts")
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="to multiply in: auto (whichever is fast here), float32 or bfloat16")
    ] = "auto",
    out: Annotated[Path | None, typer.Option(help="write the cards to this file, as JSON")] = None,
) -> None:
    """Can this judge be believed? Fit and qualify it, train nothing. Exit 0 if all qualify, 1 if one does not."""
    from harness.judging import JudgeCommand
    from harness.progress import Terminal
    from harness.settings import absolute, absolute_data, absolute_judge, asked

    given = {
        "model": absolute(model),
        "data": absolute_data(data),
        "columns": tuple(filter(None, columns.split(","))),
        "template": template,
        "judges": tuple(map(absolute_judge, judge or ["probe"])),
        "eval_prompts": pairs,
        "max_new_tokens": 1,  # nothing is written here, so the context is the pairs' alone
        "dtype": dtype,
    }
    command = JudgeCommand(asked=asked(given), attacks=attacks, out=out)
    raise typer.Exit(command.carry_out(Terminal(), Terminal(stderr=True)))


@app.command()
def data(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="courtesy, rasbt, hf:ORG/NAME:split, a file, a folder or a pattern")
    ],
    columns: Annotated[
        str, typer.Option(help="which of its columns holds what: chosen=accepted,rejected=declined")
    ] = "",
    template: Annotated[str, typer.Option(help="auto (follows the data), alpaca, plain or chat")] = "auto",
    model: Annotated[str | None, typer.Option(help="tell lengths in the tokens of this model too")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="write it for a program")] = False,
) -> None:
    """Show what is understood of preference data. Exit 0, or 1 where a bench would refuse it."""
    from harness.inspecting import DataCommand
    from harness.progress import Terminal

    named = tuple(filter(None, columns.split(",")))
    command = DataCommand(source=source, columns=named, template=template, model=model, as_json=as_json)
    raise typer.Exit(command.carry_out(Terminal(), Terminal(stderr=True)))


@app.command()
def doctor(
    prune: Annotated[
        bool, typer.Option("--prune", help="delete the longest unused of the cache down to its limit")
    ] = False,
) -> None:
    """Say what this machine has: device, dtype, cache, and whether an Ollama server answers."""
    from harness.doctor import examine

    for line in examine(prune=prune):
        typer.echo(line)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    if version:
        typer.echo(f"prefbench {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line and exit with the code that the docstring above promises."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter shows its number
    sys.exit(_exit_code(lambda: app(standalone_mode=False)))


def _exit_code(command: Callable[[], object]) -> int:
    try:
        result = command()
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except USAGE_ERROR as error:
        message = getattr(error, "format_message", error.__str__)()
        commands = {info.name or info.callback.__name__ for info in app.registered_commands if info.callback}
        within = next((f" {word}" for word in sys.argv[1:2] if word in commands), "")
        return _complain(f"{message} See: python -m harness{within} --help" if message else "")
    except (HarnessError, ModelError) as error:
        return _complain(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        return _complain(f"{error}: {_MENDABLE[error.errno]}, then run the same command again to go on")
    except (MemoryError, RuntimeError) as error:
        from models.room import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _complain(f"out of memory ({error}): free some, or choose a smaller model, then run the same again")
    return result if isinstance(result, int) else 0


def _complain(line: str) -> int:
    if line:
        typer.echo(on_one_line(line), err=True)
    return 2
