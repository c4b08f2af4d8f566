// The waiting tokens: one flat deque per class (priority, shape, tag), a heap of classes, a token index for cancel.
// Order is priority, then the order of add() calls.  Knows nothing of nodes.  Read placer_core.hpp next.
#pragma once
#include <deque>
#include <map>
#include <unordered_map>
#include <vector>

#include "placer_model.hpp"

namespace jrm {

enum class Seat : u8 { OUT, HEAP, PARKED };  // parked: cannot fit on the nodes that are up

struct Chunk {
  i64 seq;  // which add() call
  i64 end;  // position after its last token
};

struct Level {  // one priority
  u64 placed = 0;   // tokens ever placed or taken at this priority
  u32 classes = 0;  // classes with waiting tokens that are not parked
};

struct Class {
  u32 shape = 0, search = 0;  // as asked; as searched (the idle twin for exclusive tags)
  i32 prio = 0;
  u64 tag = 0;
  bool excl = false;
  Seat seat = Seat::OUT;
  std::vector<u64> buf;
  std::size_t head = 0;
  i64 base = 0;  // position of buf[0]; positions grow for ever, and backwards with put_back
  std::vector<Chunk> chunks;
  std::size_t chead = 0;
  u64 live = 0;
  u64 turn = 0;  // its turn in the heap; any other is stale
  Level* level = nullptr;

  bool blocked = false;  // since when nothing of this class could start
  double since = 0;
  u64 bypass = 0;        // what its level and those below had placed then
  u64 failed_at = ~0ull;  // the freed log when it last found no place
  u64 no_pick_at = ~0ull;
  i32 holds = -1;  // key of its reservation

  i64 at() const { return base + static_cast<i64>(head); }

  // Step over cancelled tokens; afterwards the head token and the head chunk are real, or the class is empty.
  void settle() {
    while (head < buf.size() && buf[head] == DEAD) ++head;
    if (head == buf.size()) {
      base += static_cast<i64>(buf.size());
      buf.clear();
      chunks.clear();
      head = chead = 0;
      return;
    }
    while (chunks[chead].end <= at()) ++chead;
    if (head > 4096 && head * 2 > buf.size()) {
      buf.erase(buf.begin(), buf.begin() + static_cast<std::ptrdiff_t>(head));
      base += static_cast<i64>(head);
      head = 0;
    }
    if (chead > 1024 && chead * 2 > chunks.size()) {
      chunks.erase(chunks.begin(), chunks.begin() + static_cast<std::ptrdiff_t>(chead));
      chead = 0;
    }
  }
  i64 seq() const { return chunks[chead].seq; }

  void push(const u64* tokens, std::size_t n, i64 seq) {
    buf.insert(buf.end(), tokens, tokens + n);
    chunks.push_back({seq, base + static_cast<i64>(buf.size())});
    live += n;
  }
  void push_front(const u64* tokens, std::size_t n, i64 seq) {
    if (head < n) {
      std::size_t room = n + buf.size() / 2 - head;
      buf.insert(buf.begin(), room, DEAD);
      head += room;
      base -= static_cast<i64>(room);
    }
    i64 end = at();
    head -= n;
    std::copy(tokens, tokens + n, buf.begin() + static_cast<std::ptrdiff_t>(head));
    if (chead)
      chunks[--chead] = {seq, end};
    else
      chunks.insert(chunks.begin(), {seq, end});
    live += n;
  }
};

// Where a token waits: token -> (class, position), for remove().
// Tokens mostly come as ascending runs, and a run is one entry however long it is; what is irregular goes to a hash.
// Built when remove() first needs it, kept up to date by add(), dropped when keeping it costs more than building it.
// Entries go stale when tokens start; whoever looks one up checks that the token is really there.
class TokenIndex {
 public:
  struct Where {
    u32 cls;
    i64 pos;
  };
  bool built() const { return built_; }
  void start(std::size_t waiting) {
    built_ = true;
    runs_.clear();
    used_ = 0;
    slots_.assign(64, {DEAD, {0, 0}});
    rest(waiting);
  }
  void drop() {
    built_ = false;
    runs_.clear();
    std::vector<Slot>().swap(slots_);
  }
  // Count additions made without any remove(); true when they have cost as much as building anew would.
  bool tired(std::size_t n) {
    if (spare_ < n) return true;
    spare_ -= n;
    return false;
  }
  void rest(std::size_t waiting) { spare_ = waiting * 2 + 4096; }

