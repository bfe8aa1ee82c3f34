# SPDX-License-Identifier: GPL-2.0-only
"""Stores that bypass the caches: one 64-byte line at a time, with a plain twin for the JIT-off run.

An array larger than the caches is written once and read much later; a regular store would first read
each line from memory.  ``sfence`` orders the stores before whatever follows.
"""

from __future__ import annotations

import ctypes

import numpy as np
from llvmlite import ir
from numba import types

from workbench.mm._jit import JIT, intrinsic

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_LINE = ir.VectorType(_I64, 8)


@intrinsic
def _stream(typingctx, address, lines, w0, w1, w2, w3, w4, w5, w6, w7):
    def codegen(context, builder, signature, args):
        start, lines = args[0], args[1]
        line = ir.Constant(_LINE, ir.Undefined)
        for i in range(8):
            line = builder.insert_element(line, args[2 + i], _I32(i))
        end = builder.add(start, builder.shl(lines, _I64(6)))
        before = builder.block
        loop, done = builder.append_basic_block("stream"), builder.append_basic_block("streamed")
        builder.cbranch(builder.icmp_unsigned("<", start, end), loop, done)
        builder.position_at_end(loop)
        at = builder.phi(_I64)
        at.add_incoming(start, before)
        store = builder.store(line, builder.inttoptr(at, _LINE.as_pointer()), align=64)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        after = builder.add(at, _I64(64))
        at.add_incoming(after, loop)
        builder.cbranch(builder.icmp_unsigned("<", after, end), loop, done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, *[types.uint64] * 8), codegen


@intrinsic
def _sfence(typingctx):
    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [])
        name = "llvm.x86.sse.sfence"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


def _plain_stream(address, lines, *words):
    cells = (ctypes.c_uint64 * (8 * int(lines))).from_address(int(address))
    np.ctypeslib.as_array(cells).reshape(int(lines), 8)[:] = np.array(words, np.uint64)


def _plain_sfence():
    pass


stream = _stream if JIT else _plain_stream
"""``stream(address, lines, w0 .. w7)``: fill ``lines`` 64-byte lines from a 64-byte aligned address."""

sfence = _sfence if JIT else _plain_sfence
"""``sfence()``: earlier streamed lines are visible before later stores."""
