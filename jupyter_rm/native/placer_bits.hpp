// Bit work: counting, choosing the lowest bits, and a two-level bitmap over nodes.
// Knows nothing of nodes or tasks.  Read placer_model.hpp next.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace jrm {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

constexpr u32 NONE = 0xffffffffu;

inline u32 bits_in(u64 x) { return static_cast<u32>(__builtin_popcountll(x)); }
inline u32 lowest_index(u64 x) { return static_cast<u32>(__builtin_ctzll(x)); }
inline u64 low_mask(u32 n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

// The n lowest set bits of m; m has at least n of them.
inline u64 lowest(u64 m, u32 n) {
  if (n == 1) return m & (0 - m);
  if (n == 0) return 0;
  u32 at = 0;
  for (u32 half = 32; half; half >>= 1) {
    u32 below = bits_in((m >> at) & low_mask(half));
    if (n > below) {
      n -= below;
      at += half;
    }
  }
  return m & (at >= 63 ? ~0ull : (2ull << at) - 1);
}

// The part of [lo, hi) that falls into word w, as a mask.
inline u64 range_mask(u32 w, u32 lo, u32 hi) {
  u32 from = w * 64, to = from + 64;
  if (hi <= from || lo >= to || lo >= hi) return 0;
  u64 m = ~0ull;
  if (lo > from) m &= ~low_mask(lo - from);
  if (hi < to) m &= low_mask(hi - from);
  return m;
}

inline u32 count_range(const u64* words, u32 lo, u32 hi) {
  u32 sum = 0;
  if (lo >= hi) return 0;
  for (u32 w = lo / 64; w <= (hi - 1) / 64; ++w) sum += bits_in(words[w] & range_mask(w, lo, hi));
  return sum;
}

// Move the n lowest set bits of [lo, hi) from words to out.
inline void take_range(u64* words, u32 lo, u32 hi, u32 n, u64* out) {
  if (lo >= hi) return;
  for (u32 w = lo / 64; n && w <= (hi - 1) / 64; ++w) {
    u64 m = words[w] & range_mask(w, lo, hi);
    u32 have = bits_in(m);
    if (have > n) {
      m = lowest(m, n);
      have = n;
    }
    words[w] &= ~m;
    out[w] |= m;
    n -= have;
  }
}

// A set of small integers that finds its lowest members quickly.
struct Bits {
  std::vector<u64> words, sums;

  void fill(u32 n) {
    words.assign((n + 63) / 64, ~0ull);
    if (n % 64) words.back() = low_mask(n % 64);
    u32 w = static_cast<u32>(words.size());
    sums.assign((w + 63) / 64, ~0ull);
    if (w % 64) sums.back() = low_mask(w % 64);
  }
  void empty(u32 n) {
    words.assign((n + 63) / 64, 0);
    sums.assign((words.size() + 63) / 64, 0);
  }
  void set(u32 i) {
    words[i / 64] |= 1ull << (i % 64);
    sums[i / 4096] |= 1ull << (i / 64 % 64);
  }
  void clear(u32 i) {
    u64& w = words[i / 64];
    w &= ~(1ull << (i % 64));
    if (!w) sums[i / 4096] &= ~(1ull << (i / 64 % 64));
  }

  // Call f(i) for the members in ascending order until it returns true; members of `without` are passed over.
  // f may clear the member it is called with.
  template <class F>
  bool each(const Bits* without, F f) {
    for (u32 s = 0; s < sums.size(); ++s)
      for (u64 sm = sums[s]; sm; sm &= sm - 1) {
        u32 w = s * 64 + lowest_index(sm);
        for (u64 m = without ? words[w] & ~without->words[w] : words[w]; m; m &= m - 1)
          if (f(w * 64 + lowest_index(m))) return true;
      }
    return false;
  }
};

}  // namespace jrm
