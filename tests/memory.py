"How much memory work takes"

import gc
import tracemalloc


def peak_of(work, runs=3):
    "Bytes; the least of some runs, since what other threads and earlier tests left is at work, too"
    peaks = []
    for _ in range(runs):
        gc.collect()
        tracemalloc.start()
        try:
            work()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks)
