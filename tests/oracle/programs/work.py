# SPDX-License-Identifier: GPL-3.0-or-later
# 8 threads that parse JSON, keep a part of it, and rest.
import json
import random
import signal
import threading

kept = []


def work(seed):
    r = random.Random(seed)
    for _ in range(6):
        text = json.dumps([{"id": i, "name": "x" * r.randrange(900), "tags": [str(r.random())] * r.randrange(20)}
                           for i in range(1500)])
        parsed = json.loads(text)
        kept.append([p for p in parsed if p["id"] % 7 == 0])
        kept.append(bytearray(r.randrange(1, 400000)))


threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
stay = threading.Event()
for t in threads:
    t.start()
for t in threads:
    t.join()
for _ in range(8):
    threading.Thread(target=lambda: (work(9) if not kept else None, stay.wait()), daemon=True).start()
del kept[::3]
print("idle", flush=True)
signal.pause()
