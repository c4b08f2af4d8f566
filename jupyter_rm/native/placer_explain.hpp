// Why a request waits, or can never run: the resource that binds and its numbers, in one plain sentence.
// Read placer.cpp (the bindings) next.
#pragma once
#include "placer_core.hpp"

namespace jrm {

inline Explanation Core::explain(u32 id) {
  Shape& s = checked(id);
  Explanation e;
  auto said = [&](const std::string& limit, u64 free, u64 largest, const std::string& reason) {
    e.limit = limit;
    e.free = free;
    e.largest = largest;
    e.reason = reason;
    return e;
  };
  auto number = [](u64 v) { return std::to_string(v); };
  auto many = [&](u64 v, const std::string& one) { return number(v) + " " + one + (v == 1 ? "" : "s"); };
  if (s.part == -2) return said("partition", 0, 0, "there is no partition " + std::to_string(s.partition));

  u64 up = 0, out = 0, idle = 0, held = 0;
  std::vector<u32> here;  // the nodes in question
  for (u32 i = 0; i < n; ++i) {
    const Node& x = nodes[i];
    if (s.part >= 0 && x.part != s.part) continue;
    if (x.state != UP) {
      ++out;
      continue;
    }
    ++up;
    idle += x.allocs == 0;
    held += x.held >= 0;
    here.push_back(i);
  }
  std::string which = s.part >= 0 ? " in partition " + std::to_string(s.partition) : "";
  std::string aside = out ? " (" + many(out, "node") + " drained or down)" : "";
  if (!up) return said("nodes", 0, 0, "no node is up" + which + aside);
  if (!s.missing.empty()) return said(s.missing, 0, 0, "needs " + s.missing + "; no node offers it");

  u64 t = s.mode == Mode::PACK ? 1 : s.per;  // ranks that must share one node
  struct Dimension {
    std::string name, unit;
    u64 need, total, free;
  };
  std::vector<Dimension> dims;
  auto dimension = [&](const std::string& name, const std::string& one, const std::string& some, u64 need, auto total,
                       auto free) {
    if (!need) return;
    Dimension d{name, need == 1 ? one : some, need, 0, 0};
    for (u32 i : here) {
      d.total = std::max<u64>(d.total, total(i));
      d.free = std::max<u64>(d.free, free(i));
    }
    dims.push_back(d);
  };
  auto type = [&](u32 i) -> const Type& { return types[type_of[i]]; };
  dimension("cores", "core", "cores", t * s.cores, [&](u32 i) { return type(i).cores; },
            [&](u32 i) { return nodes[i].fc; });
  dimension("gpus", "GPU", "GPUs", t * s.gpus, [&](u32 i) { return type(i).gpus; }, [&](u32 i) { return nodes[i].fg; });
  if (s.share) {
    std::string share = number(s.share / 100) + " % of a GPU";
    dimension("gpus", "share of " + share, "shares of " + share, t,
              [&](u32 i) { return u64(type(i).gpus) * (WHOLE / s.share); },
              [&](u32 i) {
                u64 room = u64(nodes[i].fg) * (WHOLE / s.share);
                for (u64 m = nodes[i].gshared; m; m &= m - 1)
                  room += gfree[std::size_t(i) * max_gpus + lowest_index(m)] / s.share;
                return room;
              });
  }
  dimension("mem", "MiB of memory", "MiB of memory", t * s.mem, [&](u32 i) { return type(i).mem; },
            [&](u32 i) { return nodes[i].mem; });
  dimension("lfs", "MiB of local disk", "MiB of local disk", t * s.lfs, [&](u32 i) { return type(i).lfs; },
            [&](u32 i) { return nodes[i].lfs; });
  for (auto& p : s.named) {
    const std::string& name = names[p.first];
    dimension(name, name, name, t * p.second, [&](u32 i) { return type(i).named[p.first]; },
              [&](u32 i) { return named_free[p.first][i]; });
  }

  std::vector<std::pair<u64, u64>> empty, now, now_all;
  u64 most = 0, total = 0, total_now = 0, with_per = 0, with_per_now = 0, most_now = 0;
  for (u32 i : here) {
    u64 k = k_type(s, type(i)), f = k_now(s, i, 0);
    empty.emplace_back(k, 1);
    most = std::max(most, k);
    total += k;
    with_per += k >= s.per;
    now_all.emplace_back(f, 1);
    if (nodes[i].held >= 0) continue;
    now.emplace_back(f, 1);
    most_now = std::max(most_now, f);
    total_now += f;
    with_per_now += f >= s.per;
  }
  e.ever = enough(s, empty);
  e.now = e.ever && enough(s, now);
  std::string together;
  for (auto& d : dims) together += (together.empty() ? "" : ", ") + number(d.need) + " " + d.unit;
  if (s.exclusive) together += (together.empty() ? "" : ", ") + std::string("a whole node");
  if (!e.ever) {
    for (auto& d : dims)
      if (d.need > d.total)
        return said(d.name, d.free, d.total, "needs " + number(d.need) + " " + d.unit + " on one node; the largest node" +
                                                 which + " has " + number(d.total) + aside);
    if (most < t) return said("combination", most_now, most, "no single node" + which + " has " + together + aside);
    if (s.mode == Mode::PACK)
      return said("ranks", total_now, total, "needs room for " + many(s.ranks, "rank") + "; all nodes" + which +
                                                 " together hold " + number(total) + aside);
    u64 need = s.full + (s.rem ? 1 : 0);
    return said("nodes", with_per_now, with_per, "needs " + many(need, "node") + " with room for " +
                                                     many(s.per, "rank") + " each; there are " + number(with_per) +
                                                     which + aside);
  }
  if (e.now) return said("", count(s, now), count(s, empty), "fits now");
  if (enough(s, now_all))
    return said("reserved", up - held, up, "free nodes are reserved for a task that has waited longer");
  if (s.exclusive && idle < (s.mode == Mode::FIXED ? s.full + (s.rem ? 1 : 0) : 1))
    return said("nodes", idle, up, "waits for whole nodes; " + many(idle, "node") + " of " + number(up) +
                                       (idle == 1 ? " is idle" : " are idle") + which);
  for (auto& d : dims)
    if (d.need > d.free)
      return said(d.name, d.free, d.total, "waits for " + number(d.need) + " " + d.unit + " on one node; at most " +
                                               number(d.free) + (d.free == 1 ? " is" : " are") + " free on one" + which);
  if (s.mode == Mode::SINGLE || most_now < t)
    return said("combination", most_now, most, "waits for one node" + which + " with " + together + " free together");
  if (s.mode == Mode::PACK)
    return said("ranks", total_now, total, "waits for room for " + many(s.ranks, "rank") + "; " + number(total_now) +
                                               (total_now == 1 ? " fits now" : " fit now") + which);
  u64 need = s.full + (s.rem ? 1 : 0);
  return said("nodes", with_per_now, with_per, "waits for " + many(need, "node") + " with room for " +
                                                   many(s.per, "rank") + " each; " + number(with_per_now) +
                                                   (with_per_now == 1 ? " has" : " have") + " it now" + which);
}

}  // namespace jrm
