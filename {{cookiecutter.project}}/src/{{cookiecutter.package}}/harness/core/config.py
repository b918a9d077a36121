"""The configuration: composed by Hydra, checked against typed schemas.

conf/ is composed into params.yaml. The schema of a section is a subclass of `Section`; a section with a `_target_`
(`data`, `model`, `train`...) is checked against the signature of the function that it names, whose keyword-only
parameters are the section's keys.
"""

import importlib
import inspect
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from .errors import UserError, closest
from .paths import NAME

PARAMS = Path("params.yaml")
CONF = Path("conf")


class Section(BaseModel):
    """A section of the configuration: typed, immutable, without unknown keys, with finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def compose(conf: Path = CONF, name: str = "config", overrides: Sequence[str] = ()) -> str:
    """The composed configuration, with the same bytes as from `dvc exp run`.

    Args:
        conf: Folder of config.yaml and its groups.
        name: Name of the file to compose, without suffix.
        overrides: Overrides in Hydra's grammar.

    Returns:
        YAML with resolved interpolations.

    Raises:
        UserError: If Hydra cannot compose it, or a value would come from the environment.
    """
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(_composed(conf, name, overrides)))


def choices(conf: Path = CONF, name: str = "config", overrides: Sequence[str] = ()) -> dict[str, str]:
    """Config group -> chosen option.

    Args:
        conf: Folder of config.yaml and its groups.
        name: Name of the file to compose, without suffix.
        overrides: Overrides in Hydra's grammar.

    Raises:
        UserError: If Hydra cannot compose it.
    """
    chosen = _composed(conf, name, overrides, return_hydra_config=True).hydra.runtime.choices
    return {key: value for key, value in chosen.items() if not key.startswith("hydra/")}


def _composed(conf: Path, name: str, overrides: Sequence[str], return_hydra_config: bool = False) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for file in sorted(conf.rglob("*.yaml")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if "oc.env" in line.split("#")[0]:
                raise UserError(
                    f"{file}:{number}: "
                    "${oc.env:...} would write the environment into params.yaml, which is "
                    "committed; read the variable in the code that uses it instead"
                )
    try:
        with initialize_config_dir(str(conf.resolve())):
            composed = hydra_compose(
                config_name=name, overrides=list(overrides), return_hydra_config=return_hydra_config
            )
        if not return_hydra_config:  # Hydra's part has values that only a running job defines
            OmegaConf.resolve(composed)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        # Hydra's first paragraph names the file and the key; the rest lists its search path.
        reason = " ".join(str(error).split("\n\n")[0].split())
        with_overrides = f" with {' '.join(overrides)}" if overrides else ""
        raise UserError(f"{conf}/ cannot be composed{with_overrides}: {reason}") from error
    return composed


def check(
    raw: Mapping[str, Any],
    schemas: Mapping[str, type[Section]],
    groups: Collection[str] = (),
    origin: str = "conf/",
) -> None:
    """Checks a configuration against the schemas of its sections.

    Args:
        raw: Section name -> section, as read from YAML.
        schemas: Section name -> schema; every one of these sections is required.
        groups: Names of further sections, which must have a `_target_`.
        origin: File or folder that messages name as the place to edit.

    Raises:
        UserError: With a line for each key that is unknown, missing, of the wrong type or out of range.
    """
    problems: list[str] = []
    for name in sorted({*raw, *schemas}):
        section = raw.get(name)
        if not isinstance(section, Mapping):
            problems.append(f"{name}: a section (mapping) is expected here, got {section!r}")
        elif name in schemas:
            problems += _violations(name, section, schemas[name])
        elif name in groups:
            problems += _target_violations(name, section)
        else:
            problems.append(f"{name}: unknown section{_suggestion(name, [*schemas, *sorted(groups)])}")
    if problems:
        raise UserError(f"the configuration in {origin} is not valid:\n" + "\n".join(f"  {p}" for p in problems))


def load(name: str, schema: type[S]) -> S:
    """A section of params.yaml, validated.

    Args:
        name: Name of the section.
        schema: Schema of the section.

    Raises:
        UserError: If params.yaml is missing or the section is invalid.
    """
    raw = read()
    check({name: raw.get(name)}, {name: schema}, origin=str(PARAMS))
    return schema.model_validate_json(json.dumps(raw[name]))


def load_file(file: str, name: str, schema: type[S], overrides: Sequence[str] = ()) -> S:
    """A section of a file of conf/ that no stage reads, composed and validated.

    Args:
        file: Name of the file, without suffix.
        name: Name of its only section.
        schema: Schema of the section.
        overrides: Overrides in Hydra's grammar.

    Raises:
        UserError: If the file cannot be composed or the section is invalid.
    """
    from omegaconf import OmegaConf

    sections: Any = OmegaConf.to_container(OmegaConf.create(compose(name=file, overrides=overrides)))
    check(sections, {name: schema}, origin=f"conf/{file}.yaml")
    return schema.model_validate_json(json.dumps(sections[name]))


def read(path: Path = PARAMS) -> dict[str, Any]:
    """The content of params.yaml as plain Python values.

    Args:
        path: File to read.

    Raises:
        UserError: If the file is missing or not YAML.
    """
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[return-value]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist yet: run `dvc repro`") from None
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def instantiate(section: Mapping[str, Any], *args: Any) -> Any:
    """The result of a section's `_target_`, called with the section's other keys.

    `hydra.utils.instantiate` would call any installed function, or, given a whitelist, refuse the Keras model that a
    function of this package returns.

    Args:
        section: Section with a `_target_`.
        *args: Positional arguments of the function, from the pipeline.

    Raises:
        UserError: If `_target_` is not a function of this package.
    """
    return target(section["_target_"])(*args, **{key: value for key, value in section.items() if key != "_target_"})


def refuse_untracked(path: Path, stage: str, key: str, place: str) -> None:
    """Rejects an input that is not a dependency of a stage.

    DVC would miss its changes.

    Args:
        path: File or folder that the stage reads.
        stage: Name of the stage.
        key: Key of the configuration that names the path.
        place: Folder that is a dependency, as the place to move the input to.

    Raises:
        UserError: With the line to add to dvc.yaml.
    """
    from omegaconf import OmegaConf

    stages: Any = OmegaConf.to_container(OmegaConf.load("dvc.yaml"))
    # Without following links: those of DVC lead into its cache.
    dependencies = [os.path.abspath(dependency) for dependency in stages["stages"][stage]["deps"]]
    if not any(Path(os.path.abspath(path)).is_relative_to(dependency) for dependency in dependencies):
        raise UserError(
            f"{key}: {path} is not a dependency of the stage, so that DVC would miss changes: move it below "
            f"{place} or add `- {path}` under stages.{stage}.deps in dvc.yaml"
        )


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, from a nested mapping."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, item in value.items() for k, v in flatten(item, f"{prefix}.{key}".strip(".")).items()}


def target(name: Any) -> Callable[..., Any]:
    """The function that a `_target_` names.

    Args:
        name: Dotted name, which begins with this package.

    Raises:
        UserError: If it is not a function of this package.
    """
    module, _, attribute = str(name).rpartition(".")
    if not module.startswith(f"{NAME}."):
        raise UserError(f"{name!r} is not in this package: name a function of {NAME}")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{name!r} cannot be imported: {error}") from error
    if not callable(function):  # a module, for instance
        raise UserError(f"{name!r} is not a function: name a function of {NAME}")
    return function


def _target_violations(name: str, section: Mapping[str, Any]) -> list[str]:
    name_of_target = section.get("_target_", "???")
    values = {key: value for key, value in section.items() if key != "_target_"}
    if name_of_target == "???":
        return [f"{name}._target_: no value is set (???)"]
    try:
        parameters = _parameters(target(name_of_target))
    except UserError as error:
        return [f"{name}._target_: {error}"]
    # By alias: a parameter may have the name of a method of pydantic's models, such as `schema`.
    keys: dict[str, Any] = {
        f"parameter_{key}": (annotation, Field(default, alias=key)) for key, (annotation, default) in parameters.items()
    }
    return _violations(name, values, create_model(name, __base__=Section, **keys))


def _parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Keyword-only parameter -> annotation and default, `...` for none.

    The keys of `**settings: Unpack[...]` are included.
    """
    parameters: dict[str, tuple[Any, Any]] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            parameters[key] = (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        elif parameter.kind is parameter.VAR_KEYWORD:
            (settings,) = get_args(parameter.annotation)
            parameters |= {key: (type, ...) for key, type in get_type_hints(settings, include_extras=True).items()}
    return parameters


def _violations(name: str, values: Mapping[str, Any], schema: type[BaseModel]) -> list[str]:
    # Pydantic would accept ??? for a string.
    lines = [_unset(f"{name}.{key}") for key in _keys(schema) if values.get(key) == "???"]
    try:
        # JSON, because in strict mode only JSON turns a list into a tuple and a string into a choice.
        schema.model_validate_json(json.dumps(values))
    except ValidationError as error:
        problems = [{**problem, "loc": _path(values, problem["loc"])} for problem in error.errors(include_url=False)]
        lines += [_line(name, problem, schema) for problem in problems]
    return list(dict.fromkeys(lines))


def _keys(schema: type[BaseModel]) -> list[str]:
    return [field.alias or key for key, field in schema.model_fields.items()]


def _path(values: Any, place: Sequence[Any]) -> list[Any]:
    """The keys of a place in a section: pydantic also names which of several types it has tried.

    Args:
        values: The section.
        place: The place, as pydantic names it; its last key may be missing in the section.
    """
    keys = []
    for number, part in enumerate(place, 1):
        section, sequence = isinstance(values, Mapping), isinstance(values, list) and isinstance(part, int)
        inside = part in values if section else sequence and part < len(values)
        if inside or sequence or (section and number == len(place)):
            keys.append(part)
        values = values[part] if inside else values
    return keys


def _line(name: str, problem: Any, schema: type[BaseModel]) -> str:
    key = ".".join([name, *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        *parents, last = problem["loc"]
        return f"{key}: unknown key{_suggestion(str(last), _keys(_nested(schema, parents)))}"
    if problem["type"] == "missing":
        return f"{key}: missing, add it"
    if problem["input"] == "???":
        return _unset(key)
    message = problem["msg"].removeprefix("Value error, ")  # of a validator
    message = message[0].lower() + message[1:]
    return f"{key}: {message}" + (f", got {problem['input']!r}" if problem["loc"] else "")


def _nested(schema: type[BaseModel], path: Sequence[Any]) -> type[BaseModel]:
    for part in path:  # fields are found by alias, see `_target_violations`
        fields = schema.model_fields.items()
        kind = next((field.annotation for key, field in fields if part in (key, field.alias)), None)
        models = [each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, BaseModel)]
        if not models:
            break
        schema = models[0]
    return schema


def _unset(key: str) -> str:
    return f"{key}: no value is set (???); set it in conf/ or with -S {key}=..."


def _suggestion(word: str, known: Collection[str]) -> str:
    close = closest(word, known)
    return f"; did you mean {close!r}?" if close else f"; known: {', '.join(known) or 'none'}"
