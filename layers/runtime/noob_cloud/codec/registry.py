"""Classes that travel by a name that both sides registered; bytes never import anything."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, defaultdict, deque
from enum import Enum, Flag
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from noob_cloud.codec import recipes, tags
from noob_cloud.codec.read import DECODERS
from noob_cloud.codec.write import ENCODERS, Ext
from noob_cloud.exceptions import DecodeError, EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noob_cloud.codec.read import Reader
    from noob_cloud.codec.write import Writer

__all__ = ["NAMES", "register", "registered", "unmade", "unregistered"]

T = TypeVar("T")
NAMES: dict[str, tuple[type, Callable[[Any], Any], bool]] = {}
"""The class of each name, what makes a value of a state, and whether that is the class called with
the state as its keyword arguments."""


def register(
    cls: type[T],
    name: str | None = None,
    *,
    encode: Callable[[T], Any] | None = None,
    decode: Callable[[Any], T] | None = None,
) -> type[T]:
    """Let values of exactly this class travel; both sides register it under the same name.

    Dataclasses, Pydantic models, msgspec structs, named tuples and enums need no more; they are
    built anew by their constructor, so their validation runs. Usable as a decorator.

    Args:
        cls: The class.
        name: What stands for it on the wire; `module:QualName` by default.
        encode: Makes a value that the codec knows of an instance.
        decode: Makes an instance of that value again.

    Raises:
        ValueError: The name stands for another class.
        TypeError: The class is of no known kind and `encode` or `decode` is missing.
    """
    name = name or f"{cls.__module__}:{cls.__qualname__}"
    if encode is None or decode is None:
        if encode is not decode:
            raise TypeError("register() takes both encode= and decode=, or neither.")
        encode, decode, names, by_keyword = _kind_of(cls)
    else:
        names, by_keyword = None, False
    held = NAMES.get(name, (cls,))[0]
    if (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"The name {name!r} is registered for {held!r} already.")
    state = encode

    def encoder(writer: Writer, value: T) -> Ext:
        return writer.ext(tags.OBJECT, writer.nested([name, state(value)]))

    NAMES[name] = (cls, decode, by_keyword)
    ENCODERS[cls] = encoder
    if names is None:
        recipes.state(cls, name, state)
    else:
        recipes.fields(cls, name, names)
    return cls


def registered() -> dict[str, type]:
    """Return every name that values may travel under, with its class."""
    return {name: entry[0] for name, entry in NAMES.items()}


def _decode_object(reader: Reader, data: memoryview) -> Any:
    name, state = reader.items(data, 2)
    entry = NAMES.get(name) if type(name) is str else None
    if entry is None:
        raise unregistered(name)
    cls, decode, _ = entry
    try:
        return decode(state)
    except Exception as error:
        raise unmade(cls, error) from error


def unregistered(name: Any) -> DecodeError:
    """Return the error for a name that stands for no class here."""
    return DecodeError(
        f"No class is registered here as {name!r:.200}. Import the module that defines it and"
        " call noob_cloud.codec.register(cls) before decoding.",
        name=name,
    )


def unmade(cls: type, error: Exception) -> DecodeError:
    """Return the error for a state of which `cls` makes no value."""
    return DecodeError(f"The value of a {cls.__qualname__} does not make one: {error}")


class _Kind(NamedTuple):
    """How the values of a kind of classes travel."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    names: Sequence[str] | None = None
    """The attributes, where the state is a map of them."""
    by_keyword: bool = False
    """Whether the class, called with the state as its keyword arguments, makes the value."""


def _kind_of(cls: type) -> _Kind:
    if issubclass(cls, Enum):
        return _enum(cls)
    if hasattr(cls, "__pydantic_validator__") and hasattr(cls, "model_validate"):
        return _model(cls)
    if issubclass(cls, msgspec.Struct):
        return _struct(cls)
    if dataclasses.is_dataclass(cls):
        return _dataclass(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_make"):
        return _named_tuple(cls)
    raise TypeError(
        f"{cls!r} is no dataclass, model, struct, named tuple or enum: pass encode= and decode=."
    )


def _named_tuple(cls: Any) -> _Kind:
    def decode(state: Any) -> Any:
        return cls._make(_exactly(list, state))

    return _Kind(list, decode)


def _exactly(kind: type[T], state: Any) -> T:
    """Return `state` if it is of `kind`: what iterates over anything iterates over a long range."""
    if type(state) is not kind:
        raise TypeError(f"it wants a {kind.__name__}, not a {type(state).__name__}")
    return state


def _enum(cls: Any) -> _Kind:
    if issubclass(cls, Flag):
        return _Kind(lambda value: value.value, cls)
    return _Kind(lambda value: value.name, lambda name: cls[name])


def _model(cls: Any) -> _Kind:
    def encode(value: Any) -> dict[str, Any]:
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}

    def decode(state: Any) -> Any:
        return cls.model_validate(state, by_alias=False, by_name=True)

    return _Kind(encode, decode)


def _struct(cls: type[msgspec.Struct]) -> _Kind:
    names = cls.__struct_fields__

    def encode(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in names}

    def decode(state: Any) -> Any:
        return cls(**state)

    return _Kind(encode, decode, names, by_keyword=True)


def _dataclass(cls: Any) -> _Kind:
    fields = dataclasses.fields(cls)
    names = [field.name for field in fields]
    late = {field.name for field in fields if not field.init}

    def encode(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in names}

    def decode(state: Any) -> Any:
        value = cls(**{name: item for name, item in state.items() if name not in late})
        for name in late & state.keys():
            object.__setattr__(value, name, state[name])
        return value

    return _Kind(encode, decode, names, by_keyword=not late)


_FACTORIES: dict[str, Any] = {
    kind.__name__: kind for kind in (bool, bytes, dict, float, int, list, set, str, tuple)
}


def _encode_defaultdict(value: defaultdict[Any, Any]) -> list[Any]:
    factory = value.default_factory
    if factory is None:
        return [None, dict(value)]
    name = getattr(factory, "__name__", "")
    if _FACTORIES.get(name) is not factory:
        raise EncodeError(
            f"A defaultdict whose factory is {factory!r} has no place in the wire format; those"
            f" with {', '.join(_FACTORIES)} or None have."
        )
    return [name, dict(value)]


def _decode_defaultdict(state: Any) -> defaultdict[Any, Any]:
    factory, items = state
    return defaultdict(None if factory is None else _FACTORIES[factory], _exactly(dict, items))


def _decode_deque(state: Any) -> deque[Any]:
    items, size = state
    return deque(_exactly(list, items), size)


def _decode_fraction(state: Any) -> Fraction:
    numerator, denominator = state
    return Fraction(_exactly(int, numerator), _exactly(int, denominator))


DECODERS[tags.OBJECT] = _decode_object
register(OrderedDict, encode=dict, decode=lambda state: OrderedDict(_exactly(dict, state)))
register(Counter, encode=dict, decode=lambda state: Counter(_exactly(dict, state)))
register(defaultdict, encode=_encode_defaultdict, decode=_decode_defaultdict)
register(deque, encode=lambda v: [list(v), v.maxlen], decode=_decode_deque)
register(Fraction, encode=lambda v: [v.numerator, v.denominator], decode=_decode_fraction)
