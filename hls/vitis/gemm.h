// A communication-avoiding GEMM (de Fine Licht, Kwasniewski, Hoefler, FPGA 2020): c = a b with int8
// operands, requantised to int8. A tile of SIDE x SIDE accumulators stays on chip while outer
// products of a column of a and a row of b are added to it, so that an element is read once for
// SIDE outputs: 2 m n k / SIDE bytes read, m n written, with SIDE**2 + 2 SIDE elements on chip.
#pragma once

#include "requantiser.h"

namespace transept {

struct Channel {
  ap_uint<16> multiplier;
  ap_uint<5> shift;
  ap_int<24> bias;
};

// A memory of T that counts its bytes where it is simulated; a plain pointer does as well.
template <typename T>
struct Counted {
  T *data;
  long *bytes;
  T read(long at) const {
    *bytes += sizeof(T);
    return data[at];
  }
  void write(long at, T value) const {
    *bytes += sizeof(T);
    data[at] = value;
  }
};

// a: [k, m], column after column, so that bursts are long; b: [k, n]; parameters: eight bytes for
// each column of b, as golden.layouts.CHANNEL_RECORD has them; c: [m, n]. m and n are multiples of
// SIDE. row_multiplier and shifts: those of all rows.
template <int SIDE, typename Bytes, typename Records>
void gemm(Bytes a, Bytes b, Records parameters, Bytes c, int m, int n, int k,
          ap_uint<17> row_multiplier, ap_uint<6> row_shift, ap_uint<4> out_shift) {
#pragma HLS INTERFACE m_axi port = a bundle = left
#pragma HLS INTERFACE m_axi port = b bundle = right
  ap_int<27> tile[SIDE][SIDE];
#pragma HLS ARRAY_PARTITION variable = tile dim = 2 complete
  signed char column[SIDE], row[SIDE];
#pragma HLS ARRAY_PARTITION variable = row complete
  for (int i = 0; i < m; i += SIDE) {
    for (int j = 0; j < n; j += SIDE) {
      for (int p = 0; p < k; p++) {
        for (int x = 0; x < SIDE; x++) column[x] = a.read(long(p) * m + i + x);
        for (int y = 0; y < SIDE; y++) row[y] = b.read(long(p) * n + j + y);
        for (int x = 0; x < SIDE; x++) {
#pragma HLS PIPELINE II = 1
          for (int y = 0; y < SIDE; y++) {
#pragma HLS UNROLL
            tile[x][y] = (p ? tile[x][y] : ap_int<27>(0)) + column[x] * row[y];
          }
        }
      }
      for (int y = 0; y < SIDE; y++) {
        const ap_uint<64> record = parameters.read(j + y);
        const ap_uint<16> multiplier = record;
        const ap_uint<5> shift = record >> SHIFT_BIT;
        const ap_int<24> bias = record >> BIAS_BIT;
        for (int x = 0; x < SIDE; x++) {
#pragma HLS PIPELINE II = 1
          const Clipped out = requantiser(
              {tile[x][y], 0, false, multiplier, shift, bias, row_multiplier, row_shift, 0, out_shift});
          bool clipped = false;
          c.write(long(i + x) * n + j + y, saturate<8>(out.value, clipped).to_int());
        }
      }
    }
  }
}

}  // namespace transept
