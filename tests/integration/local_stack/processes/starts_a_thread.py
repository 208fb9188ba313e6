"""A module no process should be copied after: its import starts a thread."""

import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()
