"A disk that is watched: each call on it passes by whoever wants to record, stop or end it"

from pathlib import Path

from cjm_media_storage.files import Disk

calls = []  # Names and arguments; paths are `Path`


class Watched(Disk):
    "Each call goes through `around`"

    def __getattribute__(self, name):
        attribute = super().__getattribute__(name)
        if name.startswith("_") or name == "around" or not callable(attribute):
            return attribute
        return lambda *args, **options: self.around(name, attribute, args, options)

    def around(self, name, call, args, options):
        return call(*args, **options)


class Recorder(Watched):
    "Tests add their own marks to `calls`: a commit, an acknowledgement"

    def around(self, name, call, args, options):
        result = call(*args, **options)
        calls.append((name, tuple(Path(each) if isinstance(each, str) else each for each in args)))
        return result
