// The placer: its state, its parts and how they hang together. One thread at a time; no clock, no I/O.
//
//   placer_shapes.hpp    interning requests; what fits on an empty machine
//   placer_search.hpp    which nodes: best fit in buckets, first fit in per-shape bitmaps, spreading
//   placer_slots.hpp     which cores and GPUs on a node; taking and giving back
//   placer_schedule.hpp  the pass over waiting classes; reservations that keep wide tasks from starving
//   placer_explain.hpp   why something waits
//
// Rules (jupyter_rm/native/placer_portable.py says the same in slow, plain Python):
//  * A request for cores and whole GPUs only goes to the node with the fewest free GPUs, then the fewest free
//    cores, that can hold it; among equals the one whose free counts changed last.
//  * Any other request goes to the first node that can hold it in the thrifty order: nodes with fewer GPUs, less
//    memory, less local disk and fewer cores come first.
//  * Ranks that fit on one node share one. Otherwise the nodes that can take most ranks are used first; in the
//    thrifty order, most ranks among the first 16 able nodes, or among as many as it takes.
//    ranks_per_node fixes the number on every node; the last node takes what remains.
#pragma once
#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>

#include "placer_buckets.hpp"
#include "placer_model.hpp"
#include "placer_queue.hpp"

namespace jrm {

struct Request {
  u32 ranks = 1, cores = 1, gpus = 0, mem = 0, lfs = 0, rpn = 0;
  std::map<std::string, u32> named;
  i32 partition = -1;
  bool exclusive = false;
  u8 numa = COMPACT;
};

struct Placed {
  std::vector<u64> tokens, allocs;
  std::vector<u32> nodes;
};

struct Explanation {
  bool ever = false, now = false;
  std::string reason, limit;
  u64 free = 0, largest = 0;
};

class Core {
 public:
  double patience = 2.0;
  u32 lookahead = 1024;

  Core(const u16* cores, const u16* gpus, const u32* mem, const u32* lfs, const u8* numa, const u16* partition, u32 n,
       const std::vector<std::pair<std::string, std::vector<u32>>>& named);

  // placer_shapes.hpp
  u32 shape(const Request& r);
  u64 capacity(u32 shape);
  u64 fits_now(u32 shape);

  // placer_schedule.hpp
  void add(u32 shape, const u64* tokens, std::size_t n, i32 prio, u64 tag, bool exclusive_tag);
  std::vector<u64> remove(const u64* tokens, std::size_t n);
  Placed schedule(u64 limit, double now);
  std::vector<u64> take(u32 shape, u64 n);
  void put_back(u32 shape, const u64* tokens, std::size_t n, i32 prio);

  // placer_slots.hpp
  void release(const u64* allocs, std::size_t n);
  std::vector<u64> node_state(u32 node, u8 state);
  const Alloc& alloc(u64 id) const;

  // placer_explain.hpp
  Explanation explain(u32 shape);

  // State, open to the bindings for views.
  u32 n = 0;       // nodes
  u32 width = 1;   // words per core mask
  std::vector<Node> nodes;
  std::vector<u64> wide;       // free cores from 64 on: node * (width - 1)
  std::vector<u16> gfree;      // room on a shared GPU: node * max_gpus + gpu
  std::vector<u64> owner;      // exclusive tag of a node, and how many of its allocations hold it
  std::vector<u32> owners;
  std::vector<u32> type_of;
  std::vector<Type> types;
  std::vector<u32> order;      // the thrifty order
  std::vector<std::string> names;
  std::vector<std::vector<u32>> named_free;
  std::vector<i32> partitions;  // the user's number of each index
  std::deque<Shape> shapes;
  std::vector<Alloc> allocs;
  std::vector<u64> allocs_wide;
  std::vector<Extra> extras;
  std::vector<Reservation> reservations;  // by key: 0 for shapes of any partition, 1 + index otherwise
  std::deque<Class> classes;
  u64 waiting = 0, running = 0;
  u32 max_cores = 0, max_gpus = 0;

  const u64* words_of(u32 node, u64* copy) const {
    copy[0] = nodes[node].cores0;
    for (u32 w = 1; w < width; ++w) copy[w] = wide[std::size_t(node) * (width - 1) + w - 1];
    return copy;
  }
  Shape& checked(u32 shape) {
    if (shape >= shapes.size() || shapes[shape].idle) throw std::invalid_argument("unknown shape " + std::to_string(shape));
    return shapes[shape];
  }

 private:
  // placer_shapes.hpp
  void derive(Shape& s);
  u64 k_type(const Shape& s, const Type& t) const;
  u64 k_now(const Shape& s, u32 node, u64 tag) const;
  bool possible(Shape& s);
  bool enough(const Shape& s, const std::vector<std::pair<u64, u64>>& ks) const;
  u64 count(const Shape& s, std::vector<std::pair<u64, u64>>& ks) const;

  // placer_search.hpp
  bool fits(const Shape& s, u32 node, u64 t, u64 tag) const;
  bool allowed(const Class& c, u32 node) const;
  bool may_use(const Class& c, u32 key) const;
  void sync(Shape& s);
  const Bits* barred(const Class& c) const;
  u32 find_plain(const Class& c, const Shape& s, u64 t) const;
  u32 find_rich(const Class& c, Shape& s);
  template <class F>
  void tables(const Class& c, const Shape& s, F f) const;
  const std::vector<u32>* bound(Class& c, Shape& s);
  bool search(Class& c, Shape& s);
  bool search_bound(Class& c, Shape& s, const std::vector<u32>& list);
  bool pack_plain(const Class& c, const Shape& s);
  bool fixed_plain(const Class& c, const Shape& s);
  bool pack_rich(const Class& c, Shape& s);
  bool fixed_rich(const Class& c, Shape& s);
  bool pack(std::vector<std::pair<u64, u32>>& ks, const Shape& s);

