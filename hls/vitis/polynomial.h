// One segment of a fixed table: golden.numerics.polynomial.evaluate.
#pragma once

#include "fixed.h"

namespace transept {

struct Segment {
  ap_uint<17> c0;
  ap_int<22> c1;
  ap_uint<17> c2;
};

inline ap_uint<17> evaluate(const Segment &segment, ap_uint<12> position) {
#pragma HLS INLINE
  const ap_int<13> d = position;
  const ap_int<31> bend = ap_int<18>(segment.c2) * d;
  const ap_int<22> slope = segment.c1 + round_shift(bend, ap_uint<4>(12));
  const ap_int<35> product = slope * d;
  return segment.c0 + round_shift(product, ap_uint<5>(18));
}

}  // namespace transept
