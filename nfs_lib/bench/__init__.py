"""How fast is it? `nfs bench`: each row is measured against a plain reference in the same run, so that the ratios mean
something on any machine.

rows: what is measured; plain, plain_steps: the reference, the official code's loop written out; cases: the heads, and ours and
plain on the same input; measuring: how; work: operations and bytes; evaluate, inversion: two long rows.
"""

from collections.abc import Callable

from nfs_lib.errors import BadInput

Figures = dict[str, float]
WORLDS = ("open", "paper")
COLUMNS = ("row", "ours", "plain", "ratio", "memory", "plain", "ratio", "of bound", "difference")


def bench(only: str | None = None, world: str | None = None, on_row: Callable[[str, Figures], None] | None = None) -> Figures:
    """All rows, those of one world, or those with one name: "world.row.figure" → value, four digits; matching and inversion,
    which belong to no world, without it. on_row is told each row as it is done, the machine's rates first.

    Raises BadInput for a row that there isn't.
    """
    import torch

    from nfs_lib.bench.measuring import machine
    from nfs_lib.bench.rows import BENCHES

    others = {other for other in WORLDS if world not in (None, other)}
    rows = {key: row for key, row in BENCHES.items() if key.split(".")[0] not in others}
    names = sorted({key.split(".")[-1] for key in rows})
    if only is not None and only not in names:
        raise BadInput(f"there is no row {only!r} to measure; choose from {', '.join(names)}")
    rates = {"threads": torch.get_num_threads(), "matmul_gflops": machine().flops / 1e9,
             "copy_gbytes": machine().bandwidth / 1e9}
    figures: Figures = {}
    for key, row in {"machine": lambda: rates, **rows}.items():
        if key == "machine" or only in (None, key.split(".")[-1]):
            made = row()
            if on_row:
                on_row(key, made)
            figures |= {f"{key}.{name}": float(f"{value:.4g}") for name, value in made.items()}
    return figures


def heading() -> str:
    """The first line of the printed table."""
    return _line(COLUMNS)


def line(key: str, figures: Figures) -> str:
    """A row of the printed table: times, memory above the loaded state in MiB, and ratios (plain ÷ ours); of bound: the share
    of the speed that the machine's rates allow. A row without such figures shows what it has."""
    if "seconds" not in figures:
        return f"{key:<20s} " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items())

    def cell(name: str, form: str = "{:.3g}") -> str:
        return form.format(figures[name]) if name in figures else "-"

    return _line((key, _time(figures["seconds"]), _time(figures.get("plain_seconds")), cell("ratio", "{:.2f}"),
                  cell("memory_above", "{:.0f}"), cell("plain_memory_above", "{:.0f}"), cell("memory_ratio", "{:.1f}"),
                  cell("share_bound", "{:.0%}"), cell("difference", "{:.1e}")))


def _line(cells: tuple[str, ...]) -> str:
    return f"{cells[0]:<20s} " + " ".join(f"{cell:>10s}" for cell in cells[1:])


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.2f} ms"