  // placer_slots.hpp
  void pick_slots(const Shape& s, u32 node, u64* out, u64& gpus);
  u64 pick_gpus(const Shape& s, u32 node, u64 prefer);
  void take_slots(const Shape& s, u32 node, u64* out, u64& gpus);
  u32 new_alloc(u32 shape);
  u64 commit(const Class& c, const Shape& s);
  u64 commit_one(const Class& c, const Shape& s, u32 node);
  void give_back(u32 at);
  void free_slots(const Shape& s, u32 node, const u64* words, u64 gpus);
  void wipe(u32 node);
  void restore(u32 node);
  void place(u32 node);
  void freed(u32 node) { log[log_end++ & (log.size() - 1)] = node; }
  u64* alloc_words(u32 at, u64* scratch);

  // placer_schedule.hpp
  u32 class_of(u32 shape, i32 prio, u64 tag, bool excl);
  void joined(u32 cls);
  void emptied(u32 cls);
  Turn turn_of(u32 cls);
  void enter(u32 cls);
  void repark();
  bool run(u32 cls, u64 limit, Placed& out);
  void blocked(u32 cls, double now);
  u64 placed_below(i32 prio) const;
  void reserve(u32 cls, u32 key);
  void dissolve(u32 key);
  bool pick_reservation(Class& c, Shape& s);

  Buckets buckets;
  std::vector<u32> log;  // a ring of nodes on which something became free
  u64 log_end = 0, topo = 0, reserved_version = 0;
  u32 reserved_nodes = 0;
  Bits held_pos;
  std::map<std::string, u32> shape_ids;
  std::vector<u32> free_allocs, free_extras, free_classes;
  std::unordered_map<ClassKey, u32, ClassKeyHash> class_ids;
  std::vector<std::vector<u32>> classes_of;  // shape -> its untagged classes
  std::unordered_map<u64, std::vector<u32>> tags;  // where the first task of a tag went
  std::map<i32, Level> levels;
  TokenIndex index;
  Heap heap;
  std::vector<Turn> set_aside;
  i64 next_seq = 0, front_seq = 0;
  u64 next_turn = 0;
  std::vector<Pick> picks;
  std::vector<std::pair<u64, u32>> ks;
  std::vector<u32> mark;
  u32 mark_now = 0;
};

inline Core::Core(const u16* cores, const u16* gpus, const u32* mem, const u32* lfs, const u8* numa,
                  const u16* partition, u32 count,
                  const std::vector<std::pair<std::string, std::vector<u32>>>& named)
    : n(count) {
  if (!n || n > 65536) throw std::invalid_argument("a placer holds 1 to 65536 nodes, not " + std::to_string(n));
  std::map<i32, u32> part_ids;
  for (u32 i = 0; i < n; ++i) {
    if (cores[i] > 512) throw std::invalid_argument("node " + std::to_string(i) + " has more than 512 cores");
    if (gpus[i] > 64) throw std::invalid_argument("node " + std::to_string(i) + " has more than 64 GPUs");
    max_cores = std::max<u32>(max_cores, cores[i]);
    max_gpus = std::max<u32>(max_gpus, gpus[i]);
    part_ids[partition[i]] = 0;
  }
  for (auto& p : part_ids) {
    p.second = static_cast<u32>(partitions.size());
    partitions.push_back(p.first);
  }
  if (partitions.size() > 4096) throw std::invalid_argument("more than 4096 partitions");
  for (auto& x : named) {
    names.push_back(x.first);
    named_free.push_back(x.second);
  }
  width = std::max(1u, (max_cores + 63) / 64);
  nodes.resize(n);
  wide.assign(std::size_t(n) * (width - 1), 0);
  gfree.assign(std::size_t(n) * max_gpus, WHOLE);
  owner.assign(n, 0);
  owners.assign(n, 0);
  mark.assign(n, 0);
  type_of.resize(n);
  held_pos.empty(n);
  reservations.resize(partitions.size() + 1);
  std::size_t ring = 1024;
  while (ring < n) ring *= 2;
  log.assign(ring, 0);
  order.resize(n);
  std::map<std::vector<u32>, u32> type_ids;
  for (u32 i = 0; i < n; ++i) {
    Node& x = nodes[i];
    x.ncores = cores[i];
    x.ngpus = static_cast<u8>(gpus[i]);
    x.domains = std::max<u8>(1, numa[i]);
    x.part = static_cast<u16>(part_ids[partition[i]]);
    std::vector<u32> key{cores[i], gpus[i], mem[i], lfs[i], x.part};
    for (auto& pool : named_free) key.push_back(pool[i]);
    auto it = type_ids.emplace(key, static_cast<u32>(types.size()));
    if (it.second)
      types.push_back({cores[i], gpus[i], mem[i], lfs[i], x.part, std::vector<u32>(key.begin() + 5, key.end()), 0});
    type_of[i] = it.first->second;
    ++types[type_of[i]].up;
    order[i] = i;
  }
  std::stable_sort(order.begin(), order.end(), [&](u32 a, u32 b) {
    auto key = [&](u32 i) { return std::make_tuple(gpus[i], mem[i], lfs[i], cores[i]); };
    return key(a) < key(b);
  });
  for (u32 p = 0; p < n; ++p) nodes[order[p]].pos = p;
  buckets.open(n, static_cast<u32>(partitions.size()) * 3);
  for (u32 i = n; i-- > 0;) restore(i);
}

}  // namespace jrm
