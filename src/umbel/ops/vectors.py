"""A vector of sixteen float32 for numba kernels, so that their inner loops stay in registers by construction.

LLVM lays it out for the processor at hand: two AVX registers, one AVX-512 register, or four of ARM's. Kernels
name memory by address and count in elements; they check nothing, so their callers do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

LANES = 16


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


vector = _VectorType()
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
# Products and sums may fuse; nothing may be reordered, because exp2 below rounds by adding and taking away.
_FLAGS = ("contract", "nsz")


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, _FLOATS)


def kernel(function: Callable[[Any], None]) -> Any:
    """Compile a kernel to a C function of one argument, the address of its int64 arguments; cached on disk.

    The cache is renewed when the file of the kernel changes, not when this one does.
    """
    return cfunc(types.void(types.CPointer(types.int64)), cache=True)(function)


def _constant(value: float, kind: Any = _FLOATS) -> Any:
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * LANES)


def _splat(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, _constant(0, _INTS))


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(result, [x.type for x in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return _call(builder, f"llvm.fma.v{LANES}f32", _FLOATS, x, y, z)


def _place(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    first = builder.inttoptr(address, ir.FloatType().as_pointer())
    return builder.bitcast(builder.gep(first, [index]), kind.as_pointer())


def _mask(builder: Any, count: Any) -> Any:
    lanes = ir.Constant(_INTS, [ir.Constant(ir.IntType(32), i) for i in range(LANES)])
    nothing = ir.Constant(_INTS, ir.Undefined)
    narrow = builder.trunc(count, ir.IntType(32))
    first = builder.insert_element(nothing, narrow, ir.Constant(ir.IntType(32), 0))
    return builder.icmp_signed("<", lanes, builder.shuffle_vector(first, nothing, _constant(0, _INTS)))


def _emits(result: Any, *arguments: Any, name: Any = None) -> Callable[[Any], Any]:
    """Let kernels call a function (or the operator ``name``) whose body emits the code for its values."""

    def decorate(emit: Callable[..., Any]) -> Any:
        known = emit if name is None else name
        cases = {"key": known, "cases": [signature(result, *arguments)]}
        infer_global(known, types.Function(type(emit.__name__, (ConcreteTemplate,), cases)))

        @lower_builtin(known, *arguments)
        def lower(context: Any, builder: Any, _: Any, values: Any) -> Any:
            value = emit(builder, *values)
            return context.get_dummy_value() if result is types.void else value

        return emit

    return decorate


@_emits(types.void)
def keep_apart(builder: Any) -> None:
    """Keep the function this stands in out of its callers, so that its loop has all registers to itself."""
    builder.function.attributes.add("noinline")


@_emits(vector, types.intp, types.intp)
def load(builder: Any, address: Any, index: Any) -> Any:
    """Read sixteen floats, ``index`` floats after ``address``."""
    return builder.load(_place(builder, address, index, _FLOATS), align=4)


@_emits(types.void, types.intp, types.intp, vector)
def store(builder: Any, address: Any, index: Any, value: Any) -> None:
    """Write sixteen floats, ``index`` floats after ``address``."""
    builder.store(value, _place(builder, address, index, _FLOATS), align=4)


def _is_whole(builder: Any, count: Any) -> Any:
    return builder.icmp_signed(">=", count, ir.Constant(ir.IntType(64), LANES))


@_emits(vector, types.intp, types.intp, types.intp)
def load_part(builder: Any, address: Any, index: Any, count: Any) -> Any:
    """Read the first ``count`` of sixteen floats; the others are 0, and their memory is not touched."""
    place, align = _place(builder, address, index, _FLOATS), ir.Constant(ir.IntType(32), 4)
    with builder.if_else(_is_whole(builder, count)) as (whole, part):
        with whole:
            all_lanes, whole_block = builder.load(place, align=4), builder.block
        with part:
            name = f"llvm.masked.load.v{LANES}f32.p0"
            some = _call(builder, name, _FLOATS, place, align, _mask(builder, count), _constant(0.0))
            part_block = builder.block
    value = builder.phi(_FLOATS)
    value.add_incoming(all_lanes, whole_block)
    value.add_incoming(some, part_block)
    return value


@_emits(types.void, types.intp, types.intp, vector, types.intp)
def store_part(builder: Any, address: Any, index: Any, value: Any, count: Any) -> None:
    """Write the first ``count`` of sixteen floats; the memory of the others is not touched."""
    place, align = _place(builder, address, index, _FLOATS), ir.Constant(ir.IntType(32), 4)
    # Masked stores take some twenty cycles on AMD's processors, so only the last vector of a row has one.
    with builder.if_else(_is_whole(builder, count)) as (whole, part):
        with whole:
            builder.store(value, place, align=4)
        with part:
            name = f"llvm.masked.store.v{LANES}f32.p0"
            _call(builder, name, ir.VoidType(), value, place, align, _mask(builder, count))


@_emits(vector, types.float32)
def splat(builder: Any, value: Any) -> Any:
    """Repeat one number sixteen times."""
    return _splat(builder, value)


@_emits(vector, types.intp, types.intp)
def splat_at(builder: Any, address: Any, index: Any) -> Any:
    """Repeat the number that stands ``index`` floats after ``address``."""
    return _splat(builder, builder.load(_place(builder, address, index, ir.FloatType())))


@_emits(types.float32, vector)
def total(builder: Any, value: Any) -> Any:
    """Add up the sixteen numbers, as a tree."""
    nothing = ir.Constant(_FLOATS, ir.Undefined)
    half = LANES // 2
    while half:
        lanes = [i + half if i < half else i for i in range(LANES)]
        order = ir.Constant(_INTS, [ir.Constant(ir.IntType(32), i) for i in lanes])
        value = builder.fadd(value, builder.shuffle_vector(value, nothing, order))
        half //= 2
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@_emits(types.float32, vector)
def least(builder: Any, value: Any) -> Any:
    """Give the smallest of the sixteen numbers."""
    return _call(builder, f"llvm.vector.reduce.fmin.v{LANES}f32", ir.FloatType(), value)


@_emits(types.void, types.intp, types.intp, types.float32)
def put(builder: Any, address: Any, index: Any, value: Any) -> None:
    """Write one float, ``index`` floats after ``address``."""
    builder.store(value, _place(builder, address, index, ir.FloatType()))


@_emits(types.float32, types.intp, types.intp)
def float_at(builder: Any, address: Any, index: Any) -> Any:
    """Read one float, ``index`` floats after ``address``."""
    return builder.load(_place(builder, address, index, ir.FloatType()))


@_emits(types.intp, types.intp, types.intp)
def int_at(builder: Any, address: Any, index: Any) -> Any:
    """Read one int64, ``index`` of them after ``address``."""
    first = builder.inttoptr(address, ir.IntType(64).as_pointer())
    return builder.load(builder.gep(first, [index]))


@_emits(types.intp, types.CPointer(types.int64), types.intp)
def fetch_add(builder: Any, arguments: Any, index: Any) -> Any:
    """Count one up in the kernel's arguments, safely among threads; give the value before."""
    place = builder.gep(arguments, [index])
    return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")