  void put(const u64* tokens, std::size_t n, Where first) {
    for (std::size_t i = 0, end = 0; i < n; i = end) {
      end = i + 1;
      if (tokens[i] == DEAD) continue;
      while (end < n && tokens[end] == tokens[end - 1] + 1 && tokens[end] != DEAD) ++end;
      Where at{first.cls, first.pos + static_cast<i64>(i)};
      if (end - i >= 8 && clear_of_others(tokens[i], end - i)) {
        runs_[tokens[i]] = {end - i, at};
        continue;
      }
      for (std::size_t k = i; k < end; ++k, ++at.pos) put_one(tokens[k], at);
    }
  }

  // Call f(where) for the places the token may be, until it returns true.
  template <class F>
  void look(u64 token, F f) const {
    const Slot& s = slots_[find(token)];
    if (s.token != DEAD && f(s.where)) return;
    auto it = runs_.upper_bound(token);
    if (it == runs_.begin()) return;
    --it;
    u64 ahead = token - it->first;
    if (ahead < it->second.size) f(Where{it->second.where.cls, it->second.where.pos + static_cast<i64>(ahead)});
  }

 private:
  struct Slot {
    u64 token;
    Where where;
  };
  struct Run {
    std::size_t size;
    Where where;
  };
  bool clear_of_others(u64 token, std::size_t n) const {
    auto next = runs_.lower_bound(token);
    if (next != runs_.end() && next->first - token < n) return false;
    if (next == runs_.begin()) return true;
    --next;
    return token - next->first >= next->second.size;
  }
  std::size_t find(u64 token) const {
    std::size_t mask = slots_.size() - 1, i = (token * 0x9e3779b97f4a7c15ull >> 20) & mask;
    while (slots_[i].token != DEAD && slots_[i].token != token) i = (i + 1) & mask;
    return i;
  }
  void put_one(u64 token, Where w) {
    if ((used_ + 1) * 2 > slots_.size()) {
      std::vector<Slot> old(slots_.size() * 2, {DEAD, {0, 0}});
      old.swap(slots_);
      for (const Slot& s : old)
        if (s.token != DEAD) slots_[find(s.token)] = s;
    }
    Slot& s = slots_[find(token)];
    if (s.token == DEAD) ++used_;
    s = {token, w};
  }
  bool built_ = false;
  std::map<u64, Run> runs_;
  std::vector<Slot> slots_;
  std::size_t used_ = 0, spare_ = 0;
};

struct Turn {
  i32 prio;
  u32 cls;
  i64 seq;
  u64 id;  // never used twice
};
inline bool before(const Turn& x, const Turn& y) { return x.prio != y.prio ? x.prio > y.prio : x.seq < y.seq; }

// A binary heap whose top can be replaced in place: the running class usually stays on top.
class Heap {
 public:
  bool empty() const { return v_.empty(); }
  std::size_t size() const { return v_.size(); }
  const Turn& top() const { return v_[0]; }
  void push(Turn t) {
    v_.push_back(t);
    std::size_t i = v_.size() - 1;
    while (i && before(t, v_[(i - 1) / 2])) {
      v_[i] = v_[(i - 1) / 2];
      i = (i - 1) / 2;
    }
    v_[i] = t;
  }
  void replace(Turn t) { sink(0, t); }
  void pop() {
    Turn t = v_.back();
    v_.pop_back();
    if (!v_.empty()) sink(0, t);
  }
  void append(const std::vector<Turn>& more) {
    if (more.size() * 8 < v_.size()) {
      for (const Turn& t : more) push(t);
      return;
    }
    v_.insert(v_.end(), more.begin(), more.end());
    for (std::size_t i = v_.size() / 2; i-- > 0;) sink(i, v_[i]);
  }
  template <class F>
  void keep(F f) {
    std::vector<Turn> good;
    for (const Turn& t : v_)
      if (f(t)) good.push_back(t);
    v_.clear();
    append(good);
  }

 private:
  void sink(std::size_t i, Turn t) {
    for (std::size_t n = v_.size();;) {
      std::size_t k = 2 * i + 1;
      if (k >= n) break;
      if (k + 1 < n && before(v_[k + 1], v_[k])) ++k;
      if (!before(v_[k], t)) break;
      v_[i] = v_[k];
      i = k;
    }
    v_[i] = t;
  }
  std::vector<Turn> v_;
};

struct ClassKey {
  u64 tag;
  u32 shape;
  i32 prio;
  bool excl;
  bool operator==(const ClassKey& o) const {
    return tag == o.tag && shape == o.shape && prio == o.prio && excl == o.excl;
  }
};
struct ClassKeyHash {
  std::size_t operator()(const ClassKey& k) const {
    u64 h = (static_cast<u64>(k.shape) << 33) ^ (static_cast<u64>(static_cast<u32>(k.prio)) << 1) ^ k.excl;
    h = (h ^ (k.tag * 0xff51afd7ed558ccdull)) * 0x9e3779b97f4a7c15ull;
    return h ^ (h >> 29);
  }
};

}  // namespace jrm
