"""The process of the node: starts it, spins it, and shuts it down in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rclpy
import torch
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from cupid_core.serving.engine import MakeJob
from cupid_ros.node import ReconNode

_THREADS = 4
# The threads that spin and wait check this often whether they have to end.
_CHECK_S = 0.2


def main(
    arguments: Sequence[str] | None = None, *, make_job: MakeJob | None = None, activate: bool = False
) -> int:
    """Run the node until SIGINT or SIGTERM.

    Signals are handled here and not by rclpy, whose handlers end the context at once: an open goal would get no
    answer.

    Args:
        arguments: of the command line; those of the process where None.
        make_job: see `ReconNode`.
        activate: configure and activate the node at once, as the launch file does.

    Returns:
        0; 1 where it could not be configured and activated.
    """
    # Here torch only converts, which more threads would slow down. The worker process has its own setting.
    torch.set_num_threads(1)
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    ended, signaled = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        signaled.set()
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    node = ReconNode(make_job=make_job)
    failed = False
    with spinning(node, ended.set):
        if activate:
            # In a thread: a signal ends it while the networks load.
            starter = threading.Thread(target=_activate, args=(node, ended), name="cupid-activate")
            starter.start()
        # Not without a limit: a signal that the system delivers to another thread does not wake this one, in which
        # alone Python runs handlers.
        while not ended.wait(_CHECK_S):
            pass
        failed = activate and not node.is_active and not signaled.is_set()
        node.close()
        if activate:
            starter.join()
    node.destroy_node()
    rclpy.try_shutdown()
    # Python removes its handlers before it exits. A terminal and `ros2 launch` both send the signal, and the
    # second one would kill the process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return int(failed)


def _activate(node: ReconNode, ended: threading.Event) -> None:
    """Configure and activate; where that fails, which the node has logged, the process ends."""
    success = TransitionCallbackReturn.SUCCESS
    if node.trigger_configure() != success or node.trigger_activate() != success:
        ended.set()


@contextmanager
def spinning(node: ReconNode, on_end: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Spin a node in a thread, which is joined afterwards.

    Args:
        node: on no other executor.
        on_end: called when spinning ends, also because the context was shut down.
    """
    executor = MultiThreadedExecutor(num_threads=_THREADS)
    executor.add_node(node)
    stop = threading.Event()
    thread = threading.Thread(target=_spin, args=(executor, node, stop, on_end), name="cupid-spin")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        executor.wake()
        thread.join()
        executor.shutdown()


def _spin(
    executor: MultiThreadedExecutor, node: ReconNode, stop: threading.Event, on_end: Callable[[], None]
) -> None:
    """Spin until `stop` is set; what rclpy raises (an invalid transition, a client that is gone) is logged."""
    while not stop.is_set() and rclpy.ok():
        try:
            executor.spin_once(timeout_sec=_CHECK_S)
        except ExternalShutdownException:
            break
        except Exception as error:  # noqa: BLE001 - the outermost loop
            node.get_logger().error(f"{type(error).__name__}: {error}")
    on_end()
