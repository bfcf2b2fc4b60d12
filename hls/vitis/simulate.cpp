// C simulation: simulate KERNEL reads integers from standard input, prints those of the results.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "exponential.h"
#include "gemm.h"
#include "rsqrt.h"
#include "window.h"

using namespace transept;

static long number() {
  long value;
  if (scanf("%ld", &value) != 1) exit(2);
  return value;
}

static void exponentials(long count) {
  while (count--) {
    const long score = number(), maximum = number(), dither = number();
    printf("%d\n", exponential({score, maximum, dither}).to_int());
  }
}

static void rsqrts(long count) {
  while (count--) {
    const Float out = rsqrt(number());
    printf("%d %d\n", out.mantissa.to_int(), out.exponent.to_int());
  }
}

static void interpolations(long count) {
  while (count--) {
    long v[7];
    for (long &x : v) x = number();
    const Clipped out = interpolation({v[0], v[1], v[2], v[3], v[4], v[5], v[6]});
    printf("%d %d\n", out.value.to_int(), out.clipped);
  }
}

static void requantisers(long count) {
  while (count--) {
    long v[10];
    for (long &x : v) x = number();
    const Clipped out = requantiser(
        {v[0], v[1], v[2] != 0, v[3], v[4], v[5], v[6], v[7], v[8], v[9]});
    printf("%d %d\n", out.value.to_int(), out.clipped);
  }
}

// of each request the number of its tiles, then the tiles
static void windows(long count) {
  while (count--) {
    const long tile = number(), position = number(), base = number(), keys = number();
    const long before = number(), after = number();
    hls::stream<Request> requests;
    hls::stream<Answer> answers;
    requests.write({position, base, keys, before, after});
    if (tile == 4) {
      window<4>(requests, answers);
    } else {
      window<16>(requests, answers);
    }
    printf("%d\n", int(answers.size()));
    while (!answers.empty()) {
      const Answer out = answers.read();
      printf("%d %d %d %d\n", out.tile.to_int(), out.upper.to_int(), out.lower.to_int(), out.last);
    }
  }
}

// m n k row_multiplier row_shift out_shift, a of [k, m], b of [k, n], records of n; c, then bytes
template <int SIDE>
static void product() {
  const int m = number(), n = number(), k = number();
  const long row_multiplier = number(), row_shift = number(), out_shift = number();
  std::vector<signed char> a(size_t(m) * k), b(size_t(n) * k), c(size_t(m) * n);
  std::vector<ap_uint<64>> records(n);
  for (signed char &x : a) x = number();
  for (signed char &x : b) x = number();
  for (ap_uint<64> &x : records) x = number();
  long bytes = 0;
  Counted<signed char> left{a.data(), &bytes}, right{b.data(), &bytes}, out{c.data(), &bytes};
  Counted<ap_uint<64>> parameters{records.data(), &bytes};
  gemm<SIDE>(left, right, parameters, out, m, n, k, row_multiplier, row_shift, out_shift);
  for (signed char x : c) printf("%d\n", x);
  printf("%ld\n", bytes);
}

int main(int count, char **arguments) {
  const char *name = count == 2 ? arguments[1] : "";
  if (!strcmp(name, "gemm16")) return product<16>(), 0;
  if (!strcmp(name, "gemm64")) return product<64>(), 0;
  const struct {
    const char *name;
    void (*run)(long);
  } kernels[] = {{"exponential", exponentials},
                 {"interpolation", interpolations},
                 {"rsqrt", rsqrts},
                 {"requantiser", requantisers},
                 {"window", windows}};
  for (const auto &kernel : kernels) {
    if (!strcmp(name, kernel.name)) return kernel.run(number()), 0;
  }
  fprintf(stderr, "no kernel %s\n", name);
  return 1;
}
