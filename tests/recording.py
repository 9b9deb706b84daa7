"A disk that writes down what it is asked, in order"

from pathlib import Path

from cjm_media_storage.files import Disk

calls = []  # Names and arguments; paths are `Path`


class Recorder(Disk):
    "Tests add their own marks to `calls`: a commit, an acknowledgement"

    def __getattribute__(self, name):
        attribute = super().__getattribute__(name)
        if name.startswith("_") or not callable(attribute):
            return attribute

        def recorded(*args, **options):
            result = attribute(*args, **options)
            calls.append((name, tuple(Path(each) if isinstance(each, str) else each for each in args)))
            return result

        return recorded
