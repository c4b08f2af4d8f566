// Which nodes: fills `picks`, changes nothing else but the per-shape bitmaps (which only remember "does not fit").
// Read placer_slots.hpp next.
#pragma once
#include <algorithm>

#include "placer_core.hpp"

namespace jrm {

// Do t ranks fit on this node now? Reservations are not looked at.
inline bool Core::fits(const Shape& s, u32 node, u64 t, u64 tag) const {
  const Node& x = nodes[node];
  if (x.fc < s.cores * t || x.fg < s.gpus * t || x.state != UP || x.mem < s.mem * t || x.lfs < s.lfs * t) return false;
  return k_now(s, node, tag) >= t;
}

inline bool Core::may_use(const Class& c, u32 key) const {
  u32 by = reservations[key].cls;
  return c.holds == static_cast<i32>(key) || c.prio > classes[by].prio;
}

inline bool Core::allowed(const Class& c, u32 node) const {
  i16 held = nodes[node].held;
  return held < 0 || may_use(c, static_cast<u32>(held));
}

// The nodes a class must pass over; nullptr when it has to be asked node by node (or nothing is reserved).
inline const Bits* Core::barred(const Class& c) const {
  if (!reserved_nodes) return nullptr;
  for (u32 key = 0; key < reservations.size(); ++key)
    if (reservations[key].cls != NONE && may_use(c, key)) return nullptr;
  return &held_pos;
}

// Bring the shape's bitmaps up to date with what became free since it was last looked at.
inline void Core::sync(Shape& s) {
  if (s.fresh || log_end - s.seen > log.size()) {
    s.a.fill(n);
    if (s.tb) s.b.fill(n);
    s.fresh = false;
  } else {
    for (u64 i = s.seen; i < log_end; ++i) {
      u32 node = log[i & (log.size() - 1)];
      if (fits(s, node, s.per, 0)) s.a.set(nodes[node].pos);
      if (s.tb && fits(s, node, s.tb, 0)) s.b.set(nodes[node].pos);
    }
  }
  s.seen = log_end;
}

template <class F>
void Core::tables(const Class& c, const Shape& s, F f) const {
  u32 parts = static_cast<u32>(partitions.size());
  u32 lo = s.part < 0 ? 0 : u32(s.part), hi = s.part < 0 ? parts : lo + 1;
  for (u32 p = lo; p < hi; ++p) f(p);
  if (!reserved_nodes) return;
  if (reservations[0].cls != NONE && may_use(c, 0))
    for (u32 p = lo; p < hi; ++p)
      if (buckets.table(parts + p).is_open()) f(parts + p);
  for (u32 p = lo; p < hi; ++p)
    if (reservations[p + 1].cls != NONE && may_use(c, p + 1) && buckets.table(2 * parts + p).is_open()) f(2 * parts + p);
}

inline u32 Core::find_plain(const Class& c, const Shape& s, u64 t) const {
  u64 cores = s.cores * t, gpus = s.gpus * t;
  if (cores > max_cores || gpus > max_gpus) return NONE;
  if (!reserved_nodes && partitions.size() == 1) return buckets.table(0).find(u32(gpus), u32(cores)).node;
  Found best;
  tables(c, s, [&](u32 table) {
    Found f = buckets.table(table).find(u32(gpus), u32(cores));
    if (f.node != NONE && (f.row < best.row || (f.row == best.row && f.col < best.col))) best = f;
  });
  return best.node;
}

inline u32 Core::find_rich(const Class& c, Shape& s) {
  u32 found = NONE;
  s.a.each(barred(c), [&](u32 pos) {
    u32 node = order[pos];
    if (!fits(s, node, s.per, 0)) {
      s.a.clear(pos);
      return false;
    }
    if (!allowed(c, node)) return false;
    found = node;
    return true;
  });
  return found;
}

// The nodes of the class's tag, when the tag has some and they could ever hold the task.
inline const std::vector<u32>* Core::bound(Class& c, Shape& s) {
  if (!c.tag) return nullptr;
  auto at = tags.find(c.tag);
  if (at == tags.end()) return nullptr;
  std::vector<std::pair<u64, u64>> empty;
  for (u32 node : at->second) empty.emplace_back(k_type(s, types[type_of[node]]), 1);
  return enough(s, empty) ? &at->second : nullptr;
}

inline bool Core::search(Class& c, Shape& s) {
  picks.clear();
  if (const auto* list = bound(c, s)) return search_bound(c, s, *list);
  if (!s.plain) sync(s);
  if (s.mode == Mode::FIXED) return s.plain ? fixed_plain(c, s) : fixed_rich(c, s);
  u32 node = NONE;
  if (s.per <= s.widest) node = s.plain ? find_plain(c, s, s.per) : find_rich(c, s);
  if (node != NONE) {
    picks.push_back({node, s.per});
    return true;
  }
  if (s.mode == Mode::SINGLE) return false;
  return s.plain ? pack_plain(c, s) : pack_rich(c, s);
}

// Use the nodes that take most ranks first; ks is (2^32 - ranks, place in the order), so that sorting does it.
inline bool Core::pack(std::vector<std::pair<u64, u32>>& ks, const Shape& s) {
  std::sort(ks.begin(), ks.end());
  u64 left = s.ranks;
  for (auto& x : ks) {
    u64 k = std::min<u64>(left, (1ull << 32) - x.first);
    picks.push_back({x.second, static_cast<u32>(k)});
    if (!(left -= k)) return true;
  }
  picks.clear();
  return false;
}

inline bool Core::search_bound(Class& c, Shape& s, const std::vector<u32>& list) {
  if (s.mode == Mode::FIXED) {
    for (u32 node : list)
      if (picks.size() < s.full && allowed(c, node) && fits(s, node, s.per, c.tag)) picks.push_back({node, s.per});
    bool ok = picks.size() == s.full;
    if (ok && s.rem) {
      ok = false;
      for (u32 node : list) {
        bool used = std::any_of(picks.begin(), picks.end(), [&](const Pick& p) { return p.node == node; });
        if (used || !allowed(c, node) || !fits(s, node, s.rem, c.tag)) continue;
        picks.push_back({node, s.rem});
        ok = true;
        break;
      }
    }
    if (!ok) picks.clear();
    return ok;
  }
  for (u32 node : list)
    if (allowed(c, node) && fits(s, node, s.per, c.tag)) {
      picks.push_back({node, s.per});
      return true;
    }
  if (s.mode == Mode::SINGLE) return false;
  ks.clear();
  u64 sum = 0;
  for (u32 i = 0; i < list.size(); ++i)
    if (allowed(c, list[i]))
      if (u64 k = std::min<u64>(s.ranks, k_now(s, list[i], c.tag))) {
        ks.emplace_back((1ull << 32) - k, i);
        sum += k;
      }
  if (sum < s.ranks || !pack(ks, s)) return false;
  for (Pick& p : picks) p.node = list[p.node];
  return true;
}

inline bool Core::pack_plain(const Class& c, const Shape& s) {
  struct Bucket {
    u64 k;
    u32 row, col, table, first;
  };
  std::vector<Bucket> found;
  u64 sum = 0;
  tables(c, s, [&](u32 table) {
    buckets.table(table).each(s.gpus, s.cores, [&](u32 row, u32 col, u32 nodes_in, u32 first) {
      u64 k = s.ranks;
      if (s.cores) k = std::min<u64>(k, col / s.cores);
      if (s.gpus) k = std::min<u64>(k, row / s.gpus);
      sum += k * nodes_in;
      found.push_back({k, row, col, table, first});
    });
  });
  if (sum < s.ranks) return false;
  std::sort(found.begin(), found.end(), [](const Bucket& x, const Bucket& y) {
    return std::make_tuple(y.k, x.row, x.col, x.table) < std::make_tuple(x.k, y.row, y.col, y.table);
  });
  u64 left = s.ranks;
  for (auto& b : found)
    for (u32 node = b.first; node != NONE; node = buckets.next(node)) {
      u64 k = std::min(left, b.k);
      picks.push_back({node, static_cast<u32>(k)});
      if (!(left -= k)) return true;
    }
  return false;
}

inline bool Core::fixed_plain(const Class& c, const Shape& s) {
  ++mark_now;
  auto gather = [&](u64 t, std::size_t want) {
    struct Bucket {
      u32 row, col, table, first;
    };
    std::vector<Bucket> found;
    u64 have = 0;
    if (s.cores * t > max_cores || s.gpus * t > max_gpus) return false;
    tables(c, s, [&](u32 table) {
      buckets.table(table).each(u32(s.gpus * t), u32(s.cores * t), [&](u32 row, u32 col, u32 nodes_in, u32 first) {
        have += nodes_in;
        found.push_back({row, col, table, first});
      });
    });
    if (picks.size() + have < want) return false;
    std::sort(found.begin(), found.end(), [](const Bucket& x, const Bucket& y) {
      return std::make_tuple(x.row, x.col, x.table) < std::make_tuple(y.row, y.col, y.table);
    });
    for (auto& b : found)
      for (u32 node = b.first; node != NONE && picks.size() < want; node = buckets.next(node)) {
        if (mark[node] == mark_now) continue;
        mark[node] = mark_now;
        picks.push_back({node, static_cast<u32>(t)});
      }
    return picks.size() == want;
  };
  if (gather(s.per, s.full) && (!s.rem || gather(s.rem, s.full + 1))) return true;
  picks.clear();
  return false;
}

inline bool Core::pack_rich(const Class& c, Shape& s) {
  ks.clear();
  u64 sum = 0;
  s.b.each(barred(c), [&](u32 pos) {
    u32 node = order[pos];
    u64 k = std::min<u64>(k_now(s, node, 0), s.ranks);
    if (!k) {
      s.b.clear(pos);
      return false;
    }
    if (!allowed(c, node)) return false;
    ks.emplace_back((1ull << 32) - k, pos);
    sum += k;
    return sum >= s.ranks && ks.size() >= CHOICE;
  });
  if (sum < s.ranks || !pack(ks, s)) return false;
  for (Pick& p : picks) p.node = order[p.node];
  return true;
}

inline bool Core::fixed_rich(const Class& c, Shape& s) {
  ++mark_now;
  auto gather = [&](Bits& bits, u32 t, std::size_t want) {
    return bits.each(barred(c), [&](u32 pos) {
      u32 node = order[pos];
      if (!fits(s, node, t, 0)) {
        bits.clear(pos);
        return false;
      }
      if (mark[node] == mark_now || !allowed(c, node)) return false;
      mark[node] = mark_now;
      picks.push_back({node, t});
      return picks.size() == want;
    });
  };
  if (gather(s.a, s.per, s.full) && (!s.rem || gather(s.b, s.rem, s.full + 1))) return true;
  picks.clear();
  return false;
}

}  // namespace jrm
