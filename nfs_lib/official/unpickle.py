"""Pickles read as data. A pickle is a program for a small stack machine; this one can't call anything.

Names of functions and classes stay names. What they would make is made by plain functions of this package, looked up in a
table; a name that the table lacks is refused. Objects of classes become `Node`s: a name, arguments, a state.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from mmap import mmap
from typing import Any

from nfs_lib.errors import CorruptWeights, UnsafeCheckpoint

STEPS = 400_000  # of the stack machine, for one file; an official one takes about 100 000
LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}
FRESH: dict[str, Callable[[list], Any]] = {"LIST": list, "TUPLE": tuple, "DICT": lambda items: paired({}, items)}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
ADDED: dict[str, tuple[type, Callable[[Any, list], Any]]] = {
    "SETITEMS": (dict, lambda table, items: paired(table, items)),
    "APPENDS": (list, lambda values, items: values.extend(items)),
    "ADDITEMS": (set, lambda group, items: group.update(names(items))),
}
RENAMED = (("__builtin__.", "builtins."), ("copy_reg.", "copyreg."), ("numpy._core.", "numpy.core."))
WHOLE = ("torch.nn.", "torch.jit.", "torch_utils.persistence.")  # what a network's own program is made of

Source = BytesIO | mmap  # unlike other files, they don't believe how much there is to be read
Makers = Mapping[str, Callable[..., Any] | None]  # name → what makes its value; None: the name may stand there, uncalled


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a function or class, such as "collections.OrderedDict"; never the thing itself."""

    name: str


@dataclass(slots=True, eq=False)
class Node:
    """An object whose class isn't loaded."""

    name: str
    args: tuple = ()
    state: Any = None


class Budget:
    """What one file of `size` bytes may cost: steps, and bytes of the tensors made from it. Raises CorruptWeights beyond."""

    def __init__(self, size: int) -> None:
        self.steps, self.bytes = STEPS, 4 * size + 2**20

    def step(self, count: int = 1) -> None:
        self.steps -= count
        if self.steps < 0:
            raise CorruptWeights(f"it takes more than {STEPS:,} steps to read, far more than an official file")

    def allocate(self, count: int) -> None:
        """count: bytes."""
        self.bytes -= count
        if self.bytes < 0:
            raise CorruptWeights("its tensors would be larger than the file itself")


def unpickle(file: Source, makers: Makers, budget: Budget, stored: Callable[[Any], Any] | None = None) -> Any:
    """The object that a pickle describes; `file` is left behind its end.

    makers: the names that may occur, and what makes their values from arguments; stored: what a persistent id stands for.
    Raises UnsafeCheckpoint for a name that `makers` lacks or an operation that would call one. What isn't a pickle raises
    CorruptWeights or one of Python's own errors (ValueError, LookupError, TypeError …).
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    argument: Any
    for op, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]  # read and readline are all that it needs
        budget.steps -= 1
        if budget.steps < 0:
            budget.step()
        name = op.name
        if name in LITERALS:
            if type(argument) is int and argument.bit_length() > 128:
                raise ValueError("a whole number of more than 128 bits")
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name in FRESH:
            items, stack = stack, marks.pop()
            stack.append(FRESH[name](items))
        elif name in TUPLES:
            stack.append(tuple(taken(stack, TUPLES[name])))
        elif name == "SETITEM":
            items = taken(stack, 2)
            paired(container(stack[-1], dict), items)
        elif name == "APPEND":
            value = stack.pop()
            container(stack[-1], list).append(value)
        elif name in ADDED:
            items, stack = stack, marks.pop()
            kind, add = ADDED[name]
            add(container(stack[-1], kind), items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, attribute = argument.split(" ", 1) if name == "GLOBAL" else taken(stack, 2)
            stack.append(known(module, attribute, makers))
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = taken(stack, 2)
            stack.append(made(function, arguments, makers))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Node):
                stack[-1].state = state
            elif not isinstance(stack[-1], dict | list):  # attributes of a table, such as a state dict's version numbers
                raise ValueError("a state is set on something that has none")
        elif name == "BINPERSID" and stored:
            stack.append(stored(stack.pop()))
        elif name == "POP" and stack:
            stack.pop()
        elif name in ("POP", "POP_MARK"):
            stack = marks.pop()
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            what = f"{name} {printable(argument)}" if argument else name
            raise UnsafeCheckpoint(f"it uses the pickle operation {what}, which weights have no use for; nothing was run")
    raise ValueError("the pickle has no end")


def taken(stack: list[Any], count: int) -> list[Any]:
    """The topmost items, lowest first; they are off the stack then."""
    if len(stack) < count:
        raise ValueError("the pickle takes more than it has put down")
    items = stack[-count:]
    del stack[-count:]
    return items


def names(values: list[Any]) -> list[Any]:
    """What may name entries: text and small numbers, which are quick to look up. Raises ValueError for others."""
    for value in values:
        if not (value is None or isinstance(value, str) or (isinstance(value, int) and value.bit_length() < 54)):
            raise ValueError(f"an entry is named by a {type(value).__name__}")
    return values


def paired(table: dict, items: list[Any]) -> dict:
    """The table with more entries: name, value, name, value …"""
    table.update(zip(names(items[::2]), items[1::2], strict=True))
    return table


def container(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"entries for a {type(value).__name__}, as if it were a {kind.__name__}")
    return value


def known(module: str, attribute: str, makers: Makers) -> Global:
    """The name, in today's spelling. Raises UnsafeCheckpoint if it isn't in the table."""
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise ValueError("a name that isn't text")
    name = f"{module}.{attribute}"
    for old, new in RENAMED:
        if name.startswith(old):
            name = new + name[len(old) :]
    if name in makers:
        return Global(name)
    if name.startswith(WHOLE):
        raise UnsafeCheckpoint(f"it holds a whole network ({printable(name)}), which is a program, and not its tensors alone; "
                               "bring a file of the state dict. Nothing was run")
    raise UnsafeCheckpoint(f"it asks for {printable(name)}, which isn't among the names that weights are made of; nothing was "
                           "run. Don't open this file with other programs, and get it from its authors again")


def made(function: Any, arguments: Any, makers: Makers) -> Any:
    """What `makers` makes of a name and arguments."""
    if not isinstance(function, Global) or type(arguments) is not tuple:
        raise ValueError("a call of something that isn't a function")
    maker = makers[function.name]
    if maker is None:
        raise UnsafeCheckpoint(f"it calls {function.name}, which weights only mention; nothing was run")
    return maker(*arguments)


def printable(text: Any) -> str:
    """Text out of a file, fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:80]) if isinstance(text, str) else "…"


