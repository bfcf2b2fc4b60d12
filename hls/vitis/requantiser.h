// One lane of the epilogue: golden.numerics.requantise.requantise.
#pragma once

#include "interpolation.h"

namespace transept {

struct Accumulated {
  ap_int<27> acc;
  ap_int<20> column_sum;
  bool halves;
  ap_uint<16> multiplier;
  ap_uint<5> shift;
  ap_int<24> bias;
  ap_uint<17> row_multiplier;
  ap_uint<6> row_shift;
  ap_uint<4> pre, out_shift;
};

inline Clipped requantiser(const Accumulated &in) {
#pragma HLS PIPELINE II = 1
  bool clipped = false;
  const ap_int<28> total = in.acc + (in.halves ? 1 : 127) * in.column_sum;
  const ap_int<25> a = saturate<25>(round_shift(total, in.pre), clipped);
  const ap_int<42> scaled = a * in.multiplier;
  const ap_int<25> v = saturate<25>(round_shift(scaled, in.shift), clipped);
  const ap_int<43> row = v * in.row_multiplier;
  const ap_int<25> z = saturate<25>(round_shift(row, in.row_shift), clipped);
  const ap_int<26> biased = z + in.bias;
  return {saturate<16>(round_shift(biased, in.out_shift), clipped), clipped};
}

}  // namespace transept
