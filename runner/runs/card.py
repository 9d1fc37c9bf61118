"""A run's README.md: what it is, its scores, how it was made, how to load it and to go on with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from eval.report.markdown import escaped, table
from eval.report.results import Results, read_results
from eval.report.tables import summary
from recipes.errors import UserError
from recipes.files import write_text
from recipes.methods import METHODS
from recipes.model_files import ADAPTER, HEAD
from recipes.paths import hub_name, local_files, scheme
from runner.files import own_version, safetensors_header
from runner.machine import bundled
from runner.runs.manifest import Manifest
from runner.runs.reward_model import is_reward_model
from runner.runs.rundir import Run

MODELS = {"base": "eval/base", "tuned": "eval"}
NAMED = ("torch", "transformers", "peft", "trl", "llamafactory", "verl", "vllm", "datasets")  # versions that are told


CHAT = (
    'chat = [{"role": "user", "content": "…"}]',
    'ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)',
)

SCORE = (
    'chat = [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]',
    'ids = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)',
    "hidden = model(**ids, output_hidden_states=True).hidden_states[-1][0, -1].float()",
    'print(float(head["v_head.summary.weight"][0] @ hidden + head["v_head.summary.bias"]))',
)


def write_card(run: Run) -> None:
    """README.md in the run directory, of a run that has ended well; anew after each evaluation."""
    write_text(run.path / "README.md", "\n\n".join(_of_run(run)) + "\n")


def public_card(run: Run, directory: Path, repository: str, license: str | None) -> str:
    """The card of a model that is pushed: without paths of this machine, and with what the Hub reads at its head.

    Args:
        directory: of what is pushed, the adapter or the merged model.
        repository: USER/NAME on the Hub.
        license: as the Hub names it.

    Raises:
        UserError: an adapter of a base that nobody else has.
    """
    recipe = run.recipe()
    model, adapter = recipe.recipe.model, (directory / ADAPTER).is_file()
    if adapter and _here(model.path):
        raise UserError(
            f"the base of this adapter lies on this machine alone, {model.path}: push the merged model (--merged)"
        )
    datasets = [path for source in recipe.recipe.data.train for path in source.paths if not _here(path)]
    head = {
        **({} if _here(model.path) else {"base_model": model.path}),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-classification" if is_reward_model(run) else "text-generation",
        "tags": ["recipe-runner", recipe.recipe.method, recipe.recipe.backend],
        "datasets": [(hub_name(path) or (path, None))[0] for path in datasets if hub_name(path) or not scheme(path)],
        "license": license,
    }
    told = yaml.safe_dump({key: value for key, value in head.items() if value}, sort_keys=False, allow_unicode=True)
    text = "\n\n".join(_what(run, directory, repository))
    manifest = run.read()
    private = {*local_files(recipe.resolved), recipe.path, run.path, Path(bundled.located(model.path))}
    private |= {Path(manifest.parent.run), Path(manifest.parent.path)} if manifest.parent else set()
    for path in sorted(filter(Path.is_absolute, private), key=lambda path: -len(str(path))):
        for written in (str(path), escaped(str(path))):
            text = text.replace(written, path.name)
    text = text.replace(str(Path.home()), "~")
    return f"---\n{told}---\n\n{text}\n"


def _talks(run: Run) -> bool:
    """Whether it was trained on conversations: plain text needs no chat template, and the model may have none."""
    return METHODS[run.recipe().recipe.method].rows.chat


def _here(path: str) -> bool:
    return Path(path).is_absolute() or path.startswith("bundled:")


def _of_run(run: Run) -> Iterator[str]:
    yield from _what(run, run.model, "model")
    yield "## Go on"
    name, adapter, writes = run.name, (run.model / ADAPTER).is_file(), not is_reward_model(run)
    of_writers = {
        f"recipe eval {name} --suites lm_eval:gsm8k": "add a suite to its scores",
        f"recipe export {name} --to fp8": "in 8 bits, compared with this",
        f"recipe serve {name}": "an OpenAI-compatible server",
    }
    commands = {
        **({f"recipe chat {name} base": "talk to it, beside its base"} if _talks(run) and writes else {}),
        **({f"recipe merge {name}": "one model of adapter and base, checked"} if adapter else {}),
        **(of_writers if writes else {}),
        f"recipe run RECIPE --from {name}": "another training that begins with these weights",
        f"recipe resume {name} --more-epochs 1": "train on",
        "tensorboard --logdir runs": "all runs whose recipe has logging: [tensorboard]",
    }
    width = max(map(len, commands))
    yield _code("sh", *(f"{command:{width}}  # {text}" for command, text in commands.items()))
    yield "`recipe runs " + name + "` lists its checkpoints, `eval/report.html` has its scores with examples."


def _what(run: Run, directory: Path, place: str) -> Iterator[str]:
    """What a run is: heading, scores, data, how to load its model from a place, how it was made."""
    manifest, recipe = run.read(), run.recipe().recipe
    method = f"{recipe.method} ({recipe.tuning.type})"
    yield f"# {escaped(run.name)}"
    if recipe.description:
        yield escaped(recipe.description)
    at = f", step {manifest.model_step}" if manifest.model_step else ""
    yield (f"`{manifest.model}` trained by {method} on {manifest.backend}{at}, with recipe-runner {own_version()}.")
    scores = _scores(run)
    if scores:
        yield "## Scores"
        yield "Values with 95 % intervals; base is the model before this training."
        yield table(summary(scores))
    yield "## Data"
    yield from _data(run, manifest)
    yield "## Load it"
    yield _loading(run, directory, place)
    yield "## How it was made"
    yield "\n".join(f"- {line}" for line in _how(manifest))
    recipe_text = (run.path / "recipe.resolved.yaml").read_text(encoding="utf-8").rstrip()
    yield f"<details><summary>The recipe</summary>\n\n{_code('yaml', recipe_text)}\n\n</details>"


def _loading(run: Run, directory: Path, place: str) -> str:
    """A few lines of Python that load a run's model, of a directory, from there or from a hub."""
    model, scores = run.recipe().recipe.model, is_reward_model(run)
    adapter, kind = (directory / ADAPTER).is_file(), _kind(directory)
    base = f"{bundled.located(model.path)!r}" + (f", revision={model.revision!r}" if model.revision else "")
    return _code(
        "python",
        *(["from peft import PeftModel"] if adapter else []),
        *(["from safetensors.torch import load_file"] if scores else []),
        f"from transformers import {kind}, AutoTokenizer",
        *(["from transformers.utils import cached_file"] if scores else []),
        f"tokenizer = AutoTokenizer.from_pretrained({place!r})",
        f"model = {kind}.from_pretrained({base if adapter else repr(place)})",
        *([f"model = PeftModel.from_pretrained(model, {place!r})"] if adapter else []),
        *([f"head = load_file(cached_file({place!r}, {HEAD!r}))", *SCORE] if scores else _writing(run)),
    )


