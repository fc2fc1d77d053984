"""The zoo: real hangs, each in the form in which it bites people, and programs that are slow or idle, and healthy.

A third is sealed: drawn at random, kept in `sealed/` with its part of the catalogue, and not looked at by whoever
writes the detector before that is frozen. No program carries a mark that the detector reads; those that declare phases
do it as any program may (`harness.child`).
"""

from __future__ import annotations

from typing import Final

from tests.zoo.programs import Class, Program
from tests.zoo.sealed.catalogue import SEALED


def hang(  # noqa: PLR0913 - the columns of a table
    path: str,
    hang_class: Class,
    reason: str,
    *,
    suspect: str,
    proved: bool = False,
    phases: bool = False,
    also: tuple[Class, ...] = (),
    settle_s: float = 2.0,
    needs: tuple[str, ...] = (),
) -> Program:
    return Program(
        path=f"hangs/{path}",
        kind="hang",
        hang=hang_class,
        also=also,
        reason=reason,
        suspect=suspect,
        proved=proved,
        phases=phases,
        settle_s=settle_s,
        needs=frozenset(needs),
    )


def healthy(
    path: str, reason: str, *, idle: bool = False, settle_s: float = 3.0, needs: tuple[str, ...] = ()
) -> Program:
    return Program(
        path=f"healthy/{path}",
        arguments=() if idle else ("{seconds}",),
        kind="healthy",
        reason=reason,
        idle=idle,
        settle_s=settle_s,
        needs=frozenset(needs),
    )


