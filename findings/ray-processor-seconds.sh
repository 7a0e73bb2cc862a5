#!/usr/bin/env bash
# ray 2.60.0, psutil 7.2.2, Linux: processor seconds of a Ray actor vanish when it ends. Its parent, the raylet, ignores
# SIGCHLD, so nobody waits for the actor, and its seconds never count among those of ended children: neither
# `time python job.py` nor resource.getrusage(RUSAGE_CHILDREN) has them, and a sum over the tree of processes (psutil,
# with children_user and children_system) falls by them. Who measures two ways in turn, one of them on Ray, may see actors
# end during the other, which then seems to have cost next to nothing, or less. Processes of multiprocessing do count.
#
# Seen (an actor, then a process of multiprocessing, each busy for ten seconds of the processor):
#   actor lives: the tree has spent at least 9 s more: True
#   actor has ended: the tree has spent less than 1 s more: True
#   Ray is shut down: RUSAGE_CHILDREN has less than the actor had: True
#   process has ended: RUSAGE_CHILDREN has at least 9 s more: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q ray==2.60.0 psutil==7.2.2
cat > "$work/seconds.py" <<'PYTHON'
import multiprocessing
import os
import resource
import time

import psutil
import ray

BUSY = 10.0


def work():
    while time.process_time() < BUSY:
        pass


class Actor:
    def work(self):
        work()
        return os.getpid()


def tree():
    spent, root = 0.0, psutil.Process()
    for each in (root, *root.children(recursive=True)):
        try:
            spent += sum(each.cpu_times()[:4])
        except psutil.Error:
            pass
    return spent


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def told(says, holds):
    print(f"{says}: {holds}", flush=True)
    assert holds, "it is otherwise now"


if __name__ == "__main__":
    ray.init(num_cpus=1, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    before = tree()
    actor = ray.remote(Actor).remote()
    process = psutil.Process(ray.get(actor.work.remote()))
    told("actor lives: the tree has spent at least 9 s more", tree() - before >= 9)
    ray.kill(actor)
    psutil.wait_procs([process], timeout=60)
    time.sleep(1)
    told("actor has ended: the tree has spent less than 1 s more", tree() - before < 1)
    ray.shutdown()
    told("Ray is shut down: RUSAGE_CHILDREN has less than the actor had", children() < BUSY)
    before = children()
    other = multiprocessing.Process(target=work)
    other.start()
    other.join()
    told("process has ended: RUSAGE_CHILDREN has at least 9 s more", children() - before >= 9)
PYTHON
cd "$work" && PYTHONWARNINGS=ignore "$work/venv/bin/python" seconds.py
