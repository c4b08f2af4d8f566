// Placement for jupyter_rm: which task starts on which cores and GPUs of which node. Pure decisions on flat arrays.
// This file binds placer_core.hpp to Python; start reading there. It knows no clock, thread, file or socket.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

// The build optimizes bindings for size; the core wants speed, and the popcount instruction every x86 has since 2008.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O3")
#if defined(__x86_64__)
#pragma GCC target("popcnt")
#endif
#endif
#include "placer_core.hpp"
#include "placer_explain.hpp"
#include "placer_schedule.hpp"
#include "placer_search.hpp"
#include "placer_shapes.hpp"
#include "placer_slots.hpp"
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

namespace nb = nanobind;
using namespace nb::literals;
using namespace jrm;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

template <class T>
Out<T> hand_over(std::vector<T>&& v) {
  auto* own = new std::vector<T>(std::move(v));
  nb::capsule owner(own, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return Out<T>(own->data(), {own->size()}, owner);
}

// The core plus a lock: the hot calls run without the GIL, so a second Python thread must wait its turn.
struct Placer {
  Core core;
  std::mutex turn;
  using Lock = std::lock_guard<std::mutex>;

  // The lock is always taken after the GIL was let go and returned before it is taken again.
  template <class F>
  auto alone(F f) {
    nb::gil_scoped_release free;
    Lock lock(turn);
    return f();
  }

  Placer(In<u16> cores, In<u16> gpus, In<u32> mem, In<u32> lfs, In<u8> numa, In<u16> partition, nb::dict named,
         double patience, u32 lookahead)
      : core(cores.data(), gpus.data(), mem.data(), lfs.data(), numa.data(), partition.data(),
             same(cores.size(), {gpus.size(), mem.size(), lfs.size(), numa.size(), partition.size()}),
             pools(named, cores.size())) {
    if (!(patience >= 0)) throw nb::value_error("patience must be zero or more seconds");
    if (!lookahead) throw nb::value_error("lookahead must be at least one class");
    core.patience = patience;
    core.lookahead = lookahead;
  }

  static u32 same(std::size_t n, std::initializer_list<std::size_t> others) {
    for (std::size_t o : others)
      if (o != n) throw nb::value_error("all node arrays must have the same length");
    if (n > 65536) throw nb::value_error("a placer holds 1 to 65536 nodes");
    return static_cast<u32>(n);
  }
  static std::vector<std::pair<std::string, std::vector<u32>>> pools(nb::dict named, std::size_t n) {
    std::map<std::string, std::vector<u32>> sorted;
    for (auto item : named) {
      auto a = nb::cast<In<u32>>(item.second);
      if (a.size() != n) throw nb::value_error("all node arrays must have the same length");
      sorted[nb::cast<std::string>(item.first)] = std::vector<u32>(a.data(), a.data() + n);
    }
    return {sorted.begin(), sorted.end()};
  }

  u32 shape(u32 ranks, u32 cores, u32 gpus, u32 mem, u32 lfs, u32 ranks_per_node, std::map<std::string, u32> named,
            i32 partition, bool exclusive, const std::string& numa) {
    Request r{ranks, cores, gpus, mem, lfs, ranks_per_node, std::move(named), partition, exclusive, COMPACT};
    if (numa == "spread")
      r.numa = SPREAD;
    else if (numa == "any")
      r.numa = ANY;
    else if (numa != "compact")
      throw nb::value_error("numa must be 'compact', 'spread' or 'any'");
    return alone([&] { return core.shape(r); });
  }

  void add(u32 shape, In<u64> tokens, i32 priority, u64 tag, bool exclusive_tag) {
    alone([&] { core.add(shape, tokens.data(), tokens.size(), priority, tag, exclusive_tag); });
  }
  Out<u64> remove(In<u64> tokens) {
    return hand_over(alone([&] { return core.remove(tokens.data(), tokens.size()); }));
  }
  nb::tuple schedule(u64 limit, double now) {
    Placed p = alone([&] { return core.schedule(limit, now); });
    return nb::make_tuple(hand_over(std::move(p.tokens)), hand_over(std::move(p.allocs)), hand_over(std::move(p.nodes)));
  }
  Out<u64> take(u32 shape, u64 n) {
    return hand_over(alone([&] { return core.take(shape, n); }));
  }
  void put_back(u32 shape, In<u64> tokens, i32 priority) {
    alone([&] { core.put_back(shape, tokens.data(), tokens.size(), priority); });
  }
  void release(In<u64> allocs) {
    alone([&] { core.release(allocs.data(), allocs.size()); });
  }
  Out<u64> node_state(u32 node, const std::string& state) {
    u8 s = state == "up" ? UP : state == "drain" ? DRAIN : state == "down" ? DOWN : 255;
    if (s == 255) throw nb::value_error("a node's state is 'up', 'drain' or 'down'");
    return hand_over(alone([&] { return core.node_state(node, s); }));
  }

  nb::list slots(u64 id) {
    Lock lock(turn);
    const Alloc& a = core.alloc(id);
    const Shape& s = core.shapes[a.shape];
    nb::list out;
    auto add_rank = [&](u32 rank, u32 node, const u64* words, u64 gpus) {
      nb::list cores, devices;
      for (u32 w = 0; w < core.width; ++w)
        for (u64 m = words[w]; m; m &= m - 1) cores.append(w * 64 + lowest_index(m));
      for (u64 m = gpus; m; m &= m - 1) devices.append(nb::make_tuple(lowest_index(m), s.share ? s.share : WHOLE));
      out.append(nb::make_tuple(rank, node, cores, devices));
    };
    if (a.extra == NONE) {
      u64 words[8] = {a.cores0};
      for (u32 w = 1; w < core.width; ++w)
        words[w] = core.allocs_wide[std::size_t(static_cast<u32>(id)) * (core.width - 1) + w - 1];
      add_rank(0, a.node, words, a.gpus);
    } else {
      const Extra& e = core.extras[a.extra];
      for (u32 r = 0; r < e.ranks.size(); ++r)
        add_rank(r, e.ranks[r].node, &e.words[std::size_t(r) * core.width], e.ranks[r].gpus);
    }
    return out;
  }

  nb::dict explain(u32 shape) {
    Explanation e = alone([&] { return core.explain(shape); });
    nb::dict d;
    d["ever"] = e.ever;
    d["now"] = e.now;
    d["reason"] = e.reason;
    d["limit"] = e.limit;
    d["free"] = e.free;
    d["largest"] = e.largest;
    return d;
  }

  static u32 busy_gpus(const Core& c, u32 i) {
    u32 free = c.nodes[i].fg * WHOLE;
    for (u64 m = c.nodes[i].gshared; m; m &= m - 1) free += c.gfree[std::size_t(i) * c.max_gpus + lowest_index(m)];
    return c.nodes[i].ngpus * WHOLE - free;
  }

  nb::dict free() {
    u64 idle = 0, cores = 0, gpus = 0, mem = 0, lfs = 0;
    std::vector<u64> pools(core.names.size(), 0);
    alone([&] {
      for (u32 i = 0; i < core.n; ++i) {
        const Node& x = core.nodes[i];
        if (x.state != UP) continue;
        idle += x.allocs == 0;
        cores += x.fc;
        gpus += x.ngpus * WHOLE - busy_gpus(core, i);
        mem += x.mem;
        lfs += x.lfs;
        for (std::size_t r = 0; r < pools.size(); ++r) pools[r] += core.named_free[r][i];
      }
    });
    nb::dict d, named;
    for (std::size_t r = 0; r < pools.size(); ++r) named[core.names[r].c_str()] = pools[r];
    d["nodes"] = idle;
    d["cores"] = cores;
    d["gpus"] = gpus;
    d["mem"] = mem;
    d["lfs"] = lfs;
    d["named"] = named;
    return d;
  }

  nb::list reservations() {
    Lock lock(turn);
    nb::list out;
    for (const Reservation& r : core.reservations) {
      if (r.cls == NONE) continue;
      nb::list nodes;
      for (u32 node : r.nodes) nodes.append(node);
      out.append(nb::make_tuple(core.classes[r.cls].shape, core.classes[r.cls].prio, nodes));
    }
    return out;
  }

  Out<u16> node_busy_cores() {
    std::vector<u16> v(core.n);
    alone([&] {
      for (u32 i = 0; i < core.n; ++i) v[i] = static_cast<u16>(core.nodes[i].ncores - core.nodes[i].fc);
    });
    return hand_over(std::move(v));
  }
  Out<u32> node_busy_gpus() {
    std::vector<u32> v(core.n);
    alone([&] {
      for (u32 i = 0; i < core.n; ++i) v[i] = busy_gpus(core, i);
    });
    return hand_over(std::move(v));
  }
};

}  // namespace