OPEN: Final = (
    hang(
        "locks_abba.py",
        "deadlock",
        "both threads wait for a futex without a timeout, and the main thread for one of them",
        suspect="locks_abba",
        proved=True,
    ),
    hang(
        "lock_of_dead_thread.py",
        "deadlock",
        "the only thread left waits for a futex that no other process maps",
        suspect="lock_of_dead_thread",
        proved=True,
    ),
    hang(
        "pthread_abba.c",
        "deadlock",
        "both threads wait for a futex without a timeout",
        suspect="pthread_abba",
        proved=True,
        needs=("gcc",),
    ),
    hang(
        "condition_lost_wakeup.c",
        "deadlock",
        "the only thread left waits for a futex without a timeout",
        suspect="condition_lost_wakeup",
        proved=True,
        needs=("gcc",),
    ),
    hang(
        "shared_mutex_upgrade.cc",
        "deadlock",
        "both readers wait for the lock that they share, the main thread for the first",
        suspect="shared_mutex_upgrade",
        proved=True,
        needs=("g++",),
    ),
    hang(
        "semaphore_unposted.c",
        "deadlock",
        "the process that shared the page of the futex is a zombie, nobody else maps it",
        suspect="semaphore_unposted",
        proved=True,
        needs=("gcc",),
    ),
    hang(
        "vfork_sleeper.c",
        "uninterruptible",
        "the parent is in D until its vfork child comes to exec, and the child is in pause",
        also=("deadlock", "waiting_for_peer"),
        suspect="vfork_sleeper",
        proved=True,
        needs=("gcc",),
    ),
    hang(
        "pipe_full.py",
        "deadlock",
        "the child writes into a full pipe whose only reader waits for the child",
        suspect="pipe_full|sys.stdout.write",
        proved=True,
    ),
    hang(
        "cat_both_ways.py",
        "deadlock",
        "parent and child write into full pipes that the other one should read",
        suspect="cat",
        proved=True,
    ),
    hang(
        "stdin_of_parent.py",
        "deadlock",
        "the child reads a pipe whose only writer waits for the child",
        suspect="stdin_of_parent|sort",
        proved=True,
    ),
    hang(
        "mp_queue_join.py",
        "deadlock",
        "the child's feeder thread writes into a full pipe that the parent, in wait4, should read",
        suspect="mp_queue_join",
        proved=True,
    ),
    hang(
        "mp_lock_killed.py",
        "deadlock",
        "the holder of the shared semaphore is dead, all who map it wait for it or for each other",
        suspect="mp_lock_killed",
        proved=True,
    ),
    hang(
        "wait_for_stopped.py",
        "stopped",
        "the child is in T, and its parent waits for its end",
        suspect="SIGSTOP",
        proved=True,
    ),
    hang(
        "unix_both_wait.py",
        "deadlock",
        "both ends of a socket pair are read, both queues are empty, and nobody else holds them",
        suspect="unix_both_wait",
        proved=True,
    ),
    hang(
        "http_calls_itself.py",
        "deadlock",
        "the thread that should accept waits for the answer to a connection in its own backlog",
        also=("waiting_for_peer",),
        suspect="http_calls_itself",
    ),
    hang(
        "sleeping_peer.py",
        "waiting_for_peer",
        "the other end of the socket is a process of the tree in pause; the reader is in a phase",
        suspect="sleeping_peer",
        phases=True,
    ),
    hang(
        "polled_before.py",
        "waiting_for_peer",
        "the other end of the socket is a process of the tree in pause; in the phase before, the reader polled",
        suspect="polled_before",
        phases=True,
        settle_s=5.0,
    ),
    hang(
        "fifo_no_reader.sh",
        "waiting_for_peer",
        "an open for writing waits for a reader; somebody outside could still come, so it is not proved",
        also=("deadlock",),
        suspect="fifo_no_reader",
    ),
    hang(
        "fuse_frozen.py",
        "uninterruptible",
        "the reader is in D for a page; the daemon of the mount, in the same tree, waits for its next request",
        also=("waiting_for_peer", "deadlock"),
        suspect="fuse_frozen",
        proved=True,
        needs=("fuse",),
    ),
    hang(
        "exit_nondaemon.py",
        "deadlock",
        "the main thread waits for the consumer, the consumer for a queue that only main could fill",
        suspect="exit_nondaemon",
        proved=True,
    ),
    hang(
        "executor_nested.py",
        "deadlock",
        "the only worker waits for a result that it should make itself",
        suspect="executor_nested",
        proved=True,
    ),
    hang(
        "barrier_short.py",
        "deadlock",
        "two threads wait at the barrier, the main thread for one of them, the third has ended",
        suspect="barrier_short",
        proved=True,
    ),
    hang(
        "signal_reentry.py",
        "deadlock",
        "a single thread waits for the lock that its interrupted frame holds",
        suspect="signal_reentry",
        proved=True,
        settle_s=6.0,
    ),
    hang(
        "spin_python.py",
        "livelock",
        "one thread runs over the same lines within a phase that never ends; no system call, no fault",
        suspect="spin_python",
        phases=True,
    ),
    hang(
        "spin_c_gil.py",
        "livelock",
        "one thread runs in one C call within a phase that never ends, another one waits for the GIL",
        suspect="spin_c_gil",
        phases=True,
    ),
    hang(
        "gloo_mismatch.py",
        "deadlock",
        "each rank waits for the other over a connection within the tree, with a timeout of half an hour",
        also=("waiting_for_peer",),
        suspect="multiprocessing.spawn",
        settle_s=25.0,
        needs=("torch",),
    ),
    hang(
        "loader_fork_omp.py",
        "deadlock",
        "the worker waits for threads of OpenMP that it lacks, the parent for the worker",
        suspect="loader_fork_omp",
        proved=True,
        settle_s=12.0,
        needs=("torch",),
    ),
    hang(
        "ray_get_stuck.py",
        "waiting_for_peer",
        "the driver is in a phase and waits for an actor that waits for a lock; Ray's daemons live on",
        also=("deadlock",),
        suspect="ray::Stuck",
        phases=True,
        settle_s=30.0,
        needs=("ray",),
    ),
    hang(
        "ray_no_resources.py",
        "waiting_for_peer",
        "the driver is in a phase and waits for a task that no node can take; nothing runs",
        suspect="ray_no_resources",
        phases=True,
        settle_s=25.0,
        needs=("ray",),
    ),
    healthy("make_j2.sh", "children come, compute and go", needs=("gcc", "make")),
    healthy("ninja_build.sh", "children come, compute and go", needs=("g++", "ninja")),
    healthy("torch_compile.py", "compilers below it compute", settle_s=20.0, needs=("torch", "g++")),
    healthy("vllm_idle.py", "no request is in flight", idle=True, settle_s=75.0, needs=("vllm",)),
    healthy("http_idle.py", "anybody may connect", idle=True),
    healthy("queue_consumer.py", "the feeder of the pipe has a timer"),
    healthy("matmul.py", "computes", settle_s=10.0, needs=("torch",)),
    healthy("zlib_sha.py", "computes"),
    healthy("gil_hold.py", "computes; the thread that waits for the GIL gets it in the end"),
    healthy("big_copy.sh", "bytes go to the disk; D comes and goes"),
    healthy("gzip_chain.sh", "bytes go through all pipes"),
    healthy("trickle.py", "bytes arrive every three seconds, from a peer with a timer"),
    healthy("slow_child.py", "the child computes"),
    healthy("pool_long.py", "the workers compute"),
    healthy("sleep_wait.sh", "a timer will fire"),
    healthy("tail_follow.sh", "a line every five seconds", needs=("bash",)),
    healthy("repl_pty.py", "the terminal is fed every five seconds"),
    healthy("progress_bar.py", "computes"),
    healthy("stopped_continued.py", "the sibling that continues it has a timer"),
    healthy("kernel_compile.py", "its child computes: a compiler that says nothing for minutes is at work"),
    healthy(
        "gloo_slow_steps.py", "a step every three seconds; the slow rank has a timer", settle_s=20.0, needs=("torch",)
    ),
    healthy("fifo_server.sh", "anybody may write to the FIFO", idle=True),
    healthy("lock_contended.py", "the holder of the lock has a timer"),
    healthy("zombie_kept.py", "anybody may connect; the dead children wait for nobody", idle=True),
    healthy("signal_loop.sh", "anybody may send the signal that the loop handles; the shell waits for it", idle=True),
    healthy("wake_by_child.py", "the child has a timer, and its end wakes the one by a signal and that the other"),
    healthy("event_main.py", "anybody may connect to the other thread, or send the signal", idle=True),
)

CATALOGUE: Final = OPEN + SEALED
