// What travels between the Python side (spawner.cpp packs) and the host program (spawner_host.hpp unpacks).
// Both are built together and run on one machine, so structs go as they lie in memory.
#pragma once

#include <cstdint>

namespace jrm {

enum Op : uint32_t { OP_ENV = 1, OP_START, OP_QUEUE, OP_FEED, OP_RETRACT, OP_CANCEL, OP_SIGNAL, OP_STATS, OP_CLOSE };

struct Request {
    uint32_t op, version;
    uint64_t length;  // bytes that follow
    uint64_t a, b;    // pool, token, ...: see host_main
};
static_assert(sizeof(Request) == 32, "runtime/process.py packs it as IIQQQ");
constexpr uint32_t WIRE_VERSION = 1;

// Before each launch; then text, cpus words of 8 bytes, limits triples of 8-byte numbers.
struct LaunchHead {
    uint64_t token, alloc;
    double timeout, grace;
    uint32_t env, argc, extras, text, cpus, limits;
};
static_assert(sizeof(LaunchHead) == 56, "no padding");

}  // namespace jrm