@_emits(types.float32, types.int64)
def as_float(builder: Any, bits: Any) -> Any:
    """Read an int64 argument as the float64 it was made from, and round it to float32."""
    return builder.fptrunc(builder.bitcast(bits, ir.DoubleType()), ir.FloatType())


@_emits(vector, vector, vector, name=operator.add)
def _add(builder: Any, x: Any, y: Any) -> Any:
    return builder.fadd(x, y, flags=_FLAGS)


@_emits(vector, vector, vector, name=operator.sub)
def _sub(builder: Any, x: Any, y: Any) -> Any:
    return builder.fsub(x, y, flags=_FLAGS)


@_emits(vector, vector, vector, name=operator.mul)
def _mul(builder: Any, x: Any, y: Any) -> Any:
    return builder.fmul(x, y, flags=_FLAGS)


@_emits(vector, vector, vector, name=operator.truediv)
def _truediv(builder: Any, x: Any, y: Any) -> Any:
    return builder.fdiv(x, y)


@_emits(vector, vector, vector)
def maximum(builder: Any, x: Any, y: Any) -> Any:
    """Take the larger, lane by lane."""
    return _call(builder, f"llvm.maxnum.v{LANES}f32", _FLOATS, x, y)


@_emits(vector, vector, vector)
def minimum(builder: Any, x: Any, y: Any) -> Any:
    """Take the smaller, lane by lane."""
    return _call(builder, f"llvm.minnum.v{LANES}f32", _FLOATS, x, y)


_MAGIC = 12582912.0
"""1.5 * 2**23: added, it pushes the fraction out of the mantissa, and leaves the whole number in the lowest bits."""


