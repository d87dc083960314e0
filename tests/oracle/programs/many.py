# SPDX-License-Identifier: GPL-3.0-or-later
# 100 threads, more than there may be arenas: each allocates, keeps a part, and stays.
import json
import signal
import threading

kept, done = [], threading.Barrier(101)


def work(n):
    parsed = [json.loads(json.dumps({str(i): "x" * (i * n % 3000) for i in range(200)})) for _ in range(3)]
    kept.append({k: v for k, v in parsed[n % 3].items() if int(k) % 3 == n % 3})
    del parsed
    done.wait()
    threading.Event().wait()


for n in range(100):
    threading.Thread(target=work, args=(n,), daemon=True).start()
done.wait()
print("idle", flush=True)
signal.pause()
