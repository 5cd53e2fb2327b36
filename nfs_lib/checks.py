"""Arrays that a user hands in, checked where they come in: what isn't as a function's signature says is said in one line."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from nfs_lib.errors import BadInput


def check_array(value: Any, what: str, dtype: str, *shape: int | str, limit: float = math.inf, device: Any = "cpu") -> None:
    """Raises BadInput unless `value` has this type and shape, lies on this device, and is finite and within ± limit.

    dtype: "torch.float32" for a tensor, "float32" or "uint8" for a numpy array. shape: lengths; letters for any, 1 or more.
    """
    given: Any = getattr(value, "shape", None)
    place = str(getattr(value, "device", "cpu"))
    well = given is not None and str(getattr(value, "dtype", "")) == dtype and place == str(device) and len(given) == len(shape)
    if not well or any(n != m if isinstance(m, int) else n < 1 for n, m in zip(given, shape, strict=True)):
        got = type(value).__name__ if given is None else f"{value.dtype} of shape {tuple(given)} on {place}"
        wanted = f"{dtype} of shape ({', '.join(map(str, shape))}{',' * (len(shape) == 1)}) on {device}"
        raise BadInput(f"{what}: {got} was given, {wanted} is expected")
    if dtype.endswith("float32"):
        largest = float(abs(value).max())
        if not math.isfinite(largest):
            raise BadInput(f"{what}: some of the numbers aren't finite (NaN or infinity); look where they come from")
        if largest > limit:
            raise BadInput(f"{what}: numbers up to {largest:.4g} were given, from {-limit:.4g} to {limit:.4g} are expected")


def check_number(value: Any, what: str, low: float, high: float, whole: bool = False) -> None:
    """Raises BadInput unless `value` is a number, or a whole one, from low to high."""
    if not isinstance(value, int if whole else int | float) or isinstance(value, bool) or not low <= value <= high:
        wanted = "a whole number" if whole else "a number"
        raise BadInput(f"{what} is {value!r}; {wanted} from {low:.4g} to {high:.4g} is expected")


def check_choice(value: Any, what: str, choices: Any) -> None:
    """Raises BadInput unless `value` is one of the choices, and of its type."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise BadInput(f"{what} is {value!r}; choose from {', '.join(map(str, choices))}")


def by_hand(**allowed: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of what a notebook's slider calls: raises BadInput unless each of these arguments is what is allowed for it.

    A pair (low, high): a number; a range: a whole number; a list: one of these; bool: True or False.

    @by_hand(yaw=(-60, 60), frames=range(1, 9), rule=["paper", "3d"], planar=bool)
    """

    def checked(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            given = signature.bind(*args, **options)
            for name, wanted in allowed.items():
                value = given.arguments.get(name, signature.parameters[name].default)
                if isinstance(wanted, tuple):
                    check_number(value, name, *wanted)
                elif isinstance(wanted, range):
                    check_number(value, name, wanted[0], wanted[-1], whole=True)
                else:
                    check_choice(value, name, [True, False] if wanted is bool else wanted)
            return function(*args, **options)

        return call

    return checked
