"""Do something at each full second of the wall clock, however long it takes.

Run:  python examples/cron.py
See:  the time, three times, never before its second has begun
"""

import sys
from datetime import datetime, timedelta

from trale_py import block_on, sleep_until_wall


async def main(times: int) -> None:
    due = datetime.now().astimezone().replace(microsecond=0)
    for _ in range(times):
        due += timedelta(seconds=1)
        await sleep_until_wall(due)
        late = datetime.now().astimezone() - due
        print(f"{due:%H:%M:%S}", "on time" if late >= timedelta(0) else "early")


block_on(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
