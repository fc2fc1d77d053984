"""Names that compare equal: what a frame is called once addresses, folders, versions and arguments are gone.

Also which frames say nothing: how every thread starts, how the interpreter calls itself, how libc sleeps.
"""

from __future__ import annotations

import re
from typing import Final

from harness.stacks.model import Frame

UNKNOWN: Final = "??"

_SUFFIX: Final = re.compile(
    r"(@@?[\w.]+|\.(constprop|isra|part|cold|lto_priv|llvm|localalias)(\.\d+)*| ?\[clone [^]]*\])+$"
)
_OPERATOR: Final = re.compile(r"operator(\(\)|[<>=\-!+*/%&|^~\[\]]+| new| delete)")
_ANGLES: Final = re.compile(r"<[^<>]*>")
_PARENTHESES: Final = re.compile(r"\([^()]*\)( const)?&{0,2}")
_QUALIFIERS: Final = re.compile(r"( const| volatile| noexcept|&{1,2})+$")
_LIBRARY_VERSION: Final = re.compile(r"(\.so)[.\d]*$|(?<=\w)-[0-9a-f]{8,}(?=\.)")
_PROFILED: Final = re.compile(r"\A[pP](?=nccl[A-Z]|MPI_)")
"""The second name that a library gives a function so that a profiler can take the first (NCCL, RCCL, MPI)."""
_ADDRESS: Final = re.compile(r"(0x[0-9a-fA-F]*|\?+|<unknown>)\Z")

_START: Final = re.compile(
    r"(_*clone\d?|start_thread|_start|_*libc_start_(main|call_main)\w*|__libc_start_main_impl|_*GI___clone\d?|"
    r"pythread_wrapper|thread_run|bootstrap_thread|t_bootstrap|execute_native_thread_routine|_dl_start_user|"
    r"main_thread_start|Py_BytesMain|Py_Main|Py_RunMain|pymain_\w+|_?PyRun_\w+|PyRun_\w+|pyrun_\w+|run_mod|run_eval_code_obj)\Z"
)
_INTERPRETER: Final = re.compile(
    r"(_?PyEval_\w+|_?PyObject_(Make|Fast)\w*|_?PyObject_Call\w*|_?PyObject_Vectorcall\w*|_?PyVectorcall_\w+|"
    r"_?PyFunction_\w*[Cc]all\w*|_?PyCFunction_\w*|_?PyMethodDef_\w+|function_code_fastcall|method_vectorcall\w*|"
    r"method_call|slot_tp_(call|init|iternext|new)|type_call|vectorcall_\w+|object_vacall|_?PyStack_\w+|do_call_core|"
    r"call_function|cfunction_(call|vectorcall)\w*|partial_(call|vectorcall)\w*|bounded_lru_cache_wrapper|"
    r"gen_send_ex\d?|gen_iternext|_?PyGen_\w+|builtin_exec\w*|_?Py_Vectorcall\w*|ffi_call\w*|_call_function_pointer|"
    r"_ctypes_callproc|PyCFuncPtr_call|pybind11::cpp_function::\w+.*|_?PyObject_Vectorcall_\w+|py_trampoline_\w+|"
    r"_PyFunction_Vectorcall|_?PyCell_\w+|_TAIL_CALL_\w+|py::\w+)\Z"
)
_ASLEEP: Final = re.compile(
    r"(_*(GI_)*_*futex_\w+|_*lll_lock_wait\w*|do_futex_wait|_*pthread_cond_wait_common|"
    r"_*internal_syscall_cancel|_*syscall_cancel\w*)\Z"
)
# One wait has many names in libc; these are the ones that people know.
_ALIAS: Final = re.compile(
    r"_*(?:GI_+)?(?:libc_|new_|pthread_(?=_*pthread_))?_*([a-z]\w*?)(?:_slow)?(?:_*64)?(?:_nocancel)?\Z"
)
_WAITS: Final = frozenset({
    "accept", "accept4", "clock_nanosleep", "epoll_pwait", "epoll_wait", "nanosleep", "pause", "poll", "ppoll",
    "pselect", "pthread_cond_clockwait", "pthread_cond_timedwait", "pthread_cond_wait", "pthread_join",
    "pthread_mutex_lock", "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "read", "recv", "recvfrom", "recvmsg",
    "select", "sem_clockwait", "sem_timedwait", "sem_wait", "send", "sendmsg", "sendto", "sigwait", "waitid",
    "waitpid", "wait4", "write",
})  # fmt: skip


def basename(path: str) -> str:
    """Return the base name; for ``__init__.py`` with its folder, for a library without its version."""
    folder, _, name = path.rpartition("/")
    if name == "__init__.py":
        return f"{folder.rpartition('/')[2]}/{name}".lstrip("/")
    return _LIBRARY_VERSION.sub(r"\1", name)


def native_name(symbol: str) -> str:
    """Return a native function's name without parameters, template arguments, versions and compiler's suffixes."""
    symbol = _SUFFIX.sub("", symbol.strip())
    if _ADDRESS.match(symbol):
        return UNKNOWN
    if "(" in symbol or "<" in symbol:
        symbol = symbol.replace("(anonymous namespace)", "{anonymous}")
        symbol = _OPERATOR.sub(lambda found: "operator\0" + found[1].translate(_HIDE), symbol)
        for nested in (_ANGLES, _PARENTHESES):
            count = 1
            while count:
                symbol, count = nested.subn("", symbol)
        symbol = _QUALIFIERS.sub("", symbol.strip()).rpartition(" ")[2]
        symbol = symbol.replace("\0", "").translate(_SHOW)
    symbol = _PROFILED.sub("", symbol)
    found = _ALIAS.match(symbol)
    return found[1] if found and found[1] in _WAITS else symbol or UNKNOWN


_HIDDEN: Final = {"<": "\1", ">": "\2", "(": "\3", ")": "\4", " ": "\5", "&": "\6"}
_HIDE: Final = str.maketrans(_HIDDEN)
_SHOW: Final = str.maketrans({hidden: shown for shown, hidden in _HIDDEN.items()})


def fold(frames: tuple[Frame, ...]) -> tuple[tuple[Frame, ...], int]:
    """Return the frames that say something, and how many were left out.

    Left out are the start of a thread or program (outermost), the interpreter's own calls (anywhere between others),
    the futex inside a wait (innermost), and the repetition of waits and of frames without a name. A stack of nothing
    else keeps its innermost frame.
    """
    kept: list[Frame] = []
    for frame in frames:
        if frame.native and (_noise(frame.function) or (not kept and frame.function == UNKNOWN)):
            continue
        if kept and kept[-1].function == frame.function and (frame.function in _WAITS or _nameless(kept[-1], frame)):
            continue
        kept.append(frame)
    while len(kept) > 1 and kept[-1].native and _ASLEEP.match(kept[-1].function):
        kept.pop()
    kept = kept or list(frames[-1:])
    return tuple(kept), len(frames) - len(kept)


def _nameless(outer: Frame, inner: Frame) -> bool:
    return inner.function == UNKNOWN and outer.file == inner.file


def _noise(function: str) -> bool:
    return _START.match(function) is not None or _INTERPRETER.match(function) is not None
