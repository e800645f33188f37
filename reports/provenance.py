"""The tables of what was compared: model, data, budget, recipes, and the digests that pin them."""

from __future__ import annotations

from harness.records import JoinedRun, RunRecord
from reports.numbers import MISSING, Cell, flops
from reports.page import Table, table
from reports.text import counted, one_line


def provenance_table(run: RunRecord) -> Table:
    """What was compared, and the digests that pin it."""
    bench = run.bench
    rows = ", ".join(f"{count:,} {split}" for split, count in bench.rows.items())
    budget = f"{bench.budget} a trial"
    if bench.budget_flops is not None:
        budget += f" = {flops(bench.budget_flops)}"
    facts = {
        "Model": f"{bench.model}: {bench.model_note}" if bench.model_note else bench.model,
        "Model digest": bench.model_digest,
        "Data": bench.data,
        "Data digest": bench.data_digest,
        **({"Columns": bench.columns} if bench.columns else {}),
        "Template": bench.template,
        "Pairs": rows,
        "Held-out prompts answered": f"{bench.eval_prompts:,}",
        "Budget": budget,
        "Judges": ", ".join(bench.judges) or "none",
        **({"Adapter": bench.adapter} if bench.adapter else {}),
        "Seeds": str(bench.seeds),
        "Compute in": bench.dtype,
        **({"Memory": bench.memory} if bench.memory else {}),
        **({} if bench.runs else {"Bench digest": bench.digest or MISSING}),
        **{f"Run {run.name}": _run(run) for run in bench.runs},
    }
    cells = tuple((Cell(one_line(name, 80)), Cell(one_line(fact, 200))) for name, fact in facts.items())
    return table("What was compared", ("", "Value"), cells)


def _run(run: JoinedRun) -> str:
    trials = counted(run.trials, "trial")
    return f"{trials} on {run.budget} each, computed in {run.dtype}, bench digest {run.digest or MISSING}"


def recipe_table(run: RunRecord) -> Table:
    """Each recipe in a sentence."""
    summaries = run.bench.recipe_summaries
    rows = tuple((Cell(name), Cell(one_line(text, 200))) for name, text in summaries.items())
    return table("The recipes", ("Recipe", "What it does"), rows, folded=True)
