// Interning requests, and counting how many such tasks nodes can hold.
// Knows totals and free counts, never a mask.  Read placer_search.hpp next.
#pragma once
#include <algorithm>

#include "placer_core.hpp"

namespace jrm {

inline u32 Core::shape(const Request& r) {
  auto refuse = [](const std::string& why) { throw std::invalid_argument(why); };
  if (r.ranks < 1 || r.ranks > 1u << 24) refuse("ranks must be 1 to 16777216, not " + std::to_string(r.ranks));
  if (r.gpus > WHOLE && r.gpus % WHOLE)
    refuse("more than one GPU must be whole GPUs (multiples of 10000), not " + std::to_string(r.gpus));
  Shape s;
  s.ranks = r.ranks;
  s.cores = r.cores;
  s.gpus = r.gpus / WHOLE;
  s.share = r.gpus % WHOLE;
  s.mem = r.mem;
  s.lfs = r.lfs;
  s.rpn = std::min(r.rpn, r.ranks);
  s.partition = r.partition < 0 ? -1 : r.partition;
  s.exclusive = r.exclusive;
  s.numa = r.numa;
  std::string key;
  for (u32 v : {s.ranks, s.cores, r.gpus, s.mem, s.lfs, s.rpn, static_cast<u32>(s.partition),
                static_cast<u32>(s.exclusive), static_cast<u32>(s.numa)})
    key += std::to_string(v) + ",";
  for (auto& x : r.named) {
    if (!x.second) continue;
    key += std::to_string(x.first.size()) + ":" + x.first + "=" + std::to_string(x.second) + ",";
    auto at = std::find(names.begin(), names.end(), x.first);
    if (at == names.end()) {
      if (s.missing.empty()) s.missing = x.first;
    } else {
      s.named.emplace_back(static_cast<u32>(at - names.begin()), x.second);
    }
  }
  if (!s.cores && !r.gpus && !s.mem && !s.lfs && s.named.empty() && s.missing.empty() && !s.exclusive)
    refuse("a task must ask for something: cores, GPUs, memory, local disk, a named resource or a whole node");
  auto it = shape_ids.emplace(key, static_cast<u32>(shapes.size()));
  if (!it.second) return it.first->second;
  derive(s);
  shapes.push_back(std::move(s));
  classes_of.emplace_back();
  return it.first->second;
}

inline void Core::derive(Shape& s) {
  if (s.partition >= 0) {
    auto at = std::find(partitions.begin(), partitions.end(), s.partition);
    s.part = at == partitions.end() ? -2 : static_cast<i32>(at - partitions.begin());
  }
  s.plain = !s.share && !s.mem && !s.lfs && s.named.empty() && !s.exclusive && !s.idle;
  s.tb = 0;
  if (s.rpn == 0) {
    s.mode = s.ranks == 1 ? Mode::SINGLE : Mode::PACK;
    s.per = s.ranks;
    s.tb = s.mode == Mode::PACK ? 1 : 0;
  } else if (s.ranks <= s.rpn) {
    s.mode = Mode::SINGLE;
    s.per = s.ranks;
  } else {
    s.mode = Mode::FIXED;
    s.per = s.rpn;
    s.full = s.ranks / s.rpn;
    s.rem = s.tb = s.ranks % s.rpn;
  }
  if (s.exclusive) s.idle = false;  // a whole node is idle anyway
}

// How many ranks an empty node of this type holds.
inline u64 Core::k_type(const Shape& s, const Type& t) const {
  if (s.part == -2 || (s.part >= 0 && u32(s.part) != t.part) || !s.missing.empty()) return 0;
  u64 k = 1u << 30;
  if (s.cores) k = std::min<u64>(k, t.cores / s.cores);
  if (s.gpus) k = std::min<u64>(k, t.gpus / s.gpus);
  if (s.share) k = std::min<u64>(k, u64(t.gpus) * (WHOLE / s.share));
  if (s.mem) k = std::min<u64>(k, t.mem / s.mem);
  if (s.lfs) k = std::min<u64>(k, t.lfs / s.lfs);
  for (auto& x : s.named) k = std::min<u64>(k, t.named[x.first] / x.second);
  return k;
}

// How many ranks the node holds now. Reservations are not looked at.
inline u64 Core::k_now(const Shape& s, u32 node, u64 tag) const {
  const Node& x = nodes[node];
  if (x.state != UP || s.part == -2 || (s.part >= 0 && u32(s.part) != x.part) || !s.missing.empty()) return 0;
  if (x.owned && owner[node] != tag) return 0;
  if (x.allocs && (s.exclusive || (s.idle && !x.owned))) return 0;
  u64 k = 1u << 30;
  if (s.cores) k = std::min<u64>(k, x.fc / s.cores);
  if (s.gpus) k = std::min<u64>(k, x.fg / s.gpus);
  if (s.share) {
    u64 room = u64(x.fg) * (WHOLE / s.share);
    for (u64 m = x.gshared; m; m &= m - 1) room += gfree[std::size_t(node) * max_gpus + lowest_index(m)] / s.share;
    k = std::min(k, room);
  }
  if (s.mem) k = std::min<u64>(k, x.mem / s.mem);
  if (s.lfs) k = std::min<u64>(k, x.lfs / s.lfs);
  for (auto& p : s.named) k = std::min<u64>(k, named_free[p.first][node] / p.second);
  return k;
}

// Does one such task fit, given (ranks a node holds, number of such nodes)?
inline bool Core::enough(const Shape& s, const std::vector<std::pair<u64, u64>>& ks) const {
  u64 total = 0, with_per = 0, with_rem = 0;
  for (auto& x : ks) {
    total += x.first * x.second;
    if (x.first >= s.per) with_per += x.second;
    if (x.first >= std::max(1u, s.rem)) with_rem += x.second;
  }
  if (s.mode == Mode::SINGLE) return with_per > 0;
  if (s.mode == Mode::PACK) return total >= s.ranks;
  return with_per >= s.full && (!s.rem || with_rem >= s.full + 1);
}

// How many such tasks fit. Exact, but for a remainder under ranks_per_node (counted as a full node) and for
// whole nodes of different sizes (filled from the largest down): there it may be low, never too high.
inline u64 Core::count(const Shape& s, std::vector<std::pair<u64, u64>>& ks) const {
  u64 one = enough(s, ks) ? 1 : 0;
  if (!one) return 0;
  u64 total = 0;
  if (s.mode == Mode::SINGLE || s.mode == Mode::FIXED) {
    for (auto& x : ks) {
      x.first /= s.per;
      if (s.exclusive || s.idle) x.first = std::min<u64>(x.first, 1);
      total += x.first * x.second;
    }
    if (s.mode == Mode::SINGLE) return total;
    u64 need = s.full + (s.rem ? 1 : 0);
    u64 lo = one, hi = std::max(one, total / need);  // at most T nodes' worth per node: a task's nodes are distinct
    while (lo < hi) {
      u64 mid = (lo + hi + 1) / 2, sum = 0;
      for (auto& x : ks) sum += std::min(x.first, mid) * x.second;
      if (sum >= mid * need)
        lo = mid;
      else
        hi = mid - 1;
    }
    return lo;
  }
  if (!s.exclusive && !s.idle) {
    for (auto& x : ks) total += x.first * x.second;
    return total / s.ranks;
  }
  std::sort(ks.rbegin(), ks.rend());
  u64 tasks = 0, have = 0;
  for (auto& x : ks)
    for (u64 left = x.second; left && x.first;) {
      u64 more = (s.ranks - have + x.first - 1) / x.first;
      if (more > left) {
        have += left * x.first;
        break;
      }
      left -= more;
      ++tasks;
      have = 0;
    }
  return std::max(tasks, one);
}

inline bool Core::possible(Shape& s) {
  if (s.topo == topo) return s.possible;
  std::vector<std::pair<u64, u64>> ks;
  s.widest = 0;
  for (auto& t : types) {
    if (!t.up) continue;
    u64 k = k_type(s, t);
    s.widest = std::max(s.widest, static_cast<u32>(std::min<u64>(k, s.ranks)));
    ks.emplace_back(k, t.up);
  }
  s.possible = enough(s, ks);
  s.topo = topo;
  return s.possible;
}

inline u64 Core::capacity(u32 shape) {
  Shape& s = checked(shape);
  std::vector<std::pair<u64, u64>> ks;
  for (auto& t : types)
    if (t.up) ks.emplace_back(k_type(s, t), t.up);
  return count(s, ks);
}

inline u64 Core::fits_now(u32 shape) {
  Shape& s = checked(shape);
  std::vector<std::pair<u64, u64>> ks;
  for (u32 i = 0; i < n; ++i)
    if (nodes[i].held < 0)
      if (u64 k = k_now(s, i, 0)) ks.emplace_back(k, 1);
  return count(s, ks);
}

}  // namespace jrm
