// The records the placer works on: nodes, shapes, allocations, reservations.
// Knows no algorithm.  Read placer_buckets.hpp and placer_queue.hpp next.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "placer_bits.hpp"

namespace jrm {

constexpr u32 WHOLE = 10000;  // one GPU, in units of 1/10000
constexpr u32 CHOICE = 16;    // able nodes to choose from when ranks spread in the thrifty order
constexpr u64 DEAD = ~0ull;   // the place of a cancelled token in a queue

enum State : u8 { UP = 0, DRAIN = 1, DOWN = 2 };
enum Numa : u8 { COMPACT = 0, SPREAD = 1, ANY = 2 };
enum class Mode : u8 { SINGLE, PACK, FIXED };

// One cache line per node: everything the hot path touches.
struct alignas(64) Node {
  u64 cores0 = 0;   // free cores 0..63 (more cores: Placer::wide)
  u64 gwhole = 0;   // GPUs nobody uses
  u64 gshared = 0;  // GPUs used in part, with room left
  u32 mem = 0, lfs = 0;
  u32 allocs = 0;  // allocations that touch this node
  u16 fc = 0;      // free cores, the count
  u8 fg = 0;       // bits in gwhole
  u8 state = UP;
  u16 part = 0;   // partition, as an index
  i16 held = -1;  // key of the reservation that holds this node
  u16 ncores = 0;
  u8 ngpus = 0, domains = 1;
  u8 owned = 0;  // an exclusive tag lives here: Placer::owner
  u32 pos = 0;   // place in the thrifty order
};

// What nodes have when empty; nodes of equal totals share one.
struct Type {
  u32 cores, gpus, mem, lfs, part;
  std::vector<u32> named;
  u32 up = 0;  // nodes of this type that are up
};

struct Shape {
  u32 ranks = 1, cores = 0;
  u32 gpus = 0;   // whole GPUs a rank
  u32 share = 0;  // or a share of one GPU, 1..9999
  u32 mem = 0, lfs = 0, rpn = 0;
  i32 partition = -1;  // as the user numbers them
  i32 part = -1;       // as an index; -1 any, -2 there is no such partition
  bool exclusive = false;
  bool idle = false;  // belongs to an exclusive tag: wants nodes that are idle or already its own
  u8 numa = COMPACT;
  std::vector<std::pair<u32, u32>> named;  // (resource, amount)
  std::string missing;                     // a named resource no node has

  Mode mode = Mode::SINGLE;
  bool plain = false;        // cores and whole GPUs only: the buckets answer exactly
  u32 per = 1;               // ranks on one node: all of them (SINGLE, PACK) or the fixed number (FIXED)
  u32 full = 1, rem = 0;     // FIXED: nodes with `per` ranks, and ranks on one more node
  u32 tb = 0;                // threshold of `b`

  Bits a, b;             // nodes that may fit `per` ranks / `tb` ranks; a clear bit is certain
  u64 seen = 0;          // how much of the freed log a and b know
  bool fresh = true;     // a and b were never filled
  u64 topo = ~0ull;      // when possible and widest were computed
  bool possible = false;
  u32 widest = 0;        // most ranks an empty node could take
  u64 waiting = 0;
  u32 twin = NONE;       // the same request with idle = true
};

struct Alloc {
  u64 cores0 = 0, gpus = 0;
  u32 node = 0;
  u32 shape = 0;
  u32 gen = 0;     // odd while alive
  u32 extra = NONE;  // more than one rank, whole nodes, or an exclusive tag
};

struct RankSlot {
  u32 node;
  u64 gpus;
};

struct Extra {
  std::vector<RankSlot> ranks;
  std::vector<u64> words;    // core masks, `words` per rank
  std::vector<u32> nodes;    // each node once
  u64 owner = 0;             // the exclusive tag, 0 none
  void clear() {
    ranks.clear();
    words.clear();
    nodes.clear();
    owner = 0;
  }
};

struct Reservation {
  u32 cls = NONE;
  std::vector<u32> nodes;
};

struct Pick {
  u32 node, ranks;
};

}  // namespace jrm
