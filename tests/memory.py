"How much memory work takes"

import gc
import tracemalloc


def peak_of(work, runs=3):
    "Bytes that Python held at most while it worked; the least of some runs, since other threads may be at work"
    peaks = []
    for _ in range(runs):
        gc.collect()  # what earlier tests left does not go meanwhile
        tracemalloc.start()
        try:
            work()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks)
