"""What frames are called, and which of them say nothing."""

from __future__ import annotations

import pytest

from harness.stacks import Frame
from harness.stacks.collectives import operation
from harness.stacks.symbols import basename, fold, native_name


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("native_wait", "native_wait"),
        ("0x7f1c78ea3f16", "??"),
        ("???", "??"),
        ("", "??"),
        ("c10d::Work::wait(std::chrono::duration<long, std::ratio<1l, 1000l> >)", "c10d::Work::wait"),
        ("std::vector<int, std::allocator<int> >::push_back(int const&)", "std::vector::push_back"),
        ("void ns::f<int (*)(char)>(int (*)(char)) const", "ns::f"),
        ("gloo::(anonymous namespace)::ring(int&, std::function<void ()>)", "gloo::{anonymous}::ring"),
        ("a::B::operator()(int) const", "a::B::operator()"),
        ("std::operator<< <char>(std::ostream&)", "std::operator<<"),
        ("a::B::operator->()", "a::B::operator->"),
        ("operator new(unsigned long)", "operator new"),
        ("grpc::Ref()::{lambda(void*)#1}::_FUN(void*)", "grpc::Ref::{lambda#1}::_FUN"),
        ("__new_sem_wait_slow64.constprop.0", "sem_wait"),
        ("___pthread_cond_timedwait64", "pthread_cond_timedwait"),
        ("pthread_cond_wait@@GLIBC_2.3.2", "pthread_cond_wait"),
        ("__GI___clock_nanosleep", "clock_nanosleep"),
        ("__GI___libc_read", "read"),
        ("PyIter_Next@plt", "PyIter_Next"),
        ("ncclAllReduce", "ncclAllReduce"),
        ("pncclCommDestroy", "ncclCommDestroy"),
        ("PMPI_Allreduce", "MPI_Allreduce"),
        ("pncclx", "pncclx"),
    ],
)
def test_native_names(symbol: str, name: str) -> None:
    assert native_name(symbol) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "libc.so"),
        ("/usr/lib/libffi.so.8.1.2", "libffi.so"),
        ("libtorch_cpu.so", "libtorch_cpu.so"),
        ("/venv/torch/distributed/__init__.py", "distributed/__init__.py"),
        ("__init__.py", "__init__.py"),
        ("<string>", "<string>"),
        ("", ""),
    ],
)
def test_files(path: str, name: str) -> None:
    assert basename(path) == name


def native(*functions: str) -> tuple[Frame, ...]:
    return tuple(Frame(function, "x.c", native=True) for function in functions)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (
            native("clone3", "start_thread", "loop", "pthread_cond_wait", "__futex_abstimed_wait_common"),
            ["loop", "pthread_cond_wait"],
        ),
        (native("_start", "__libc_start_call_main", "main", "_PyEval_EvalFrameDefault", "f"), ["main", "f"]),
        (native("??", "??", "work", "??", "??", "f"), ["work", "??", "f"]),
        (native("clone3", "start_thread"), ["start_thread"]),
        (native("read", "read"), ["read"]),
        (native("f", "f"), ["f", "f"]),
        ((Frame("clone3", "mine.py"), Frame("call_function", "mine.py")), ["clone3", "call_function"]),
        ((), []),
    ],
    ids=["wait", "main", "nameless", "nothing else", "twice", "recursion", "python", "empty"],
)
def test_folding(given: tuple[Frame, ...], kept: list[str]) -> None:
    frames, left_out = fold(given)
    assert [frame.function for frame in frames] == kept
    assert left_out == len(given) - len(kept)


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (Frame("all_reduce", "distributed_c10d.py"), "allreduce"),
        (Frame("GroupCoordinator.all_gather", "parallel_state.py"), "allgather"),
        (Frame("ncclAllReduce", "libnccl.so", native=True), "allreduce"),
        (Frame("ncclCommDestroy", "libnccl.so", native=True), "commdestroy"),
        (Frame("c10d::AsyncAllreduceWork::allreduce", "libtorch_cpu.so", native=True), "allreduce"),
        (Frame("MPI_Barrier", "libmpi.so", native=True), "barrier"),
        (Frame("ncclProxyService", "libnccl.so", native=True), ""),
        (Frame("c10d::ProcessGroupGloo::runLoop", "libtorch_cpu.so", native=True), ""),
        (Frame("send", "mine.py"), ""),
        (Frame("send", "libc.so", native=True), ""),
    ],
)
def test_collectives(frame: Frame, name: str) -> None:
    assert operation(frame) == name
