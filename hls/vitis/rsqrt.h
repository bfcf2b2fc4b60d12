// mantissa * 2**-(16 + exponent) of 1 / sqrt(v): golden.numerics.polynomial.rsqrt.
#pragma once

#include "polynomial.h"
#include "tables.h"

namespace transept {

struct Float {
  ap_uint<17> mantissa;
  ap_uint<5> exponent;
};

// v from 1 to 2**62 - 1
inline Float rsqrt(ap_uint<62> v) {
#pragma HLS PIPELINE II = 1
  ap_uint<64> x = v;
  ap_uint<6> lead = 0;
  for (int step = 32; step; step >>= 1) {
#pragma HLS UNROLL
    const bool empty = (x >> (64 - step)) == 0;
    if (empty) x <<= step;
    lead = lead << 1 | ap_uint<6>(!empty);
  }
  const ap_uint<16> fraction = x >> 47;
  const ap_uint<5> index = (ap_uint<5>(lead & 1) << 4) | ap_uint<5>(fraction >> 12);
  return {evaluate(RSQRT[index], fraction & 0xfff), ap_uint<5>(lead >> 1)};
}

}  // namespace transept
