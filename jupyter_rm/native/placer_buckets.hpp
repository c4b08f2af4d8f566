// Free-capacity buckets: nodes in lists by (free whole GPUs, free cores), one table per partition.
// A request for cores and whole GPUs finds its best fit in a few word operations, however many nodes there are.
// Within a bucket the node that came last is found first: it is the one still in the cache.
// Knows counts only.  Read placer_search.hpp next.
#pragma once
#include <vector>

#include "placer_bits.hpp"

namespace jrm {

struct Found {
  u32 row = NONE, col = 0, node = NONE;
};

class Table {
 public:
  void open(u32 gpus, u32 cores) {
    if (!head_.empty()) return;
    rows_ = gpus + 1;
    cols_ = cores + 1;
    words_ = (cols_ + 63) / 64;
    head_.assign(static_cast<std::size_t>(rows_) * cols_, NONE);
    count_.assign(head_.size(), 0);
    bits_.assign(static_cast<std::size_t>(rows_) * words_, 0);
  }
  bool is_open() const { return !head_.empty(); }

  // The fewest free GPUs, then the fewest free cores, that satisfy the need.
  Found find(u32 gpus, u32 cores) const {
    Found f;
    if (cores >= cols_) return f;
    u32 w0 = cores / 64;
    u64 first = ~low_mask(cores % 64);
    for (u32 r = gpus; r < rows_; ++r) {
      const u64* b = &bits_[static_cast<std::size_t>(r) * words_];
      u64 m = b[w0] & first;
      for (u32 w = w0;;) {
        if (m) {
          f.row = r;
          f.col = w * 64 + lowest_index(m);
          f.node = head_[static_cast<std::size_t>(r) * cols_ + f.col];
          return f;
        }
        if (++w >= words_) break;
        m = b[w];
      }
    }
    return f;
  }

  // f(row, col, count, first node) for every bucket in use with enough of both, best fit first.
  template <class F>
  void each(u32 gpus, u32 cores, F f) const {
    for (u32 r = gpus; r < rows_; ++r)
      for (u32 w = cores / 64; w < words_; ++w)
        for (u64 m = bits_[static_cast<std::size_t>(r) * words_ + w]; m; m &= m - 1) {
          u32 c = w * 64 + lowest_index(m);
          std::size_t at = static_cast<std::size_t>(r) * cols_ + c;
          if (c >= cores) f(r, c, count_[at], head_[at]);
        }
  }

  friend class Buckets;

 private:
  u32 rows_ = 0, cols_ = 0, words_ = 0;
  std::vector<u32> head_, count_;
  std::vector<u64> bits_;
};

class Buckets {
 public:
  void open(u32 nodes, u32 tables) {
    links_.assign(nodes, Link{});
    tables_.resize(tables);
  }
  Table& table(u32 t) { return tables_[t]; }
  const Table& table(u32 t) const { return tables_[t]; }
  u32 next(u32 node) const { return links_[node].next; }
  void prefetch(u32 node) const { __builtin_prefetch(&links_[node], 1); }

  // Put the node where its free counts say; a node with nothing free stands in no bucket. table NONE: nowhere.
  void move(u32 node, u32 table, u32 gpus, u32 cores) {
    Link& p = links_[node];
    if (!gpus && !cores) table = NONE;
    u32 at = table == NONE ? 0 : gpus * tables_[table].cols_ + cores;
    if (p.table == table && p.at == at) return;
    if (p.table != NONE) unlink(p);
    p.table = table;
    p.at = at;
    if (table == NONE) return;
    Table& t = tables_[table];
    u32 old = t.head_[at];
    p.prev = NONE;
    p.next = old;
    if (old != NONE)
      links_[old].prev = node;
    else
      t.bits_[gpus * t.words_ + cores / 64] |= 1ull << (cores % 64);
    t.head_[at] = node;
    ++t.count_[at];
  }

 private:
  struct Link {
    u32 prev = NONE, next = NONE, table = NONE, at = 0;
  };

  void unlink(const Link& p) {
    Table& t = tables_[p.table];
    if (p.next != NONE) links_[p.next].prev = p.prev;
    if (p.prev != NONE) {
      links_[p.prev].next = p.next;
    } else {
      t.head_[p.at] = p.next;
      if (p.next == NONE) {
        u32 row = p.at / t.cols_, col = p.at % t.cols_;
        t.bits_[row * t.words_ + col / 64] &= ~(1ull << (col % 64));
      }
    }
    --t.count_[p.at];
  }

  std::vector<Link> links_;
  std::vector<Table> tables_;
};

}  // namespace jrm
