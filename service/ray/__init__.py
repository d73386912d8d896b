"""Gradtrace on a Ray cluster, for those who outgrow one machine.

    client ── Ray's proxy ── Ingress: the web app, no torch          (one or more replicas)
                               └ Replicas, a Computer ── Ray handle
                                                           ├ Compute ── a pool of workers, node 1
                                                           └ Compute ── a pool of workers, node 2

``serve run service.ray:build`` starts it. The web app, the pool and the workers are those of
``gradtrace serve``; only the seam between the web app and the pool goes over Ray here.
"""

from service.ray.application import build

__all__ = ["build"]
