// The waiting classes, the pass over them, and reservations.
//
// A pass goes through classes by priority, then by the order of add() calls, and places as much of each as fits; a
// class that does not fit is stepped over (at most `lookahead` of them), so nothing idles for order's sake.
// What is stepped over could starve: when a class has found no place for `patience` seconds while others of its
// priority or below were started, the nodes nearest to free for it are reserved. Only classes of higher priority
// may still start there. Tasks of length <= L end, so it starts within patience + L (for the highest priority).
// Read placer_explain.hpp next.
#pragma once
#include <algorithm>

#include "placer_core.hpp"

namespace jrm {

inline u32 Core::class_of(u32 shape, i32 prio, u64 tag, bool excl) {
  if (shapes[shape].exclusive) excl = false;  // nobody else is on its nodes anyway
  auto it = class_ids.emplace(ClassKey{tag, shape, prio, excl}, NONE);
  if (!it.second) return it.first->second;
  u32 cls;
  if (free_classes.empty()) {
    cls = static_cast<u32>(classes.size());
    classes.emplace_back();
  } else {
    cls = free_classes.back();
    free_classes.pop_back();
    classes[cls] = Class{};
  }
  it.first->second = cls;
  u32 search = shape;
  if (excl) {
    if (shapes[shape].twin == NONE) {
      Shape twin = shapes[shape];
      twin.idle = true;
      twin.topo = ~0ull;
      twin.waiting = 0;
      twin.fresh = true;
      derive(twin);
      shapes[shape].twin = static_cast<u32>(shapes.size());
      shapes.push_back(std::move(twin));
      classes_of.emplace_back();
    }
    search = shapes[shape].twin;
  }
  Class& c = classes[cls];
  c.shape = shape;
  c.search = search;
  c.prio = prio;
  c.tag = tag;
  c.excl = excl;
  c.level = &levels[prio];
  if (!tag) classes_of[shape].push_back(cls);
  return cls;
}

// A class got its first tokens.
inline void Core::joined(u32 cls) {
  Class& c = classes[cls];
  if (!possible(shapes[c.search])) {
    c.seat = Seat::PARKED;
    return;
  }
  ++c.level->classes;
  enter(cls);
}

// A new turn for the class, by its present head; the one it had before is stale.
inline Turn Core::turn_of(u32 cls) {
  Class& c = classes[cls];
  c.settle();
  c.turn = ++next_turn;
  return {c.prio, cls, c.seq(), c.turn};
}

// Give the class its turn in the heap.
inline void Core::enter(u32 cls) {
  classes[cls].seat = Seat::HEAP;
  heap.push(turn_of(cls));
  if (heap.size() > 2 * classes.size() + 64) {  // many stale turns
    heap.keep([&](const Turn& t) { return classes[t.cls].seat == Seat::HEAP && classes[t.cls].turn == t.id; });
  }
}

// A class lost its last token.
inline void Core::emptied(u32 cls) {
  Class& c = classes[cls];
  if (c.seat != Seat::PARKED) --c.level->classes;
  c.seat = Seat::OUT;
  c.settle();
  c.blocked = false;
  c.failed_at = ~0ull;
  if (c.holds >= 0) dissolve(static_cast<u32>(c.holds));
  if (c.tag) {
    class_ids.erase(ClassKey{c.tag, c.shape, c.prio, c.excl});
    free_classes.push_back(cls);
  }
}

// The set of nodes that are up has changed: what can never fit is parked, what can comes back.
inline void Core::repark() {
  for (u32 cls = 0; cls < classes.size(); ++cls) {
    Class& c = classes[cls];
    if (!c.live) continue;
    bool ok = possible(shapes[c.search]);
    if (ok && c.seat == Seat::PARKED) {
      ++c.level->classes;
      enter(cls);
    } else if (!ok && c.seat == Seat::HEAP) {
      --c.level->classes;
      c.seat = Seat::PARKED;
      c.blocked = false;
    }
  }
  for (u32 key = 0; key < reservations.size(); ++key)
    if (reservations[key].cls != NONE && classes[reservations[key].cls].seat == Seat::PARKED) dissolve(key);
}

inline void Core::add(u32 shape, const u64* tokens, std::size_t count, i32 prio, u64 tag, bool excl) {
  checked(shape);
  if (excl && !tag) throw std::invalid_argument("exclusive_tag needs a tag");
  for (std::size_t i = 0; i < count; ++i)
    if (tokens[i] == DEAD) throw std::invalid_argument("2^64-1 is not a token");
  if (!count) return;
  u32 cls = class_of(shape, prio, tag, excl);
  Class& c = classes[cls];
  if (index.built()) {
    if (index.tired(count)) {
      index.drop();
    } else {
      index.put(tokens, count, {cls, c.base + static_cast<i64>(c.buf.size())});
    }
  }
  bool first = !c.live;
  c.push(tokens, count, next_seq++);
  waiting += count;
  shapes[shape].waiting += count;
  if (first) joined(cls);
}

inline void Core::put_back(u32 shape, const u64* tokens, std::size_t count, i32 prio) {
  checked(shape);
  for (std::size_t i = 0; i < count; ++i)
    if (tokens[i] == DEAD) throw std::invalid_argument("2^64-1 is not a token");
  if (!count) return;
  u32 cls = class_of(shape, prio, 0, false);
  Class& c = classes[cls];
  bool first = !c.live;
  if (!first) c.settle();
  c.push_front(tokens, count, --front_seq);
  if (index.built()) index.put(tokens, count, {cls, c.at()});
  waiting += count;
  shapes[shape].waiting += count;
  if (first)
    joined(cls);
  else if (c.seat == Seat::HEAP)
    enter(cls);
}

inline std::vector<u64> Core::remove(const u64* tokens, std::size_t count) {
  std::vector<u64> gone;
  if (!waiting) return gone;
  if (!index.built()) {
    index.start(waiting);
    for (u32 cls = 0; cls < classes.size(); ++cls) {
      const Class& c = classes[cls];
      if (c.live) index.put(c.buf.data() + c.head, c.buf.size() - c.head, {cls, c.at()});
    }
  }
  index.rest(waiting);
  for (std::size_t i = 0; i < count; ++i)
    index.look(tokens[i], [&](TokenIndex::Where w) {
      Class& c = classes[w.cls];
      i64 at = w.pos - c.base;
      if (at < static_cast<i64>(c.head) || at >= static_cast<i64>(c.buf.size())) return false;
      if (c.buf[static_cast<std::size_t>(at)] != tokens[i]) return false;
      c.buf[static_cast<std::size_t>(at)] = DEAD;
      gone.push_back(tokens[i]);
      --waiting;
      --shapes[c.shape].waiting;
      if (!--c.live) emptied(w.cls);
      return true;
    });
  return gone;
}

inline std::vector<u64> Core::take(u32 shape, u64 want) {
  checked(shape);
  std::vector<u64> out;
  std::vector<u32> mine;
  for (u32 cls : classes_of[shape])
    if (classes[cls].live) mine.push_back(cls);
  std::sort(mine.begin(), mine.end(), [&](u32 a, u32 b) { return classes[a].prio > classes[b].prio; });
  for (u32 cls : mine) {
    Class& c = classes[cls];
    if (out.size() >= want) break;
    for (auto it = levels.upper_bound(c.prio); it != levels.end(); ++it)
      if (it->second.classes) return out;
    for (const Reservation& r : reservations)
      if (r.cls != NONE && r.cls != cls && classes[r.cls].prio >= c.prio) return out;
    while (c.live && out.size() < want) {
      c.settle();
      out.push_back(c.buf[c.head++]);
      --c.live;
      --waiting;
      --shapes[shape].waiting;
      ++c.level->placed;
    }
    if (!c.live) {
      emptied(cls);
    } else if (c.seat == Seat::HEAP) {
      enter(cls);
    }
  }
  return out;
}

inline u64 Core::placed_below(i32 prio) const {
  u64 sum = 0;
  for (auto it = levels.begin(); it != levels.end() && it->first <= prio; ++it) sum += it->second.placed;
  return sum;
}

// Place what fits of the head chunk; false when the class is blocked.
inline bool Core::run(u32 cls, u64 limit, Placed& out) {
  Class& c = classes[cls];
  if (c.failed_at == log_end) return false;
  Shape& s = shapes[c.search];
  bool simple = s.mode == Mode::SINGLE && s.per == 1 && !s.exclusive && !c.tag;
  i64 seq = c.seq();
  while (out.tokens.size() < limit) {
    u32 node = NONE;
    bool ok;
    if (simple) {
      if (s.plain) {
        node = find_plain(c, s, 1);
      } else {
        sync(s);
        node = find_rich(c, s);
      }
      ok = node != NONE;
    } else {
      ok = search(c, s);
    }
    if (!ok) {
      c.failed_at = log_end;
      return false;
    }
    c.blocked = false;
    bool held = c.holds >= 0;
    auto start = [&](u64 alloc, u32 where) {
      out.tokens.push_back(c.buf[c.head++]);
      out.allocs.push_back(alloc);
      out.nodes.push_back(where);
      --c.live;
      --waiting;
      --shapes[c.shape].waiting;
      ++c.level->placed;
    };
    auto more = [&] {
      if (!c.live) return false;
      c.settle();
      return c.seq() == seq;
    };
    bool go_on;
    if (simple) {
      // The node stays the best choice for as long as it fits, so fill it before looking again.
      u64 room = held ? 1 : std::min<u64>(k_now(s, node, 0), limit - out.tokens.size());
      do {
        start(commit_one(c, s, node), node);
        go_on = more();
      } while (go_on && --room);
      place(node);
    } else {
      u64 alloc = commit(c, s);
      if (c.tag) {
        const auto* list = bound(c, s);
        if (!list) {
          auto& home = tags[c.tag];
          home.clear();
          for (const Pick& p : picks) home.push_back(p.node);
          ++reserved_version;
          freed(picks[0].node);  // others of this tag may fit now
        }
      }
      start(alloc, picks[0].node);
      go_on = more();
    }
    if (held) dissolve(static_cast<u32>(c.holds));
    if (!go_on) return true;
  }
  return true;
}

inline Placed Core::schedule(u64 limit, double now) {
  Placed out;
  std::size_t room = static_cast<std::size_t>(std::min<u64>({limit, waiting, 65536}));
  out.tokens.reserve(room);
  out.allocs.reserve(room);
  out.nodes.reserve(room);
  set_aside.clear();
  u32 seen = 0;
  while (out.tokens.size() < limit && !heap.empty()) {
    Turn t = heap.top();
    Class& c = classes[t.cls];
    if (c.seat != Seat::HEAP || c.turn != t.id) {
      heap.pop();
      continue;
    }
    c.settle();
    if (c.seq() != t.seq) {  // its first tokens were cancelled
      heap.replace(turn_of(t.cls));
      continue;
    }
    if (!run(t.cls, limit, out)) {
      heap.pop();
      blocked(t.cls, now);
      set_aside.push_back(turn_of(t.cls));
      if (++seen >= lookahead) break;
    } else if (!c.live) {
      heap.pop();
      emptied(t.cls);
    } else {
      heap.replace(turn_of(t.cls));
    }
  }
  heap.append(set_aside);
  return out;
}

inline void Core::blocked(u32 cls, double now) {
  Class& c = classes[cls];
  if (!c.blocked) {
    c.blocked = true;
    c.since = now;
    c.bypass = placed_below(c.prio);
  }
  if (c.holds >= 0 || now - c.since < patience || placed_below(c.prio) == c.bypass) return;
  Shape& s = shapes[c.search];
  u32 key = static_cast<u32>(s.part + 1);
  u32 by = reservations[key].cls;
  if (by != NONE && classes[by].prio >= c.prio) return;
  if (c.no_pick_at == reserved_version) return;
  if (by != NONE) dissolve(key);
  if (pick_reservation(c, s))
    reserve(cls, key);
  else
    c.no_pick_at = reserved_version;
}

// The nodes nearest to free for one task of this class, into `picks`.
inline bool Core::pick_reservation(Class& c, Shape& s) {
  struct Near {
    u32 node;
    u64 empty, now, missing, missing_mib;
  };
  std::vector<Near> all;
  auto consider = [&](u32 node, u64 t) {
    const Node& x = nodes[node];
    if (x.state != UP || x.held >= 0 || (x.owned && owner[node] != c.tag)) return;
    u64 empty = k_type(s, types[type_of[node]]);
    if (empty < t) return;
    u64 k = k_now(s, node, c.tag), missing = 0;
    auto lack = [](u64 need, u64 have) { return need > have ? need - have : 0; };
    if (s.exclusive || s.idle)
      missing = u64(x.ncores - x.fc) + x.allocs;
    else
      missing = lack(t * s.cores, x.fc) + lack(t * s.gpus, x.fg) + (s.share ? lack(t, k) : 0);
    all.push_back({node, empty, k, missing, lack(t * s.mem, x.mem) + lack(t * s.lfs, x.lfs)});
  };
  const auto* list = bound(c, s);
  auto gather = [&](u64 t) {
    all.clear();
    if (list)
      for (u32 node : *list) consider(node, t);
    else
      for (u32 node : order) consider(node, t);
    std::stable_sort(all.begin(), all.end(), [](const Near& x, const Near& y) {
      return std::make_pair(x.missing, x.missing_mib) < std::make_pair(y.missing, y.missing_mib);
    });
  };
  picks.clear();
  gather(s.per);
  if (s.mode != Mode::FIXED) {
    if (!all.empty()) {
      picks.push_back({all[0].node, s.per});
      return true;
    }
    if (s.mode == Mode::SINGLE) return false;
    gather(1);
    std::stable_sort(all.begin(), all.end(), [](const Near& x, const Near& y) { return x.now > y.now; });
    u64 sum = 0;
    for (auto& x : all) {
      picks.push_back({x.node, 1});
      if ((sum += x.empty) >= s.ranks) return true;
    }
    return false;
  }
  for (auto& x : all)
    if (picks.size() < s.full) picks.push_back({x.node, s.per});
  if (picks.size() < s.full) return false;
  if (!s.rem) return true;
  gather(s.rem);
  for (auto& x : all)
    if (!std::any_of(picks.begin(), picks.end(), [&](const Pick& p) { return p.node == x.node; })) {
      picks.push_back({x.node, s.rem});
      return true;
    }
  return false;
}

inline void Core::reserve(u32 cls, u32 key) {
  Reservation& r = reservations[key];
  r.cls = cls;
  classes[cls].holds = static_cast<i32>(key);
  for (const Pick& p : picks) {
    r.nodes.push_back(p.node);
    nodes[p.node].held = static_cast<i16>(key);
    held_pos.set(nodes[p.node].pos);
    ++reserved_nodes;
    place(p.node);
  }
  ++reserved_version;
}

inline void Core::dissolve(u32 key) {
  Reservation& r = reservations[key];
  classes[r.cls].holds = -1;
  r.cls = NONE;
  for (u32 node : r.nodes) {
    nodes[node].held = -1;
    held_pos.clear(nodes[node].pos);
    --reserved_nodes;
    place(node);
    freed(node);
  }
  r.nodes.clear();
  ++reserved_version;
}

}  // namespace jrm
