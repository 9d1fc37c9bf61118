"""The verbs of the command line: one module each, imported only when it is called.

A module has `arguments(parser)`, which adds its options; `run(arguments) -> int | None`, which does the work and
returns an exit code other than 0 where one is due; and EXAMPLES, shown by its help. Verbs do not know each other.
"""

VERBS = {
    "list": "list the catalogue of recipes, or those that fit a GPU",
    "show": "print a recipe",
    "new": "copy a recipe to a file of your own",
    "import": "make a recipe of a configuration of LLaMA-Factory, Axolotl, verl or torchtune",
    "validate": "check recipes and report every mistake with its place",
    "plan": "show what a recipe would run and where each field goes",
    "fit": "say whether a recipe fits a GPU, how long it takes, and what makes it fit",
    "data": "check, preview, convert, split and make training data",
    "run": "train and evaluate one or more recipes",
    "sweep": "try values of a recipe's fields, each as a run, and keep the best as a recipe",
    "launch": "start a recipe on Slurm, on hosts by ssh, or through SkyPilot",
    "resume": "continue a stopped run from its newest complete checkpoint",
    "runs": "list runs, or show one with its checkpoints and scores",
    "rm": "remove runs, or their checkpoints",
    "logs": "print a run's newest log",
    "eval": "evaluate finished runs, or any model on a file of rows",
    "compare": "compare evaluated runs: paired tests, cost, report",
    "gate": "say whether a run may replace another, or its base: ship, don't ship, can't tell",
    "score": "score existing prediction files, without a model",
    "chat": "talk to a run's model, or to two beside each other",
    "merge": "merge a LoRA adapter into its base model and check the result",
    "export": "write a run's model in 8 or 4 bits, and check that it is still as good",
    "push": "put a run's model on the Hub, with a card",
    "serve": "serve a run's model with vLLM behind an OpenAI-compatible API",
    "tokens": "say whether a model is asked by the tokens that its replies were trained behind",
    "reward": "try a GRPO recipe's rewards on sample replies",
    "completion": "print what makes a shell complete recipe's commands",
    "schema": "print the JSON Schema of recipes",
    "setup": "build backend environments ahead of time, check or remove them",
    "doctor": "check this machine and suggest fixes",
}
