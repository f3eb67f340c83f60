"""The sections of docs/study-file.md: their order, what a reader must know before a table, and their examples."""

from dataclasses import dataclass

HEAD = """# The study file

A study is one YAML file: recipes with holes, the questions that candidates answer, and how to search. This page has
every key. It is written from the code by `python -m experiments.reference.study_file`.

* `mergesearch space STUDY` checks a file and shows its search space; every mistake is named with file, path and remedy.
* Editors complete and check a study whose first line names the schema, which `mergesearch schema --out FILE` writes:
  `# yaml-language-server: $schema=study.schema.json`.
* The ready studies in `experiments/studies/` are good files to start from.

"Required" keys have no default. A key with the default "unset" may also be `null`.
"""


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        title: Heading.
        intro: What the reader must know before the table.
        definition: Definition of the schema whose keys the table lists; empty for the whole file.
        example: YAML with every key of the table.
    """

    title: str
    intro: str
    definition: str
    example: str


SECTIONS = (
    Section(
        "The whole file",
        "Only `study`, `families` and `evaluate` are required.",
        "",
        """\
study: math-science
families:                       # recipes with holes
  ties:
    merge_method: ties
    base_model: org/base
    models:
      - {model: org/math, parameters: {weight: {low: 0.0, high: 1.0}, density: {low: 0.2, high: 1.0}}}
      - {model: org/science, parameters: {weight: {low: 0.0, high: 1.0}, density: {low: 0.2, high: 1.0}}}
baselines:                      # plain recipes to beat
  published:
    merge_method: linear
    models:
      - {model: org/math, parameters: {weight: 0.6}}
      - {model: org/science, parameters: {weight: 0.4}}
evaluate:
  tasks: [{task: gsm8k}, {task: arc_challenge, metric: acc_norm}, {task: hellaswag, weight: 0}]
search: {trials: 60}
constraints:
  hellaswag/acc_norm: {at_least: 0.98 of base}
store: sqlite:///study.db
tracking: {mlflow: null}
""",
    ),
    Section(
        "Families and baselines: recipes",
        "A family is mergekit's recipe in which any value may be a hole; a baseline is one without. Exactly one of "
        "`models`, `slices` and `modules` is given.",
        "Recipe",
        """\
merge_method: ties
base_model: org/base
models: [{model: org/math, parameters: {weight: 1.0}}]
# slices: ...                   # instead of models
# modules: ...                  # instead of models
parameters: {normalize: true}
dtype: bfloat16
out_dtype: float16
tokenizer: {source: union}
# tokenizer_source: union       # instead of tokenizer
chat_template: auto
name: ties
""",
    ),
    Section(
        "An entry of models", "", "ListedModel", "{model: org/base@main+org/math-lora, parameters: {weight: 0.5}}\n"
    ),
    Section(
        "An entry of slices",
        "Slices stand on each other. `repeat`, `order`, and `{start, length}` in place of a layer range stand in "
        "families alone: they let the search choose layers, and the winner has plain slices.",
        "SearchedSlice",
        """\
base_model: org/base
parameters: {weight: 0.5}
repeat: {low: 0, high: 2, int: true}
order: {low: 0.0, high: 1.0}
sources:
  - model: org/math
    layer_range: {start: {low: 0, high: 20, int: true}, length: 4}
""",
    ),
    Section(
        "An entry of sources",
        "",
        "Source",
        "{model: org/math, layer_range: [0, 16], parameters: {weight: 0.5}, residual_weight: null}\n",
    ),
    Section(
        "An entry of modules",
        "",
        "Module",
        """\
models: [{model: org/math}, {model: org/science}]
# slices: ...                   # instead of models
parameters: {weight: 0.5}
""",
    ),
    Section(
        "tokenizer",
        "",
        "TokenizerSettings",
        """\
source: union
tokens:
  "<|im_start|>": {source: org/math, force: true}
pad_to_multiple_of: 64
""",
    ),
    Section("An entry of tokens", "", "TokenSettings", "{source: org/math, force: true}\n"),
    Section(
        "Parameters of merge methods",
        "They stand in `parameters`: of the recipe for all models, of one model, slice or source for it alone. A value "
        "is one number, a list of numbers that is spread over the layers, or a list of `{filter, value}` of which the "
        "first whose filter is part of a tensor's name counts. `mergesearch list methods` says which takes what.",
        "Parameters",
        "",
    ),
    Section(
        "Holes: ranges",
        "A hole stands where the search may choose a value.",
        "Range",
        """\
weight: {low: 0.0, high: 1.0}
density: {low: 0.1, high: 1.0, step: 0.1, name: density}     # one value wherever a hole has this name
epsilon: {low: 0.001, high: 0.1, log: true}
t: {low: 0.0, high: 1.0, gradient: 5}                         # five values, spread over the layers
repeat: {low: 0, high: 2, int: true}
""",
    ),
    Section(
        "Holes: choices",
        "A family that chooses its merge method may give the parameters of all of them; each candidate uses its own.",
        "Choice",
        """\
merge_method: {choices: [ties, dare_ties]}
normalize: {choices: [true, false], name: normalize}
t: {choices: [0.3, 0.5, 0.7], gradient: 3}
""",
    ),
    Section(
        "evaluate",
        "Exactly one of `tasks` and `suite` is given.",
        "EvaluateSection",
        """\
tasks: [{task: gsm8k}]
# suite: core                   # instead of tasks
questions: {search: 200, selection: 200, test: all}
data: data                      # data/gsm8k/test.jsonl ...
include_path: my-tasks
apply_chat_template: true
system_instruction: You are a careful assistant.
fewshot_as_multiturn: true
verdict: asked
engine: live
search_on_test: false
""",
    ),
    Section(
        "An entry of tasks",
        "",
        "TaskSpec",
        "{task: arc_challenge, metric: acc_norm, num_fewshot: 25, fewshot: fixed, weight: 0.5}\n",
    ),
    Section(
        "questions",
        "Each is a number for every task, `all`, or a mapping with one for each task. The three sets never overlap.",
        "QuestionCounts",
        "{search: {gsm8k: 100, arc_challenge: 300}, selection: 200, test: all}\n",
    ),
    Section(
        "search",
        "`trials`, `max_hours`, `patience`, `finalists`, `mask_seeds` and `workers` may change while a study runs; any "
        "other change makes another study.",
        "SearchSection",
        """\
sampler: cmaes
sampler_args: {popsize: 12}
trials: 200
race: true
race_level: 0.01
seed: 1
objective: mean
race_against: everyone
race_order: learned
rung: likelihood
finalists: 5
mask_seeds: 3
warm_start: [runs/earlier, known-recipe.yaml]
max_hours: 12
patience: 60
workers: 4
""",
    ),
    Section(
        "An entry of constraints",
        "A winner holds all of them; at least one of the two keys is given.",
        "Bound",
        "{at_least: 0.98 of base, at_most: 0.9}\n",
    ),
    Section("tracking", "", "TrackingSection", "{mlflow: http://localhost:5000}\n"),
)
