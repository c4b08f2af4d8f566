// Which cores and GPUs on a node; taking them, giving them back, and the state of nodes.
// Read placer_schedule.hpp next.
#pragma once
#include <algorithm>

#include "placer_core.hpp"

namespace jrm {

// Put the node into the bucket its state calls for.
inline void Core::place(u32 node) {
  const Node& x = nodes[node];
  u32 parts = static_cast<u32>(partitions.size());
  u32 table = NONE;
  if (x.state == UP && !x.owned) {
    table = x.part + parts * (x.held < 0 ? 0 : x.held == 0 ? 1 : 2);
    buckets.table(table).open(max_gpus, max_cores);
  }
  buckets.move(node, table, x.fg, x.fc);
}

// Everything on the node is free (again).
inline void Core::restore(u32 node) {
  Node& x = nodes[node];
  const Type& t = types[type_of[node]];
  x.cores0 = low_mask(t.cores);
  for (u32 w = 1; w < width; ++w)
    wide[std::size_t(node) * (width - 1) + w - 1] = range_mask(w, 0, t.cores);
  x.gwhole = low_mask(t.gpus);
  x.gshared = 0;
  x.fc = static_cast<u16>(t.cores);
  x.fg = static_cast<u8>(t.gpus);
  x.mem = t.mem;
  x.lfs = t.lfs;
  for (std::size_t r = 0; r < named_free.size(); ++r) named_free[r][node] = t.named[r];
  place(node);
}

// Nothing on the node is free: a task has it whole.
inline void Core::wipe(u32 node) {
  Node& x = nodes[node];
  x.cores0 = x.gwhole = x.gshared = 0;
  for (u32 w = 1; w < width; ++w) wide[std::size_t(node) * (width - 1) + w - 1] = 0;
  x.fc = x.fg = 0;
  x.mem = x.lfs = 0;
  for (auto& pool : named_free) pool[node] = 0;
}

// Choose GPUs for one rank, those in `prefer` first. A share goes to the fullest shared GPU it fits on.
inline u64 Core::pick_gpus(const Shape& s, u32 node, u64 prefer) {
  Node& x = nodes[node];
  if (s.gpus) {
    u32 near = std::min(s.gpus, bits_in(x.gwhole & prefer));
    u64 out = lowest(x.gwhole & prefer, near);
    out |= lowest(x.gwhole & ~out, s.gpus - near);
    x.gwhole &= ~out;
    x.fg = static_cast<u8>(x.fg - s.gpus);
    return out;
  }
  u16* room = &gfree[std::size_t(node) * max_gpus];
  for (u64 where : {prefer, u64(~0ull)}) {
    u32 best = NONE, left = WHOLE + 1;
    for (u64 m = x.gshared & where; m; m &= m - 1) {
      u32 g = lowest_index(m);
      if (room[g] >= s.share && room[g] < left) {
        best = g;
        left = room[g];
      }
    }
    if (best == NONE && (x.gwhole & where)) {
      best = lowest_index(x.gwhole & where);
      x.gwhole &= ~(1ull << best);
      --x.fg;
      room[best] = WHOLE;
      x.gshared |= 1ull << best;
    }
    if (best == NONE) continue;
    room[best] = static_cast<u16>(room[best] - s.share);
    if (!room[best]) x.gshared &= ~(1ull << best);
    return 1ull << best;
  }
  return 0;
}

// Choose and take the cores (or-ed into out) and GPUs of one rank, with NUMA domains in mind.
inline void Core::pick_slots(const Shape& s, u32 node, u64* out, u64& gpus) {
  Node& x = nodes[node];
  u64 words[8];
  words_of(node, words);
  u32 domains = x.domains, cpd = x.ncores / domains, gpd = x.ngpus / domains;
  auto cores_of = [&](u32 d) { return std::make_pair(d * cpd, d + 1 == domains ? u32(x.ncores) : (d + 1) * cpd); };
  auto gpus_of = [&](u32 d) {
    return range_mask(0, d * gpd, d + 1 == domains ? u32(x.ngpus) : (d + 1) * gpd);
  };
  bool wants_gpu = s.gpus || s.share;
  u64 prefer = ~0ull;
  if (s.numa == ANY) {
    take_range(words, 0, x.ncores, s.cores, out);
  } else if (s.numa == SPREAD) {
    for (u32 left = s.cores; left;)
      for (u32 d = 0; d < domains && left; ++d) {
        auto r = cores_of(d);
        if (!count_range(words, r.first, r.second)) continue;
        take_range(words, r.first, r.second, 1, out);
        --left;
      }
    if (s.gpus) {
      prefer = 0;
      u64 open = x.gwhole;
      for (u32 left = s.gpus; left;)
        for (u32 d = 0; d < domains && left; ++d)
          if (u64 m = open & gpus_of(d)) {
            prefer |= lowest(m, 1);
            open &= ~lowest(m, 1);
            --left;
          }
    }
  } else {
    u32 best = NONE, best_free = 0, best_gpus = 0;
    std::vector<std::pair<u32, u32>> by_free;  // (most free first, domain)
    for (u32 d = 0; d < domains; ++d) {
      auto r = cores_of(d);
      u32 free = count_range(words, r.first, r.second), near = 0;
      if (s.gpus) near = std::min(s.gpus, bits_in(x.gwhole & gpus_of(d)));
      if (s.share) {
        near = (x.gwhole & gpus_of(d)) ? 1 : 0;
        for (u64 m = x.gshared & gpus_of(d); m; m &= m - 1)
          if (gfree[std::size_t(node) * max_gpus + lowest_index(m)] >= s.share) near = 2;
      }
      if (free < s.cores) continue;
      if (best == NONE || near > best_gpus || (near == best_gpus && free < best_free)) {
        best = d;
        best_free = free;
        best_gpus = near;
      }
    }
    if (best != NONE) {
      auto r = cores_of(best);
      take_range(words, r.first, r.second, s.cores, out);
      prefer = gpus_of(best);
    } else {
      for (u32 d = 0; d < domains; ++d)
        by_free.emplace_back(~0u - count_range(words, cores_of(d).first, cores_of(d).second), d);
      std::sort(by_free.begin(), by_free.end());
      prefer = 0;
      u32 left = s.cores;
      for (auto& f : by_free) {
        if (!left) break;
        u32 m = std::min(left, ~0u - f.first);
        auto r = cores_of(f.second);
        take_range(words, r.first, r.second, m, out);
        prefer |= gpus_of(f.second);
        left -= m;
      }
    }
  }
  x.cores0 = words[0];
  for (u32 w = 1; w < width; ++w) wide[std::size_t(node) * (width - 1) + w - 1] = words[w];
  x.fc = static_cast<u16>(x.fc - s.cores);
  if (wants_gpu) gpus = pick_gpus(s, node, prefer);
}

// Take one rank's share of the node; out is zeroed by the caller. The bucket is not moved.
inline void Core::take_slots(const Shape& s, u32 node, u64* out, u64& gpus) {
  Node& x = nodes[node];
  if (width == 1 && (x.domains == 1 || s.numa == ANY)) {
    out[0] = lowest(x.cores0, s.cores);
    x.cores0 &= ~out[0];
    x.fc = static_cast<u16>(x.fc - s.cores);
    if (s.gpus || s.share) gpus = pick_gpus(s, node, ~0ull);
  } else {
    pick_slots(s, node, out, gpus);
  }
  if (s.plain) return;
  x.mem -= s.mem;
  x.lfs -= s.lfs;
  for (auto& p : s.named) named_free[p.first][node] -= p.second;
}

inline u32 Core::new_alloc(u32 shape) {
  u32 at;
  if (free_allocs.empty()) {
    at = static_cast<u32>(allocs.size());
    allocs.emplace_back();
    allocs_wide.resize(allocs.size() * (width - 1));
  } else {
    at = free_allocs.back();
    free_allocs.pop_back();
  }
  Alloc& a = allocs[at];
  ++a.gen;
  a.shape = shape;
  a.extra = NONE;
  a.cores0 = a.gpus = 0;
  ++running;
  return at;
}

// One rank on one node, nothing special: the hot path.
inline u64 Core::commit_one(const Class& c, const Shape& s, u32 node) {
  u32 at = new_alloc(c.search);
  Alloc& a = allocs[at];
  a.node = node;
  ++nodes[node].allocs;
  if (width == 1) {
    take_slots(s, node, &a.cores0, a.gpus);
  } else {
    u64 out[8] = {};
    take_slots(s, node, out, a.gpus);
    a.cores0 = out[0];
    std::copy(out + 1, out + width, &allocs_wide[std::size_t(at) * (width - 1)]);
  }
  return static_cast<u64>(a.gen) << 32 | at;
}

// The general case: any number of ranks on `picks`.
inline u64 Core::commit(const Class& c, const Shape& s) {
  u32 at = new_alloc(c.search);
  Alloc& a = allocs[at];
  a.node = picks[0].node;
  if (free_extras.empty()) {
    a.extra = static_cast<u32>(extras.size());
    extras.emplace_back();
  } else {
    a.extra = free_extras.back();
    free_extras.pop_back();
  }
  Extra& e = extras[a.extra];
  e.words.assign(std::size_t(s.ranks) * width, 0);
  e.owner = c.excl ? c.tag : 0;
  for (const Pick& p : picks) {
    Node& x = nodes[p.node];
    e.nodes.push_back(p.node);
    ++x.allocs;
    for (u32 r = 0; r < p.ranks; ++r) {
      e.ranks.push_back({p.node, 0});
      take_slots(s, p.node, &e.words[(e.ranks.size() - 1) * width], e.ranks.back().gpus);
    }
    if (s.exclusive) wipe(p.node);
    if (e.owner) {
      x.owned = 1;
      owner[p.node] = e.owner;
      ++owners[p.node];
    }
    place(p.node);
  }
  return static_cast<u64>(a.gen) << 32 | at;
}

inline void Core::free_slots(const Shape& s, u32 node, const u64* words, u64 gpus) {
  Node& x = nodes[node];
  x.cores0 |= words[0];
  for (u32 w = 1; w < width; ++w) wide[std::size_t(node) * (width - 1) + w - 1] |= words[w];
  x.fc = static_cast<u16>(x.fc + s.cores);
  if (s.gpus) {
    x.gwhole |= gpus;
    x.fg = static_cast<u8>(x.fg + s.gpus);
  } else if (s.share) {
    u16& room = gfree[std::size_t(node) * max_gpus + lowest_index(gpus)];
    room = static_cast<u16>(room + s.share);
    if (room == WHOLE) {
      x.gshared &= ~gpus;
      x.gwhole |= gpus;
      ++x.fg;
    } else {
      x.gshared |= gpus;
    }
  }
  if (s.plain) return;
  x.mem += s.mem;
  x.lfs += s.lfs;
  for (auto& p : s.named) named_free[p.first][node] += p.second;
}

inline u64* Core::alloc_words(u32 at, u64* scratch) {
  scratch[0] = allocs[at].cores0;
  for (u32 w = 1; w < width; ++w) scratch[w] = allocs_wide[std::size_t(at) * (width - 1) + w - 1];
  return scratch;
}

inline void Core::give_back(u32 at) {
  Alloc& a = allocs[at];
  const Shape& s = shapes[a.shape];
  if (a.extra == NONE) {
    u64 words[8];
    free_slots(s, a.node, alloc_words(at, words), a.gpus);
    --nodes[a.node].allocs;
    place(a.node);
    freed(a.node);
  } else {
    Extra& e = extras[a.extra];
    if (!s.exclusive)
      for (std::size_t r = 0; r < e.ranks.size(); ++r)
        free_slots(s, e.ranks[r].node, &e.words[r * width], e.ranks[r].gpus);
    for (u32 node : e.nodes) {
      --nodes[node].allocs;
      if (e.owner && !--owners[node]) {
        owner[node] = 0;
        nodes[node].owned = 0;
        ++reserved_version;
      }
      if (s.exclusive)
        restore(node);
      else
        place(node);
      freed(node);
    }
    e.clear();
    free_extras.push_back(a.extra);
  }
  free_allocs.push_back(at);
  --running;
}

inline void Core::release(const u64* ids, std::size_t count) {
  constexpr std::size_t AHEAD = 12;
  auto at_of = [&](u64 id) { return static_cast<u32>(id); };
  for (std::size_t i = 0; i < count; ++i) {
    if (i + AHEAD < count && at_of(ids[i + AHEAD]) < allocs.size()) __builtin_prefetch(&allocs[at_of(ids[i + AHEAD])], 1);
    u32 at = at_of(ids[i]);
    if (at < allocs.size() && allocs[at].gen == ids[i] >> 32 && (allocs[at].gen & 1)) {
      ++allocs[at].gen;
      __builtin_prefetch(&nodes[allocs[at].node], 1);
      buckets.prefetch(allocs[at].node);
      continue;
    }
    for (std::size_t j = 0; j < i; ++j) --allocs[at_of(ids[j])].gen;
    throw std::invalid_argument("allocation " + std::to_string(ids[i]) + " is unknown or already released");
  }
  for (std::size_t i = 0; i < count; ++i) give_back(at_of(ids[i]));
}

inline const Alloc& Core::alloc(u64 id) const {
  u32 at = static_cast<u32>(id);
  if (at >= allocs.size() || allocs[at].gen != id >> 32 || !(allocs[at].gen & 1))
    throw std::invalid_argument("allocation " + std::to_string(id) + " is unknown or already released");
  return allocs[at];
}

inline std::vector<u64> Core::node_state(u32 node, u8 state) {
  if (node >= n) throw std::invalid_argument("there is no node " + std::to_string(node));
  Node& x = nodes[node];
  std::vector<u64> touched;
  if (x.state != state) {
    Type& t = types[type_of[node]];
    t.up -= x.state == UP;
    t.up += state == UP;
    bool changed = (x.state == UP) != (state == UP);
    x.state = state;
    if (changed) {
      ++topo;
      ++reserved_version;
      if (x.held >= 0) dissolve(static_cast<u32>(x.held));
      if (state != UP)  // a tag whose node is gone finds itself a new home
        for (auto it = tags.begin(); it != tags.end();)
          it = std::count(it->second.begin(), it->second.end(), node) ? tags.erase(it) : std::next(it);
      place(node);
      freed(node);
      repark();
    }
  }
  if (state == DOWN)
    for (u32 at = 0; at < allocs.size(); ++at) {
      const Alloc& a = allocs[at];
      if (!(a.gen & 1)) continue;
      bool here = a.node == node;
      if (a.extra != NONE) {
        const auto& list = extras[a.extra].nodes;
        here = std::count(list.begin(), list.end(), node) > 0;
      }
      if (here) touched.push_back(static_cast<u64>(a.gen) << 32 | at);
    }
  return touched;
}

}  // namespace jrm
