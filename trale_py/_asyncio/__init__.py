"""asyncio's libraries on the executor: its event loop as a guest of the runtime.

To read it: bridge (``aio``), guest (the turns of the loop), loop (the loop itself), companion
(asyncio code that awaits what is trale_py's), faces (managers and iterators), ending.
"""
