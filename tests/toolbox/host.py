#!/usr/bin/env python3
"""Runs the toolbox in PyPI's wasmtime: the module, then its arguments. The root directory is this machine's.

A host for trying and for the script suite where no container is at hand; it gives exit codes above 125 through, which
wasmtime itself makes traps, and plays the optional host interface (src/host.rs) when standard input is a terminal.
"""

import fcntl
import os
import struct
import sys
import termios

import wasmtime


class Exit(Exception):
    pass


def main():
    path, args = sys.argv[1], sys.argv[2:]
    config = wasmtime.Config()
    # Compiled once: wasmtime's own cache (~/.cache/wasmtime).
    config.cache = True
    engine = wasmtime.Engine(config)
    module = wasmtime.Module.from_file(engine, path)
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = args
    wasi.env = list({**os.environ, "PWD": os.getcwd()}.items())
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    wasi.preopen_dir("/", "/")
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.allow_shadowing = True
    linker.define_wasi()
    status = []

    def leave(code):
        status.append(code)
        raise Exit()

    i32 = wasmtime.ValType.i32()
    linker.define_func("wasi_snapshot_preview1", "proc_exit", wasmtime.FuncType([i32], []), leave)
    instance = linker.instantiate(store, module)
    exports = instance.exports(store)
    before = termios.tcgetattr(0) if os.isatty(0) else None

    def tty_raw(fd, on):
        if not os.isatty(fd):
            return 59
        settings = termios.tcgetattr(fd) if on else list(before)
        if on:
            settings[0] &= ~(termios.IXON | termios.ICRNL)
            settings[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        return 0

    def tty_size(fd, out):
        if not os.isatty(fd):
            return 59
        rows, columns = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))[:2]
        exports["memory"].write(store, struct.pack("<HH", columns, rows), out)
        return 0

    def identity(out, capacity):
        values = [os.getuid(), os.getgid(), *os.getgroups()]
        exports["memory"].write(store, struct.pack(f"<{len(values[:capacity])}I", *values[:capacity]), out)
        return len(values)

    if before is not None:
        table = exports["__indirect_function_table"]
        pair = wasmtime.FuncType([i32, i32], [i32])
        functions = [wasmtime.Func(store, pair, function) for function in (tty_raw, tty_size, identity)]
        first = table.grow(store, len(functions), None)
        for index, function in enumerate(functions):
            table.set(store, first + index, function)
        exports["cri-wasm-host-v1"](store, first)
    code = 0
    try:
        exports["_start"](store)
    except Exit:
        code = status[0]
    except Exception as error:  # proc_exit's own exception may come wrapped.
        code = status[0] if status else 134
        if not status:
            print(error, file=sys.stderr)
    finally:
        if before is not None:
            termios.tcsetattr(0, termios.TCSANOW, before)
    sys.stdout.flush()
    os._exit(code)


main()
