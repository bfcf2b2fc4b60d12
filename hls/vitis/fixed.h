// Rounding and saturation: the mirror of golden/numerics/fixed.py.
#pragma once

#include <ap_int.h>

#include "hls_stream.h"

namespace transept {

// x limited to +-(2**(BITS-1) - 1); clipped is set if that is another value.
template <int BITS, int N>
ap_int<BITS> saturate(ap_int<N> x, bool &clipped) {
#pragma HLS INLINE
  const ap_int<BITS> limit = (ap_int<BITS + 1>(1) << (BITS - 1)) - 1;
  if (x > limit) {
    clipped = true;
    return limit;
  }
  if (x < -limit) {
    clipped = true;
    return -limit;
  }
  return x;
}

// floor(x / 2**shift + 1/2)
template <int N, int S>
ap_int<N + 1> round_shift(ap_int<N> x, ap_uint<S> shift) {
#pragma HLS INLINE
  ap_int<N + 1> halves = x;
  halves <<= 1;
  halves >>= shift;
  return (halves + 1) >> 1;
}

}  // namespace transept
