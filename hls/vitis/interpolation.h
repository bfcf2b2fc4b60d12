// One segment of the activation table: golden.numerics.requantise.activation.
#pragma once

#include "fixed.h"

namespace transept {

struct Point {
  ap_int<17> offset;
  ap_uint<16> base;
  ap_int<24> c0, c1;
  ap_int<16> c2;
  ap_uint<5> slope_shift, out_shift;
};

struct Clipped {
  ap_int<16> value;
  bool clipped;
};

inline Clipped interpolation(const Point &in) {
#pragma HLS PIPELINE II = 1
  bool clipped = false;
  const ap_int<17> d = in.offset - in.base;
  const ap_int<33> bend = in.c2 * d;
  const ap_int<35> steep = in.c1 + round_shift(bend, in.slope_shift);
  const ap_int<25> slope = saturate<25>(steep, clipped);
  const ap_int<43> value = slope * d + (ap_int<32>(in.c0) << 8);
  const ap_int<16> y = saturate<16>(round_shift(value, in.out_shift), clipped);
  return {y, clipped};
}

}  // namespace transept
