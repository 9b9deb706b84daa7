"How much memory work takes"

import gc
import tracemalloc


def peak_of(work, allowed=0, runs=3):
    "Bytes that Python held at most; others may be at work, so there are runs until one stays below `allowed`"
    peaks = []
    for _ in range(runs):
        gc.collect()  # what earlier tests left does not go meanwhile
        tracemalloc.start()
        try:
            work()
            peaks.append(tracemalloc.get_traced_memory()[1])
            if peaks[-1] < allowed:
                break
        finally:
            tracemalloc.stop()
    return min(peaks)
