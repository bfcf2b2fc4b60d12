"""Compiles every kernel for a Hopper GPU, which need not be there: what the interpreter takes is
not always what the compiler takes. ``TRITON_INTERPRET=0 python hopper.py`` prints their sizes."""

from __future__ import annotations

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from transept.golden.isa import Filter
from transept.host.kernels import attention, attention_short, elementwise, matmul, norm, rows

HOPPER = GPUTarget("cuda", 90, 32)
#: What is a multiple of sixteen.
ALIGNED = {
    "q_stride",
    "k_stride",
    "v_stride",
    "out_stride",
    "x_stride",
    "y_stride",
    "sum_stride",
    "stride",
}
ALIGNED |= {"length", "queries", "k"}


def pointers(kind, names):
    return dict.fromkeys(names.split(), f"*{kind}")


def numbers(names):
    return dict.fromkeys(names.split(), "i32")


def compiled(kernel, types, constants, **options):
    """A kernel with the types of its arguments and its constants."""
    places = {name: (at,) for at, name in enumerate(kernel.arg_names)}
    signature = {name: "constexpr" if name in constants else types[name] for name in places}
    aligned = [name for name in types if "*" in types[name] or name in ALIGNED]
    attributes = {places[name]: [["tt.divisibility", 16]] for name in aligned}
    values = {places[name]: value for name, value in constants.items()}
    return triton.compile(
        ASTSource(kernel, signature, values, attributes), target=HOPPER, options=options
    )


def quantise():
    types = pointers("i16", "x_ptr y_ptr lookup_ptr") | pointers("i32", "multiplier_ptr tables_ptr")
    types |= {"q_ptr": "*i8"} | numbers("count width x_stride y_stride q_stride")
    constants = {
        "ACTIVATE": True,
        "KEEP": True,
        "BITS": 16,
        "ASM": True,
        "ROWS": 4,
        "CHUNKS": 3,
        "BLOCK": 256,
    }
    return compiled(rows._quantise, types, constants)


def move(*, activate):
    types = pointers("i16", "x_ptr y_ptr lookup_ptr") | numbers("size width x_stride y_stride")
    constants = {"ACTIVATE": activate, "BITS": 16, "ASM": True, "BLOCK": 1024}
    return compiled(rows._move, types, constants)


def multiply():
    types = pointers("i16", "y_ptr x_ptr out_ptr")
    types |= numbers("size width y_stride x_stride out_stride")
    constants = {"SHIFT": 15, "BITS": 16, "ASM": True, "BLOCK": 1024}
    return compiled(elementwise._multiply, types, constants)


def rotate():
    types = pointers("i16", "x_ptr cos_ptr sin_ptr") | {"out_ptr": "*i8"}
    types |= numbers("size width d x_stride cos_stride sin_stride out_stride")
    constants = {"SHIFT": 7, "FRACTION": 14, "ASM": True, "BLOCK": 1024}
    return compiled(elementwise._rotate, types, constants)


def normalise():
    types = pointers("i16", "y_ptr x_ptr out_ptr sum_ptr") | {"q_ptr": "*i8", "epsilon": "i64"}
    types |= {"beta_ptr": "*i64"}
    types |= pointers("i32", "multiplier_ptr gamma_ptr y_shift_ptr x_shift_ptr")
    types |= pointers("i32", "sum_shift_ptr tables_ptr") | numbers("count width q_stride inverse")
    types |= numbers("y_stride x_stride out_stride sum_stride")
    on = ("RESIDUAL", "CENTRE", "NORMALISE", "SUM", "KEEP", "QUANTISE", "ASM")
    on = dict.fromkeys(on, True)
    return compiled(
        norm._norm,
        types,
        on | {"BITS": 10, "OUT_SHIFT": 8, "OUT_LEFT": 14} | {"ROWS": 4, "CHUNKS": 3, "BLOCK": 256},
    )


def product(is_merged):
    types = dict.fromkeys(("x_desc", "w_desc"), "tensordesc<i8[128, 128]>")
    types |= {"y_desc": "tensordesc<i16[128, 128]>", "addend_ptr": "*i64"}
    types |= pointers("i32", "row_ptr multiplier_ptr shift_ptr maxima_ptr") | numbers("m n k one")
    constants = {"LEFT": 7, "ROW_LEFT": 13, "VALUE_LEFT": 0, "CLIP": True, "MERGED": is_merged}
    constants |= {"UNLIKE": is_merged}
    constants |= {"ROW_SHIFT": 11, "OUT_SHIFT": 8, "DYNAMIC": True, "MAXIMA": True, "BITS": 16}
    constants |= {"ASM": True, "BM": 128, "BN": 128, "BK": 128, "GROUP": 8}
    return compiled(matmul._matmul, types, constants, num_warps=4, num_stages=3)


