"""Results in order, some of them made ahead in a thread of this process."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def ahead(
    make: Callable[[Job], Result], jobs: Iterable[Job], depth: int
) -> Generator[Result, None, None]:
    """Make results in the order of jobs, while the one before is being used.

    What goes wrong in the thread is raised where its result is asked for. The thread ends with the
    iterator: when it is exhausted, closed or collected.

    Args:
        make: From a job to its result; runs in a thread.
        jobs: What is to be made; without end if need be. They are asked for in the caller's thread.
        depth: Results that are made ahead of the one in use; with 0 there is no thread.
    """
    if depth < 1:
        yield from map(make, jobs)
        return
    left = iter(jobs)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="spinmark-feed")
    try:
        for job in islice(left, depth):
            waiting.append(pool.submit(make, job))
        while waiting:
            result = waiting.popleft().result()
            for job in islice(left, 1):
                waiting.append(pool.submit(make, job))
            yield result
            del result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
