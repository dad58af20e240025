"""What is wrong with the values of a config by `multilayer.core.schema`, in words."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from multilayer.core.errors import Problem, did_you_mean, nearest
from multilayer.core.renamed import current_key
from multilayer.core.schema import OTHER, OWN, SCHEMAS, Scheduler, Train, WithSweep
from multilayer.core.text import as_override, for_shell, override_word, split_list


def type_problems(
    command: str, config: dict[str, Any], written: Mapping[str, str] = MappingProxyType({})
) -> list[Problem]:
    """The values of a composed config that are of a wrong type or out of range.

    Those that are missing, "???", are left out.

    Args:
        command: `train`, for example.
        config: What was composed, as plain data.
        written: The values on the command line as they were written there, by their keys.
    """
    try:
        SCHEMAS[command].model_validate(config, strict=True)
    except ValidationError as error:
        problems = [each for each in error.errors() if each["input"] != "???"]
        return [format_problem(each, written) for each in problems]
    return []


def sweep_problems(node: Any) -> list[Problem]:
    """The problems with the values of `sweep`."""
    try:
        WithSweep.model_validate({"sweep": node}, strict=True)
    except ValidationError as error:
        return [format_problem(each) for each in error.errors()]
    return []


def takes(key: str, value: Any, command: str = "train") -> bool:
    """Whether a key of a command's config may have such a value; True where nobody knows.

    >>> takes("model.dropout", [0.1, 0.2]), takes("seed", [0, 1]), takes("data.path", None)
    (True, False, True)
    """
    type_ = _type_of(key, command)
    if type_ is None:
        return True
    try:
        TypeAdapter(type_).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def any_value(key: str, command: str = "train") -> str:
    """What stands for the value of a key that is given none: `true`, or something to fill in.

    >>> any_value("refit"), any_value("seed"), any_value("keep_input_columns", "predict")
    ('true', 'VALUE', 'true')
    """
    is_switch = takes(key, True, command) and not takes(key, "x", command)
    return "true" if is_switch else "VALUE"


def knows(key: str, command: str = "train") -> bool:
    """Whether it is known which values a key of a command's config may have.

    >>> knows("optimizer.momentum"), knows("momentum")
    (True, False)
    """
    return _type_of(key, command) is not None


def _type_of(key: str, command: str) -> Any:
    """The type of a key's values in a command's config; None if nothing is known of it.

    >>> _type_of("callbacks.early_stopping.patience", "train")
    <class 'int'>
    """
    type_: Any = WithSweep if key.startswith("sweep.") else SCHEMAS[command]
    for part in key.split("."):
        if get_origin(type_) is dict:
            type_ = get_args(type_)[1]
            continue
        models = [each for each in (type_, *get_args(type_)) if hasattr(each, "model_fields")]
        field = models[0].model_fields.get(part) if models else None
        if field is None:
            return None
        type_ = field.annotation
        if field.metadata:
            type_ = Annotated[type_, *field.metadata]
    return type_


def commands_with(key: str) -> list[str]:
    """The commands whose config has a key at its top.

    >>> commands_with("input")
    ['predict']
    """
    return [name for name, schema in SCHEMAS.items() if key in schema.model_fields]


def missing_value(key: str, why: str = "") -> Problem:
    """The problem with a key that has no value."""
    return Problem(f"{key}: missing, give it as {key}=VALUE{why}", key, [f"{key}=VALUE"])


_MOST_CHARACTERS = 200
"""The length at which a value is cut in a message."""

_PARTIAL = {
    "optimizer": "add the line _partial_: true, since the parameters are passed later",
    "scheduler": "add the line _partial_: true, since the optimizer is passed later",
}
"""What is said of nodes that are to make an object later, and do not."""

_RANGE = re.compile(r"(\d+)(?:\.{2,3}|:|-)(\d+)")
"""How other programs write all whole numbers from one to another."""


def format_problem(problem: Any, written: Mapping[str, str] = MappingProxyType({})) -> Problem:
    """One problem that pydantic found, as `key=value: what was expected`, and what was meant.

    Args:
        problem: As pydantic describes it.
        written: See `type_problems`.
    """
    parts = [str(part) for part in problem["loc"]]
    keys = [part for part in parts if not part.startswith((OWN, OTHER))]
    key, given = ".".join(keys), problem["input"]
    if problem["type"] == "extra_forbidden":
        return Problem(f"{key}: {_unknown(key, keys)}", key)
    if keys[-1] == "_partial_":
        made_later = [said for group, said in _PARTIAL.items() if group in keys]
        return Problem(f"{key}: {[*made_later, 'it must be left out'][0]}", key)
    if problem["type"] == "missing":
        return Problem(f"{key}: it cannot be left out", key)
    value = written.get(key, "null" if given is None else str(given))
    shown = value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}..."
    said = f"{key}={shown}: {_expected(problem, key)}"
    hint, meant = _meant(problem, keys, value, written) or ("", [])
    if not hint:
        return Problem(said, f"{key}={value}")
    return Problem(f"{said}; {hint}", f"{key}={value}", meant)


def _unknown(key: str, keys: Sequence[str]) -> str:
    """What is said of a key that a config has but should not."""
    if current_key(key) != key:
        return f"renamed to {current_key(key)}"
    known = Scheduler.model_fields if keys[1:] else Train.model_fields
    return f"unknown key, {did_you_mean(keys[-1], known)}"


def _expected(problem: Any, key: str) -> str:
    """What was expected, in words."""
    if key == "data.target" and isinstance(problem["input"], list):
        return several_targets(problem["input"])
    expected = str(problem["msg"]).removeprefix("Input ").replace("should be", "must be")
    expected = expected.partition(" or instance of ")[0]
    if problem["type"] in ("too_short", "too_long"):
        context = problem["ctx"]
        expected = f"must have {context.get('min_length', context.get('max_length'))} values"
    if problem["type"] == "model_type" and isinstance(problem["input"], str):
        expected = f"no such choice; those of your own are in --config-dir FOLDER, in {key}/"
    if problem["type"].startswith("bool_"):
        expected = "must be true or false"
    tags = [str(part) for part in problem["loc"] if str(part).startswith(OTHER)]
    others = [each for tag in tags if (each := tag.removeprefix(OTHER))]
    if others:
        expected = expected.replace("' or '", "', '")
    return expected + "".join(f" or {each}" for each in others)


def _meant(
    problem: Any, keys: Sequence[str], value: str, written: Mapping[str, str]
) -> tuple[str, Sequence[str]] | None:
    """What was likely meant by a value: in words, and the words to write."""
    key, given = ".".join(keys), problem["input"]
    name = _as_name(problem, keys, value, written)
    if name:
        return f"a name like it goes in quotes: {for_shell([name])}", [name]
    is_known = knows(key)  # as some keys of other commands are not
    if is_known and value.lower() in ("none", "false", "off") and takes(key, None):
        return f"nothing is {key}=null", [f"{key}=null"]
    if problem["type"] == "literal_error" and isinstance(given, str):
        near = _nearest_of(given, re.findall("'([^']*)'", problem["ctx"]["expected"]))
        return None if near is None else (f"did you mean {key}={near}?", [f"{key}={near}"])
    if is_known and isinstance(given, list) and given and all(takes(key, x) for x in given):
        words = ["-m", f"{key}={value[1:-1]}"]
        return f"several values are a sweep: {for_shell(words)}", words
    if problem["type"] == "list_type" and given is not None and takes(key, [given]):
        word = override_word(key, [given]) if isinstance(given, str) else f"{key}=[{value}]"
        return f"a list is {for_shell([word])}", [word]
    ends = _RANGE.fullmatch(value)
    if ends and takes(key, int(ends[1])) and takes(key, int(ends[2])):
        words = ["-m", f"{key}=range({ends[1]},{int(ends[2]) + 1})"]
        return f"all from {ends[1]} to {ends[2]} are a sweep: {for_shell(words)}", words
    return None


def _nearest_of(name: str, choices: Sequence[str]) -> str | None:
    """The choice that was likely meant."""
    is_cuda = name.lower().startswith("cuda") and "gpu" in choices
    return "gpu" if is_cuda else nearest(name, choices)


def _as_name(
    problem: Any, keys: Sequence[str], value: str, written: Mapping[str, str]
) -> str | None:
    """The word for a column whose name Hydra reads as another type, such as a number."""
    section, *rest = keys
    if section != "data" or problem["type"] != "string_type":
        return None
    name, *index = rest
    if problem["input"] is None and not index:
        return None
    key = f"data.{name}"
    texts = split_list(written[key]) if key in written else [value.lower()]
    return override_word(key, texts if index else value)


def several_targets(names: Sequence[Any]) -> str:
    """What to do about several targets.

    >>> print(several_targets(["y1", "y2"]))
    a network has one target: train one for each, as data.target=y1 "data.drop_columns=[y2]"
    """
    problem = "a network has one target"
    if len(names) < 2:
        return problem
    first, *others = map(str, names)
    words = [as_override("data.target", first), as_override("data.drop_columns", others)]
    return f"{problem}: train one for each, as {' '.join(words)}"
