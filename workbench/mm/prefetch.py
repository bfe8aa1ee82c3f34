# SPDX-License-Identifier: GPL-2.0-only
"""Asking for a cache line before it is read: what a core has under way is else bounded by what it does to each line."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from workbench.mm._jit import JIT, intrinsic

_I32 = ir.IntType(32)
_READ, _TO_ALL_LEVELS, _DATA = _I32(0), _I32(3), _I32(1)


@intrinsic
def _prefetch(typingctx, address):
    def codegen(context, builder, signature, args):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        name = "llvm.prefetch.p0i8"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [builder.inttoptr(args[0], pointer), _READ, _TO_ALL_LEVELS, _DATA])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _plain_prefetch(address):
    pass


prefetch = _prefetch if JIT else _plain_prefetch
"""``prefetch(address)``: the line there will be read soon; any address will do, also one without memory."""
