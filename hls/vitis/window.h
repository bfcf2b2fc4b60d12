// The window filter: golden.filters.Window. One request in, its key tiles out, one a cycle.
#pragma once

#include "fixed.h"

namespace transept {

struct Request {
  ap_uint<17> position;
  ap_uint<16> key_base, keys;  // keys minus one
  ap_uint<12> before, after;
};

struct Answer {
  ap_uint<16> tile;
  ap_int<8> upper, lower;  // diagonals of the band of kept keys
  bool last;
};

// A diagonal that lies beyond the tile is as good as one at its corner.
template <int TILE>
ap_int<8> clamp_diagonal(ap_int<18> x) {
#pragma HLS INLINE
  return x >= TILE ? ap_int<8>(TILE - 1) : x < -TILE ? ap_int<8>(-TILE) : ap_int<8>(x);
}

template <int TILE>
void window(hls::stream<Request> &requests, hls::stream<Answer> &answers) {
  const Request asked = requests.read();
  const ap_uint<16> end = asked.keys / TILE;
  ap_int<18> ahead = ap_int<18>(asked.position) - ap_int<18>(asked.key_base);
  bool last = false;
  for (ap_uint<17> tile = 0; !last; tile++, ahead -= TILE) {
#pragma HLS PIPELINE II = 1
    const ap_int<18> upper = ahead + asked.after, lower = ahead - asked.before;
    const bool early = lower >= TILE, final = tile == end;
    if (early && !final) continue;
    last = final || upper < 1;
    answers.write({early ? ap_uint<16>(0) : ap_uint<16>(tile),
                   early ? ap_int<8>(-TILE) : clamp_diagonal<TILE>(upper),
                   clamp_diagonal<TILE>(lower), last});
  }
}

}  // namespace transept
