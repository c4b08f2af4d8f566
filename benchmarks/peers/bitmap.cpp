// The limit to measure the placer against: free cores as one flat bitmap, a rolling search for the next free core, no
// shapes, no queue, no GPUs, no generations, no Python. One decision = free one random core, find and take another.
//   c++ -O3 -march=native -o bitmap bitmap.cpp && ./bitmap NODES CORES BATCH BATCHES   -> seconds, decisions
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const std::size_t nodes = std::atol(argv[1]), cores = std::atol(argv[2]);
  const std::size_t batch = std::atol(argv[3]), batches = std::atol(argv[4]);
  const std::size_t words = (cores + 63) / 64;
  const std::uint64_t last = cores % 64 ? (1ull << cores % 64) - 1 : ~0ull;
  std::vector<std::uint64_t> free_cores(nodes * words, ~0ull);
  for (std::size_t n = 0; n < nodes; ++n) free_cores[n * words + words - 1] = last;
  std::vector<std::uint64_t> any((free_cores.size() + 63) / 64, 0), top((any.size() + 63) / 64, 0);
  auto opened = [&](std::size_t w) {
    any[w / 64] |= 1ull << w % 64;
    top[w / 4096] |= 1ull << w / 64 % 64;
  };
  for (std::size_t w = 0; w < free_cores.size(); ++w) opened(w);
  auto place = [&]() -> std::uint32_t {
    for (std::size_t t = 0; t < top.size(); ++t)
      if (top[t]) {
        std::size_t a = t * 64 + __builtin_ctzll(top[t]), w = a * 64 + __builtin_ctzll(any[a]);
        std::uint64_t m = free_cores[w];
        free_cores[w] = m & (m - 1);
        if (!free_cores[w] && !(any[a] &= any[a] - 1)) top[t] &= top[t] - 1;
        return static_cast<std::uint32_t>(w * 64 + __builtin_ctzll(m));
      }
    return UINT32_MAX;
  };
  std::vector<std::uint32_t> held;
  for (std::uint32_t core; (core = place()) != UINT32_MAX;) held.push_back(core);
  std::mt19937 rng(1);
  std::vector<std::size_t> chosen(batch);
  double seconds = 0;
  for (std::size_t b = 0; b < batches; ++b) {
    // A batch of distinct tasks, brought to the end of the list outside the measured time.
    for (std::size_t i = 0; i < batch; ++i) std::swap(held[rng() % (held.size() - i)], held[held.size() - 1 - i]);
    auto start = std::chrono::steady_clock::now();
    for (std::size_t i = held.size() - batch; i < held.size(); ++i) {
      free_cores[held[i] / 64] |= 1ull << held[i] % 64;
      opened(held[i] / 64);
    }
    for (std::size_t i = held.size() - batch; i < held.size(); ++i) held[i] = place();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::printf("%.9f %zu\n", seconds, batch * batches);
}
