"""What is wrong with the values of a config by `multilayer.core.schema`, in words."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from multilayer.core.errors import did_you_mean
from multilayer.core.renamed import current_key
from multilayer.core.schema import OTHER, OWN, SCHEMAS, Scheduler, Train, WithSweep
from multilayer.core.text import as_override, quote_for_shell, split_list


def type_problems(
    command: str, config: dict[str, Any], written: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """The values of a composed config that are of a wrong type or out of range, one line each.

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


def sweep_problems(node: Any) -> list[str]:
    """The problems with the values of `sweep`, one line each."""
    try:
        WithSweep.model_validate({"sweep": node}, strict=True)
    except ValidationError as error:
        return [format_problem(each) for each in error.errors()]
    return []


def takes(key: str, value: Any) -> bool:
    """Whether a key of a training's config may have such a value; True where nobody knows.

    >>> takes("model.dropout", [0.1, 0.2]), takes("seed", [0, 1]), takes("data.path", None)
    (True, False, True)
    """
    *groups, name = key.split(".")
    model: Any = Train
    for group in groups:
        field = getattr(model, "model_fields", {}).get(group)
        model = None if field is None else field.annotation
    field = getattr(model, "model_fields", {}).get(name)
    if field is None:
        return True
    type_: Any = Annotated[field.annotation, key, *field.metadata]
    adapter: TypeAdapter[Any] = TypeAdapter(type_)
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def commands_with(key: str) -> list[str]:
    """The commands whose config has a key at its top.

    >>> commands_with("input")
    ['predict']
    """
    return [name for name, schema in SCHEMAS.items() if key in schema.model_fields]


_MOST_CHARACTERS = 200
"""The length at which a value is cut in a message."""


def format_problem(problem: Any, written: Mapping[str, str] = MappingProxyType({})) -> str:
    """One problem that pydantic found, as `key=value: what was expected`.

    Args:
        problem: As pydantic describes it.
        written: See `type_problems`.
    """
    tags = [part for part in problem["loc"] if str(part).startswith((OWN, OTHER))]
    keys = [str(part) for part in problem["loc"] if part not in tags]
    key = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        if current_key(key) != key:
            return f"{key}: renamed to {current_key(key)}"
        known = Scheduler.model_fields if keys[1:] else Train.model_fields
        return f"{key}: unknown key, {did_you_mean(keys[-1], known)}"
    if problem["type"] == "missing":
        return f"{key}: it cannot be left out"
    expected = str(problem["msg"]).removeprefix("Input ").replace("should be", "must be")
    expected = expected.partition(" or instance of ")[0]
    if problem["type"] in ("too_short", "too_long"):
        context = problem["ctx"]
        expected = f"must have {context.get('min_length', context.get('max_length'))} values"
    if problem["type"] == "model_type" and isinstance(problem["input"], str):
        expected = f"no such choice; those of your own are in --config-dir FOLDER, in {key}/"
    if problem["type"].startswith("bool_"):
        expected = "must be true or false"
    if key == "data.target" and isinstance(problem["input"], list):
        expected = several_targets(problem["input"])
    others = [tag.removeprefix(OTHER) for tag in tags if tag.startswith(OTHER)]
    if alternative := "".join(f" or {type_}" for type_ in others if type_):
        expected = expected.replace("' or '", "', '")
    value = "null" if problem["input"] is None else str(problem["input"])
    value = written.get(key, value)
    shown = value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}..."
    hint = _as_name(problem, keys, value, written) or _as_null(key, value)
    if problem["type"] == "list_type" and not hint and problem["input"] is not None:
        given = problem["input"]
        is_text = isinstance(given, str)
        word = as_override(key, [given]) if is_text else quote_for_shell(f"{key}=[{value}]")
        hint = f"; a list is {word}" if takes(key, [given]) else ""
    return f"{key}={shown}: {expected}{alternative}{hint}"


def _as_null(key: str, value: str) -> str:
    """A hint for Python's word for nothing."""
    return f"; nothing is {key}=null" if value.lower() == "none" and takes(key, None) else ""


def _as_name(problem: Any, keys: Sequence[str], value: str, written: Mapping[str, str]) -> str:
    """A hint for a column whose name Hydra reads as another type, such as a number."""
    section, *rest = keys
    if section != "data" or problem["type"] != "string_type":
        return ""
    name, *index = rest
    if problem["input"] is None and not index:
        return ""
    key = f"data.{name}"
    texts = split_list(written[key]) if key in written else [value.lower()]
    return f"; a name like it goes in quotes: {as_override(key, texts if index else value)}"


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
