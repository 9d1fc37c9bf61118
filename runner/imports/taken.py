"""What becomes of a foreign configuration: the recipe that it makes, and an entry for each of its keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recipes.errors import UserError

Status = Literal["taken", "default", "native", "no place"]
Convert = Callable[[Any], Any]
NO_FIELD = "no field of a recipe means this"


class NoPlace(ValueError):
    """A value that no field of a recipe can hold; says why, and what to use."""


@dataclass(frozen=True)
class Entry:
    """A foreign key and what became of it: the field and value it is in the recipe, or why it is nowhere."""

    key: str
    value: Any
    status: Status
    text: str


@dataclass(frozen=True)
class Simple:
    """A key that is one field.

    default: what the tool takes where it is missing, unless recipes take the same. null: whether a value that is
    converted to None is written as such; else it is what recipes have by default.
    """

    key: str
    field: str
    convert: Convert = lambda value: value
    default: Any = None
    null: bool = False


class Part(dict[str, Any]):
    """The keys below a key, which keeps in mind those that were looked at."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)


class Taken:
    """Takes keys out of a foreign configuration, one after the other, and writes down what became of each."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.left = dict(given)
        self.recipe: dict[str, Any] = {}
        self.entries: list[Entry] = []
        self.parts: dict[str, Part] = {}

    def put(self, key: str, field: str, value: Any, note: str = "") -> None:
        """A key that was given becomes a field."""
        self._become(key, self.left.pop(key, None), "taken", field, value, note)

    def assume(self, key: str, field: str, value: Any, note: str = "") -> None:
        """A field becomes what the tool would do without the key."""
        self._become(key, None, "default", field, value, note)

    def also(self, key: str, field: str, value: Any, note: str = "") -> None:
        """A part of a key that was given, or one that makes a second field."""
        self._become(key, value, "taken", field, value, note)

    def note(self, key: str, text: str) -> None:
        """A key that is a part of a field which another made."""
        self.entries.append(Entry(key, self.left.pop(key, None), "taken", text))

    def betas(self) -> None:
        """Take Adam's two under transformers' names; where one is given, the other is its default."""
        defaults = {"adam_beta1": 0.9, "adam_beta2": 0.999}
        given = [key for key in defaults if self.left.get(key) is not None]
        try:
            betas = [number(self.left[key]) if key in given else default for key, default in defaults.items()]
            for key in given:
                self.put(key, "training.betas", betas)
        except NoPlace as error:
            for key in given:
                self.drop(key, str(error))

    def warmup(self, steps: str, ratio: str, constant: bool = False) -> None:
        """Leave one key of two to be taken: steps go before a share. constant: by transformers, which warms up none."""
        try:
            counted = number(self.left.get(steps) or 0) > 0
        except NoPlace:
            counted = False
        for key in (steps, ratio):
            if constant and self.left.get(key):
                self.drop(key, "a constant rate has no warmup in transformers, but as constant_with_warmup")
        if counted and self.left.get(ratio) is not None:
            self.drop(ratio, f"{steps} goes before it")

    def whole(self, key: str, default: int) -> int:
        """A key's whole number, 1 or more, which stays to be taken.

        Raises:
            UserError: it is none.
        """
        value = self.left.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{key}: {value!r} is not allowed; allowed: a whole number, 1 and more")
        return value

    def replicas(self, gpus: int, keys: str) -> int:
        """How many batches a step has: GPUs that share rows, as `keys` (apart by blanks) count them, have one together.

        Raises:
            UserError: a key is no whole number, or does not divide what is left of the GPUs.
        """
        for key in keys.split():
            shared = self.whole(key, 1)
            if gpus % shared:
                raise UserError(f"{key}: {shared} GPUs share rows, and {gpus} do not divide by it; give --gpus")
            gpus //= shared
            self.drop(key, "no GPUs share rows here; training.global_batch_size counts as if they did")
        return gpus

    def mapping(self, key: str) -> Part:
        """A key's own keys, which stay to be taken; none where it is not given.

        Raises:
            UserError: it holds something else.
        """
        if key not in self.parts:
            value = self.left.get(key)
            if value is not None and not isinstance(value, Mapping):
                raise UserError(f"{key}: {value!r} is not allowed; allowed: keys with values")
            self.parts[key] = Part(value or {})
        return self.parts[key]

    def drop_unread(self, reasons: Mapping[str, str]) -> None:
        """What nothing looked at below the keys that were taken; `reasons` by dotted key, or by the key above."""
        nowhere = {entry.key for entry in self.entries if entry.status == "no place"}
        for key, part in self.parts.items():
            for name in sorted(part.keys() - part.read) if key not in nowhere else ():
                if part.get(name) is not None:
                    why = reasons.get(f"{key}.{name}", reasons.get(key, NO_FIELD))
                    self.entries.append(Entry(f"{key}.{name}", part[name], "no place", why))

    def native(self, key: str) -> None:
        value = self.left.pop(key)
        self.recipe.setdefault("backend_options", {})[key] = value
        self.entries.append(Entry(key, value, "native", f"backend_options.{key}"))

    def drop(self, key: str, why: str) -> None:
        if key in self.left:
            self.entries.append(Entry(key, self.left.pop(key), "no place", why))

    def drop_all(self, reasons: Iterable[tuple[str, str]]) -> None:
        """Keys (apart by blanks) that have no place, each with the reason of its group."""
        for why, keys in reasons:
            for key in keys.split():
                self.drop(key, why)

    def simple(self, table: Iterable[Simple]) -> None:
        """Take every key of a table; null is the same as not given."""
        for one in table:
            value = self.left.get(one.key)
            if value is None:
                self.left.pop(one.key, None)
                if one.default is not None:
                    self.assume(one.key, one.field, one.default)
                continue
            try:
                converted = one.convert(value)
            except NoPlace as error:
                self.drop(one.key, str(error))
                continue
            if converted is None and not one.null:
                self.left.pop(one.key)
                self.entries.append(Entry(one.key, value, "taken", "as a recipe has it by default"))
            else:
                self.put(one.key, one.field, converted)

    def _become(self, key: str, given: Any, status: Status, field: str, value: Any, note: str) -> None:
        node, names = self.recipe, field.split(".")
        for name in names[:-1]:
            node = node.setdefault(name, {})
        node[names[-1]] = value
        self.entries.append(Entry(key, given, status, f"{field}: {_shown(value)}{f' ({note})' if note else ''}"))


def choice(names: Mapping[Any, Any], use: str) -> Convert:
    """A conversion by a table; `use` ends the refusal of what is not in it."""

    def convert(value: Any) -> Any:
        if not isinstance(value, (str, int)) or value not in names:
            raise NoPlace(f"recipes have no {value!r}; {use}")
        return names[value]

    return convert


def number(value: Any) -> int | float:
    """A number, as a text too: many parsers read 1e-4 as one."""
    try:
        found = value if isinstance(value, (int, float)) else float(value)
    except (TypeError, ValueError):
        raise NoPlace(f"{value!r} is no number") from None
    if not math.isfinite(found):
        raise NoPlace(f"{value!r} is no number")
    return found


def positive(value: Any) -> Any:
    """A count, where 0 and less say none."""
    value = number(value)
    if value > 0 and value != int(value):  # less than 1 is a share of the training to transformers
        raise NoPlace("a recipe counts whole steps")
    return int(value) if value > 0 else None


def fraction(value: Any) -> Any:
    """A share of rows that is held out."""
    value = number(value)
    if value > 0.5:
        raise NoPlace("a recipe holds out a fraction up to a half; use the recipe's data.validation.fraction")
    return value or None


def names_of(value: Any) -> list[str]:
    """A list, or a text of names apart by commas."""
    found = value if isinstance(value, list) else str(value).split(",")
    return [name for name in (str(one).strip() for one in found) if name]


def _shown(value: Any) -> str:
    return "true" if value is True else "false" if value is False else "null" if value is None else str(value)
