"""A server on this machine, with what is behind it."""

import socket
import threading
import time

import openai
import uvicorn

from transept.host.generation.session import LanguageSession
from transept.host.serve.app import application
from transept.host.serve.protocol import Limits
from transept.host.serve.service import Service


class Served:
    """A server on a free port of this machine, with what is behind it."""

    def __init__(self, program, device, *, pages=32, queue=64, together=8):
        self.service = Service(
            LanguageSession(program, device, pages=pages), queue=queue, together=together
        )
        app = application(self.service, "llama", Limits(40, 4, 16 * pages))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self.socket],))
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def client(self):
        """The real one."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)

    def idle(self):
        """Wait until nothing runs; the pages that are free then."""
        for _ in range(600):
            state = self.service.state
            if not (state.running or state.waiting):
                return state.free_pages
            time.sleep(0.05)
        raise AssertionError("requests do not end")

    def close(self):
        """End both."""
        self._server.should_exit = True
        self._thread.join()
        self.socket.close()
        self.service.close()
