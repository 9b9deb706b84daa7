"Threads and processes that begin at the same moment"

import threading
from multiprocessing import get_context


def in_threads(count, work):
    "Run `work(n)` in threads; their errors are raised here"
    barrier, errors = threading.Barrier(count), []

    def run(n):
        try:
            barrier.wait()
            work(n)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _run(barrier, results, work, args):
    barrier.wait()
    results.put(work(*args))


def in_processes(count, work, *args, method="fork"):
    """Run `work(n, *args)` in processes, and give what they gave, which must fit in a pipe.

    It is for second programs: the one that runs the tests has threads, and much that spawned processes would import.
    """
    context = get_context(method)
    barrier, results = context.Barrier(count), context.SimpleQueue()
    children = [context.Process(target=_run, args=(barrier, results, work, (n, *args))) for n in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * count
    return [results.get() for _ in children]
