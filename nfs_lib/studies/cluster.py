"""Pieces of work, done one by one in this process or shared out to the processes of a dask.distributed cluster.

with crew(workers=4) as each:
    results = dict(each(measured, {("ours", "clip_00"): (path, "open"), ...}, "videos"))

Every piece runs on one thread, in this process too: how sums are rounded depends on the number of threads, and so the results
are the same to the last bit, whoever does the work. A piece whose worker is lost is done again, and counts once.
"""

import hashlib
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from nfs_lib import __version__
from nfs_lib.checkpoints import list_weights
from nfs_lib.errors import BadInput, NfsError
from nfs_lib.progress import progress

Name = tuple[Any, ...]                               # of a piece of work, for example (method, clip)
Each = Callable[[Callable[..., Any], Mapping[Name, tuple], str], Iterator[tuple[Name, Any]]]
ANSWERS, STARTS = 10, 60                             # seconds that a scheduler and its first worker may take


@contextmanager
def crew(workers: int | None = None, scheduler: str | None = None, world: str = "open") -> Iterator[Each]:
    """`each(function, jobs, title)` yields (name, function(*job)) for each of the jobs, in the order in which they are done.

    workers: so many processes on this machine, ended with the block. scheduler: address of a cluster that runs already; its
    machines must see all paths among a job's arguments under the same names, and have this kit with the world's weights.
    Neither: this process. Raises BadInput if the cluster can't be used or a piece ends its workers, NfsError if it is lost.
    """
    if workers is None and scheduler is None:
        yield _here
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise BadInput("--workers and --scheduler need a package that isn't here: pip install 'distributed>=2025.1'") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters ends in an error of ours
    with ExitStack() as stack:
        if scheduler is None:                        # a memory limit would make dask halt a worker, for good
            local = LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=None, dashboard_address="127.0.0.1:0",
                                 silence_logs=logging.CRITICAL)
            client = stack.enter_context(Client(stack.enter_context(local)))
        else:
            client = stack.enter_context(_connected(scheduler))
        yield partial(_there, client, installed(world), world)


def _connected(scheduler: str) -> Any:
    """A client of a cluster that has a worker. Raises BadInput if there is none."""
    from distributed import Client

    try:
        client = Client(scheduler, timeout=ANSWERS)
    except (OSError, ValueError) as error:
        raise BadInput(f"no scheduler answers at {scheduler!r}: give the address that `dask scheduler` prints, for example "
                       "tcp://10.0.0.1:8786, or --workers N for processes on this machine") from error
    try:
        client.wait_for_workers(1, timeout=STARTS)
    except TimeoutError as error:
        client.close()
        raise BadInput(f"the scheduler {scheduler} has no workers: start `dask worker {scheduler} --nworkers -1 --nthreads 1` "
                       "on each machine") from error
    return client


def _here(function: Callable[..., Any], jobs: Mapping[Name, tuple], title: str) -> Iterator[tuple[Name, Any]]:
    for name, job in progress(jobs.items(), title) if jobs else ():            # no bar for nothing
        with one_thread():
            result = function(*job)
        yield name, result


def _there(client: Any, kit: str, world: str, function: Callable[..., Any], jobs: Mapping[Name, tuple], title: str
           ) -> Iterator[tuple[Name, Any]]:
    """No more pieces are handed out than the cluster has threads: of a lost worker dask blames all that it was given."""
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.comm import CommClosedError

    waiting, names, running = iter(jobs.items()), {}, as_completed()

    def hand_out() -> None:
        while running.count() < max(1, sum(client.nthreads().values())) and (piece := next(waiting, None)):
            future = client.submit(_piece, function, piece[1], kit, world, pure=False)
            names[future.key] = piece[0]
            running.add(future)

    hand_out()
    for future in progress(running, title, total=len(jobs)) if jobs else ():
        name = names.pop(future.key)
        try:
            result = future.result()
            hand_out()
        except KilledWorker as error:
            raise BadInput(f"{title}, {'/'.join(map(str, name))}: each of the {error.allowed_failures + 1} processes that "
                           "tried it was lost; take it out, or give them more memory (fewer workers on a machine)") from error
        except (CancelledError, CommClosedError) as error:
            raise NfsError("the cluster was lost: is its scheduler still running? Start it and this command again") from error
        yield name, result


def _piece(function: Callable[..., Any], job: tuple, kit: str, world: str) -> Any:
    """In a worker: function(*job). Raises BadInput if the worker lacks what the work needs."""
    where = socket.gethostname()
    if installed(world) != kit:
        raise BadInput(f"the worker on {where} has another version of the kit, or other weights: install there what is here")
    for path in job:
        if isinstance(path, Path) and not path.exists():
            raise BadInput(f"the worker on {where} doesn't see {path}: put it into a folder that all machines of the cluster "
                           "share under one name, or use --workers N on this machine")
    with one_thread():
        return function(*job)


@cache
def installed(world: str) -> str:
    """Changes with the kit's version and its weights: the open world's, which find faces, and those of `world`."""
    parts = sorted((part.folder.name, part.name, part.sha256) for part in list_weights(tuple({"open", world})))
    return hashlib.sha256(repr((__version__, parts)).encode()).hexdigest()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and the BLAS behind numpy and scipy compute on one thread in this block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
