"A server that can be reached only through somebody who may hang up at the worst moment"

import contextlib
import os
import select
import socket
import threading
from pathlib import Path

NAME = ".s.PGSQL.5432"


class Proxy:
    "Passes on what is said to a server on a socket, until somebody says a word: then the answer is kept from him"

    def __init__(self, behind, folder, word=b"COMMIT\0"):
        self.behind, self.word, self.cut = str(Path(behind) / NAME), word, 0
        self.folder = folder
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / NAME))
        self._socket.listen()
        self._stop, self._told = os.pipe()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.armed = 0  # How often to hang up

    def _accept(self):
        while self._socket in select.select([self._socket, self._stop], [], [])[0]:
            client = self._socket.accept()[0]
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client):
        server = socket.socket(socket.AF_UNIX)
        with client, server, contextlib.suppress(OSError):
            server.connect(self.behind)
            while ready := select.select([client, server, self._stop], [], [])[0]:
                if self._stop in ready:
                    return
                for one, other in ((client, server), (server, client)):
                    if one in ready:
                        said = one.recv(1 << 16)
                        if not said:
                            return
                        other.sendall(said)
                        if one is client and self.armed and self.word in said:
                            self.armed, self.cut = self.armed - 1, self.cut + 1
                            server.recv(1)  # it is done
                            return

    def close(self):
        os.write(self._told, b"x")
        for thread in self._threads:
            thread.join()
        self._socket.close()
        os.close(self._stop)
        os.close(self._told)
