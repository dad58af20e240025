"""What `--help` prints: read off the config files, in milliseconds."""

import re
from collections.abc import Sequence
from pathlib import Path

from multilayer.cli import exit_codes
from multilayer.core.config_folder import conf_dir

COMMANDS = {
    "train": "train a network, or with -m a sweep of them",
    "evaluate": "the metrics of a finished run",
    "predict": "predictions for the rows of a table",
    "report": "table, figures and findings of a sweep",
    "sweeps": "how far the sweeps below a folder are",
    "work": "train jobs of a sweep that other processes train, too",
}

_EXAMPLES = {
    "train": """\
  multilayer train                                    digits, a multilayer perceptron, AdamW
  multilayer train data=breast_cancer optimizer=sgd optimizer.lr=0.1
  multilayer train 'model.d_hidden=[256,128]' model.dropout=0.3 data.batch_size=full
  multilayer train data=table data.path=my.csv data.target=price
  multilayer train experiment=pass_class
  multilayer train -m optimizer.lr=1e-3,1e-2,1e-1 seed=0,1,2
  multilayer train resume=RUN trainer.max_epochs=100  go on with a run, and train longer
""",
    "evaluate": """\
  multilayer evaluate run=RUN                         the test rows of the run's own data
  multilayer evaluate run=RUN split=validation
  multilayer evaluate run=RUN data.path=new.csv       a file with the same columns
""",
    "predict": """\
  multilayer predict run=RUN input=new.csv output=predictions.csv
  multilayer predict run=RUN input=new.parquet output=predictions.parquet keep_input_columns=false
  zcat new.csv.gz | multilayer predict run=RUN input=- output=- > predictions.csv
""",
    "report": """\
  multilayer report sweep=sweeps/2026-01-31_12-00-00-000000
  multilayer report sweep=SWEEP metric=validation/accuracy
""",
    "sweeps": """\
  multilayer sweeps                                   those below sweeps/
  multilayer sweeps FOLDER
""",
    "work": """\
  multilayer work SWEEP                               on any host that sees the folder
  multilayer work SWEEP n_workers=8                   eight of them are started
""",
}

_SWEEP_FLAG = """\
  -m                  a sweep: every combination of the values separated by commas
"""

_FLAGS = """\
  --cfg job           print the composed config, and do nothing
  --config-dir DIR    a folder with your own choices, added to the ones above
  --hydra-help        Hydra's other flags
"""


def usage() -> str:
    """The commands, a line each."""
    lines = [f"  {name:<10} {meaning}" for name, meaning in COMMANDS.items()]
    head, foot = "usage: multilayer COMMAND [KEY=VALUE ...]", "multilayer COMMAND --help says more."
    return "\n".join([head, "", *lines, "", foot])


def help_of(command: str, own_folders: Sequence[Path] = ()) -> str:
    """What a command does, its keys, its groups with their choices, and examples.

    Args:
        command: `train`, for example.
        own_folders: Those with the user's own choices.
    """
    parts = [
        f"multilayer {command}: {COMMANDS[command]}\n",
        f"usage: multilayer {command} {'[GROUP=CHOICE] ' * (command == 'train')}[KEY=VALUE] ...\n",
        f"Examples:\n{_EXAMPLES[command]}",
    ]
    if command == "train":
        parts.append("Groups and their choices:\n" + _groups(own_folders))
        parts.append(
            "Keys of the default choices, as model.dropout=0.3; --cfg job shows those of others:\n"
            + _keys_of_defaults()
        )
    parts.append("Keys, with their defaults:\n" + _keys(command))
    flags = _SWEEP_FLAG * (command == "train") + _FLAGS
    parts += ["Flags:\n" + flags, "Exit codes:\n" + exit_codes.MEANINGS]
    return "\n".join(parts)


def _groups(own_folders: Sequence[Path]) -> str:
    """A line for each config group, with the choices of the user's own folders among ours."""
    folders = [conf_dir(), *own_folders]
    choices: dict[str, set[str]] = {}
    for path in (path for folder in folders for path in folder.glob("*/[!_]*.yaml")):
        choices.setdefault(path.parent.name, set()).add(path.stem)
    return "".join(
        f"  {group:<14} {', '.join(sorted(names))}\n"
        for group, names in sorted(choices.items())
        if group != "hydra"
    )


def _keys_of_defaults() -> str:
    """The keys that the default choices of the groups have, as their files explain them.

    Classes, and values that are filled in when an object is built, are left out.
    """
    root = (conf_dir() / "train.yaml").read_text().partition("\n\n")[0]
    lines = []
    for group, choice in re.findall(r"^  - (\w+): (\w+)$", root, re.MULTILINE):
        files = [conf_dir() / group / f"{name}.yaml" for name in ("_base", choice)]
        for text in (file.read_text() for file in files if file.is_file() and group != "hydra"):
            keys = re.findall(r"^([a-z]\w*): *(\S.*)$", text, re.MULTILINE)
            lines += [f"  {group}.{key}: {rest}\n" for key, rest in keys if '"@' not in rest]
    return "".join(dict.fromkeys(lines))


def _keys(command: str) -> str:
    """The command's own keys, as its config file explains them."""
    text = (conf_dir() / f"{command}.yaml").read_text()
    own = text.partition("\nhydra:")[0]
    lines = own.splitlines()[1:]
    if "defaults:" in lines:
        lines = lines[lines.index("") + 1 :]
    return "".join(f"  {line}\n" for line in lines if line)
