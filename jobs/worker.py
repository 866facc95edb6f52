"""What a Python worker process of Spark needs to be quick from one task to the next."""

import gc

_is_settled = False


def settle(anew: bool = False) -> None:
    """Take all that is loaded out of the garbage collection, once in a worker's life: Spark's
    worker collects after every task, and to look through the libraries of a model takes 0.1 s.

    Args:
        anew: something large was loaded or let go of since.
    """
    global _is_settled
    if anew:
        gc.unfreeze()
        gc.collect()
    if anew or not _is_settled:
        gc.freeze()
        _is_settled = True
