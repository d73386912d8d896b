"""Processes that may die: a queue, a deadline, a kill, a respawn. Moves bytes, knows no torch.

    pool ──── the queue, the deadline, one retry          in the web process, asyncio
     ├ handle ── one worker as the pool sees it           in the web process
     ├ nursery ─ the fork servers, one and a standby      in the web process
     │   └ forkserver ─ has imported the job, forks       a process of its own
     │       └ worker ── runs the job, one at a time      processes that may die
     ├ frames ── one message between two of them
     ├ body ──── bytes, in memory or in a memfd
     ├ outbox ── how a worker sends its answers
     ├ awake ─── a moment's wait without sleeping
     ├ timers ── many waits of one duration
     └ confine ─ what a worker may not do, with the filter of system_calls

``seam`` says what the web process may expect of any computer: the pool, or ``inprocess``.
"""