NB_MODULE(_placer, m) {
  nb::set_leak_warnings(false);  // at exit Python may leave objects alive; that is no news for users
  m.doc() = "Placement: which task starts on which cores and GPUs of which node.";
  nb::class_<Placer>(m, "Placer")
      .def(nb::init<In<u16>, In<u16>, In<u32>, In<u32>, In<u8>, In<u16>, nb::dict, double, u32>(), "cores"_a, "gpus"_a,
           "mem"_a, "lfs"_a, "numa"_a, "partition"_a, "named"_a = nb::dict(), nb::kw_only(), "patience"_a = 2.0,
           "lookahead"_a = 1024)
      .def("shape", &Placer::shape, "ranks"_a = 1, "cores"_a = 1, "gpus"_a = 0, "mem"_a = 0, "lfs"_a = 0,
           "ranks_per_node"_a = 0, "named"_a = std::map<std::string, u32>(), "partition"_a = -1, "exclusive"_a = false,
           "numa"_a = "compact")
      .def("add", &Placer::add, "shape"_a, "tokens"_a, "priority"_a = 0, "tag"_a = 0, "exclusive_tag"_a = false)
      .def("remove", &Placer::remove, "tokens"_a)
      .def("schedule", &Placer::schedule, "limit"_a, "now"_a)
      .def("take", &Placer::take, "shape"_a, "n"_a)
      .def("put_back", &Placer::put_back, "shape"_a, "tokens"_a, "priority"_a = 0)
      .def("release", &Placer::release, "allocs"_a)
      .def("slots", &Placer::slots, "alloc"_a)
      .def("node_state", &Placer::node_state, "node"_a, "state"_a)
      .def("explain", &Placer::explain, "shape"_a)
      .def("waiting_shape", [](Placer& p, u32 s) { return p.alone([&] { return p.core.checked(s).waiting; }); }, "shape"_a)
      .def("capacity", [](Placer& p, u32 s) { return p.alone([&] { return p.core.capacity(s); }); }, "shape"_a)
      .def("fits_now", [](Placer& p, u32 s) { return p.alone([&] { return p.core.fits_now(s); }); }, "shape"_a)
      .def("free", &Placer::free)
      .def("reservations", &Placer::reservations)
      .def_prop_ro("waiting", [](Placer& p) { return p.core.waiting; })
      .def_prop_ro("running", [](Placer& p) { return p.core.running; })
      .def_prop_ro("nodes", [](Placer& p) { return p.core.n; })
      .def_prop_ro("node_busy_cores", &Placer::node_busy_cores, nb::rv_policy::move)
      .def_prop_ro("node_busy_gpus", &Placer::node_busy_gpus, nb::rv_policy::move);
}
