"""The network pickles of the StyleGAN family: G, D and G_ema with the arguments that they were made from and their tensors.

Such a file carries the source text of its classes, which its authors' loader executes. Here that text is left unread: a
network's tensors and arguments lie in its attributes, and a walk through them gives its state dict (official code:
`torch_utils.persistence`).
"""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from nfs_lib.errors import CorruptWeights
from nfs_lib.official import tensors
from nfs_lib.official.unpickle import Budget, Global, Node, Source, printable, unpickle

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
VERSION = 6  # of the persistence format
NETWORKS = ("G", "D", "G_ema")
DEPTH = 40  # of modules in modules, and of arguments in arguments
CLASSES = (
    "torch.nn.modules.container.ModuleList", "torch.nn.modules.container.Sequential", "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig", "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata",
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Integer", "Float", "Boolean", "String", "Bytes", "Path")),
)  # fmt: skip
REFERENCE = re.compile(r"\$\{(\.*)(\w+(?:\.\w+)*)\}")  # ${spec.mbstd} from the root, ${..width} from the value's place


@dataclass(frozen=True)
class Network:
    """One network of the file: its class's name, the arguments of its constructor, its tensors by their official names."""

    class_name: str
    init_kwargs: dict[str, Any]
    state_dict: dict[str, Tensor]


def networks(file: Source, budget: Budget) -> dict[str, Network]:
    """Those of G, D, G_ema that a network pickle holds. Raises UnsafeCheckpoint and CorruptWeights."""
    content = unpickle(file, makers(budget), budget)
    found = {name: content[name] for name in NETWORKS if isinstance(content.get(name), Node)} if type(content) is dict else {}
    if not found:
        raise CorruptWeights("it is a pickle, but holds none of the networks G, D, G_ema")
    return {name: network(name, node, budget) for name, node in found.items()}


def makers(budget: Budget) -> dict[str, Callable[..., Any] | None]:
    """The names that a network pickle consists of."""
    return {
        **tensors.makers(budget),
        **{name: partial(node, name) for name in (PERSISTENT, *CLASSES)},
        "dnnlib.util.EasyDict": lambda: {},
        "copyreg._reconstructor": partial(reconstructed, budget),
        "builtins.object": None,
        "typing.Any": None,
    }


def node(name: str, *args: Any) -> Node:
    return Node(name, args)


def reconstructed(budget: Budget, kind: Global, base: Global, state: Any) -> Any:
    """An object as Python 2's protocols write it."""
    if kind.name != "dnnlib.util.EasyDict":
        return Node(kind.name)
    budget.step(len(state))
    return dict(state)


def network(name: str, node: Node, budget: Budget) -> Network:
    """The parts of a persistent object. name: for messages."""
    meta = node.args[0] if node.name == PERSISTENT else {}
    if meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise CorruptWeights(f"its {name} isn't a network")
    if meta.get("version") != VERSION:
        warnings.warn(f"{name} was written in a version of the format that this reader wasn't made for ({VERSION} is known)",
                      stacklevel=2)
    state = dict(walk(node, "", 0, budget))
    if not state or meta["state"].get("_init_args", ()) != ():
        raise CorruptWeights(f"its {name} has no tensors, or was made from arguments without names")
    for key, value in state.items():
        if not value.isfinite().all():
            raise CorruptWeights(f"its {name} has numbers that aren't finite, in {printable(key)}")
    return Network(printable(meta["class_name"]), plain(meta["state"].get("_init_kwargs", {}), budget), state)


def walk(node: Any, prefix: str, depth: int, budget: Budget) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a module and those within it, in the order of torch's state_dict."""
    budget.step()
    if not isinstance(node, Node) or depth > DEPTH:
        raise CorruptWeights("its modules aren't modules, or lie too deep in one another")
    state = node.args[0]["state"] if node.name == PERSISTENT else node.state
    hidden = state.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, value in state[kind].items():
            if value is None or (kind == "_buffers" and name in hidden):
                continue
            if not isinstance(value, Tensor) or "." in name:
                raise CorruptWeights(f"{printable(prefix + name)} isn't a tensor")
            yield prefix + name, value
    for name, module in state["_modules"].items():
        if module is not None:
            yield from walk(module, f"{prefix}{name}.", depth + 1, budget)


def plain(value: Any, budget: Budget, depth: int = 0) -> Any:
    """Arguments as dictionaries, lists and values: omegaconf's containers unwrapped, references followed.

    Raises CorruptWeights for a reference that leads nowhere, and for anything that an argument can't be.
    """
    budget.step()
    if depth > DEPTH:
        raise CorruptWeights("its arguments lie too deep in one another, or refer to themselves")
    if isinstance(value, Node) and isinstance(value.state, dict) and value.name.startswith("omegaconf."):
        inner = value.state.get("_content", value.state.get("_val"))
        if isinstance(inner, str) and "${" in inner:
            inner = followed(value, inner)
        return plain(inner, budget, depth + 1)
    if isinstance(value, dict):
        return {key: plain(entry, budget, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, budget, depth + 1) for entry in value]
    if isinstance(value, Global):
        return value.name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CorruptWeights(f"an argument of a network is a {type(value).__name__}")


def followed(node: Node, text: str) -> Any:
    """What "${a.b}" refers to: a from the root, or, with leading dots, from the value's own place upwards."""
    match, at = REFERENCE.fullmatch(text), node
    if match is None:
        raise CorruptWeights(f"{printable(text)}, an argument of a network, isn't a plain reference")
    dots, path = match.groups()
    try:
        for _ in range(len(dots) or DEPTH):
            if not dots and at.state.get("_parent") is None:
                break
            at = at.state["_parent"]
        for key in path.split("."):
            entries = at.state["_content"]
            at = entries[int(key)] if isinstance(entries, list) else entries[key]
        return at
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorruptWeights(f"{printable(text)}, an argument of a network, refers to nothing in the file") from error
