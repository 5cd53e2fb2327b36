"""Shape annotations are enforced while tests run: jaxtyping's import hook, with beartype as the checker."""

from jaxtyping import install_import_hook

# before anything imports nfs_lib; an int passes for a float, as Python's typing has it (PEP 484)
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook("nfs_lib", CHECKER)
