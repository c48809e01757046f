"""Images that arrive in an inbox at a steady rate."""

import shutil
import time
from threading import Event, Thread


class Drops:
    """Digits under names of their own, moved into the inbox, so many a second, from a thread."""

    def __init__(self, home, digits, rate):
        self._inbox = home.settings.inbox
        self._aside = home.settings.root / "aside.png"
        self._digits, self._rate = digits, rate
        self._stop = Event()
        self.names = []

    def __enter__(self):
        self._inbox.mkdir(exist_ok=True)
        self._thread = Thread(target=self._drop, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _drop(self):
        begin = time.monotonic()
        while not self._stop.wait(begin + len(self.names) / self._rate - time.monotonic()):
            name = f"digit {len(self.names):05d}.png"
            shutil.copyfile(self._digits[len(self.names) % len(self._digits)], self._aside)
            self._aside.rename(self._inbox / name)
            self.names.append(name)
