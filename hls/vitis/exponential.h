// The probability level of one score: golden.numerics.softmax.levels.
#pragma once

#include "polynomial.h"
#include "tables.h"

namespace transept {

struct Score {
  ap_int<16> score, maximum;
  ap_uint<3> dither;
};

inline ap_uint<8> exponential(const Score &in) {
#pragma HLS PIPELINE II = 1
  const ap_uint<16> distance = in.maximum - in.score;
  const ap_uint<8> octave = distance >> 8;
  const ap_uint<14> position = ap_uint<14>(distance & 0xff) << 6;
  const ap_uint<17> mantissa = evaluate(EXP2[position >> 12], position & 0xfff);
  const bool visible = in.score != -32768 && octave < VANISHED;
  const ap_uint<11> fine = visible ? ap_uint<11>(mantissa >> 6 >> octave) : ap_uint<11>(0);
  return (fine + in.dither) >> 3;
}

}  // namespace transept
