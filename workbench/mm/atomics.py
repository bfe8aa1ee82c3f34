# SPDX-License-Identifier: GPL-2.0-only
"""Locked read-modify-writes on memory, as the kernel does them, with plain twins for the JIT-off run.

On x86-64 these compile to ``lock xadd``/``lock add`` and ``lock cmpxchg``.  Addresses are int64: the
user half of the address space fits.
"""

from __future__ import annotations

import ctypes

import numpy as np
from llvmlite import ir
from numba import types

from workbench.mm._jit import JIT, intrinsic

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def _atomic_add_i32(typingctx, address, delta):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], _I32.as_pointer())
        return builder.atomic_rmw("add", pointer, args[1], "seq_cst")

    return types.int32(types.int64, types.int32), codegen


@intrinsic
def _atomic_or_u64(typingctx, address, mask):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], _I64.as_pointer())
        return builder.atomic_rmw("or", pointer, args[1], "seq_cst")

    return types.uint64(types.int64, types.uint64), codegen


@intrinsic
def _atomic_and_u64(typingctx, address, mask):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], _I64.as_pointer())
        return builder.atomic_rmw("and", pointer, args[1], "seq_cst")

    return types.uint64(types.int64, types.uint64), codegen


@intrinsic
def _cmpxchg_i32(typingctx, address, old, new):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], _I32.as_pointer())
        result = builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "monotonic")
        return builder.extract_value(result, 0)

    return types.int32(types.int64, types.int32, types.int32), codegen


@intrinsic
def _cmpxchg_u64(typingctx, address, old, new):
    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], _I64.as_pointer())
        result = builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "monotonic")
        return builder.extract_value(result, 0)

    return types.uint64(types.int64, types.uint64, types.uint64), codegen


def _plain_add_i32(address, delta):
    cell = ctypes.c_int32.from_address(int(address))
    before = cell.value
    cell.value = before + int(delta)
    return np.int32(before)


def _plain_cmpxchg_u64(address, old, new):
    cell = ctypes.c_uint64.from_address(int(address))
    before = cell.value
    if before == int(old):
        cell.value = int(new)
    return np.uint64(before)


def _plain_or_u64(address, mask):
    cell = ctypes.c_uint64.from_address(int(address))
    before = cell.value
    cell.value = before | int(mask)
    return np.uint64(before)


def _plain_and_u64(address, mask):
    cell = ctypes.c_uint64.from_address(int(address))
    before = cell.value
    cell.value = before & int(mask)
    return np.uint64(before)


def _plain_cmpxchg_i32(address, old, new):
    cell = ctypes.c_int32.from_address(int(address))
    before = cell.value
    if before == int(old):
        cell.value = int(new)
    return np.int32(before)


atomic_add_i32 = _atomic_add_i32 if JIT else _plain_add_i32
"""``atomic_add_i32(address, delta) -> value before``: the kernel's atomic_add and friends on an int."""

cmpxchg_u64 = _cmpxchg_u64 if JIT else _plain_cmpxchg_u64
"""``cmpxchg_u64(address, old, new) -> value before``: stores ``new`` where the word equals ``old``."""

atomic_or_u64 = _atomic_or_u64 if JIT else _plain_or_u64
"""``atomic_or_u64(address, mask) -> value before``: set_bit() and its kind on a word."""

atomic_and_u64 = _atomic_and_u64 if JIT else _plain_and_u64
"""``atomic_and_u64(address, mask) -> value before``: clear_bit() and its kind on a word."""

cmpxchg_i32 = _cmpxchg_i32 if JIT else _plain_cmpxchg_i32
"""``cmpxchg_i32(address, old, new) -> value before``: one try of atomic_add_unless() on an int."""