def table(budget: Budget, pairs: Any = ()) -> dict:
    budget.step(len(pairs))
    return paired({}, [x for name, value in (pairs.items() if isinstance(pairs, dict) else pairs) for x in (name, value)])


def group(budget: Budget, items: Any = ()) -> set:
    budget.step(len(items))
    return set(names(list(items)))


def encoded(budget: Budget, text: str, encoding: str) -> bytes:
    """How bytes are written in Python 2's protocols."""
    if encoding != "latin1":
        raise ValueError("bytes in another encoding than latin1")
    budget.allocate(len(text))
    return text.encode("latin1")


def containers(budget: Budget) -> dict[str, Callable[..., Any] | None]:
    """Python's own containers and numbers, and numpy's numbers. What copies its argument pays for it."""
    return {
        "collections.OrderedDict": partial(table, budget),
        "collections.defaultdict": lambda factory=None: {},
        "collections.Counter": partial(table, budget),
        "builtins.set": partial(group, budget),
        "builtins.frozenset": partial(group, budget),
        "builtins.dict": lambda: {},
        "builtins.list": lambda: [],
        **dict.fromkeys(("builtins.int", "builtins.float", "builtins.str", "builtins.bool")),
        "_codecs.encode": partial(encoded, budget),
        "numpy.dtype": dtype,
        "numpy.core.multiarray.scalar": number,
    }


def dtype(code: str, *flags: Any) -> Node:
    """A type of numpy's numbers. Raises UnsafeCheckpoint for objects, which are pickles of their own."""
    if not isinstance(code, str) or "O" in code:
        raise UnsafeCheckpoint("it holds numpy objects, which could be anything; nothing was run")
    return Node("numpy.dtype", (code,))


def number(kind: Node, content: bytes) -> bool | int | float:
    """A numpy number as Python's."""
    import numpy as np

    if not isinstance(kind, Node) or kind.name != "numpy.dtype":
        raise ValueError("a numpy number without a type")
    big = kind.state is not None and kind.state[1] == ">"
    numpy_kind = np.dtype(kind.args[0][:8]).newbyteorder(">" if big else "<")
    if numpy_kind.kind not in "biuf" or numpy_kind.itemsize != len(content):
        raise ValueError(f"a numpy number of type {printable(kind.args[0])} in {len(content)} bytes")
    return np.frombuffer(content, numpy_kind)[0].item()