def _polynomial(builder: Any, x: Any, *coefficients: float) -> Any:
    """Evaluate a polynomial, highest power first."""
    value = _constant(coefficients[0])
    for coefficient in coefficients[1:]:
        value = _fma(builder, value, x, _constant(coefficient))
    return value


def _round(builder: Any, x: Any) -> tuple[Any, Any]:
    """Give the nearest whole number, and bits whose lowest ones are that number."""
    magic = _constant(_MAGIC)
    pushed = builder.fadd(x, magic)
    return builder.fsub(pushed, magic), builder.bitcast(pushed, _INTS)


def _scale(builder: Any, x: Any, bits: Any) -> Any:
    """Multiply by the power of two that the low bits name, by adding to the exponent."""
    exponent = builder.shl(bits, _constant(23, _INTS))
    return builder.bitcast(builder.add(builder.bitcast(x, _INTS), exponent), _FLOATS)


_POWERS_OF_TWO = (1.326472786e-03, 9.671512924e-03, 5.550733743e-02, 2.402224208e-01, 6.931469776e-01, 1.0)


@_emits(vector, vector, vector)
def exp2_of_product(builder: Any, x: Any, y: Any) -> Any:
    """2**(x y) for x y in [-126, 0], within 2e-7 relative: two operations fewer than :func:`exp2` of the product."""
    magic = _constant(_MAGIC)
    pushed = _fma(builder, x, y, magic)
    whole = builder.fsub(pushed, magic)
    rest = _fma(builder, x, y, builder.fneg(whole))
    return _scale(builder, _polynomial(builder, rest, *_POWERS_OF_TWO), builder.bitcast(pushed, _INTS))


@_emits(vector, vector)
def exp2(builder: Any, x: Any) -> Any:
    """2**x for x <= 0, within 2e-7 relative and exact at 0; below -126 it stays at 2**-126."""
    x = _call(builder, f"llvm.maxnum.v{LANES}f32", _FLOATS, x, _constant(-126.0))
    whole, bits = _round(builder, x)
    return _scale(builder, _polynomial(builder, builder.fsub(x, whole), *_POWERS_OF_TWO), bits)


@_emits(vector, vector)
def exp(builder: Any, x: Any) -> Any:
    """e**x within 2e-7 relative; x is cut to [-87, 87]."""
    x = _call(builder, f"llvm.maxnum.v{LANES}f32", _FLOATS, x, _constant(-87.0))
    x = _call(builder, f"llvm.minnum.v{LANES}f32", _FLOATS, x, _constant(87.0))
    whole, bits = _round(builder, builder.fmul(x, _constant(1.4426950408889634)))
    # ln 2 in two parts, the first exact in few bits, so that the rest keeps full precision.
    rest = _fma(builder, whole, _constant(-0.693359375), x)
    rest = _fma(builder, whole, _constant(2.12194440e-4), rest)
    powers = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)
    return _scale(builder, _polynomial(builder, rest, *powers), bits)


@_emits(vector, vector)
def log1p(builder: Any, x: Any) -> Any:
    """log(1 + x) for x in [0, 1], within 2e-7 relative."""
    # 2 artanh(s) with s = x / (2 + x) <= 1/3, by its power series.
    s = builder.fdiv(x, builder.fadd(x, _constant(2.0)))
    series = _polynomial(builder, builder.fmul(s, s), 2 / 15, 2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3, 2.0)
    return builder.fmul(s, series)


@njit(inline="always")
def span_of(spans, row, length):  # type: ignore[no-untyped-def]
    """Give the first position of a row's sequence and the one past its last; all where the address is 0."""
    if spans == 0:
        return 0, length
    return int_at(spans, 2 * row), int_at(spans, 2 * row + 1)


@njit(inline="always")
def zero():  # type: ignore[no-untyped-def]
    """Give sixteen zeros."""
    return splat(np.float32(0.0))


@njit(inline="always")
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + e**-x)."""
    one = splat(np.float32(1.0))
    return one / (one + exp(zero() - x))


@njit(inline="always")
def silu(x):  # type: ignore[no-untyped-def]
    """X / (1 + e**-x)."""
    return x / (splat(np.float32(1.0)) + exp(zero() - x))


@njit(inline="always")
def silu_slope(x, s):  # type: ignore[no-untyped-def]
    """Give the derivative of SiLU at x, where ``s`` is sigmoid(x)."""
    one = splat(np.float32(1.0))
    return s * (one + x * (one - s))