def _kind(directory: Path) -> str:
    """The class of transformers that a model's weights are of, or an adapter's: the text has a part of its own in a
    model that reads pictures too.
    """
    names = {name for file in directory.glob("*.safetensors") for name in safetensors_header(file) or {}}
    whole = any(".language_model." in f".{name}" for name in names)
    return "AutoModelForImageTextToText" if whole else "AutoModelForCausalLM"


def _writing(run: Run) -> tuple[str, ...]:
    return (
        *(CHAT if _talks(run) else ('ids = tokenizer("…", return_tensors="pt")',)),
        "print(tokenizer.decode(model.generate(**ids, max_new_tokens=256)[0]))",
    )


def _scores(run: Run) -> dict[str, Results]:
    """The results that are there and whole."""
    found = {}
    for name, place in MODELS.items():
        try:
            found[name] = read_results(run.path / place)
        except UserError:  # not scored, or damaged: said where it is asked for
            continue
    return found


def _data(run: Run, manifest: Manifest) -> Iterator[str]:
    counts = manifest.data
    if not counts:
        return
    rows = [("source", "rows"), *((name, f"{number:,}") for name, number in counts.sources.items())]
    yield table(rows)
    dropped = "".join(f", {number:,} left out ({reason})" for reason, number in counts.dropped.items())
    yield (
        f"Of {counts.rows_in:,} rows {counts.trained:,} were trained on and {counts.validation:,} held out{dropped}; "
        f"{counts.tokens:,} tokens an epoch, {counts.supervised_tokens:,} of them with loss."
    )
    yield table([("rows", "sha256"), *((f"data/{name}.jsonl", digest) for name, digest in counts.sha256.items())])


def _how(manifest: Manifest) -> Iterator[str]:
    where = manifest.topology
    each = f"{where.gpus} GPU" if where.gpus else f"{where.processes} CPU process"
    many = "" if (where.gpus or where.processes) == 1 else "es" if not where.gpus else "s"
    nodes = f" on each of {where.nodes} nodes" if where.nodes > 1 else ""
    peak = manifest.memory.peak_gb
    memory = f", {peak:.1f} GB at most" if peak else ""
    yield f"{each}{many}{nodes}, {manifest.training_time_s / 60:,.1f} minutes{memory}"
    yield ", ".join(f"{name} {manifest.versions[name]}" for name in NAMED if name in manifest.versions)
    if manifest.parent:
        yield f"begun with the {manifest.parent.kind} of `{manifest.parent.run}`, step {manifest.parent.step}"
    if manifest.git and manifest.git.get("commit"):
        dirty = " with changes" if manifest.git.get("dirty") else ""
        yield f"recipe under git: {manifest.git['commit']}{dirty}"


def _code(language: str, *lines: str) -> str:
    fence = "```"
    while any(fence in line for line in lines):
        fence += "`"
    return "\n".join((f"{fence}{language}", *lines, fence))