def turn():
    types = pointers("i8", "v_ptr t_ptr") | pointers("i32", "sums_ptr keys_ptr")
    types |= numbers("length stride tiles")
    return compiled(attention._transpose, types, {"D": 64, "BD": 64, "BN": 128, "ASM": True})


def attend(kind=Filter.DENSE, fine=0, *, is_merged=True, whole=False):
    types = {"k_desc": "tensordesc<i8[64, 64]>", "t_desc": "tensordesc<i8[64, 64]>"}
    types |= pointers("i8", "q_ptr k_ptr fine_ptr") | {"out_ptr": "*i16", "half_ptr": "*i64"}
    types |= pointers(
        "i32", "sums_ptr keys_ptr score_ptr channel_ptr tables_ptr count_ptr list_ptr"
    )
    types |= numbers("queries length q_stride k_stride out_stride tiles fine_rows fine_columns")
    types |= numbers("channels before after")
    constants = {"SHARE": 1, "D": 64, "E": 64, "BD": 64, "BE": 64, "BM": 64, "BN": 64}
    constants |= {"KIND": int(kind), "LISTED": fine > 0, "FINE": fine, "MERGED": is_merged}
    constants |= {"CLIP": not whole, "LEFT": 0, "ROW_SHIFT": 18, "CONTEXT_ROW_SHIFT": 10}
    constants |= {"CONTEXT_LEFT": 3 if is_merged else -1, "CONTEXT_OUT_SHIFT": 8, "TMA": is_merged}
    constants |= {"CONTEXT_CLIP": True, "CONTEXT_UP": -1, "WHOLE": whole}
    constants |= {"LEVEL_SCALE": 254.000635, "ASM": True}
    return compiled(attention._attention, types, constants, num_warps=4, num_stages=3)


def attend_short(*, whole):
    types = {"out_ptr": "*i16", "half_ptr": "*i64"} | pointers("i8", "q_ptr k_ptr")
    types |= pointers("i32", "v_ptr sums_ptr keys_ptr score_ptr channel_ptr tables_ptr")
    types |= numbers("queries length q_stride k_stride v_stride out_stride blocks")
    constants = {"SHARE": 1, "D": 64, "E": 64, "BM": 64, "BN": 64, "TILES": 2, "WHOLE": whole}
    constants |= {"CLIP": not whole, "LEFT": 0, "CONTEXT_CLIP": False, "CONTEXT_LEFT": 2}
    constants |= {"CONTEXT_UP": 3, "CONTEXT_ROW_SHIFT": 0, "CONTEXT_OUT_SHIFT": 8}
    constants |= {"SCALE": 254.000635, "ASM": True}
    return compiled(attention_short._short, types, constants, num_warps=4, num_stages=2)


KERNELS = {
    "quantise": quantise,
    "activate": lambda: move(activate=True),
    "copy": lambda: move(activate=False),
    "multiply": multiply,
    "rotate": rotate,
    "norm": normalise,
    "linear": lambda: product(is_merged=True),
    "linear, step by step": lambda: product(is_merged=False),
    "transpose": turn,
    "attention": attend,
    "attention of whole tiles": lambda: attend(whole=True),
    "attention, step by step": lambda: attend(is_merged=False),
    "attention, causal": lambda: attend(Filter.CAUSAL),
    "attention, window": lambda: attend(Filter.WINDOW),
    "attention, tiles": lambda: attend(Filter.TILE_THRESHOLD, 16),
    "attention of few keys": lambda: attend_short(whole=False),
    "attention of few keys in whole tiles": lambda: attend_short(whole=True),
}

#: Instructions that kernels ask for by name.
ASKED_FOR = {
    "waits": "griddepcontrol.wait",
    "lets wait": "griddepcontrol.launch_dependents",
    "multiplies": "madc.hi.s32",
    "rounds": "fma.rz.f32",
    "sums": "dp4a.s32.s32",
    "stores": "@p st.global.b32",
}

if __name__ == "__main__":
    for name, make in KERNELS.items():
        found = make().asm
        asked = [what for what, instruction in ASKED_FOR.items() if instruction in found["ptx"]]
        print(f"{name}: {', '.join(asked)}: {len(found['cubin'])} bytes", flush=True)
